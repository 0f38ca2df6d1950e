"""How much memory an image will need, told from its header."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from daskimg.kinds import Geometric
from daskimg.operation import outcome
from daskimg.pipeline import Pipeline

__all__ = ["bytes_needed"]

_WORKING = 2  # a kernel's own buffers beside what it reads and writes, as a multiple of these


def bytes_needed(shape: tuple[int, ...], dtype: np.dtype[Any], pipelines: Iterable[Pipeline]) -> int:
    """Return how many bytes an image takes at most while it is decoded, processed and encoded.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns) or (rows, columns, channels), as decoded.
    dtype : dtype
        As decoded.
    pipelines : iterable of Pipeline
        What is made of it, one after another.

    Raises
    ------
    DtypeError, ArrayError, OperationError, ParameterError
        If a pipeline does not take such an image.
    """
    decoded = prod(shape) * dtype.itemsize
    return decoded + _WORKING * max((_widest(shape, dtype, one) for one in pipelines), default=decoded)


def _widest(shape: tuple[int, ...], dtype: np.dtype[Any], pipeline: Pipeline) -> int:
    """Return the bytes of what the widest step reads and writes; the last one's result is also encoded."""
    size, channels = shape[:2], shape[2] if len(shape) > 2 else None
    before = prod(shape) * dtype.itemsize
    widest = 2 * before
    for step in pipeline:
        dtype, channels = outcome(step, dtype, channels)
        kind = step.operation.declaration.kind
        if isinstance(kind, Geometric):
            size = kind.size((size[0], size[1]), step.arguments)
        after = prod(size) * (channels or 1) * dtype.itemsize
        widest, before = max(widest, before + after), after
    return widest
