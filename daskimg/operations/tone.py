"""Tone: operations that map each pixel's value, and the value ranges of data types."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.operation import Array, operation
from daskimg.parameters import Range, Unit, Vector

__all__ = ["absolute", "brightness_contrast", "clip", "gamma", "invert", "lut", "rescale"]

DataType = Literal["uint8", "uint16", "int16", "float32", "float64"]


def white(dtype: np.dtype[Any]) -> float:
    """Return the value that means full intensity: the largest of an integer type, 1 of a float type."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def as_type(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in a data type; for an integer type rounded half to even and saturated, with 0 for NaN."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(np.where(np.isnan(values), 0, values)), limits.min, limits.max).astype(dtype)


def saturated(bound: float, dtype: np.dtype[Any], to_whole: Callable[[float], int]) -> Any:
    """Return a bound as a value of the data type: for an integer type made whole and moved into its range."""
    if dtype.kind == "f":
        return dtype.type(bound)
    limits = np.iinfo(dtype)
    return dtype.type(min(max(to_whole(bound), limits.min), limits.max))


def _mapped(image: Array, curve: Callable[..., Array], *parameters: float, to: np.dtype[Any] | None = None) -> Array:
    """Apply a curve of single values: to integers by a table of all that there are, to floats directly."""
    if image.dtype.kind == "f":
        return as_type(curve(image, 1.0, *parameters), to or image.dtype)
    unsigned = image.view(np.uint16) if image.dtype == np.int16 else image  # tables are indexed by the bits
    return cv2.LUT(unsigned, _table(curve, image.dtype, to or image.dtype, parameters))


@functools.lru_cache(maxsize=64)
def _table(
    curve: Callable[..., Array], dtype: np.dtype[Any], to: np.dtype[Any], parameters: tuple[float, ...]
) -> Array:
    size = 1 << 8 * dtype.itemsize
    values = np.arange(size, dtype=f"uint{8 * dtype.itemsize}").view(dtype).astype(np.float64)
    return as_type(curve(values, white(dtype), *parameters), to)


@operation(alpha="keep")
def invert(image: Any) -> Any:
    """Swap dark and bright, as in a negative.

    Returns
    -------
    ndarray
        The inverted image, of the same data type; alpha stays.

    Notes
    -----
    Unsigned integers: `max - x`. Signed integers: `-1 - x`, which cannot overflow. Floats: `1 - x`. As
    `skimage.util.invert` and `cv2.bitwise_not` have it.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.invert(np.array([[0, 100, 255]], np.uint8))
    array([[255, 155,   0]], dtype=uint8)
    """
    return 1 - image if image.dtype.kind == "f" else cv2.bitwise_not(image)


@operation(alpha="keep")
def absolute(image: Any, *, saturate: bool = True) -> Any:
    """Take the absolute value, as after a derivative.

    Parameters
    ----------
    saturate : bool
        Whether int16 becomes uint8, with 255 for all that is larger; otherwise it becomes uint16, exactly.

    Returns
    -------
    ndarray
        Absolute values: uint8 or uint16 where the image is int16, else of the same data type.

    Notes
    -----
    The saturating form is `cv2.convertScaleAbs`. -32768 becomes 255, or 32768.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.absolute(np.array([[-32768, -7, 7, 300]], np.int16))
    array([[255,   7,   7, 255]], dtype=uint8)
    """
    if image.dtype != np.int16:
        return np.abs(image)
    # The absolute value of -32768 wraps to the same bits, which are 32768 as uint16.
    return cv2.convertScaleAbs(image) if saturate else np.abs(image).view(np.uint16)


def _brightness_contrast(values: Array, top: float, brightness: float, contrast: float) -> Array:
    return (values - top / 2) * contrast + (top / 2 + brightness * top)


@operation(alpha="keep")
def brightness_contrast(
    image: Any,
    *,
    brightness: Annotated[float, Range(-1, 1), Unit("full ranges")] = 0.0,
    contrast: Annotated[float, Range(0, 100)] = 1.0,
) -> Any:
    """Change brightness and contrast.

    Parameters
    ----------
    brightness : float
        What is added, as a share of the full range: 0.1 adds 25.5 on uint8, 0.1 on floats.
    contrast : float
        Factor on the distance from middle gray; below 1 flattens, 1 changes nothing.

    Returns
    -------
    ndarray
        The changed image, of the same data type; integers are rounded half to even and saturated, floats are not
        clipped, alpha stays.

    Notes
    -----
    `(x - w / 2) * contrast + w / 2 + brightness * w`, where w is 255, 65535, 32767 or 1.0 (white).

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.brightness_contrast(np.array([[0, 100, 200]], np.uint8), brightness=0.2, contrast=1.5)
    array([[  0, 137, 255]], dtype=uint8)
    """
    return _mapped(image, _brightness_contrast, brightness, contrast)


def _gamma(values: Array, top: float, exponent: float, gain: float) -> Array:
    return np.power(np.maximum(values, 0) / top, exponent) * (gain * top)


