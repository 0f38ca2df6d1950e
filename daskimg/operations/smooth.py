"""Smoothing and sharpening: each pixel becomes a mean, median or other blend of its neighbourhood."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.operation import Array, operation
from daskimg.operations.borders import BORDERS, Border
from daskimg.operations.kernels import (
    LANES,
    absolute_sum,
    depth_of_sums,
    float_lanes,
    gaussian_ksize,
    half,
    has_infinite,
    has_nan,
    is_transformed,
    keep_missing,
    sums_along,
    to_integers,
)
from daskimg.operations.missing import Masked, Weigh, median_beside, spread
from daskimg.parameters import Kernel, Odd, Range, Unit, Vector

__all__ = [
    "bilateral_filter",
    "box_blur",
    "filter2d",
    "gaussian_blur",
    "median_blur",
    "non_local_means",
    "non_local_means_color",
    "sep_filter2d",
    "sharpen",
]


def gaussian_size(p: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the rows and columns of the kernel of `gaussian_blur`."""
    sigma_y = p.sigma if p.sigma_y is None else p.sigma_y
    return gaussian_ksize(p.ksize, sigma_y, dtype), gaussian_ksize(p.ksize, p.sigma, dtype)


def box_of(image: Array, p: Any, dtype: np.dtype[Any]) -> Array:
    """Return the sums (of integers) or means of rectangles, in double precision."""
    if dtype.kind == "f":
        return box_blur.function(image, ksize=p.ksize, ksize_y=p.ksize_y, border=p.border)
    size = p.ksize, p.ksize_y or p.ksize
    return cv2.boxFilter(image, cv2.CV_64F, size, normalize=False, borderType=BORDERS[p.border])


def box_total(p: Any, dtype: np.dtype[Any]) -> float:
    """Return what `box_of` makes of ones."""
    return 1.0 if dtype.kind == "f" else p.ksize * (p.ksize_y or p.ksize)


@operation(
    reach=lambda p, dtype: half(p.ksize_y or p.ksize, p.ksize),
    gain=lambda p, dtype: 1.0,
    lanes=lambda p, dtype: LANES if dtype in (np.uint16, np.int16) else 1,
    missing=Weigh(box_of, box_total),
)
def box_blur(
    image: Array,
    *,
    ksize: Annotated[int, Range(1, 999), Unit("px")] = 3,
    ksize_y: Annotated[int | None, Range(1, 999), Unit("px")] = None,
    border: Border = "reflect_101",
) -> Array:
    """Smooth with the mean of a rectangle.

    Parameters
    ----------
    ksize : int
        Columns of the rectangle, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the rectangle.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.box_blur(np.array([[0, 0, 90, 0, 0]], np.uint8), ksize=3)
    array([[ 0, 30, 30, 30,  0]], dtype=uint8)
    """
    rows, columns = ksize_y or ksize, ksize
    if image.dtype == np.float64 or has_infinite(image):
        # OpenCV's sums run along the image: they drift, and one NaN spoils all that follows.
        up, left = half(rows, columns)
        image = cv2.copyMakeBorder(image, up, rows - 1 - up, left, columns - 1 - left, BORDERS[border])
        sums = sums_along(sums_along(image.astype(np.float64, copy=False), 0, rows), 1, columns)
        return (sums * (1 / (rows * columns))).astype(image.dtype, copy=False)
    if image.dtype == np.uint8 and rows * columns == 2:
        # OpenCV's 8 bits overflow for a pair of pixels at the end of a row: the mean of 255 and 255 is 0.
        return to_integers(cv2.boxFilter(image, cv2.CV_64F, (columns, rows), borderType=BORDERS[border]), image.dtype)
    return cv2.blur(image, (columns, rows), borderType=BORDERS[border])


