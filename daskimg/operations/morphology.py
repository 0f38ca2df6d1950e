"""Morphology: minima and maxima over a structuring element, and what is built of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import cv2
import numpy as np

from daskimg.operation import Array, operation
from daskimg.operations.borders import BORDERS, Border
from daskimg.operations.kernels import half, has_nan, keep_missing
from daskimg.operations.missing import Masked, put
from daskimg.parameters import Range, Unit

__all__ = [
    "black_hat",
    "closing",
    "dilate",
    "erode",
    "morphological_gradient",
    "opening",
    "top_hat",
]

Shape: TypeAlias = Literal["rect", "ellipse", "cross", "diamond"]
Size = Annotated[int, Range(1, 999), Unit("px")]
MaybeSize = Annotated[int | None, Range(1, 999), Unit("px")]
Count = Annotated[int, Range(1, 100)]

SHAPES: Mapping[str, int] = {
    "rect": cv2.MORPH_RECT,
    "ellipse": cv2.MORPH_ELLIPSE,
    "cross": cv2.MORPH_CROSS,
    "diamond": cv2.MORPH_DIAMOND,
}


def once(p: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the reach of an erosion or a dilation."""
    rows, columns = half(p.ksize_y or p.ksize, p.ksize)
    return rows * p.iterations, columns * p.iterations


def twice(p: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the reach of an erosion after a dilation, or the other way round."""
    rows, columns = once(p, dtype)
    return 2 * rows, 2 * columns


def morphology(
    image: Array, kind: int, ksize: int, ksize_y: int | None, shape: str, iterations: int, border: str
) -> Array:
    """Apply one of OpenCV's morphological operations."""
    element = cv2.getStructuringElement(SHAPES[shape], (ksize, ksize_y or ksize))
    rule = BORDERS[border]
    function = functools.partial(cv2.morphologyEx, op=kind, kernel=element, iterations=iterations, borderType=rule)
    if has_nan(image):
        times = iterations if kind in (cv2.MORPH_ERODE, cv2.MORPH_DILATE, cv2.MORPH_GRADIENT) else 2 * iterations
        return keep_missing(image, np.isnan(image), [element] * times, rule, function)
    return function(image)


def _one(masked: Masked, kind: int, image: Array | None = None) -> Array:
    """Return an erosion or dilation in which missing pixels never count."""
    p = masked.p
    neutral = masked.extreme("highest" if kind == cv2.MORPH_ERODE else "lowest")
    image = put(masked.image if image is None else image, ~masked.valid, neutral)
    return morphology(image, kind, p.ksize, p.ksize_y, p.shape, p.iterations, p.border)


def _without(masked: Masked, larger: Array, smaller: Array) -> tuple[Array, Array]:
    """Return a difference; missing pixels are taken for 0, since infinities don't cancel."""
    larger, smaller = (put(one, ~masked.valid, 0) for one in (larger, smaller))
    return cv2.subtract(larger, smaller), masked.valid


def opened(masked: Masked) -> tuple[Array, Array]:
    """Erode, then dilate; missing pixels count in neither."""
    return _one(masked, cv2.MORPH_DILATE, _one(masked, cv2.MORPH_ERODE)), masked.valid


def closed(masked: Masked) -> tuple[Array, Array]:
    """Dilate, then erode; missing pixels count in neither."""
    return _one(masked, cv2.MORPH_ERODE, _one(masked, cv2.MORPH_DILATE)), masked.valid


def outlined(masked: Masked) -> tuple[Array, Array]:
    """Subtract the erosion of valid pixels from their dilation."""
    return _without(masked, _one(masked, cv2.MORPH_DILATE), _one(masked, cv2.MORPH_ERODE))


def above_opening(masked: Masked) -> tuple[Array, Array]:
    """Subtract the opening of valid pixels from the image."""
    return _without(masked, masked.image, opened(masked)[0])


def below_closing(masked: Masked) -> tuple[Array, Array]:
    """Subtract the image from the closing of valid pixels."""
    return _without(masked, closed(masked)[0], masked.image)


@operation(reach=once, missing="highest")
def erode(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Replace each pixel by the minimum over a structuring element: bright regions shrink.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it is repeated.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.erode(np.array([[0, 9, 9, 9, 0]], np.uint8))
    array([[0, 0, 9, 0, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_ERODE, ksize, ksize_y, shape, iterations, border)


@operation(reach=once, missing="lowest")
def dilate(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Replace each pixel by the maximum over a structuring element: bright regions grow.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it is repeated.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.dilate(np.array([[0, 0, 9, 0, 0]], np.uint8))
    array([[0, 9, 9, 9, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_DILATE, ksize, ksize_y, shape, iterations, border)


@operation(reach=twice, missing=opened)
def opening(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Erode, then dilate: bright spots smaller than the structuring element vanish.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it erodes, and then dilates.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.opening(np.array([[0, 9, 0, 9, 9, 9, 0]], np.uint8))
    array([[0, 0, 0, 9, 9, 9, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_OPEN, ksize, ksize_y, shape, iterations, border)


@operation(reach=twice, missing=closed)
def closing(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Dilate, then erode: dark spots smaller than the structuring element vanish.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it dilates, and then erodes.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.closing(np.array([[9, 0, 9, 0, 0, 0, 9]], np.uint8))
    array([[9, 9, 9, 0, 0, 0, 9]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_CLOSE, ksize, ksize_y, shape, iterations, border)


@operation(reach=once, missing=outlined)
def morphological_gradient(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Subtract the eroded from the dilated image: the outlines of regions remain.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it erodes and dilates.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.morphological_gradient(np.array([[0, 0, 0, 9, 9, 9]], np.uint8))
    array([[0, 0, 9, 9, 0, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_GRADIENT, ksize, ksize_y, shape, iterations, border)


@operation(reach=twice, missing=above_opening)
def top_hat(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Subtract the opening from the image: bright spots smaller than the structuring element remain.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it erodes, and then dilates.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.top_hat(np.array([[2, 9, 2, 9, 9, 9, 2]], np.uint8))
    array([[0, 7, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_TOPHAT, ksize, ksize_y, shape, iterations, border)


@operation(reach=twice, missing=below_closing)
def black_hat(
    image: Array,
    *,
    ksize: Size = 3,
    ksize_y: MaybeSize = None,
    shape: Shape = "rect",
    iterations: Count = 1,
    border: Border = "constant",
) -> Array:
    """Subtract the image from its closing: dark spots smaller than the structuring element remain.

    Parameters
    ----------
    ksize : int
        Columns of the structuring element, and its rows where `ksize_y` is None.
    ksize_y : int
        Rows of the structuring element.
    shape : {"rect", "ellipse", "cross", "diamond"}
        Shape of the structuring element.
    iterations : int
        How often it dilates, and then erodes.
    border : {"constant", "reflect_101", "reflect", "replicate"}
        What lies beyond the image: what never counts, its mirror without or with the edge pixels, or these repeated.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.black_hat(np.array([[9, 2, 9, 2, 2, 2, 9]], np.uint8))
    array([[0, 7, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    return morphology(image, cv2.MORPH_BLACKHAT, ksize, ksize_y, shape, iterations, border)
