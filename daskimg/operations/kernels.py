"""What neighbourhood operations share: the reach of kernels, sums that no chunk changes, NaN kept in its place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from daskimg.operation import Array

__all__: list[str] = []

LANES = 64  # pixels: a multiple of what any processor's vectors hold


def half(rows: int, columns: int) -> tuple[int, int]:
    """Return the reach of a kernel whose anchor is OpenCV's: the middle, or the first pixel after it."""
    return rows // 2, columns // 2


def absolute_sum(kernel: Any) -> float:
    """Return the sum of a kernel's absolute values."""
    return float(np.abs(kernel).sum())


def to_integers(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round and saturate, as OpenCV does; writes into `values`."""
    limits = np.iinfo(dtype)
    integers: Array = np.clip(np.rint(values, out=values), limits.min, limits.max, out=values).astype(dtype)
    return integers


def sums_along(image: Array, axis: int, size: int) -> Array:
    """Return the sums of `size` pixels in a line, by doubling: each sum is added up in the same order."""
    part = np.moveaxis(image, axis, 0)
    count = len(part) - size + 1
    pieces = []
    start, width = 0, 1
    while width <= size:
        if size & width:
            pieces.append(part[start : start + count])
            start += width
        part = part[:-width] + part[width:]
        width *= 2
    return np.moveaxis(functools.reduce(np.add, pieces), 0, axis)


def gaussian_ksize(ksize: int | None, sigma: float, dtype: np.dtype[Any]) -> int:
    """Return the number of taps of a Gaussian: OpenCV cuts it at 3 sigma on 8 bits, else at 4."""
    if ksize is None and sigma == 0:
        return 5
    return ksize or round(sigma * (3 if dtype == np.uint8 else 4) * 2 + 1) | 1


def float_lanes(p: Any, dtype: np.dtype[Any]) -> int:
    """Return the alignment of OpenCV's sums: in whole numbers on uint8 and uint16, else in float32 or float64."""
    return 1 if dtype in (np.uint8, np.uint16) else LANES


def is_transformed(kernel: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether OpenCV may take the way of a Fourier transform for a float image."""
    return dtype.kind == "f" and np.size(kernel) >= 50


def depth_of_sums(dtype: np.dtype[Any], gain: float) -> int:
    """Return the OpenCV type to add in: -1 for OpenCV's choice, float64 where float32 could be a level off."""
    too_large = dtype.kind in "iu" and 8 * np.finfo(np.float32).eps * gain * np.iinfo(dtype).max > 0.5
    return cv2.CV_64F if too_large else -1


def keep_missing(
    image: Array, missing: Array, elements: list[Array], border: int, function: Callable[[Array], Array]
) -> Array:
    """Return `function(image)`, with NaN where the neighbourhood has `missing` pixels.

    OpenCV compares with NaN in whatever order suits the processor, and its Fourier transforms spread NaN: both would
    depend on the chunks. The neighbourhood is that of the structuring elements, one after another.
    """
    result = function(np.where(missing, image.dtype.type(0), image))
    reached: Array = missing.astype(np.uint8)
    for element in elements:
        reached = cv2.dilate(reached, element, borderType=border)
    result[reached > 0] = np.nan
    return result


def has_infinite(image: Array) -> bool:
    """Return whether a float image holds NaN or infinity."""
    return image.dtype.kind == "f" and not cv2.checkRange(image)[0]


def has_nan(image: Array) -> bool:
    """Return whether a float image holds NaN."""
    return has_infinite(image) and bool(np.isnan(image).any())
