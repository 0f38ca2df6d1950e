"""Edges: derivatives of the image, signed, in a type that holds them."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.operation import Array, operation
from daskimg.operations.borders import BORDERS, Border
from daskimg.operations.kernels import LANES, absolute_sum, half, has_infinite, keep_missing
from daskimg.parameters import Odd, Range, Unit

__all__ = ["laplacian", "scharr", "sobel"]

Order = Annotated[int, Range(0, 30)]
Aperture = Annotated[int, Odd(1, 31), Unit("px")]

SCHARR = -1  # OpenCV's sign for its kernels


@functools.lru_cache(maxsize=256)
def kernels(dx: int, dy: int, ksize: int) -> tuple[Array, Array]:
    """Return OpenCV's kernels along a row and along a column for a derivative.

    Raises
    ------
    ParameterError
        If there is no such derivative in that size.
    """
    if dx + dy == 0:
        raise ParameterError("sobel: dx=0 dy=0 is no derivative; set dx, dy or both to 1 or more")
    size = 3 if ksize in (1, SCHARR) else ksize
    if ksize == SCHARR and dx + dy != 1:
        raise ParameterError(f"scharr: dx={dx} dy={dy} is not allowed; one of them is 1, the other 0; see sobel")
    if max(dx, dy) >= size:
        raise ParameterError(
            f"sobel: ksize={ksize} is too small for dx={dx} dy={dy}; set ksize to {(max(dx, dy) + 1) | 1} or more"
        )
    along_x, along_y = cv2.getDerivKernels(dx, dy, ksize, ktype=cv2.CV_64F)
    return along_x.ravel(), along_y.ravel()


def kernels_reach(dx: int, dy: int, ksize: int) -> tuple[int, int]:
    """Return how far a derivative looks, in rows and columns."""
    along_x, along_y = kernels(dx, dy, ksize)
    return half(len(along_y), len(along_x))


def kernels_gain(dx: int, dy: int, ksize: int) -> float:
    """Return the sum of the absolute values of a derivative's two-dimensional kernel."""
    along_x, along_y = kernels(dx, dy, ksize)
    return absolute_sum(along_x) * absolute_sum(along_y)


def depth(dtype: np.dtype[Any], ksize: int) -> int:
    """Return the OpenCV type that holds a derivative: the least that neither wraps nor saturates."""
    if dtype == np.uint8 and ksize <= 5:
        return cv2.CV_16S
    return cv2.CV_64F if dtype == np.float64 else cv2.CV_32F


def edge_lanes(p: Any, dtype: np.dtype[Any]) -> int:
    """Return the alignment of a derivative's sums: in whole numbers on uint8, else in floats."""
    return 1 if depth(dtype, getattr(p, "ksize", SCHARR)) == cv2.CV_16S else LANES


def derivative(image: Array, dx: int, dy: int, ksize: int, border: int) -> Array:
    """Return a derivative, with NaN where it would take one or an infinity into account."""
    along_x, along_y = kernels(dx, dy, ksize)
    ddepth = depth(image.dtype, ksize)
    sobel = functools.partial(cv2.Sobel, ddepth=ddepth, dx=dx, dy=dy, ksize=ksize, borderType=border)
    if has_infinite(image):
        # OpenCV skips weights of 0, but not where vectors of pixels end, and 0 * NaN is NaN.
        element = np.outer(along_y != 0, along_x != 0).astype(np.uint8)
        return keep_missing(image, ~np.isfinite(image), [element], border, sobel)
    return sobel(image)


@operation(
    reach=lambda p, dtype: kernels_reach(p.dx, p.dy, p.ksize),
    gain=lambda p, dtype: kernels_gain(p.dx, p.dy, p.ksize),
    lanes=edge_lanes,
    alpha="keep",
)
def sobel(image: Array, *, dx: Order = 1, dy: Order = 0, ksize: Aperture = 3, border: Border = "reflect_101") -> Array:
    """Derive with Sobel kernels: a derivative one way, a smoothing the other.

    Parameters
    ----------
    dx : int
        Order of the derivative along the columns.
    dy : int
        Order of the derivative along the rows.
    ksize : int
        Width and height of the kernel; larger than `dx` and `dy`. With 1, it is 3 pixels long and does not smooth.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8 up to `ksize` 5, float64 from float64, else float32. An alpha channel
        comes back unchanged.

    Raises
    ------
    ParameterError
        If `dx` and `dy` are both 0, or not below `ksize`.

    Notes
    -----
    Values are not divided by the kernel's sum: a step by 1 gives 4 with `ksize` 3.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.sobel(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[  0, -16, -16,   0,   0]], dtype=int16)
    """
    return derivative(image, dx, dy, ksize, BORDERS[border])


@operation(
    reach=lambda p, dtype: kernels_reach(p.dx, p.dy, SCHARR),
    gain=lambda p, dtype: kernels_gain(p.dx, p.dy, SCHARR),
    lanes=edge_lanes,
    alpha="keep",
)
def scharr(
    image: Array,
    *,
    dx: Annotated[int, Range(0, 1)] = 1,
    dy: Annotated[int, Range(0, 1)] = 0,
    border: Border = "reflect_101",
) -> Array:
    """Derive with the Scharr kernel of 3 x 3 pixels, which turns better with the image than Sobel's.

    Parameters
    ----------
    dx : int
        1 for the derivative along the columns.
    dy : int
        1 for the derivative along the rows; then `dx` is 0.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8, float64 from float64, else float32. An alpha channel comes back
        unchanged.

    Raises
    ------
    ParameterError
        If `dx` and `dy` are both 0 or both 1.

    Notes
    -----
    H. Scharr, "Optimale Operatoren in der Digitalen Bildverarbeitung", dissertation, Heidelberg 2000. Values are not
    divided by the kernel's sum: a step by 1 gives 16.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.scharr(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[  0, -64, -64,   0,   0]], dtype=int16)
    """
    return derivative(image, dx, dy, SCHARR, BORDERS[border])


def laplacian_gain(ksize: int) -> float:
    """Return the sum of the absolute values of OpenCV's Laplacian kernel."""
    if ksize <= 3:
        return 8.0 if ksize == 1 else 16.0
    return 2 * kernels_gain(2, 0, ksize)


@operation(
    reach=lambda p, dtype: max(1, p.ksize // 2),
    gain=lambda p, dtype: laplacian_gain(p.ksize),
    lanes=edge_lanes,
    alpha="keep",
)
def laplacian(image: Array, *, ksize: Aperture = 1, border: Border = "reflect_101") -> Array:
    """Add the second derivatives along columns and rows.

    Parameters
    ----------
    ksize : int
        Width and height of the Sobel kernels. 1 takes the direct neighbours, 3 the diagonal ones, in 3 x 3 pixels.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8 up to `ksize` 5, float64 from float64, else float32. An alpha channel
        comes back unchanged.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.laplacian(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[ 0, -4,  4,  0,  0]], dtype=int16)
    """
    ddepth, rule = depth(image.dtype, ksize), BORDERS[border]
    function = functools.partial(cv2.Laplacian, ddepth=ddepth, ksize=ksize, borderType=rule)
    if ksize >= 5 and has_infinite(image):
        along_x, along_y = kernels(2, 0, ksize)
        element = np.outer(along_y != 0, along_x != 0)
        return keep_missing(image, ~np.isfinite(image), [(element | element.T).astype(np.uint8)], rule, function)
    return function(image)
