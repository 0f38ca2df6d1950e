"""Pixels at any positions of an image: what warps share.

OpenCV's own warps compute positions in single precision from the corner of the array that they get, so that an
image's parts would not have the whole's positions. Here positions are always those in the whole image, computed
as OpenCV computes them there; only then the corner of the part is subtracted, which is exact, and `cv2.remap` does the
interpolation. Beyond OpenCV's longest side, single precision would not do: positions are multiples of 1/1024 pixel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np

from daskimg.errors import OperationError
from daskimg.kinds import Array, Region, Size
from daskimg.operations.borders import BORDERS
from daskimg.operations.fill import filled
from daskimg.operations.kernels import LANES

__all__: list[str] = []

Interpolation: TypeAlias = Literal["nearest", "linear", "cubic", "lanczos"]

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}

HALVES = {"nearest": 1, "linear": 1, "cubic": 2, "lanczos": 4}  # pixels on each side that interpolation looks at

LONGEST = 32767 - 1  # pixels a side: what OpenCV's warps take
GRID = 1024  # positions a pixel, beyond that
REACH = 5  # pixels around a position that interpolation may look at, and one that rounding may cost
MARGIN = 8  # what is added to where the corners of a region lie: the reach, and the roundings of positions
PAD = REACH + MARGIN + 1  # pixels that are added beyond an edge: an even number
EDGE = PAD + 4  # pixels along an edge that are looked at for what lies beyond it
TILE = 256  # pixels: the side of what is mapped at once
MOST_PIXELS = 1 << 22  # of the image under one tile, which else is split
MOST_SIDE = 8192  # of the same; positions in it are exact on the grid

Positions: TypeAlias = Callable[[Region], tuple[Array, Array]]
"""Returns the columns and rows, in the whole image, that the pixels of a region of the result stand for."""


def is_small(*sizes: Size) -> bool:
    """Return whether OpenCV's warps take images of these sizes, so that positions are in single precision."""
    return all(max(size) <= LONGEST for size in sizes)


def within_reach(region: tuple[float, float, float, float], size: Size, border: str) -> Region:
    """Return what is needed of an image where positions lie between (left, top) and (right, bottom)."""
    top, bottom = _along(region[1], region[3], size[0], border)
    left, right = _along(region[0], region[2], size[1], border)
    return Region(top, left, bottom, right)


def _along(low: float, high: float, length: int, border: str) -> tuple[int, int]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, length
    start, stop = math.floor(low) - MARGIN, math.ceil(high) + MARGIN + 1
    if border in ("reflect", "reflect_101") and (start < 0 or stop > length):
        if start < -length or stop > 2 * length:
            return 0, length
        # What lies beyond an edge is found as far within it.
        if start < 0:
            stop = max(stop, -start + 1)
        if stop > length:
            start = min(start, 2 * length - stop - 2)
    if border != "constant":  # what is beyond an edge is found within
        start, stop = (
            (min(start, length - EDGE - 1) if stop > length else start),
            (max(stop, EDGE) if start < 0 else stop),
        )
    return max(0, start), min(length, stop)


def remapped(
    pixels: Array,
    at: Region,
    region: Region,
    size: Size,
    positions: Positions,
    p: Any,
    color: tuple[float, ...],
) -> Array:
    """Return a region of the result from the pixels `at` a region of an image of this size, tile by tile."""
    result = np.empty((*region.shape, *pixels.shape[2:]), pixels.dtype)
    for top in range(region.top, region.bottom, TILE):
        for left in range(region.left, region.right, TILE):
            tile = Region(top, left, min(top + TILE, region.bottom), min(left + TILE, region.right))
            into = result[tile.seen_from(region.top, region.left).slices]
            columns, rows = positions(tile)
            columns, rows = _folded(columns, size[1], p.border), _folded(rows, size[0], p.border)
            _map_tile(into, pixels, at, size, columns, rows, p, color)
    return result


