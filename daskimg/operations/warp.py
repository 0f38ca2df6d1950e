"""Warps: every pixel of the result is looked up at some position of the image."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Annotated, Any

import cv2
import numpy as np

from daskimg.errors import ArrayError, ParameterError
from daskimg.kinds import Array, Geometric, Region, Size
from daskimg.operation import operation
from daskimg.operations.borders import Border
from daskimg.operations.fill import check_value, fill_value
from daskimg.operations.mapping import Interpolation, is_small, remapped, within_reach
from daskimg.parameters import Image, Kernel, Range, Sides, Unit, Vector

__all__ = ["remap", "rotate", "undistort", "warp_affine", "warp_perspective"]

Value = Annotated[Vector | float, Unit("gray levels")]
Side = Annotated[int | None, Range(1), Unit("px")]


def _asked(size: Size, p: Any) -> Size:
    return p.height or size[0], p.width or size[1]


# By a matrix


@functools.lru_cache(maxsize=256)
def _affine_inverse(matrix: Kernel, inverse: bool) -> Array:
    """Return the matrix from the result to the image, computed as OpenCV does."""
    (a, b, c), (d, e, f) = matrix
    if inverse:
        return np.array(matrix)
    determinant = a * e - b * d
    if determinant == 0:
        raise ParameterError(
            f"the matrix {matrix} puts the whole image on one line; its two left columns must not be multiples of "
            "each other"
        )
    one = 1 / determinant
    a, e = e * one, a * one
    b, d = -b * one, -d * one
    return np.array([[a, b, -a * c - b * f], [d, e, -d * c - e * f]])


@functools.lru_cache(maxsize=256)
def _perspective_inverse(matrix: Kernel, inverse: bool) -> Array:
    """Return the matrix from the result to the image."""
    if inverse:
        return np.array(matrix)
    done, inverted = cv2.invert(np.array(matrix, float))
    if not done:
        raise ParameterError(f"the matrix {matrix} cannot be inverted: it puts the whole image on one line")
    return inverted


def _linear(region: Region, row: Array, small: bool) -> Array:
    """Return `row[0] * x + row[1] * y + row[2]` over a region: with OpenCV's roundings, or in double precision."""
    x = np.arange(region.left, region.right, dtype=np.float64)
    y = np.arange(region.top, region.bottom, dtype=np.float64)[:, np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):
        if not small:
            exact: Array = row[0] * x + (row[1] * y + row[2])
            return exact
        # Fused multiplications and additions in single precision: products of two such numbers are exact in double.
        a, b, c = row.astype(np.float32).astype(np.float64)
        lines = (b * y + c).astype(np.float32).astype(np.float64)
        return np.asarray((a * x + lines).astype(np.float32))


def _affine_positions(region: Region, matrix: Array, small: bool) -> tuple[Array, Array]:
    return _linear(region, matrix[0], small), _linear(region, matrix[1], small)


def _perspective_positions(region: Region, matrix: Array, small: bool) -> tuple[Array, Array]:
    x, y, w = (_linear(region, row, small) for row in matrix)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return x / w, y / w


def _corners(region: Region, matrix: Array) -> tuple[float, float, float, float]:
    """Return between which columns and rows of the image a region lies: left, top, right, bottom."""
    ends = [(x, y, 1.0) for x in (region.left, region.right - 1) for y in (region.top, region.bottom - 1)]
    at = matrix @ np.array(ends).T
    if len(matrix) == 3:
        # Convex remains convex, as long as the horizon does not cross it.
        if np.abs(np.sign(at[2]).sum()) < at.shape[1] or np.abs(at[2]).min() < 1e-5 * np.abs(at[2]).max():
            return -math.inf, -math.inf, math.inf, math.inf
        at = at[:2] / at[2]
    return float(at[0].min()), float(at[1].min()), float(at[0].max()), float(at[1].max())


def _affine_size(size: Size, p: Any) -> Size:
    _affine_inverse(p.matrix, p.inverse)
    return _asked(size, p)


def _affine_needs(region: Region, size: Size, p: Any) -> Region:
    return within_reach(_corners(region, _affine_inverse(p.matrix, p.inverse)), size, p.border)


def _affine_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    matrix = _affine_inverse(p.matrix, p.inverse)
    small = is_small(size, _asked(size, p))
    return remapped(
        pixels,
        at,
        region,
        size,
        lambda tile: _affine_positions(tile, matrix, small),
        p,
        fill_value(p.value, pixels),
    )


AFFINE = Geometric(
    _affine_size,
    _affine_needs,
    _affine_part,
    matrix=lambda size, p: _affine_inverse(p.matrix, p.inverse),
    check=check_value,
)


