"""Histograms: operations that look at how often each value occurs in the whole image before they change any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ArrayError
from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import operation
from daskimg.operations.threshold import threshold
from daskimg.parameters import Image, Unit

__all__ = ["equalize_hist", "match_histograms", "otsu_threshold", "triangle_threshold"]

MOST_COUNTED = 1 << 24  # pixels: OpenCV's counts are float32, which hold whole numbers up to here

Color = Literal["luminance", "each"]
ThresholdKind = Literal["binary", "binary_inv", "trunc", "to_zero", "to_zero_inv"]

_KINDS = {
    "binary": cv2.THRESH_BINARY,
    "binary_inv": cv2.THRESH_BINARY_INV,
    "trunc": cv2.THRESH_TRUNC,
    "to_zero": cv2.THRESH_TOZERO,
    "to_zero_inv": cv2.THRESH_TOZERO_INV,
}


def counts_of(image: Array) -> Array:
    """Return how often each value of a uint8 or uint16 image occurs, as int64, by channel where there are channels."""
    bins = 1 << 8 * image.itemsize
    if image.ndim == 3:
        return np.stack([counts_of(plane) for plane in cv2.split(image)])
    if image.shape[1] > MOST_COUNTED:
        return counts_of(image[:, :MOST_COUNTED]) + counts_of(image[:, MOST_COUNTED:])
    counts = np.zeros(bins, np.int64)
    rows = max(1, MOST_COUNTED // max(1, image.shape[1]))
    for first in range(0, len(image), rows):
        part = cv2.calcHist([image[first : first + rows]], [0], None, [bins], [0, bins])
        counts += part.ravel().astype(np.int64)
    return counts


def dtype_of(counts: Array) -> np.dtype[Any]:
    """Return the type of the values that were counted."""
    return np.dtype(np.uint8 if counts.shape[-1] == 256 else np.uint16)


def each_or_joint(p: Any) -> Literal["each", "joint"]:
    """Return how an operation with a parameter `color` treats channels."""
    return "each" if p.color == "each" else "joint"


def on_planes(image: Array, color: str, function: Callable[[Array, int], Array]) -> Array:
    """Return an image with `function(plane, number)` for its luminance, or for each channel."""
    if image.ndim == 2:
        return function(image, 0)
    if color == "each":
        return np.dstack([function(plane, number) for number, plane in enumerate(cv2.split(image))])
    luma, *colors = cv2.split(_luma_first(image))
    return cv2.cvtColor(cv2.merge([function(luma, 0), *colors]), cv2.COLOR_YCrCb2RGB)


def planes_of(image: Array, color: str) -> list[Array]:
    """Return the planes that `on_planes` works on."""
    if image.ndim == 2:
        return [image]
    return list(cv2.split(image)) if color == "each" else [cv2.extractChannel(_luma_first(image), 0)]


def _luma_first(image: Array) -> Array:
    if image.shape[2] == 2:
        raise ArrayError('two channels are no color, and have no luminance; let each be worked on: color="each"')
    return cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)


# Tables by histograms


def look_up(image: Array, tables: Array, p: Any, where: Window) -> Array:
    """Return each channel's values from its own table, or from the only one that there is."""
    if image.ndim == 2:
        return cv2.LUT(image, tables[0])
    if len(tables) == 1:
        return cv2.LUT(image, tables[0])
    return np.dstack([cv2.LUT(plane, table) for plane, table in zip(cv2.split(image), tables, strict=True)])


def _count_planes(image: Array, p: Any, where: Window) -> Array:
    return np.stack([counts_of(plane) for plane in planes_of(image, p.color)])


def _equalizing_tables(counts: Array, p: Any) -> Array:
    return np.stack([_equalizing_table(one) for one in counts])


def _equalizing_table(counts: Array) -> Array:
    """Return OpenCV's table: the share of pixels up to a value, without those of the first value, times the top."""
    first, total = int(np.flatnonzero(counts)[0]), int(counts.sum())
    table = np.zeros(len(counts), dtype_of(counts))
    if counts[first] == total:
        table[:] = first
        return table
    scale = np.float32(len(counts) - 1) / np.float32(total - counts[first])
    sums = np.cumsum(counts[first + 1 :]).astype(np.float32) * scale
    table[first + 1 :] = np.clip(np.rint(sums), 0, len(counts) - 1)
    return table


