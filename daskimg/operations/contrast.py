"""Contrast: operations that stretch values from the range or the mean that the whole image has."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import operation
from daskimg.operations.histogram import counts_of, dtype_of, look_up
from daskimg.operations.tone import as_type, white
from daskimg.parameters import Range, Unit

__all__ = ["auto_contrast", "normalize", "white_balance"]

Joined = Literal["joint", "each"]

PART = 1 << 16  # values that are summed up together
UNIT = 1074  # sums are whole numbers of 2**-1074, which every float64 is a multiple of
LARGEST = 2.0**500  # floats beyond count as infinite: their squares would be


def joint_or_each(p: Any) -> Literal["joint", "each"]:
    """Return how an operation with a parameter `channels` treats them."""
    return "each" if p.channels == "each" else "joint"


def _planes(image: Array, p: Any) -> list[Array]:
    """Return what is measured together: all channels, or each."""
    return list(cv2.split(image)) if image.ndim == 3 and p.channels == "each" else [image]


def _on_planes(image: Array, p: Any, measured: Array, function: Any) -> Array:
    if image.ndim == 3 and p.channels == "each":
        return np.dstack([function(*both) for both in zip(cv2.split(image), measured, strict=True)])
    result: Array = function(image, measured[0])
    return result


# Sums that no order of additions changes


def exact_sum(values: Array) -> int:
    """Return the sum of finite float64 values as a whole number of 2**-1074.

    What values have of the leading bits adds up without rounding; then come the bits that are left.
    """
    total = 0
    for start in range(0, values.size, PART):
        rest = values[start : start + PART]
        while largest := max(float(rest.max()), -float(rest.min())):
            low = max(math.frexp(largest)[1] - 36, -UNIT)  # 2**16 multiples of 2**low that 36 bits hold are exact
            rounding = math.ldexp(1.5, low + 52)  # a float64 of this size has no bits below 2**low
            leading = (rest + rounding) - rounding
            total += int(math.ldexp(float(leading.sum()), -low)) << (low + UNIT)
            rest = rest - leading
    return total


def exact_sums(values: Array) -> tuple[int, int, int]:
    """Return the number, the sum and the sum of squares of the values that count, the sums as numbers of 2**-1074."""
    if values.dtype.kind in "iu":
        wide = values.astype(np.int64)
        return values.size, int(wide.sum()) << UNIT, int((wide * wide).sum(dtype=np.uint64)) << UNIT
    counted = values[counts(values)].astype(np.float64)
    # The squares of float32 are exact; those of float64 are put together from their first 24 bits and the others.
    first = (counted.view(np.uint64) & np.uint64(0xFFFFFFFFE0000000)).view(np.float64)
    squares = [first * first]
    if values.dtype == np.float64:
        others = counted - first
        squares += [2 * first * others, others * others]
    return counted.size, exact_sum(counted), sum(map(exact_sum, squares))


def counts(values: Array) -> Array:
    """Return which floats count: finite ones whose squares are so too."""
    counted: Array = np.isfinite(values) if values.dtype == np.float32 else np.abs(values) < LARGEST
    return counted


# Normalising


def _measure_range(image: Array, p: Any, where: Window) -> Any:
    if p.method == "mean_std":
        return [exact_sums(plane) for plane in _planes(image, p)]
    return [_range(plane) for plane in _planes(image, p)]


def _range(values: Array) -> tuple[float, float]:
    finite = values[counts(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _combine_ranges(first: Any, second: Any) -> Any:
    if len(first[0]) == 3:
        return [tuple(map(sum, zip(*both, strict=True))) for both in zip(first, second, strict=True)]
    return [(min(low, low2), max(high, high2)) for (low, high), (low2, high2) in zip(first, second, strict=True)]


def _finish_range(statistics: Any, p: Any) -> Array:
    if p.method == "mean_std":
        statistics = [_mean_and_std(*one) for one in statistics]
    return np.array(statistics, np.float64)


def _mean_and_std(count: int, total: int, squares: int) -> tuple[float, float]:
    if count == 0:
        return 0.0, 0.0
    variance = ((count * squares) << UNIT) - total * total  # exact; divided once
    return total / (count << UNIT), math.sqrt(variance / ((count * count) << (2 * UNIT)))


def _normalize(image: Array, measured: Array, p: Any, where: Window) -> Array:
    function = _standardized if p.method == "mean_std" else _stretched
    return _on_planes(image, p, measured, lambda plane, found: function(plane, found, p))


def _stretched(image: Array, found: Array, p: Any) -> Array:
    """Return OpenCV's own result for an image of this range."""
    low, high = 0.0 if p.low is None else p.low, white(image.dtype) if p.high is None else p.high
    if image.dtype.kind != "f":
        values = np.arange(int(found[0]), int(found[1]) + 1).astype(image.dtype)
        table = np.zeros(1 << 8 * image.itemsize, image.dtype)
        unsigned = image.view(np.uint16) if image.dtype == np.int16 else image  # tables are indexed by the bits
        table[values.view(unsigned.dtype)] = cv2.normalize(
            values, np.empty_like(values), low, high, cv2.NORM_MINMAX
        ).ravel()
        return cv2.LUT(unsigned, table)
    missing = ~counts(image)
    if found[0] > found[1]:
        return image.copy()
    # Two more values show OpenCV the range of the whole image, which nothing else may widen: not a pixel without data.
    line = np.empty((1, image.size + 2), image.dtype)
    line[0, :-2] = np.where(missing, found[0], np.clip(image, *found.astype(image.dtype))).ravel()
    line[0, -2:] = found
    result = cv2.normalize(line, np.empty_like(line), low, high, cv2.NORM_MINMAX)[0, :-2].reshape(image.shape)
    return np.where(missing, image, result) if missing.any() else result