def gaussian_of(image: Array, p: Any, dtype: np.dtype[Any]) -> Array:
    """Return an image of another type smoothed with the kernel that `gaussian_blur` has for `dtype`."""
    rows, columns = gaussian_size(p, dtype)
    return cv2.GaussianBlur(image, (columns, rows), p.sigma, sigmaY=p.sigma_y or p.sigma, borderType=BORDERS[p.border])


@operation(
    reach=lambda p, dtype: half(*gaussian_size(p, dtype)),
    gain=lambda p, dtype: 1.0,
    lanes=float_lanes,
    missing=Weigh(gaussian_of),
)
def gaussian_blur(
    image: Array,
    *,
    ksize: Annotated[int | None, Odd(1, 2401), Unit("px")] = None,
    sigma: Annotated[float, Range(0, 300), Unit("px")] = 0.0,
    sigma_y: Annotated[float | None, Range(above=0, maximum=300), Unit("px")] = None,
    border: Border = "reflect_101",
) -> Array:
    """Smooth with a Gaussian kernel.

    Parameters
    ----------
    ksize : int
        Columns and rows of the kernel. None: as many as `sigma` needs, or 5 where that is 0.
    sigma : float
        Standard deviation along the columns. 0: what suits `ksize`.
    sigma_y : float
        Standard deviation along the rows, where it is another one.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type.

    Notes
    -----
    As in OpenCV, a kernel without `ksize` spans 3 standard deviations to each side on uint8, else 4; one without
    `sigma` has ``0.3 * ((ksize - 1) / 2 - 1) + 0.8``, or from 3 to 9 pixels a table of binary fractions.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.gaussian_blur(np.array([[0, 0, 0, 160, 0, 0, 0]], np.uint8), ksize=5)
    array([[ 0, 10, 40, 60, 40, 10,  0]], dtype=uint8)
    """
    sigma_y = sigma if sigma_y is None else sigma_y
    size = gaussian_ksize(ksize, sigma, image.dtype), gaussian_ksize(ksize, sigma_y, image.dtype)
    return cv2.GaussianBlur(image, size, sigma, sigmaY=sigma_y, borderType=BORDERS[border])


def median_of_valid(masked: Masked) -> tuple[Array, Array]:
    """Return the medians of the valid pixels, those of an even number being the mean of the middle two."""
    result = masked.run(masked.image)
    beside = masked.valid & ~masked.complete
    if beside.any():
        planes = masked.image if masked.image.ndim == 3 else masked.image[:, :, np.newaxis]
        medians = [median_beside(planes[:, :, c], masked.valid, beside, masked.p.ksize) for c in range(planes.shape[2])]
        result[beside] = np.stack(medians, axis=1).reshape(-1, *result.shape[2:])
    return result, masked.valid


@operation(
    reach=lambda p, dtype: p.ksize // 2,
    dtypes=lambda p: "uint8" if p.ksize > 5 else "uint8 uint16 int16 float32",
    missing=median_of_valid,
)
def median_blur(image: Array, *, ksize: Annotated[int, Odd(1, 511), Unit("px")] = 3) -> Array:
    """Replace each pixel by the median of a square around it.

    Beyond the image its edge pixels repeat.

    Parameters
    ----------
    ksize : int
        Width and height of the square; above 5 for uint8 only.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.median_blur(np.array([[7, 7, 200, 7, 7]], np.uint8), ksize=3)
    array([[7, 7, 7, 7, 7]], dtype=uint8)
    """
    if has_nan(image):
        square = np.ones((ksize, ksize), np.uint8)
        median = functools.partial(cv2.medianBlur, ksize=ksize)
        return keep_missing(image, np.isnan(image), [square], cv2.BORDER_REPLICATE, median)
    if image.ndim == 3 and image.shape[2] == 2:  # OpenCV refuses two channels above 5
        return np.dstack([cv2.medianBlur(np.ascontiguousarray(image[:, :, one]), ksize) for one in range(2)])
    return cv2.medianBlur(image, ksize)