def _equalize(image: Array, tables: Array, p: Any, where: Window) -> Array:
    return on_planes(image, p.color, lambda plane, number: cv2.LUT(plane, tables[number]))


EQUALIZE = TwoPass(_count_planes, np.add, _equalize, _equalizing_tables)


@operation(kind=EQUALIZE, dtypes="uint8 uint16", channels=each_or_joint, alpha="keep")
def equalize_hist(image: Any, *, color: Color = "luminance") -> Any:
    """Spread the values evenly over their range.

    Parameters
    ----------
    color : {"luminance", "each"}
        Whether the luminance of a color image is spread and its hues stay, or each channel by itself.

    Returns
    -------
    ndarray
        The equalised image, of the same data type; alpha stays.

    Raises
    ------
    ArrayError
        If the luminance of two channels is asked for.

    Notes
    -----
    `cv2.equalizeHist`, with its formula on 65,536 values for uint16. The luminance is Y of `COLOR_RGB2YCrCb`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.equalize_hist(np.array([[10, 11, 12, 13]], np.uint8))
    array([[  0,  85, 170, 255]], dtype=uint8)
    """
    if image.dtype == np.uint8:
        return on_planes(image, color, lambda plane, number: cv2.equalizeHist(plane))
    return EQUALIZE.on_whole(image, {"color": color})


def _count(image: Array, p: Any, where: Window) -> Array:
    return np.atleast_2d(counts_of(image))


def _matching_tables(counts: Array, p: Any) -> Array:
    if len(p.reference) != len(counts) or p.reference.shape[1] != counts.shape[1]:
        raise ArrayError(
            f"match_histograms: the image has {len(counts)} color channels of {dtype_of(counts)}, the reference "
            f"{len(p.reference)} of {dtype_of(p.reference)}; convert one of them first, with to_rgb, to_gray or rescale"
        )
    return np.stack([_matching_table(*both) for both in zip(counts, p.reference, strict=True)])


def _matching_table(counts: Array, wanted: Array) -> Array:
    values = np.flatnonzero(wanted)
    shares = np.cumsum(counts) / counts.sum()
    matched = np.interp(shares, np.cumsum(wanted[values]) / wanted.sum(), values)
    table: Array = np.rint(matched).astype(dtype_of(counts))
    return table


MATCH = TwoPass(_count, np.add, look_up, _matching_tables)


@operation(kind=MATCH, dtypes="uint8 uint16", alpha="keep")
def match_histograms(image: Any, *, reference: Annotated[Any, Image()]) -> Any:
    """Give an image the tones of another.

    Parameters
    ----------
    reference : array
        The other image, of any size, and of the same data type and color channels; its alpha does not count.

    Returns
    -------
    ndarray
        The image with values changed, by a table for each channel, such that they are spread as the reference's are.
        Alpha stays.

    Raises
    ------
    ArrayError
        If the reference has other channels or another data type.

    Notes
    -----
    `skimage.exposure.match_histograms`, rounded half to even: the value at the same share of pixels, interpolated
    between values that occur. With a channel axis scikit-image rounds down.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.match_histograms(np.array([[1, 2, 3, 4]], np.uint8), reference=np.array([[50, 60, 70, 200]], np.uint8))
    array([[ 50,  60,  70, 200]], dtype=uint8)
    """
    return MATCH.on_whole(image, {"reference": match_histograms.colors(reference)})


# Thresholds by histograms


def otsu_of(counts: Array) -> float:
    """Return the threshold that parts values best in two: with the greatest variance between both parts.

    The order of additions is OpenCV's, since among equally good values its roundings decide.
    """
    numbers = counts.tolist()
    scale = 1.0 / sum(numbers)
    mean = sum(value * number for value, number in enumerate(numbers)) * scale
    below = share = best = level = 0.0
    least = float(np.finfo(np.float32).eps)
    for value, number in enumerate(numbers):
        here = number * scale
        below *= share
        share += here
        rest = 1.0 - share
        if min(share, rest) < least or max(share, rest) > 1.0 - least:
            continue
        below = (below + value * here) / share
        above = (mean - share * below) / rest
        variance = share * rest * (below - above) * (below - above)
        if variance > best:
            best, level = variance, float(value)
    return level


