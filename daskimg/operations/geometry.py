"""Geometry without interpolation: flips, crops and paddings, and Gaussian pyramids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ArrayError, ParameterError
from daskimg.kinds import Array, Geometric, Region, Size
from daskimg.operation import operation
from daskimg.operations.borders import BORDERS
from daskimg.operations.fill import check_value, fill_value, filled
from daskimg.operations.resize import resize
from daskimg.parameters import Range, Unit, Vector

__all__ = ["build_pyramid", "crop", "flip", "pad", "pyramid_down", "pyramid_up", "transpose"]


def affine(across: float, column: float, down: float, row: float) -> Array:
    """Return the matrix of a map along the axes: `(across * x + column, down * y + row)`."""
    return np.array([[across, 0, column], [0, down, row]], float)


def all_of(region: Region, size: Size, p: Any) -> Region:
    """Be the `needs` of an operation whose result is always a view."""
    return Region(0, 0, *size)


def _never(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    raise AssertionError("the result is a view of the image")


# Views


def _flip_view(image: Any, p: Any) -> Any:
    rows = slice(None, None, 1 if p.axis == "horizontal" else -1)
    columns = slice(None, None, 1 if p.axis == "vertical" else -1)
    return image[rows, columns]


def _flip_matrix(size: Size, p: Any) -> Array:
    rows, columns = size
    across = (1, 0) if p.axis == "vertical" else (-1, columns - 1)
    down = (1, 0) if p.axis == "horizontal" else (-1, rows - 1)
    return affine(*across, *down)


FLIP = Geometric(lambda size, p: size, all_of, _never, view=_flip_view, matrix=_flip_matrix)


@operation(kind=FLIP)
def flip(image: Array, *, axis: Literal["horizontal", "vertical", "both"] = "horizontal") -> Array:
    """Mirror an image.

    Parameters
    ----------
    axis : {"horizontal", "vertical", "both"}
        Whether left and right are exchanged, top and bottom, or both, which turns the image by 180 degrees.

    Returns
    -------
    array
        Of the image's shape and type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.flip(np.array([[1, 2, 3]], np.uint8))
    array([[3, 2, 1]], dtype=uint8)
    """
    return FLIP.on_whole(image, {"axis": axis})


def _transposed(image: Any, p: Any) -> Any:
    return image.swapaxes(0, 1)


TRANSPOSE = Geometric(
    lambda size, p: (size[1], size[0]),
    all_of,
    _never,
    view=_transposed,
    matrix=lambda size, p: np.array([[0, 1, 0], [1, 0, 0]], float),
)


@operation(kind=TRANSPOSE)
def transpose(image: Array) -> Array:
    """Exchange rows and columns.

    Returns
    -------
    array
        `(columns, rows[, channels])` of the image's type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.transpose(np.array([[1, 2, 3]], np.uint8)).shape
    (3, 1)
    """
    return TRANSPOSE.on_whole(image, {})


def _crop_size(size: Size, p: Any) -> Size:
    rows = size[0] - p.top if p.height is None else p.height
    columns = size[1] - p.left if p.width is None else p.width
    if rows < 1 or columns < 1 or p.top + rows > size[0] or p.left + columns > size[1]:
        raise ArrayError(
            f"crop: {rows} x {columns} pixels at row {p.top}, column {p.left} are not all within the image of "
            f"{size[0]} x {size[1]}; choose others, or put pad before it"
        )
    return rows, columns


def _crop_view(image: Any, p: Any) -> Any:
    rows, columns = _crop_size(image.shape[:2], p)
    return image[p.top : p.top + rows, p.left : p.left + columns]


CROP = Geometric(_crop_size, all_of, _never, view=_crop_view, matrix=lambda size, p: affine(1, p.left, 1, p.top))


@operation(kind=CROP)
def crop(
    image: Array,
    *,
    left: Annotated[int, Range(0), Unit("px")] = 0,
    top: Annotated[int, Range(0), Unit("px")] = 0,
    width: Annotated[int | None, Range(1), Unit("px")] = None,
    height: Annotated[int | None, Range(1), Unit("px")] = None,
) -> Array:
    """Cut out a rectangle.

    Parameters
    ----------
    left, top : int
        The first column and row.
    width, height : int
        Columns and rows; None for all that follow.

    Returns
    -------
    array
        `(height, width[, channels])` of the image's type.

    Raises
    ------
    ArrayError
        If the rectangle is not wholly within the image.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.crop(np.array([[1, 2, 3, 4]], np.uint8), left=1, width=2)
    array([[2, 3]], dtype=uint8)
    """
    return CROP.on_whole(image, {"left": left, "top": top, "width": width, "height": height})


# Padding

SHORT = 1024  # pixels: sides that one task may have whole

PAD_BORDERS = {**BORDERS, "wrap": cv2.BORDER_WRAP}


def _pad_size(size: Size, p: Any) -> Size:
    return p.top + size[0] + p.bottom, p.left + size[1] + p.right


def _sources(start: int, stop: int, length: int, border: str) -> Array:
    """Return which pixels along an axis stand at positions that may lie outside it; -1 for none."""
    at = np.arange(start, stop)
    inside = (at >= 0) & (at < length)
    if border == "wrap":
        beyond = at % length
    elif border == "replicate":
        beyond = at.clip(0, length - 1)
    elif border == "constant":
        beyond = np.full_like(at, -1)
    else:
        period = max(1, 2 * (length - 1)) if border == "reflect_101" else 2 * length
        beyond = at % period
        beyond = np.where(beyond < length, beyond, period - (border == "reflect") - beyond)
    return np.where(inside, at, beyond if length > 1 or border == "constant" else 0)


def _pad_sources(region: Region, size: Size, p: Any) -> tuple[Array, Array]:
    rows = _sources(region.top - p.top, region.bottom - p.top, size[0], p.border)
    columns = _sources(region.left - p.left, region.right - p.left, size[1], p.border)
    return rows, columns


def _pad_needs(region: Region, size: Size, p: Any) -> Region:
    (top, bottom), (left, right) = (
        (int(one[one >= 0].min()), int(one.max()) + 1) if one.max() >= 0 else (0, 0)
        for one in _pad_sources(region, size, p)
    )
    return Region(top, left, bottom, right)


def _pad_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    rows, columns = _pad_sources(region, size, p)
    if p.border == "constant":
        result = filled(region.shape, pixels, fill_value(p.value, pixels))
        inside = region.seen_from(p.top, p.left).cut(Region(0, 0, *size))
        if 0 not in inside.shape:
            into = inside.seen_from(region.top - p.top, region.left - p.left)
            result[into.slices] = pixels[inside.seen_from(at.top, at.left).slices]
        return result
    part: Array = pixels[rows - at.top][:, columns - at.left]
    return part


def _pad_edges(edges: Sequence[int], axis: int, size: Size, p: Any) -> tuple[Iterable[int], Iterable[int]]:
    before, after, length = (p.left, p.right, size[1]) if axis else (p.top, p.bottom, size[0])
    if p.border != "wrap" or length <= SHORT:
        return [before + edge for edge in edges], ()
    # What is repeated from the other end of the image would bring both ends into one task.
    return [before + edge for edge in edges], range(before % length, before + length + after, length)


PAD = Geometric(
    _pad_size,
    _pad_needs,
    _pad_part,
    edges=_pad_edges,
    matrix=lambda size, p: affine(1, -p.left, 1, -p.top),
    check=check_value,
)


@operation(kind=PAD)
def pad(
    image: Array,
    *,
    top: Annotated[int, Range(0), Unit("px")] = 0,
    bottom: Annotated[int, Range(0), Unit("px")] = 0,
    left: Annotated[int, Range(0), Unit("px")] = 0,
    right: Annotated[int, Range(0), Unit("px")] = 0,
    border: Literal["constant", "replicate", "reflect", "reflect_101", "wrap"] = "constant",
    value: Annotated[Vector | float, Unit("gray levels")] = 0.0,
) -> Array:
    """Add a border around an image.

    Parameters
    ----------
    top, bottom, left, right : int
        How many rows and columns are added.
    border : {"constant", "replicate", "reflect", "reflect_101", "wrap"}
        What is added: a color, the edge pixels repeated, the mirror of the image with or without the edge pixels, or
        the image from its other end.
    value : float or list of float
        The color for "constant": a number, or one for each channel.

    Returns
    -------
    array
        `(top + rows + bottom, left + columns + right[, channels])` of the image's type.

    Raises
    ------
    ParameterError
        If the color has another number of channels than the image.

    Notes
    -----
    `cv2.copyMakeBorder`. The border may be wider than the image.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.pad(np.array([[1, 2, 3]], np.uint8), left=2, right=1, border="reflect")
    array([[2, 1, 1, 2, 3, 3]], dtype=uint8)
    """
    color = fill_value(value, image)
    return cv2.copyMakeBorder(image, top, bottom, left, right, PAD_BORDERS[border], value=color)


# Pyramids

PYRAMID_BORDERS = Literal["reflect_101", "reflect", "replicate"]


def _down_needs(region: Region, size: Size, p: Any) -> Region:
    return Region(2 * region.top - 2, 2 * region.left - 2, 2 * region.bottom + 1, 2 * region.right + 1)


def _down_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    smaller = cv2.pyrDown(pixels, borderType=BORDERS[p.border])
    return smaller[region.seen_from(at.top // 2, at.left // 2).slices]


DOWN = Geometric(
    lambda size, p: ((size[0] + 1) // 2, (size[1] + 1) // 2),
    _down_needs,
    _down_part,
    edges=lambda edges, axis, size, p: ([(edge + 1) // 2 for edge in edges], ()),
    matrix=lambda size, p: affine(2, 0, 2, 0),
)


@operation(kind=DOWN, gain=lambda p, dtype: 1.0)
def pyramid_down(image: Array, *, border: PYRAMID_BORDERS = "reflect_101") -> Array:
    """Smooth an image and keep every second row and column.

    Parameters
    ----------
    border : {"reflect_101", "reflect", "replicate"}
        What lies beyond the image: its mirror without or with the edge pixels, or the edge pixels repeated.

    Returns
    -------
    array
        Half as many rows and columns, rounded up, of the image's type.

    Notes
    -----
    `cv2.pyrDown`: the kernel is [1, 4, 6, 4, 1] / 16 along both axes.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.pyramid_down(np.full((5, 8), 7, np.uint8)).shape
    (3, 4)
    """
    return cv2.pyrDown(image, borderType=BORDERS[border])


def _up_needs(region: Region, size: Size, p: Any) -> Region:
    return Region(region.top // 2 - 2, region.left // 2 - 2, region.bottom // 2 + 3, region.right // 2 + 3)


def _up_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    return cv2.pyrUp(pixels)[region.seen_from(2 * at.top, 2 * at.left).slices]


UP = Geometric(
    lambda size, p: (2 * size[0], 2 * size[1]),
    _up_needs,
    _up_part,
    edges=lambda edges, axis, size, p: ([2 * edge for edge in edges], ()),
    matrix=lambda size, p: affine(0.5, 0, 0.5, 0),
)


@operation(kind=UP, gain=lambda p, dtype: 1.0)
def pyramid_up(image: Array) -> Array:
    """Double rows and columns and smooth the image.

    Returns
    -------
    array
        Twice as many rows and columns, of the image's type.

    Notes
    -----
    `cv2.pyrUp`: zeros are put between the pixels, then the kernel is [1, 4, 6, 4, 1] / 8 along both axes.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.pyramid_up(np.full((2, 3), 7, np.uint8)).shape
    (4, 6)
    """
    return cv2.pyrUp(image)


def build_pyramid(
    image: Any, levels: int | None = None, *, method: Literal["gaussian", "area"] = "gaussian"
) -> list[Any]:
    """Return an image and its smaller and smaller versions, each half the size of the one before.

    Parameters
    ----------
    image : array
        NumPy, dask or xarray; lazy images give lazy levels.
    levels : int
        How many levels there are beside the image itself. None: until both sides have at most 256 pixels.
    method : {"gaussian", "area"}
        Whether levels are smoothed as `pyramid_down` does, or means of 2 x 2 pixels (`resize` with "area").

    Returns
    -------
    list
        The image, then the levels; rows and columns are halved and rounded up.

    Raises
    ------
    ParameterError
        If the number of levels is negative, or the method unknown.

    Notes
    -----
    `cv2.buildPyramid`. Each level is computed from the one before, so compute them together:
    `dask.compute(*levels)`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> [level.shape for level in di.build_pyramid(np.zeros((50, 70), np.uint8), 2)]
    [(50, 70), (25, 35), (13, 18)]
    """
    if levels is not None and levels < 0:
        raise ParameterError(f"build_pyramid: levels={levels} is not allowed; it is a whole number, 0 or more")
    if method not in ("gaussian", "area"):
        raise ParameterError(f"build_pyramid: method={method!r} is not allowed; it is one of gaussian area")
    pyramid = [image]
    for level in itertools.count():
        rows, columns = _size_of(pyramid[-1])
        if level == levels or (levels is None and max(rows, columns) <= 256):
            break
        if method == "gaussian":
            pyramid.append(pyramid_down(pyramid[-1]))
        else:
            half: Any = resize(
                pyramid[-1], width=(columns + 1) // 2, height=(rows + 1) // 2, fit="fill", interpolation="area"
            )
            pyramid.append(half)
    return pyramid


def _size_of(image: Any) -> Size:
    sizes = getattr(image, "sizes", None)  # of an xarray.DataArray, whose axes have names
    return (sizes["y"], sizes["x"]) if sizes is not None else (image.shape[0], image.shape[1])