def bilateral_radius(p: Any) -> int:
    """Return the radius of the disk that a bilateral filter looks at, as OpenCV derives it."""
    radius: int = round(p.sigma_space * 1.5) if p.d is None else p.d // 2
    return max(1, radius)


@operation(
    reach=lambda p, dtype: bilateral_radius(p),
    dtypes="uint8",
    channels="joint",
    accepts=(1, 3, 4),
    alpha="keep",
    levels=1,
)
def bilateral_filter(
    image: Array,
    *,
    d: Annotated[int | None, Range(1, 399), Unit("px")] = None,
    sigma_color: Annotated[float, Range(above=0), Unit("gray levels")] = 25.0,
    sigma_space: Annotated[float, Range(above=0, maximum=100), Unit("px")] = 3.0,
    border: Border = "reflect_101",
) -> Array:
    """Smooth while keeping edges: neighbours count the less, the farther and the more different in color they are.

    Parameters
    ----------
    d : int
        Diameter of the neighbourhood. None: 3 times `sigma_space`.
    sigma_color : float
        Standard deviation in color; neighbours that differ by much more do not count.
    sigma_space : float
        Standard deviation in distance.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type. An alpha channel comes back unchanged.

    Notes
    -----
    C. Tomasi and R. Manduchi, "Bilateral filtering for gray and color images", ICCV 1998. On float32 OpenCV's weights
    are a table over the range of the whole image, so that type is refused.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.bilateral_filter(np.array([[10, 12, 10, 90, 92, 90]], np.uint8), d=3, sigma_color=10)
    array([[11, 11, 10, 90, 91, 91]], dtype=uint8)
    """
    return cv2.bilateralFilter(image, d or 0, sigma_color, sigma_space, borderType=BORDERS[border])


NonLocalWindow = Annotated[int, Odd(1, 99), Unit("px")]
Strength = Annotated[float, Range(above=0), Unit("gray levels")]


def non_local_reach(p: Any, dtype: np.dtype[Any]) -> int:
    """Return how far non-local means looks: a patch around each pixel of the search window."""
    reach: int = p.search_window_size // 2 + p.template_window_size // 2
    return reach


@operation(
    reach=non_local_reach,
    dtypes=lambda p: "uint8 uint16" if p.norm == "l1" else "uint8",
    channels="joint",
    alpha="keep",
)
def non_local_means(
    image: Array,
    *,
    h: Strength = 10.0,
    template_window_size: NonLocalWindow = 7,
    search_window_size: NonLocalWindow = 21,
    norm: Literal["l2", "l1"] = "l2",
) -> Array:
    """Remove noise by the mean of those neighbours whose surroundings look alike.

    Beyond the image lies its mirror without the edge pixels.

    Parameters
    ----------
    h : float
        Strength: more removes more noise, and more detail.
    template_window_size : int
        Width and height of the patches that are compared.
    search_window_size : int
        Width and height of the window in which alike patches are looked for; the time grows with its square.
    norm : {"l2", "l1"}
        Whether patches are compared by squared or by absolute differences; uint16 by absolute ones only.

    Returns
    -------
    array
        Of the image's shape and type. An alpha channel comes back unchanged.

    Notes
    -----
    A. Buades, B. Coll and J.-M. Morel, "Non-local means denoising", Image Processing On Line 1, 2011. For color
    photos `non_local_means_color` does better.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.non_local_means(np.array([[50, 52, 50, 52, 50]], np.uint8), template_window_size=3, search_window_size=3)
    array([[51, 51, 51, 51, 51]], dtype=uint8)
    """
    norm_type = cv2.NORM_L2 if norm == "l2" else cv2.NORM_L1
    return cv2.fastNlMeansDenoising(image, [h], None, template_window_size, search_window_size, norm_type)


