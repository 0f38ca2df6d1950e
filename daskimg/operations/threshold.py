"""Thresholds: pixels told apart by their value."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.operation import Array, operation
from daskimg.operations.kernels import LANES
from daskimg.operations.missing import Masked, mean_of_valid
from daskimg.operations.tone import saturated, white
from daskimg.parameters import Odd, Range, Unit, Vector

__all__ = ["adaptive_threshold", "in_range", "threshold"]

_KINDS = {
    "binary": cv2.THRESH_BINARY,
    "binary_inv": cv2.THRESH_BINARY_INV,
    "to_zero": cv2.THRESH_TOZERO,
    "to_zero_inv": cv2.THRESH_TOZERO_INV,
}


@operation(alpha="keep")
def threshold(
    image: Any,
    *,
    value: Annotated[float, Unit("gray levels")],
    max_value: Annotated[float | None, Unit("gray levels")] = None,
    kind: Literal["binary", "binary_inv", "trunc", "to_zero", "to_zero_inv"] = "binary",
) -> Any:
    """Compare each pixel with a fixed value.

    Parameters
    ----------
    value : float
        The threshold, in units of the image; a pixel passes when it is greater.
    max_value : float
        What the binary kinds set; none for white: 255, 65535, 32767, or 1.0 for floats.
    kind : {"binary", "binary_inv", "trunc", "to_zero", "to_zero_inv"}
        What becomes of pixels that pass and of the others; see the notes.

    Returns
    -------
    ndarray
        The image after the threshold, of the same data type; alpha stays.

    Notes
    -----
    As `cv2.threshold`. For pixels that pass | the others: binary `max_value | 0`, binary_inv `0 | max_value`, trunc
    `value | x`, to_zero `x | 0`, to_zero_inv `0 | x`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.threshold(np.array([[99, 100, 101]], np.uint8), value=100)
    array([[  0,   0, 255]], dtype=uint8)
    """
    if kind == "trunc":  # cv2's own treats NaN by its place in the row, and int16 wraps below -32768
        return np.minimum(image, saturated(value, image.dtype, math.floor))
    top = white(image.dtype) if max_value is None else max_value
    return cv2.threshold(image, value, top, _KINDS[kind])[1]


def adapt_to_valid(masked: Masked) -> tuple[Array, Array]:
    """Compare with the mean of valid pixels, rounded half to even as OpenCV's is."""
    result, p = masked.run(masked.image), masked.p
    beside = masked.valid & ~masked.complete
    if not beside.any():
        return result, masked.valid
    size, border = (p.ksize, p.ksize), cv2.BORDER_REPLICATE

    def smooth(image: Array) -> Array:
        if p.method == "gaussian":
            return cv2.GaussianBlur(image, size, 0, borderType=border)
        return cv2.boxFilter(image, cv2.CV_64F, size, normalize=False, borderType=border)

    means, _ = mean_of_valid(masked, smooth, 1.0 if p.method == "gaussian" else p.ksize**2)
    least = -math.ceil(p.offset) if p.kind == "binary" else -math.floor(p.offset)
    passes = masked.image[beside] - np.rint(means[beside]) > least
    result[beside] = np.where(passes == (p.kind == "binary"), 255, 0)
    return result, masked.valid


@operation(
    dtypes="uint8",
    accepts=(1,),
    reach=lambda p, dtype: p.ksize // 2,
    missing=adapt_to_valid,
    lanes=lambda p, dtype: LANES if p.method == "gaussian" else 1,  # its means are sums in float32
)
def adaptive_threshold(
    image: Any,
    *,
    ksize: Annotated[int, Odd(3, 999), Unit("px")] = 11,
    offset: Annotated[float, Range(-255, 255), Unit("gray levels")] = 2.0,
    method: Literal["mean", "gaussian"] = "mean",
    kind: Literal["binary", "binary_inv"] = "binary",
) -> Any:
    """Compare each pixel with the mean of its neighbourhood, which copes with uneven light.

    Parameters
    ----------
    ksize : int
        Width and height of the neighbourhood.
    offset : float
        What is subtracted from the mean to give the threshold.
    method : {"mean", "gaussian"}
        Whether all neighbours count alike or by a Gaussian.
    kind : {"binary", "binary_inv"}
        Whether pixels above the threshold become 255, or those not above.

    Returns
    -------
    ndarray of uint8
        255 and 0.

    Notes
    -----
    `cv2.adaptiveThreshold`; beyond the border the last pixel is repeated.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.adaptive_threshold(np.array([[10, 10, 90, 10, 10]], np.uint8), ksize=3, offset=-5)
    array([[  0,   0, 255,   0,   0]], dtype=uint8)
    """
    how = cv2.ADAPTIVE_THRESH_MEAN_C if method == "mean" else cv2.ADAPTIVE_THRESH_GAUSSIAN_C
    return cv2.adaptiveThreshold(image, 255, how, _KINDS[kind], ksize, offset)


@operation(channels="convert")
def in_range(image: Any, *, low: Vector | float, high: Vector | float) -> Any:
    """Mark the pixels whose channels all lie in a range.

    Parameters
    ----------
    low : float or sequence of float
        Least value, in units of the image, for all channels or for each.
    high : float or sequence of float
        Greatest value, in units of the image, for all channels or for each.

    Returns
    -------
    ndarray of uint8
        A mask (rows, columns): 255 where `low <= x <= high` in every channel, else 0.

    Raises
    ------
    ParameterError
        If the number of values is not that of the channels.

    Notes
    -----
    As `cv2.inRange`, save that fractional limits of integer images are not rounded. The alpha of RGBA is ignored.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.in_range(np.array([[99, 100, 101]], np.uint8), low=100, high=200)
    array([[  0, 255, 255]], dtype=uint8)
    """
    planes = image[:, :, np.newaxis] if image.ndim == 2 else image
    planes = np.ascontiguousarray(planes[:, :, :3]) if planes.shape[2] == 4 else planes
    lows, highs = _per_channel("low", low, planes), _per_channel("high", high, planes)
    if planes.dtype.kind in "iu":
        limits = np.iinfo(planes.dtype)  # cv2 rounds fractions, and takes limits beyond 32 bits for an empty range
        lows = [max(math.ceil(one), limits.min) for one in lows]
        highs = [min(math.floor(one), limits.max) for one in highs]
        if any(one > limits.max for one in lows) or any(one < limits.min for one in highs):
            return np.zeros(planes.shape[:2], np.uint8)
    return cv2.inRange(planes, np.array(lows, np.float64), np.array(highs, np.float64))


def _per_channel(name: str, value: Any, image: Array) -> list[float]:
    values = list(value) if isinstance(value, tuple) else [value] * image.shape[2]
    if len(values) != image.shape[2]:
        raise ParameterError(f"in_range: {name} has {len(values)} values, the image {image.shape[2]} color channels")
    return values