@operation(alpha="keep")
def gamma(
    image: Any,
    *,
    gamma: Annotated[float, Range(above=0, maximum=100)] = 1.0,
    gain: Annotated[float, Range(0, 1000)] = 1.0,
) -> Any:
    """Correct the tone by a power law.

    Parameters
    ----------
    gamma : float
        Exponent; below 1 brightens the shadows, above 1 darkens them.
    gain : float
        Factor on the result.

    Returns
    -------
    ndarray
        The corrected image, of the same data type; integers are rounded half to even and saturated, alpha stays.

    Notes
    -----
    `gain * w * (x / w) ** gamma`, where w is 255, 65535, 32767 or 1.0 (white), as `skimage.exposure.adjust_gamma`.
    Negative values count as 0.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.gamma(np.array([[0, 64, 255]], np.uint8), gamma=0.5)
    array([[  0, 128, 255]], dtype=uint8)
    """
    return _mapped(image, _gamma, gamma, gain)


@functools.lru_cache(maxsize=16)
def _as_table(table: Vector, dtype: np.dtype[Any]) -> Array:
    return as_type(np.array(table, np.float64), dtype)


@operation(alpha="keep", dtypes=lambda p: {256: "uint8", 65536: "uint16"}.get(len(p.table), "uint8 uint16"))
def lut(image: Any, *, table: Vector) -> Any:
    """Look each value up in a table.

    Parameters
    ----------
    table : sequence of float
        The new value of every value: 256 numbers for uint8, 65536 for uint16.

    Returns
    -------
    ndarray
        The values found, of the same data type, rounded half to even and saturated; alpha stays.

    Raises
    ------
    ParameterError
        If the table has another length.

    Notes
    -----
    `cv2.LUT` with one table for all channels.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.lut(np.array([[0, 100, 255]], np.uint8), table=np.arange(256) // 50 * 50)
    array([[  0, 100, 250]], dtype=uint8)
    """
    size = 1 << 8 * image.dtype.itemsize
    if len(table) != size:
        raise ParameterError(f"lut: a table for {image.dtype} has {size} numbers, not {len(table)}")
    return cv2.LUT(image, _as_table(table, image.dtype))


@operation(alpha="keep")
def clip(image: Any, *, low: float | None = None, high: float | None = None) -> Any:
    """Limit the values to a range.

    Parameters
    ----------
    low : float
        What is lower becomes this; none for no lower limit.
    high : float
        What is higher becomes this; none for no upper limit.

    Returns
    -------
    ndarray
        The limited image, of the same data type; alpha stays.

    Raises
    ------
    ParameterError
        If `low` is above `high`.

    Notes
    -----
    As `numpy.clip`. On integers a fractional limit means the nearest integer inside the range.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.clip(np.array([[0, 100, 255]], np.uint8), low=20, high=200)
    array([[ 20, 100, 200]], dtype=uint8)
    """
    if low is not None and high is not None and low > high:
        raise ParameterError(f"clip: low={low} is above high={high}; swap them")
    result = image.copy() if low is None else np.maximum(image, saturated(low, image.dtype, math.ceil))
    return result if high is None else np.minimum(result, saturated(high, image.dtype, math.floor))


def _rescale(values: Array, top: float, low: float, high: float, to_top: float) -> Array:
    return (values - low) / (high - low) * to_top


def rescaled(image: Array, to: np.dtype[Any], low: float | None = None, high: float | None = None) -> Array:
    """Return an image in another data type, with `low` (0) made 0 and `high` (white) made white."""
    low, high = 0.0 if low is None else low, white(image.dtype) if high is None else high
    if low >= high:
        raise ParameterError(f"rescale: in_low={low} is not below in_high={high} on {image.dtype}")
    if to.kind == "f":  # no table: its precision is that of the result
        wide = image.astype(np.result_type(image.dtype, to), copy=False)
        return _rescale(wide, 1.0, low, high, 1.0).astype(to, copy=False)
    return _mapped(image, _rescale, low, high, white(to), to=to)


@operation
def rescale(image: Any, *, to: DataType = "uint8", in_low: float | None = None, in_high: float | None = None) -> Any:
    """Convert to another data type, mapping the range of values.

    Parameters
    ----------
    to : {"uint8", "uint16", "int16", "float32", "float64"}
        The data type of the result.
    in_low : float
        The value that becomes 0; none for 0.
    in_high : float
        The value that becomes white; none for the image's white: 255, 65535, 32767, or 1.0 for floats.

    Returns
    -------
    ndarray
        The image in the data type `to`; integers are rounded half to even and saturated, floats are not clipped.

    Raises
    ------
    ParameterError
        If `in_low` is not below `in_high`.

    Notes
    -----
    `(x - in_low) / (in_high - in_low) * w`, where w is 255, 65535, 32767 or 1.0 (white of the result), as
    `skimage.util.img_as_ubyte` and its like, but rounded also from 16 to 8 bits. Alpha is always mapped from its full
    range. NaN becomes 0 in integers.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.rescale(np.array([[0, 100, 255]], np.uint8), to="uint16")
    array([[    0, 25700, 65535]], dtype=uint16)
    >>> di.rescale(np.array([[0.0, 0.5, 2.0]], np.float32))
    array([[  0, 128, 255]], dtype=uint8)
    """
    dtype = np.dtype(to)
    if image.ndim == 3 and image.shape[2] == 4 and (in_low, in_high) != (None, None):
        colors = rescaled(np.ascontiguousarray(image[:, :, :3]), dtype, in_low, in_high)
        return np.dstack((colors, rescaled(np.ascontiguousarray(image[:, :, 3]), dtype)))
    return rescaled(image, dtype, in_low, in_high)