def _folded(at: Array, length: int, border: str) -> Array:
    """Return positions of which those far beyond the edges are put where the same pixel is found near or within."""
    first, last = at.min(), at.max()
    if border in ("constant", "replicate"):
        low, high = -MARGIN, length - 1 + MARGIN
        if not (first >= low and last <= high):  # or NaN
            at = np.clip(np.nan_to_num(at, nan=low), low, high)
    elif not (first >= -1 and last <= length):
        far = ~((at >= -1) & (at <= length))
        exact = np.nan_to_num(at[far].astype(np.float64), nan=0, posinf=0, neginf=0)
        edge = 0.5 if border == "reflect" else 0.0
        period = 2 * (length - 1 + 2 * edge)
        inside = np.zeros_like(exact) if period == 0 else (exact + edge) % period
        at = at.copy()
        at[far] = np.minimum(inside, period - inside) - edge
    if at.dtype != np.float32:
        return np.asarray(np.rint(at * GRID) / GRID)
    # To what is exact wherever a part of the image begins, also before its first pixel.
    return np.asarray((at + np.float32(PAD)) - np.float32(PAD))


def _map_tile(
    into: Array, pixels: Array, at: Region, size: Size, columns: Array, rows: Array, p: Any, color: tuple[float, ...]
) -> None:
    """Write one tile, whose positions are given; where these are too far apart, its quarters."""
    (above, top, bottom, below), (before, left, right, after) = (
        _window(along, length, p.border) for along, length in ((rows, size[0]), (columns, size[1]))
    )
    if top >= bottom or left >= right:
        into[...] = filled(into.shape[:2], into, color)
        return
    height, width = bottom - top, right - left
    if (height * width > MOST_PIXELS or max(height, width) > MOST_SIDE) and into.shape[:2] != (1, 1):
        middle, center = max(1, into.shape[0] // 2), max(1, into.shape[1] // 2)
        for down, across in itertools.product(
            (slice(0, middle), slice(middle, None)), (slice(0, center), slice(center, None))
        ):
            if into[down, across].size:
                _map_tile(into[down, across], pixels, at, size, columns[down, across], rows[down, across], p, color)
        return
    if top < at.top or left < at.left or bottom > at.bottom or right > at.right:
        raise OperationError(
            f"positions need rows {top} to {bottom} and columns {left} to {right}, but only rows {at.top} to "
            f"{at.bottom} and columns {at.left} to {at.right} were expected to be needed; is `within` large enough?"
        )
    window = pixels[top - at.top : bottom - at.top, left - at.left : right - at.left]
    # What lies beyond the edge is added here: OpenCV goes another way, and rounds otherwise, for each vector of pixels
    # of which one needs it; and its newer code for "cubic" takes wrong pixels for the mirror.
    if above or below or before or after:
        window = cv2.copyMakeBorder(window, above, below, before, after, BORDERS[p.border], value=color)
    # All in full vectors: OpenCV rounds otherwise what is left over at a row's end, too.
    count = into.shape[1]
    x = np.full((len(into), count + -count % LANES), EDGE, np.float32)
    y = np.full_like(x, EDGE)
    np.subtract(columns, left - before, out=x[:, :count], casting="same_kind")
    np.subtract(rows, top - above, out=y[:, :count], casting="same_kind")
    method = INTERPOLATIONS[p.interpolation]
    if window.shape[2:] == (2,):  # OpenCV's newer code, which does not round positions, is for 1, 3 and 4 channels
        parts = [np.ascontiguousarray(window[:, :, channel]) for channel in (0, 1)]
        mapped = np.dstack([cv2.remap(part, x, y, method) for part in parts])
    else:
        mapped = cv2.remap(window, x, y, method)
    into[...] = mapped[:, :count].reshape(into.shape)
    if p.border == "constant" and (above or below or before or after):
        # Weights add up to 1 within rounding only.
        half = HALVES[p.interpolation]
        outside = (rows < -half) | (rows >= size[0] - 1 + half) | (columns < -half) | (columns >= size[1] - 1 + half)
        into[outside] = color[: into.shape[2]] if into.ndim == 3 else color[0]


def _window(at: Array, length: int, border: str) -> tuple[int, int, int, int]:
    """Return which pixels along an axis positions are interpolated from: how many before, from, to, how many after."""
    start, stop = math.floor(at.min()) - REACH, math.ceil(at.max()) + REACH + 1
    before, after = PAD if start < 0 else 0, PAD if stop > length else 0
    if border != "constant":  # what is beyond the edge is found within
        start, stop = (min(start, length - EDGE) if after else start), (max(stop, EDGE) if before else stop)
    # Halves are rounded to even numbers, so that what counts from an odd pixel would be rounded the other way.
    start = max(0, start)
    return before, start - start % 2, min(length, stop), after