@operation(kind=AFFINE)
def warp_affine(
    image: Array,
    *,
    matrix: Annotated[Kernel, Sides(2, 3)],
    width: Side = None,
    height: Side = None,
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    value: Value = 0.0,
    inverse: bool = False,
) -> Array:
    """Move, turn, scale and shear an image by a matrix.

    Parameters
    ----------
    matrix : list of list of float
        Two rows of three numbers: takes (column, row, 1) of a pixel to its (column, row) in the result.
    width, height : int
        Columns and rows of the result. None: as many as the image has.
    interpolation : {"nearest", "linear", "cubic", "lanczos"}
        From how many pixels one is computed: 1, 2 x 2, 4 x 4 or 8 x 8.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or a color.
    value : float or list of float
        The color for "constant": a number, or one for each channel.
    inverse : bool
        Whether the matrix takes pixels of the result to their places in the image, instead.

    Returns
    -------
    array
        `(height, width[, channels])` of the image's type.

    Raises
    ------
    ParameterError
        If the matrix cannot be inverted, or the color has another number of channels than the image.

    Notes
    -----
    The pixels of `cv2.warpAffine`, save that uint8 deviates by at most one level and float32 by at most 0.005 of its
    range, "nearest" where a position is within 0.001 pixels of the middle between two pixels, and "lanczos" (also
    "linear" on int16 and float64), where OpenCV rounds positions to 1/32 pixel, by what such a step makes. Far beyond
    the image OpenCV 5.0 is wrong for "cubic", on float64 and with mirrors, and this is not. The image may be longer
    than OpenCV's 32,767 pixels a side. Reductions are not smoothed before: use `resize` with "area" first. A fourth
    channel is treated as the others. With NaN in the image, results near it are NaN.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.warp_affine(np.array([[1, 2, 3]], np.uint8), matrix=[[1, 0, 1], [0, 1, 0]])
    array([[0, 1, 2]], dtype=uint8)
    """
    return AFFINE.on_whole(image, _given(locals()))


def _given(local: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in local.items() if name != "image"}


def _perspective_size(size: Size, p: Any) -> Size:
    _perspective_inverse(p.matrix, p.inverse)
    return _asked(size, p)


def _perspective_needs(region: Region, size: Size, p: Any) -> Region:
    return within_reach(_corners(region, _perspective_inverse(p.matrix, p.inverse)), size, p.border)


def _perspective_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    matrix = _perspective_inverse(p.matrix, p.inverse)
    small = is_small(size, _asked(size, p))
    return remapped(
        pixels,
        at,
        region,
        size,
        lambda tile: _perspective_positions(tile, matrix, small),
        p,
        fill_value(p.value, pixels),
    )


PERSPECTIVE = Geometric(_perspective_size, _perspective_needs, _perspective_part, check=check_value)


@operation(kind=PERSPECTIVE)
def warp_perspective(
    image: Array,
    *,
    matrix: Annotated[Kernel, Sides(3, 3)],
    width: Side = None,
    height: Side = None,
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    value: Value = 0.0,
    inverse: bool = False,
) -> Array:
    """Show an image in another perspective, given by a matrix.

    Parameters
    ----------
    matrix : list of list of float
        Three rows of three numbers: takes (column, row, 1) of a pixel to its (column, row) in the result, times the
        third number that comes of it.
    width, height : int
        Columns and rows of the result. None: as many as the image has.
    interpolation : {"nearest", "linear", "cubic", "lanczos"}
        From how many pixels one is computed: 1, 2 x 2, 4 x 4 or 8 x 8.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or a color.
    value : float or list of float
        The color for "constant": a number, or one for each channel.
    inverse : bool
        Whether the matrix takes pixels of the result to their places in the image, instead.

    Returns
    -------
    array
        `(height, width[, channels])` of the image's type.

    Raises
    ------
    ParameterError
        If the matrix cannot be inverted, or the color has another number of channels than the image.

    Notes
    -----
    The pixels of `cv2.warpPerspective`, with the bounds of `warp_affine`. Coordinates of labelled images are dropped.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.warp_perspective(np.array([[1, 2, 3]], np.uint8), matrix=[[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    array([[0, 1, 2]], dtype=uint8)
    """
    return PERSPECTIVE.on_whole(image, _given(locals()))


# Rotation


def _turns(p: Any) -> int | None:
    """Return how many quarters of a circle an angle is, if it is such."""
    return round(p.angle / 90) % 4 if p.angle % 90 == 0 else None