@operation(reach=non_local_reach, dtypes="uint8", channels="joint", accepts=(3, 4), alpha="keep")
def non_local_means_color(
    image: Array,
    *,
    h: Strength = 10.0,
    h_color: Strength = 10.0,
    template_window_size: NonLocalWindow = 7,
    search_window_size: NonLocalWindow = 21,
) -> Array:
    """Remove noise from a color photo: `non_local_means` of its luminance and of its colors in CIELAB.

    Beyond the image lies its mirror without the edge pixels.

    Parameters
    ----------
    h : float
        Strength for luminance: more removes more noise, and more detail.
    h_color : float
        Strength for colors.
    template_window_size : int
        Width and height of the patches that are compared.
    search_window_size : int
        Width and height of the window in which alike patches are looked for; the time grows with its square.

    Returns
    -------
    array
        Of the image's shape and type. An alpha channel comes back unchanged.

    Notes
    -----
    A. Buades, B. Coll and J.-M. Morel, "Non-local means denoising", Image Processing On Line 1, 2011.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.full((9, 9, 3), 100, np.uint8)
    >>> image[4, 4] = 109
    >>> di.non_local_means_color(image, h=20)[4, 4]
    array([100, 100, 100], dtype=uint8)
    """
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    done = cv2.fastNlMeansDenoisingColored(bgr, None, h, h_color, template_window_size, search_window_size)
    return np.ascontiguousarray(done[:, :, ::-1])


def weigh_or_spread(masked: Masked) -> tuple[Array, Array]:
    """Weigh valid pixels where no weight is negative; else, as for a derivative, there is no mean to speak of."""
    weights = masked.p.kernel if hasattr(masked.p, "kernel") else np.outer(masked.p.kernel_y, masked.p.kernel_x)
    return Weigh()(masked) if np.min(weights) >= 0 and np.max(weights) > 0 else spread(masked)


@operation(
    reach=lambda p, dtype: half(len(p.kernel), len(p.kernel[0])),
    missing=weigh_or_spread,
    # Fourier transforms of other sizes deviate by up to 9 eps, by trial on kernels to 601 x 601, float32's by less.
    gain=lambda p, dtype: absolute_sum(p.kernel) * (1 + (dtype == np.float64 and is_transformed(p.kernel, dtype))),
    levels=1,
    lanes=LANES,
)
def filter2d(
    image: Array,
    *,
    kernel: Kernel = ((0.0, -1.0, 0.0), (-1.0, 5.0, -1.0), (0.0, -1.0, 0.0)),
    border: Border = "reflect_101",
) -> Array:
    """Replace each pixel by a weighted sum of its neighbourhood.

    Parameters
    ----------
    kernel : list of lists of float
        The weights, row by row. The pixel itself gets that in the middle, or the first after the middle.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type; values beyond the type's range become its limits.

    Notes
    -----
    As in OpenCV this is a correlation: the kernel is not mirrored, as it would be for a convolution.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.filter2d(np.array([[1, 2, 4, 8, 16]], np.uint8), kernel=[[0, 0, 2]])
    array([[ 4,  8, 16, 32, 16]], dtype=uint8)
    """
    depth = depth_of_sums(image.dtype, absolute_sum(kernel))
    weights = np.array(kernel)
    if is_transformed(weights, image.dtype) and has_infinite(image):
        element = (weights != 0).astype(np.uint8)
        filtered = functools.partial(cv2.filter2D, ddepth=depth, kernel=weights, borderType=BORDERS[border])
        return keep_missing(image, ~np.isfinite(image), [element], BORDERS[border], filtered)
    result = cv2.filter2D(image, depth, weights, borderType=BORDERS[border])
    return result if depth == -1 else to_integers(result, image.dtype)


