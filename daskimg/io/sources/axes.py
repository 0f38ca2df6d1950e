"""What the axes of an array mean, where its file says so and where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from daskimg.errors import ArrayError, ImageFileError

__all__ = ["guess_dims", "numeric"]

_ROWS = ("y", "lat", "latitude", "row", "rows")
_COLUMNS = ("x", "lon", "longitude", "column", "columns", "col")
_COLORS = ("s", "rgb", "rgba", "channel", "channels")


def guess_dims(shape: Sequence[int], names: Iterable[str | None] | None, shown: str) -> tuple[str, ...]:
    """Return names for the axes of an array, with `y` and `x` among them.

    The names that are stored count if they say which axes are rows and columns. Otherwise the last two do, or the two
    before up to four channels. `channel` are the colors of one picture, one to four, last; others are `c`.

    Examples
    --------
    >>> guess_dims((480, 640, 3), None, "'a.npy'"), guess_dims((9, 480, 640), None, "'a.npy'")
    (('y', 'x', 'channel'), ('frame', 'y', 'x'))
    >>> guess_dims((7, 180, 360), ["time", "lat", "lon"], "'a.zarr'")
    ('time', 'y', 'x')
    """
    stored = [name.lower() if name else "" for name in names or ()]
    rows = [at for at, name in enumerate(stored) if name in _ROWS]
    columns = [at for at, name in enumerate(stored) if name in _COLUMNS]
    if len(stored) == len(shape) == len(set(stored)) and len(rows) == len(columns) == 1:
        stored[rows[0]], stored[columns[0]] = "y", "x"
        stored = ["c" if name in _COLORS else name for name in stored]
        if stored[-1] == "c" and shape[-1] <= 4:
            stored[-1] = "channel"
        return tuple(name or f"axis{at}" for at, name in enumerate(stored))
    if len(shape) < 2:
        raise ArrayError(f"{shown} holds an array of shape {tuple(shape)}; an image has rows and columns.")
    spatial = ("y", "x", "channel") if len(shape) > 2 and 1 <= shape[-1] <= 4 else ("y", "x")
    before = len(shape) - len(spatial)
    return (*(("frame",) if before == 1 else (f"axis{at}" for at in range(before))), *spatial)


def numeric(dtype: Any, shown: str) -> np.dtype[Any]:
    """Return a data type in native byte order.

    Raises
    ------
    ImageFileError
        It holds no numbers.
    """
    found: np.dtype[Any] = np.dtype(dtype)
    if found.kind not in "buifc":
        raise ImageFileError(f"{shown} holds {found} values; an image has numbers.")
    return found.newbyteorder("=")
