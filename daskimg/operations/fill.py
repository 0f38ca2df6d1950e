"""The color that stands where an image has no pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskimg.errors import ParameterError
from daskimg.kinds import Array, Size

__all__: list[str] = []


def fill_value(value: Any, like: Array) -> tuple[float, ...]:
    """Return a color as four numbers that an image holds, as OpenCV rounds and saturates them.

    Raises
    ------
    ParameterError
        If the color has another number of channels than the image.
    """
    channels = like.shape[2] if like.ndim == 3 else 1
    values = list(value) if isinstance(value, tuple) else [value] * channels
    if len(values) != channels:
        raise ParameterError(
            f"the color {value} has {len(values)} numbers, the image {channels} channels; give as many"
        )
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max).tolist()
    padded = [*map(float, values), 0.0, 0.0, 0.0][:4]
    return tuple(padded)


def filled(shape: Size, like: Array, color: tuple[float, ...]) -> Array:
    """Return an array of an image's kind that holds one color."""
    result = np.empty((*shape, *like.shape[2:]), like.dtype)
    result[...] = color[: like.shape[2]] if like.ndim == 3 else color[0]
    return result


def check_value(like: Array, p: Any) -> None:
    """Raise where a color does not suit an image: the `check` of operations with a parameter `value`."""
    fill_value(p.value, like)