def triangle_of(counts: Array) -> float:
    """Return the threshold at the value that lies farthest below the line from the peak to the far end."""
    top = len(counts) - 1
    found = np.flatnonzero(counts)
    left, right, peak = max(int(found[0]) - 1, 0), min(int(found[-1]) + 1, top), int(np.argmax(counts))
    if found[-1] == 0:
        right = 1  # OpenCV looks for the last value that occurs down to 1 only
    flipped = peak - left < right - peak
    if flipped:
        counts, left, peak = counts[::-1], top - right, top - peak
    values = np.arange(left + 1, peak + 1)
    distances = int(counts[peak]) * values + (left - peak) * counts[left + 1 : peak + 1]
    level = left
    if len(values) and distances.max() > 0:
        level = int(values[np.argmax(distances)])
    level -= 1
    return float(top - level if flipped else level)


def _apply_threshold(image: Array, level: Array, p: Any, where: Window) -> Array:
    return threshold.function(image, value=float(level), max_value=p.max_value, kind=p.kind)


def _count_plane(image: Array, p: Any, where: Window) -> Array:
    return counts_of(image)


def _thresholding(level: Callable[[Array], float]) -> TwoPass:
    return TwoPass(_count_plane, np.add, _apply_threshold, lambda counts, p: np.array(level(counts)))


def _threshold_at_once(image: Array, method: int, max_value: float | None, kind: str) -> Array:
    top = np.iinfo(image.dtype).max if max_value is None else max_value
    return cv2.threshold(image, 0, top, _KINDS[kind] | method)[1]


OTSU, TRIANGLE = _thresholding(otsu_of), _thresholding(triangle_of)


@operation(kind=OTSU, dtypes="uint8 uint16", accepts=(1,))
def otsu_threshold(
    image: Any,
    *,
    max_value: Annotated[float | None, Unit("gray levels")] = None,
    kind: ThresholdKind = "binary",
) -> Any:
    """Compare each pixel with the value that parts the image's values best in two.

    Parameters
    ----------
    max_value : float
        What the binary kinds set; none for white: 255 or 65535.
    kind : {"binary", "binary_inv", "trunc", "to_zero", "to_zero_inv"}
        What becomes of pixels that are greater and of the others, as in `threshold`.

    Returns
    -------
    ndarray
        The image after the threshold, of the same data type.

    Notes
    -----
    `cv2.threshold` with `THRESH_OTSU`. Where two values are equally good, OpenCV's own roundings decide, also where
    OpenCV leaves the choice on uint8 to Intel's IPP, which may take the other. N. Otsu, "A threshold selection method
    from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics 9 (1979). The value itself:
    `otsu_level`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.otsu_threshold(np.array([[10, 12, 200, 210]], np.uint8))
    array([[  0,   0, 255, 255]], dtype=uint8)
    """
    if image.dtype == np.uint16:
        return _threshold_at_once(image, cv2.THRESH_OTSU, max_value, kind)
    return OTSU.on_whole(image, {"max_value": max_value, "kind": kind})  # OpenCV's may be IPP's here


@operation(kind=TRIANGLE, dtypes="uint8 uint16", accepts=(1,))
def triangle_threshold(
    image: Any,
    *,
    max_value: Annotated[float | None, Unit("gray levels")] = None,
    kind: ThresholdKind = "binary",
) -> Any:
    """Compare each pixel with the value where the histogram's one peak ends, as suits images of much background.

    Parameters
    ----------
    max_value : float
        What the binary kinds set; none for white: 255 or 65535.
    kind : {"binary", "binary_inv", "trunc", "to_zero", "to_zero_inv"}
        What becomes of pixels that are greater and of the others, as in `threshold`.

    Returns
    -------
    ndarray
        The image after the threshold, of the same data type.

    Notes
    -----
    `cv2.threshold` with `THRESH_TRIANGLE`, with its formula on 65,536 values for uint16. G. Zack, W. Rogers and S.
    Latt, "Automatic measurement of sister chromatid exchange frequency", Journal of Histochemistry and Cytochemistry
    25 (1977). The value itself: `triangle_level`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.triangle_threshold(np.array([[10, 10, 10, 10, 11, 11, 90, 200]], np.uint8))
    array([[  0,   0,   0,   0,   0,   0, 255, 255]], dtype=uint8)
    """
    if image.dtype == np.uint8:
        return _threshold_at_once(image, cv2.THRESH_TRIANGLE, max_value, kind)
    return TRIANGLE.on_whole(image, {"max_value": max_value, "kind": kind})
