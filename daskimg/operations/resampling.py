"""Resampling along rows and columns, with OpenCV's weights at positions in the whole image.

`cv2.resize` on a part of an image has the phases of that part. Where the scale is a fraction whose denominator is a
power of two, all positions are exact and parts can be chosen so that their phases are the whole image's. Everywhere
else the weights are made here, as OpenCV's `resize.cpp` makes them, and applied in the same order: along rows first.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import scipy

from daskimg.kinds import Array
from daskimg.operations.kernels import LANES, to_integers

__all__: list[str] = []

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
TAPS = {"nearest": 1, "linear": 2, "cubic": 4, "lanczos": 8}
STRIP_BYTES = 1 << 21  # of intermediates, which stay in the processor's cache

_ONE = np.float32(1)
_BITS = 11  # OpenCV's weights of 8-bit images are whole numbers of 1 / 2048


@dataclass(frozen=True)
class Axis:
    """Is one axis of an image that is resampled: its lengths before and after, and how.

    Attributes
    ----------
    before, after : int
        The lengths in pixels.
    interpolation : str
        `nearest linear cubic area lanczos`, or `area_linear`: OpenCV's "area" where any side is enlarged.
    precise : bool
        Whether positions are computed in float64, as Intel's part of OpenCV does, rather than float32.
    """

    before: int
    after: int
    interpolation: str
    precise: bool = False

    @functools.cached_property
    def ratio(self) -> Fraction:
        """Pixels of the image per pixel of the result."""
        return Fraction(self.before, self.after)

    @functools.cached_property
    def is_exact(self) -> bool:
        """Whether all positions are exact numbers, so that OpenCV works on parts as on the whole."""
        denominator = self.ratio.denominator
        return denominator & (denominator - 1) == 0

    @property
    def scale(self) -> float:
        """The ratio as OpenCV rounds it."""
        return 1 / (self.after / self.before)

    def margin(self) -> int:
        """Return how many pixels of the image beyond its own share a result may need, on each side."""
        if self.interpolation == "nearest" or (self.interpolation == "area" and self.before >= self.after):
            return 1
        if self.interpolation == "linear" and self.ratio >= 2 and self.is_exact:
            return 0
        return TAPS.get(self.interpolation, 2) // 2 + 1

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Return which pixels of the image the pixels of the result from start to stop are computed from."""
        ratio, margin = self.ratio, self.margin()
        if self.is_exact:  # whole periods, so that the phases are those of the whole image
            if self.interpolation == "area" and self.before >= self.after:
                margin = 0
            period = ratio.numerator
            first = math.floor((start * ratio - margin) / period) * period
            last = math.ceil((stop * ratio + margin) / period) * period
        else:
            first, last = math.floor(start * ratio) - margin, math.ceil(stop * ratio) + margin
        return max(0, first), min(self.before, last)

    def offset(self, first: int) -> int:
        """Return which pixel of the result stands where the pixel `first` of the image does, a whole period."""
        return int(first / self.ratio)

    def nearest(self, start: int, stop: int) -> Array:
        """Return which pixel of the image each pixel of the result is."""
        at = np.floor(np.arange(start, stop) * self.scale).astype(np.int64)
        return np.asarray(at.clip(0, self.before - 1))

    def taps(self, start: int, stop: int, clamp: bool) -> tuple[Array, Array]:
        """Return the pixels that each pixel of the result is a weighted mean of, and the float32 weights.

        With `clamp` OpenCV's rule for columns holds: what lies beyond the edge is the edge pixel with the weight 1.
        """
        at = np.arange(start, stop)
        count = TAPS.get(self.interpolation, 2)
        if self.interpolation == "area_linear":
            first = np.floor(at * self.scale).astype(np.int64)
            share = ((at + 1) - (first + 1) * (self.after / self.before)).astype(np.float32)
            share = np.where(share <= 0, np.float32(0), share - np.floor(share))
        else:
            position = (at + 0.5) * self.scale - 0.5
            if not self.precise:
                position = position.astype(np.float32)
            first = np.floor(position).astype(np.int64)
            share = (position - first.astype(position.dtype)).astype(np.float32)
        if count == 2:
            if clamp:
                share = np.where((first < 0) | (first >= self.before - 1), np.float32(0), share)
                first = first.clip(0, self.before - 1)
            weights = np.stack([_ONE - share, share], axis=1)
        else:
            weights = _cubic(share) if count == 4 else _lanczos(share)
        pixels = first[:, np.newaxis] + np.arange(1 - count // 2, 1 + count // 2)
        return pixels.clip(0, self.before - 1), weights

    def matrix(self, start: int, stop: int, first: int, last: int, dtype: Any) -> Any:
        """Return the sparse matrix that makes the result's pixels from the image's from first to last."""
        if self.interpolation == "area":
            rows, pixels, weights = self._area(start, stop)
        else:
            taps, table = self.taps(start, stop, clamp=True)
            rows = np.repeat(np.arange(stop - start), taps.shape[1])
            pixels, weights = taps.ravel(), table.ravel()
        if np.dtype(dtype).kind == "i":
            weights = np.rint(weights * np.float32(1 << _BITS))
        # As it stands: the order of additions is OpenCV's, and pixels that are clamped to the edge occur repeatedly.
        ends = np.searchsorted(rows, np.arange(stop - start + 1))
        return scipy.sparse.csr_array((weights.astype(dtype), pixels - first, ends), shape=(stop - start, last - first))

    def _area(self, start: int, stop: int) -> tuple[Array, Array, Array]:
        """Return the rows, columns and weights of means over the area of each pixel, as OpenCV's table has them."""
        at = np.arange(start, stop)
        begin = at * self.scale
        end = begin + self.scale
        width = np.minimum(self.scale, self.before - begin)
        last = np.minimum(np.floor(end).astype(np.int64), self.before - 1)
        first = np.minimum(np.ceil(begin).astype(np.int64), last)
        count = int((last - first).max()) + 2
        pixels = first[:, np.newaxis] - 1 + np.arange(count)
        head, tail = first - begin, end - last
        weights = np.broadcast_to((1 / width)[:, np.newaxis], pixels.shape).copy()
        weights[:, 0] = head / width
        used = (pixels >= first[:, np.newaxis]) & (pixels < last[:, np.newaxis])
        used[:, 0] = head > 1e-3
        rows = np.arange(len(at))
        at_tail = last - first + 1
        weights[rows, at_tail] = np.minimum(np.minimum(tail, 1.0), width) / width
        used[rows, at_tail] = tail > 1e-3
        row_numbers, _ = np.nonzero(used)
        return row_numbers, pixels[used], weights[used].astype(np.float32)


def _cubic(x: Array) -> Array:
    a = np.float32(-0.75)
    first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + 1
    third = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    return np.stack([first, second, third, _ONE - first - second - third], axis=1)


_S45 = 0.70710678118654752440084436210485
_TURNS = np.array([[1, 0], [-_S45, -_S45], [0, 1], [_S45, -_S45], [-1, 0], [_S45, _S45], [0, -1], [-_S45, _S45]])


def _lanczos(x: Array) -> Array:
    angle = -(x + np.float32(3)).astype(np.float64) * math.pi * 0.25
    sine, cosine = np.sin(angle), np.cos(angle)
    weights = np.empty((len(x), 8), np.float32)
    for tap, (for_sine, for_cosine) in enumerate(_TURNS):
        distance = x + np.float32(3) - np.float32(tap)
        near = np.abs(distance) < np.float32(1e-6)
        y = np.where(near, 1.0, -distance.astype(np.float64) * math.pi * 0.25)
        weights[:, tap] = np.where(near, np.float32(1e30), ((for_sine * sine + for_cosine * cosine) / (y * y)))
    total = np.zeros(len(x), np.float32)
    for tap in range(8):
        total += weights[:, tap]
    scaled: Array = weights * (_ONE / total)[:, np.newaxis]
    return scaled


_axis = functools.lru_cache(maxsize=256)(Axis)  # each is asked many times


def axes(before: tuple[int, int], after: tuple[int, int], interpolation: str, like: Array) -> tuple[Axis, Axis]:
    """Return both axes of an image that is resized, rows first, with OpenCV's choices for its type and channels."""
    if interpolation == "area" and (after[0] > before[0] or after[1] > before[1]):
        interpolation = "area_linear"
    channels = like.shape[2] if like.ndim == 3 else 1
    by_intel = cv2.ipp.useIPP() and channels != 2
    precise = by_intel and (
        (interpolation == "linear" and like.dtype != np.uint8)
        or (interpolation == "cubic" and like.dtype != np.float64)
    )
    rows, columns = (_axis(*lengths, interpolation, precise) for lengths in zip(before, after, strict=True))
    return rows, columns


def resample(pixels: Array, at: tuple[int, int], rows: Axis, columns: Axis, region: tuple[int, int, int, int]) -> Array:
    """Return a region (top, left, bottom, right) of a resized image from the pixels that it needs, which begin `at`."""
    top, left, bottom, right = region
    # No more than what is needed, so that the same pixels come of whatever window.
    y, x = rows.needs(top, bottom), columns.needs(left, right)
    pixels = pixels[y[0] - at[0] : y[1] - at[0], x[0] - at[1] : x[1] - at[1]]
    if rows.is_exact and columns.is_exact:
        resized, column = _by_opencv(pixels, rows, columns, y, x)
        row, column = top - rows.offset(y[0]), left - column
        return np.asarray(resized[row : row + bottom - top, column : column + right - left])
    if rows.interpolation == "nearest":
        return np.asarray(pixels[rows.nearest(top, bottom) - y[0]][:, columns.nearest(left, right) - x[0]])
    return _by_weights(pixels, rows, columns, region, y, x)


def _by_opencv(pixels: Array, rows: Axis, columns: Axis, y: tuple[int, int], x: tuple[int, int]) -> tuple[Array, int]:
    """Return OpenCV's result for a part of whole periods, and its first column.

    OpenCV's vector code rounds floats otherwise than what is left over at a row's end is rounded. So any pixels are put
    before and after, until all pixels are at the same places of vectors as in the whole image.
    """
    first, last = columns.offset(x[0]), columns.offset(x[1])
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 1:
        period = columns.ratio.denominator  # a power of two, as are the lanes
        before = first % max(LANES, period)
        after = min(LANES + -LANES % period, columns.after - last)
        wide = int(before * columns.ratio), int(after * columns.ratio)
        if any(wide):
            pixels = np.concatenate([pixels[:, :1].repeat(wide[0], 1), pixels, pixels[:, -1:].repeat(wide[1], 1)], 1)
            first, last = first - before, last + after
    interpolation = INTERPOLATIONS[rows.interpolation.partition("_")[0]]
    size = last - first, rows.offset(y[1]) - rows.offset(y[0])
    return cv2.resize(pixels, size, interpolation=interpolation), first


def _by_weights(
    pixels: Array,
    rows: Axis,
    columns: Axis,
    region: tuple[int, int, int, int],
    y: tuple[int, int],
    x: tuple[int, int],
) -> Array:
    """Return the region by applying weights along rows, then along columns."""
    top, left, bottom, right = region
    dtype = pixels.dtype
    fixed = dtype == np.uint8 and rows.interpolation in ("linear", "area_linear", "lanczos")
    working: Any = np.int32 if fixed else np.float64 if dtype == np.float64 else np.float32
    across = columns.matrix(left, right, *x, working)
    result = np.empty((bottom - top, right - left, *pixels.shape[2:]), dtype)
    width = (pixels[:1].size + result[:1].size) * np.dtype(working).itemsize
    # In strips of the result that stay in the cache.
    height = max(16, int(STRIP_BYTES / width / max(1.0, float(rows.ratio))))
    for first in range(top, bottom, height):
        last = min(first + height, bottom)
        begin, end = rows.needs(first, last)
        begin, end = max(begin, y[0]), min(end, y[1])
        strip = pixels[begin - y[0] : end - y[0]]
        # Along rows: columns are made the first axis, and the others stand side by side.
        turned = cv2.transpose(strip).reshape(strip.shape[1], -1).astype(working)
        lines = (across @ turned).reshape(right - left, *strip.shape[:1], *strip.shape[2:])
        lines = cv2.transpose(lines).reshape(end - begin, -1)
        if fixed and rows.interpolation != "lanczos":
            done = _vertical_8_bits(lines, rows, first, last, begin)
        else:
            done = rows.matrix(first, last, begin, end, working) @ lines
            if fixed:
                done += 1 << (2 * _BITS - 1)
                done >>= 2 * _BITS
                np.clip(done, 0, 255, out=done)
            elif dtype.kind != "f":
                done = to_integers(done, dtype)
        result[first - top : last - top] = done.reshape(last - first, right - left, *pixels.shape[2:])
    return result


def _vertical_8_bits(lines: Array, rows: Axis, first: int, last: int, begin: int) -> Array:
    """Return the sums along columns as OpenCV's vector code has them, which drops low bits on the way."""
    pixels, weights = rows.taps(first, last, clamp=False)
    whole = np.rint(weights * np.float32(1 << _BITS)).astype(np.int32)
    lines >>= 4
    total = np.full((last - first, lines.shape[1]), 2, np.int32)
    for tap in (0, 1):
        part = lines.take(pixels[:, tap] - begin, axis=0)
        part *= whole[:, tap, np.newaxis]
        part >>= 16
        total += part
    total >>= 2
    return total
