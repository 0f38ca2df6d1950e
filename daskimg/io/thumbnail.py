"""Small pictures of large images, from little of what is stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from daskimg.io.stored import StoredImage
from daskimg.io.view import View

__all__ = ["Picture", "png_of", "stored_picture"]

Pixels = NDArray[Any]
Picture: TypeAlias = Callable[[], Pixels | None]

_SIDE = 300  # pixels of a thumbnail's longer side
_MOST_BYTES = 64 << 20  # that are read for it
_MOST_TILES = 256
_LEAST_SAMPLES = 8  # along a side: a picture of fewer says nothing


def stored_picture(image: StoredImage) -> Pixels | None:
    """Return a small picture of a stored image: of its smallest level that suffices, else of samples of it.

    Of a stack it is the first plane, along `z` the one in the middle. None if too much would have to be read.
    """
    level, view = len(image.layout.levels) - 1, _plane(image, len(image.layout.levels) - 1)
    while level > 0 and max(view.shape[:2]) < _SIDE and _cost(_plane(image, level - 1)) <= _MOST_BYTES:
        level -= 1
        view = _plane(image, level)
    if _cost(view) <= _MOST_BYTES:
        return view.read(tuple(slice(0, length) for length in view.shape))
    return _rows(view) if view.tile[0] == 1 else _tiles(view)


def _plane(image: StoredImage, level: int) -> View:
    layout = image.layout
    shape = layout.levels[level].shape
    y, x = layout.dims.index("y"), layout.dims.index("x")
    colors = next(
        (axis for axis, name in enumerate(layout.dims) if name in ("channel", "c", "band") and shape[axis] <= 4), None
    )
    order = (y, x) if colors is None else (y, x, colors)
    fixed = [
        None if axis in order else length // 2 if name == "z" else 0
        for axis, (name, length) in enumerate(zip(layout.dims, shape, strict=True))
    ]
    return View(image, level, tuple(fixed), order)


def _cost(view: View) -> int:
    """Return how many bytes are decoded for the whole view: what is stored together comes with it."""
    found = view.image.layout.levels[view.level]
    beside = math.prod(size for size, at in zip(found.tile, view.fixed, strict=True) if at is not None)
    return math.prod(view.shape) * beside * view.dtype.itemsize


def _rows(view: View) -> Pixels | None:
    """Return rows at equal distances, of which every so-manieth pixel."""
    rows, columns = view.shape[:2]
    step = -(-max(rows, columns) // _SIDE)
    wanted = range(step // 2, rows, step)
    if len(wanted) * _cost(view) // rows > _MOST_BYTES:
        return None
    others = tuple(slice(0, length) for length in view.shape[1:])
    return np.concatenate([view.read((slice(row, row + 1), *others))[:, step // 2 :: step] for row in wanted])


def _tiles(view: View) -> Pixels | None:
    """Return means of tiles at equal distances."""
    counts = [-(-length // size) for length, size in zip(view.shape[:2], view.tile[:2], strict=True)]
    bytes_a_tile = _cost(view) // math.prod(counts)
    most = min(_MOST_TILES, _MOST_BYTES // max(1, bytes_a_tile))
    step = max(1, math.ceil(math.sqrt(math.prod(counts) / max(1, most))))
    rows, columns = (range(step // 2, count, step) or range(1) for count in counts)
    if max(len(rows), len(columns)) < _LEAST_SAMPLES or len(rows) * len(columns) > 2 * most:
        return None
    others = tuple(slice(0, length) for length in view.shape[2:])
    lines = []
    for row in rows:
        line = []
        for column in columns:
            where = tuple(
                slice(at * size, min((at + 1) * size, length))
                for at, size, length in zip((row, column), view.tile[:2], view.shape[:2], strict=True)
            )
            line.append(view.read((*where, *others)).mean((0, 1)))
        lines.append(line)
    means = np.asarray(lines)
    return means.round().astype(view.dtype) if view.dtype.kind in "iu" else means


def png_of(pixels: Pixels, nodata: float | None = None) -> bytes:
    """Return a picture of at most 300 pixels across as PNG; what is not 8 bits is stretched to what is in it."""
    import cv2

    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[..., :1]
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    if pixels.dtype != np.uint8:
        pixels = _stretched(pixels.astype(np.float32), nodata)
    scale = _SIDE / max(pixels.shape[:2])
    size = tuple(max(1, round(length * scale)) for length in pixels.shape[1::-1])
    # A few samples are shown as what they are, squares of one color.
    small: Any = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    if small.ndim == 3 and small.shape[2] == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".png", small)[1])


def _stretched(pixels: Pixels, nodata: float | None) -> Pixels:
    known = pixels[np.isfinite(pixels) & (pixels != nodata if nodata is not None else True)]
    if not known.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = np.percentile(known, (0.5, 99.5))
    return np.asarray(np.clip((np.nan_to_num(pixels) - low) / max(high - low, 1e-12), 0, 1) * 255, np.uint8)