def _standardized(image: Array, found: Array, p: Any) -> Array:
    mean, std = found
    to = np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
    centred = image.astype(np.float64) - mean
    result: Array = (centred / std if std > 0 else centred).astype(to)
    return result


NORMALIZE = TwoPass(_measure_range, _combine_ranges, _normalize, _finish_range)


@operation(kind=NORMALIZE, channels=joint_or_each, alpha="keep")
def normalize(
    image: Any,
    *,
    method: Literal["min_max", "mean_std"] = "min_max",
    low: Annotated[float | None, Unit("gray levels")] = None,
    high: Annotated[float | None, Unit("gray levels")] = None,
    channels: Joined = "joint",
) -> Any:
    """Bring the values of an image to a given range, or to mean 0 and standard deviation 1.

    Parameters
    ----------
    method : {"min_max", "mean_std"}
        Whether the least and the greatest value become `low` and `high`, or the mean 0 and the standard deviation 1.
    low : float
        What the least value becomes; none for 0. Only for "min_max".
    high : float
        What the greatest value becomes; none for white: 255, 65535, 32767, or 1.0 for floats. Only for "min_max".
    channels : {"joint", "each"}
        Whether all channels are measured together, which keeps hues, or each by itself.

    Returns
    -------
    ndarray
        The normalised image. For "min_max" of the same data type; for "mean_std" float32, or float64 where the image
        is. Alpha stays.

    Notes
    -----
    "min_max" is `cv2.normalize` with `NORM_MINMAX`; as there, the lower of `low` and `high` is the new minimum.
    "mean_std" is `(x - mean) / std`, with the standard deviation of the whole population; an image of one value becomes
    0. Sums are exact, so that no bit depends on the chunks.

    NaN and infinity stay as they are and don't count; nor do values beyond 2**500.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.normalize(np.array([[10, 20, 30]], np.uint8))
    array([[  0, 128, 255]], dtype=uint8)
    >>> di.normalize(np.array([[1, 1, 3, 3]], np.uint8), method="mean_std")
    array([[-1., -1.,  1.,  1.]], dtype=float32)
    """
    parameters = {"method": method, "low": low, "high": high, "channels": channels}
    return NORMALIZE.on_whole(image, parameters)