def _rotated_size(size: Size, p: Any) -> Size:
    if not p.expand:
        return size
    turns = _turns(p)
    if turns is not None:
        return size if turns % 2 == 0 else (size[1], size[0])
    cosine, sine = abs(math.cos(math.radians(p.angle))), abs(math.sin(math.radians(p.angle)))
    rows, columns = size
    # The corners of pixels, not their middles; what sticks out by less than rounding is not worth a pixel.
    return math.ceil(rows * cosine + columns * sine - 1e-6), math.ceil(columns * cosine + rows * sine - 1e-6)


def _rotation(size: Size, p: Any) -> Array:
    """Return the matrix from the result to the image: about the middle, counterclockwise as one sees it."""
    turns = _turns(p)
    if turns is None:
        cosine, sine = math.cos(math.radians(p.angle)), math.sin(math.radians(p.angle))
    else:
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]
    after = _rotated_size(size, p)
    (y, x), (v, u) = (((rows - 1) / 2, (columns - 1) / 2) for rows, columns in (size, after))
    return np.array([[cosine, -sine, x - cosine * u + sine * v], [sine, cosine, y - sine * u - cosine * v]], float)


def _rotated_view(image: Any, p: Any) -> Any:
    turns = _turns(p)
    if turns is None or (turns % 2 and not p.expand and image.shape[0] != image.shape[1]):
        return None
    if turns == 0:
        return image
    if turns == 2:
        return image[::-1, ::-1]
    turned = image.swapaxes(0, 1)
    return turned[::-1] if turns == 1 else turned[:, ::-1]


def _rotated_needs(region: Region, size: Size, p: Any) -> Region:
    return within_reach(_corners(region, _rotation(size, p)), size, p.border)


def _rotated_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    matrix = _rotation(size, p)
    small = is_small(size, _rotated_size(size, p))
    return remapped(
        pixels, at, region, size, lambda tile: _affine_positions(tile, matrix, small), p, fill_value(p.value, pixels)
    )


ROTATE = Geometric(
    _rotated_size, _rotated_needs, _rotated_part, view=_rotated_view, matrix=_rotation, check=check_value
)


@operation(kind=ROTATE)
def rotate(
    image: Array,
    *,
    angle: Annotated[float, Unit("degrees")],
    expand: bool = True,
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    value: Value = 0.0,
) -> Array:
    """Turn an image about its middle.

    Parameters
    ----------
    angle : float
        By how much, counterclockwise.
    expand : bool
        Whether the result is as large as the turned image; else it has the image's size and the corners are lost.
    interpolation : {"nearest", "linear", "cubic", "lanczos"}
        From how many pixels one is computed: 1, 2 x 2, 4 x 4 or 8 x 8.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or a color.
    value : float or list of float
        The color for "constant": a number, or one for each channel.

    Returns
    -------
    array
        `(rows, columns[, channels])` of the image's type.

    Raises
    ------
    ParameterError
        If the color has another number of channels than the image.

    Notes
    -----
    Multiples of 90 degrees are `cv2.rotate`: pixels are moved, none is computed. All others are `warp_affine` with the
    matrix of `cv2.getRotationMatrix2D` about the middle between the outermost pixels.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.rotate(np.array([[1, 2, 3]], np.uint8), angle=90)
    array([[3],
           [2],
           [1]], dtype=uint8)
    """
    fill_value(value, image)
    return ROTATE.on_whole(image, _given(locals()))


# By positions


def _map_size(size: Size, p: Any) -> Size:
    x, y = p.map_x, p.map_y
    shapes = tuple(x.shape), tuple(y.shape)
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or 0 in shapes[0]:
        raise ArrayError(f"remap: map_x and map_y have the shapes {shapes}; both must be the same (rows, columns)")
    if np.dtype(x.dtype).kind != "f" or np.dtype(y.dtype).kind != "f":
        raise ArrayError(f"remap: map_x and map_y are {x.dtype} and {y.dtype}; make them float32 or float64")
    return shapes[0]


def _map_needs(region: Region, size: Size, p: Any) -> Region:
    if p.within is not None:
        reach = p.within
        bounds = (region.left - reach, region.top - reach, region.right - 1 + reach, region.bottom - 1 + reach)
        return within_reach(bounds, size, p.border)
    if p.map_x is None or p.map_y is None:  # not in memory
        return Region(0, 0, *size)
    x, y = p.map_x, p.map_y
    return within_reach((float(x.min()), float(y.min()), float(x.max()), float(y.max())), size, p.border)