@operation(
    reach=lambda p, dtype: half(len(p.kernel_y), len(p.kernel_x)),
    missing=weigh_or_spread,
    gain=lambda p, dtype: absolute_sum(p.kernel_x) * absolute_sum(p.kernel_y),
    levels=1,
    lanes=LANES,
)
def sep_filter2d(
    image: Array,
    *,
    kernel_x: Vector = (0.25, 0.5, 0.25),
    kernel_y: Vector = (0.25, 0.5, 0.25),
    border: Border = "reflect_101",
) -> Array:
    """Replace each pixel by a weighted sum along its row, then along its column.

    Parameters
    ----------
    kernel_x : list of float
        The weights along a row.
    kernel_y : list of float
        The weights along a column.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type; values beyond the type's range become its limits.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.sep_filter2d(np.array([[0, 0, 80, 0, 0]], np.uint8), kernel_x=[0.25, 0.5, 0.25], kernel_y=[1])
    array([[ 0, 20, 40, 20,  0]], dtype=uint8)
    """
    depth = depth_of_sums(image.dtype, absolute_sum(kernel_x) * absolute_sum(kernel_y))
    result = cv2.sepFilter2D(image, depth, np.array(kernel_x), np.array(kernel_y), borderType=BORDERS[border])
    return result if depth == -1 else to_integers(result, image.dtype)


def sharpen_valid(masked: Masked) -> tuple[Array, Array]:
    """Sharpen by what distinguishes the image from the mean of valid pixels."""
    p, image = masked.p, masked.image
    smooth = Weigh(lambda image, p, dtype: smooth_to_sharpen(image, p.sigma, p.border, dtype))
    blurred, valid = smooth(replace(masked, run=lambda image: smooth_to_sharpen(image, p.sigma, p.border, image.dtype)))
    return unsharp(image, blurred, p.amount, p.threshold), valid


def smooth_to_sharpen(image: Array, sigma: float, border: str, dtype: np.dtype[Any]) -> Array:
    """Return an image smoothed with the kernel that suits the data type."""
    ksize = gaussian_ksize(None, sigma, dtype)
    return cv2.GaussianBlur(image, (ksize, ksize), sigma, borderType=BORDERS[border])


def unsharp(image: Array, smooth: Array, amount: float, threshold: float) -> Array:
    """Return an image with what distinguishes it from a smoothed one added to it."""
    floating = np.float64 if image.dtype == np.float64 else np.float32
    added: Any = image.astype(floating)
    added -= smooth
    if threshold:
        added = np.copysign(np.maximum(np.abs(added) - floating(threshold), floating(0)), added)
    added *= floating(amount)
    added += image
    return added if image.dtype.kind == "f" else to_integers(added, image.dtype)


@operation(
    reach=lambda p, dtype: gaussian_ksize(None, p.sigma, dtype) // 2,
    gain=lambda p, dtype: 1 + 2 * p.amount,
    lanes=float_lanes,
    missing=sharpen_valid,
)
def sharpen(
    image: Array,
    *,
    amount: Annotated[float, Range(0, 100)] = 1.0,
    sigma: Annotated[float, Range(above=0, maximum=300), Unit("px")] = 1.0,
    threshold: Annotated[float, Range(0), Unit("gray levels")] = 0.0,
    border: Border = "reflect_101",
) -> Array:
    """Sharpen by unsharp masking: add what distinguishes the image from a smoothed one.

    Parameters
    ----------
    amount : float
        How much of the difference is added.
    sigma : float
        Standard deviation of the Gaussian that smooths.
    threshold : float
        By how much the difference is diminished before, so that faint noise is not sharpened.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape and type; values beyond an integer type's range become its limits.

    Notes
    -----
    ``image + amount * (image - smooth)``, as ``skimage.filters.unsharp_mask``. With a threshold t the difference d
    becomes ``sign(d) * max(abs(d) - t, 0)``.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.sharpen(np.array([[50, 50, 50, 90, 90, 90]], np.uint8))
    array([[ 50,  48,  38, 102,  92,  90]], dtype=uint8)
    """
    return unsharp(image, smooth_to_sharpen(image, sigma, border, image.dtype), amount, threshold)