# Contrast by percentiles


def _count(image: Array, p: Any, where: Window) -> Array:
    counts = np.atleast_2d(counts_of(image))
    return counts if p.channels == "each" else counts.sum(axis=0, keepdims=True)


def percentile(counts: Array, share: float) -> float:
    """Return the percentile of the values that were counted, as `numpy.percentile` interpolates it."""
    sums = np.cumsum(counts)
    rank = share / 100 * (int(sums[-1]) - 1)
    whole = math.floor(rank)
    below, above = (int(np.searchsorted(sums, number, side="right")) for number in (whole, math.ceil(rank)))
    return below + (above - below) * (rank - whole)


def _contrast_tables(counts: Array, p: Any) -> Array:
    return np.stack([_contrast_table(one, p.low, p.high) for one in counts])


def _contrast_table(counts: Array, low: float, high: float) -> Array:
    values, dtype = np.arange(len(counts)), dtype_of(counts)
    darkest, brightest = percentile(counts, low), percentile(counts, high)
    if darkest >= brightest:
        return values.astype(dtype)
    return as_type((values - darkest) / (brightest - darkest) * white(dtype), dtype)


CONTRAST = TwoPass(_count, np.add, look_up, _contrast_tables)


@operation(kind=CONTRAST, dtypes="uint8 uint16", channels=joint_or_each, alpha="keep")
def auto_contrast(
    image: Any,
    *,
    low: Annotated[float, Range(0, 100), Unit("percent")] = 1.0,
    high: Annotated[float, Range(0, 100), Unit("percent")] = 99.0,
    channels: Joined = "joint",
) -> Any:
    """Stretch the contrast, such that few pixels become black and few white.

    Parameters
    ----------
    low : float
        The percentile of the values that becomes 0, with all below.
    high : float
        The percentile that becomes white, with all above.
    channels : {"joint", "each"}
        Whether all channels are stretched alike, which keeps hues, or each by its own percentiles.

    Returns
    -------
    ndarray
        The image with more contrast, of the same data type, rounded half to even; alpha stays. An image with both
        percentiles at one value stays as it is.

    Raises
    ------
    ParameterError
        If `low` is not below `high`.

    Notes
    -----
    `(x - a) / (b - a) * w`, where a and b are the percentiles, as `numpy.percentile` interpolates them, and w is white.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.auto_contrast(np.array([[100, 110, 120, 150]], np.uint8), low=0, high=100)
    array([[  0,  51, 102, 255]], dtype=uint8)
    """
    if low >= high:
        raise ParameterError(f"auto_contrast: low={low} is not below high={high}; swap them")
    return CONTRAST.on_whole(image, {"low": low, "high": high, "channels": channels})


# White balance


def _count_channels(image: Array, p: Any, where: Window) -> Array:
    return counts_of(image)


def _balancing_tables(counts: Array, p: Any) -> Array:
    values, dtype = np.arange(counts.shape[1]), dtype_of(counts)
    sums = [sum(map(int, values * one)) for one in counts]
    gray = sum(sums) / 3
    return np.stack([as_type(values * (gray / one if one else 1.0), dtype) for one in sums])


BALANCE = TwoPass(_count_channels, np.add, look_up, _balancing_tables)


@operation(kind=BALANCE, dtypes="uint8 uint16", channels="joint", accepts=(3, 4), alpha="keep")
def white_balance(image: Any) -> Any:
    """Remove a color cast, such that the image is gray on average.

    Returns
    -------
    ndarray
        The balanced image, of the same data type; values are rounded half to even and saturated, alpha stays.

    Notes
    -----
    The gray world: each channel is multiplied by the mean of all channels over its own. A channel of zeros stays.
    G. Buchsbaum, "A spatial processor model for object colour perception", Journal of the Franklin Institute 310
    (1980).

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.white_balance(np.array([[[100, 50, 150]]], np.uint8))
    array([[[100, 100, 100]]], dtype=uint8)
    """
    return BALANCE.on_whole(image, {})