def _map_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    small = is_small(size)

    def positions(tile: Region) -> tuple[Array, Array]:
        part = tile.seen_from(region.top, region.left).slices
        kind: Any = np.float32 if small else np.float64
        return p.map_x[part].astype(kind), p.map_y[part].astype(kind)

    return remapped(pixels, at, region, size, positions, p, fill_value(p.value, pixels))


MAP = Geometric(_map_size, _map_needs, _map_part, check=check_value)


@operation(kind=MAP)
def remap(
    image: Array,
    *,
    map_x: Annotated[Any, Image(aligned=True, coordinates=True)],
    map_y: Annotated[Any, Image(aligned=True, coordinates=True)],
    within: Annotated[float | None, Range(0), Unit("px")] = None,
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    value: Value = 0.0,
) -> Array:
    """Look up each pixel at a position that is given.

    Parameters
    ----------
    map_x, map_y : array
        The column and the row in the image, for each pixel of the result.
    within : float
        How far a position is from the pixel's own, at most, along either axis. With lazy maps it tells which part of
        the image a chunk needs; without it each needs the whole. A map that goes farther is an error.
    interpolation : {"nearest", "linear", "cubic", "lanczos"}
        From how many pixels one is computed: 1, 2 x 2, 4 x 4 or 8 x 8.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or a color.
    value : float or list of float
        The color for "constant": a number, or one for each channel.

    Returns
    -------
    array
        `(rows, columns[, channels])` of the maps' size and the image's type.

    Raises
    ------
    ArrayError
        If the maps are of different shapes, or no floats.
    ParameterError
        If the color has another number of channels than the image.
    OperationError
        If a position is farther away than `within`.

    Notes
    -----
    `cv2.remap`. Images of more than 32,766 pixels a side are taken, too; their positions are rounded to 1/1024 pixel.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> x, y = np.array([[2, 0.5]], np.float32), np.zeros((1, 2), np.float32)
    >>> di.remap(np.array([[10, 20, 30]], np.uint8), map_x=x, map_y=y)
    array([[30, 15]], dtype=uint8)
    """
    return MAP.on_whole(image, _given(locals()))


# Lenses


def _undistorted(p: Any) -> tuple[Array, Array, Array]:
    """Return the camera matrix, the inverse of the new one, and 14 coefficients."""
    given = [p.distortion] if isinstance(p.distortion, float) else list(p.distortion)
    if len(given) not in (4, 5, 8, 12, 14):
        raise ParameterError(
            f"undistort: distortion has {len(given)} numbers; OpenCV's models have 4, 5, 8, 12 or 14: "
            "k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]]"
        )
    camera = np.array(p.camera)
    new = camera if p.new_camera is None else np.array(p.new_camera)
    if abs(np.linalg.det(new)) < 1e-300 or len({len(camera), len(new)}) != 1:
        raise ParameterError(f"undistort: the camera matrix {new.tolist()} cannot be inverted")
    return camera, np.linalg.inv(new), np.array([*given, *[0.0] * (14 - len(given))])


def _lens_positions(x: Array, y: Array, p: Any) -> tuple[Array, Array]:
    """Return where in the image the pixels at columns x and rows y of the result are, in double precision."""
    camera, inverse, (k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y) = _undistorted(p)
    with np.errstate(all="ignore"):
        w = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2]
        u = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]) / w
        v = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]) / w
        r = u * u + v * v
        radial = (1 + ((k3 * r + k2) * r + k1) * r) / (1 + ((k6 * r + k5) * r + k4) * r)
        moved_u = u * radial + p1 * 2 * u * v + p2 * (r + 2 * u * u) + s1 * r + s2 * r * r
        moved_v = v * radial + p1 * (r + 2 * v * v) + p2 * 2 * u * v + s3 * r + s4 * r * r
        if tilt_x or tilt_y:
            tilt = _tilt(tilt_x, tilt_y)
            depth = tilt[2, 0] * moved_u + tilt[2, 1] * moved_v + tilt[2, 2]
            moved_u, moved_v = ((row[0] * moved_u + row[1] * moved_v + row[2]) / depth for row in tilt[:2])
        return camera[0, 0] * moved_u + camera[0, 2], camera[1, 1] * moved_v + camera[1, 2]


def _tilt(x: float, y: float) -> Array:
    """Return the matrix of a sensor that is tilted by two angles, as OpenCV's model has it."""
    about_x = np.array([[1, 0, 0], [0, math.cos(x), math.sin(x)], [0, -math.sin(x), math.cos(x)]])
    about_y = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    turned = about_y @ about_x
    project = np.array([[turned[2, 2], 0, -turned[0, 2]], [0, turned[2, 2], -turned[1, 2]], [0, 0, 1]])
    combined: Array = project @ turned
    return combined


