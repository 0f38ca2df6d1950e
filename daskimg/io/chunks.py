"""How a stored image is chunked: as asked, or as suits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from daskimg.errors import ArrayError

__all__ = ["auto_chunks", "wanted_chunks"]

WANTED = 4 << 20  # bytes of a chunk: enough work for a task, little to hold
TILES_A_CHUNK = 4  # along rows: then few tiles are decoded twice, for the chunks above and below


def auto_chunks(
    shape: Sequence[int], dims: Sequence[str], tile: Sequence[int], itemsize: int
) -> tuple[tuple[int, ...], ...]:
    """Return chunks of whole tiles that suit tasks: a few MiB each, one plane of a stack at a time.

    Parameters
    ----------
    shape, tile : sequence of int
        Of the image, and of what is decoded at once, along its axes.
    dims : sequence of str
        The names of the axes; `y` and `x` are among them.
    itemsize : int
        Bytes of a sample.

    Examples
    --------
    >>> rows, columns, channels = auto_chunks((32768, 32768, 3), ("y", "x", "channel"), (256, 256, 3), 1)
    >>> rows[0], columns[0], channels
    (1024, 1280, (3,))
    >>> auto_chunks((50000, 40000), ("y", "x"), (4096, 4096), 2)[0][0]
    4096
    """
    y, x = dims.index("y"), dims.index("x")
    sizes = list(tile)
    if dims[-1] == "channel":
        sizes[-1] = shape[-1]
    pixel = itemsize * math.prod(size for axis, size in enumerate(sizes) if axis not in (y, x))
    rows, columns = tile[y], tile[x]
    if rows * columns * pixel < WANTED:
        few = TILES_A_CHUNK if rows >= 64 else -(-TILES_A_CHUNK * 64 // rows)
        rows = min(rows * few, -(-shape[y] // tile[y]) * tile[y])
        columns = tile[x] * max(2, round(WANTED / (rows * tile[x] * pixel)))
        if columns >= shape[x]:
            rows = tile[y] * max(1, round(WANTED / (tile[y] * min(columns, shape[x]) * pixel)))
    sizes[y], sizes[x] = rows, columns
    return tuple(_cut(length, size) for length, size in zip(shape, sizes, strict=True))


def _cut(length: int, size: int) -> tuple[int, ...]:
    size = max(1, min(size, length))
    return (size,) * (length // size) + ((length % size,) if length % size else ())


def wanted_chunks(
    chunks: Any,
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: np.dtype[Any],
    batch: Sequence[int] = (),
) -> tuple[tuple[int, ...], ...]:
    """Return the chunks that a user asks for, as dask takes them: for rows and columns, or for each axis.

    Parameters
    ----------
    chunks : int, str, tuple or dict
        A dict has numbers or names of axes; what it leaves out, and colors, stay whole.
    shape, dims : sequence
        The lengths and names of the axes.
    dtype : dtype
        The type of the samples, by which ``"auto"`` goes.
    batch : sequence of int
        The chunks of the axes other than `y`, `x` and `channel`, where `chunks` does not speak of them.

    Raises
    ------
    ArrayError
        They do not fit the image, or would cut colors apart.

    Examples
    --------
    >>> wanted_chunks(256, (400, 600, 3), ("y", "x", "channel"), np.dtype("uint8"))
    ((256, 144), (256, 256, 88), (3,))
    """
    from dask.array.core import normalize_chunks

    given = chunks
    colors = dims[-1] == "channel"
    if isinstance(chunks, dict):
        chunks = {dims.index(axis) if axis in dims else axis: size for axis, size in chunks.items()}
        chunks = {len(dims) - 1: -1, **chunks} if colors else chunks
    else:
        if not isinstance(chunks, tuple | list):
            chunks = (chunks, chunks)
        if len(chunks) == 2:
            plane = iter(chunks)
            others = iter(batch)
            chunks = tuple(
                next(plane) if name in ("y", "x") else -1 if name == "channel" else next(others) for name in dims
            )
    try:
        normal: tuple[tuple[int, ...], ...] = normalize_chunks(chunks, shape=tuple(shape), dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ArrayError(f"chunks={given!r} do not fit an image of shape {tuple(shape)}: {error}") from error
    if colors and len(normal[-1]) > 1:
        raise ArrayError(f"Colour is never chunked; give chunks for rows and columns only, got {given!r}.")
    return normal
