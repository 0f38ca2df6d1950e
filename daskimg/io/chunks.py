"""How a stored image is chunked, where nobody says how."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["auto_chunks"]

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