FARTHEST = 1e9  # pixels: positions beyond are not worth a thought
SAMPLES = 33  # along each side of a region: how a lens bends it in between is far below a pixel


def _lens_size(size: Size, p: Any) -> Size:
    _undistorted(p)
    return size


def _lens_needs(region: Region, size: Size, p: Any) -> Region:
    if _has_pole(region, p):
        return Region(0, 0, *size)
    x = np.linspace(region.left, region.right - 1, SAMPLES)
    y = np.linspace(region.top, region.bottom - 1, SAMPLES)[:, np.newaxis]
    bounds = []
    with np.errstate(invalid="ignore", over="ignore"):
        for at in _lens_positions(x, y, p):
            # Between two samples a position cannot be farther out than they are apart.
            apart = max(np.abs(np.diff(at, axis=axis)).max() for axis in (0, 1))
            bounds.append((at.min() - apart, at.max() + apart))
    if not np.abs(bounds).max() < FARTHEST:  # or NaN
        return Region(0, 0, *size)
    (left, right), (top, bottom) = bounds
    return within_reach((float(left), float(top), float(right), float(bottom)), size, p.border)


def _has_pole(region: Region, p: Any) -> bool:
    """Return whether a division by zero may lie in a region, so that samples don't tell of what is between them."""
    _, inverse, (_, _, _, _, _, k4, k5, k6, *_, tilt_x, tilt_y) = _undistorted(p)
    corners = np.array(list(itertools.product((region.left, region.right - 1), (region.top, region.bottom - 1), (1,))))
    with np.errstate(all="ignore"):
        at = inverse @ corners.T
        farthest = ((at[:2] / at[2]) ** 2).sum(axis=0).max()
    if not (np.isfinite(farthest) and np.abs(np.sign(at[2]).sum()) == len(corners)):
        return True
    if abs(tilt_x) > 1 or abs(tilt_y) > 1:  # more than half a right angle
        return True
    roots = np.roots([k6, k5, k4, 1]) if np.isfinite([k4, k5, k6]).all() else np.array([0])
    real = roots.real[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots))]
    return bool(((real >= 0) & (real <= farthest)).any())


def _lens_part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    small = is_small(size)

    def positions(tile: Region) -> tuple[Array, Array]:
        x = np.arange(tile.left, tile.right, dtype=np.float64)
        y = np.arange(tile.top, tile.bottom, dtype=np.float64)[:, np.newaxis]
        columns, rows = _lens_positions(x, y, p)
        with np.errstate(over="ignore"):
            return (columns.astype(np.float32), rows.astype(np.float32)) if small else (columns, rows)

    return remapped(pixels, at, region, size, positions, p, fill_value(p.value, pixels))


LENS = Geometric(_lens_size, _lens_needs, _lens_part, check=check_value)


@operation(kind=LENS)
def undistort(
    image: Array,
    *,
    camera: Annotated[Kernel, Sides(3, 3)],
    distortion: Vector,
    new_camera: Annotated[Kernel | None, Sides(3, 3)] = None,
    interpolation: Interpolation = "linear",
    border: Border = "constant",
    value: Value = 0.0,
) -> Array:
    """Straighten what a lens bends.

    Parameters
    ----------
    camera : list of list of float
        The camera matrix: focal lengths and the principal point, in pixels.
    distortion : list of float
        OpenCV's coefficients k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tx, ty]]]].
    new_camera : list of list of float
        The camera matrix of the result. None: the same one.
    interpolation : {"nearest", "linear", "cubic", "lanczos"}
        From how many pixels one is computed: 1, 2 x 2, 4 x 4 or 8 x 8.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or a color.
    value : float or list of float
        The color for "constant": a number, or one for each channel.

    Returns
    -------
    array
        Of the image's shape and type.

    Raises
    ------
    ParameterError
        If there are other numbers of coefficients, the camera matrix cannot be inverted, or the color has another
        number of channels than the image.

    Notes
    -----
    `cv2.remap` with the float32 maps of `cv2.initUndistortRectifyMap`. `cv2.undistort` itself rounds positions to 1/32
    pixel.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> camera = [[50, 0, 4], [0, 50, 3], [0, 0, 1]]
    >>> di.undistort(np.full((1, 5), 7, np.uint8), camera=camera, distortion=[0, 0, 0, 0])
    array([[7, 7, 7, 7, 7]], dtype=uint8)
    """
    return LENS.on_whole(image, _given(locals()))
