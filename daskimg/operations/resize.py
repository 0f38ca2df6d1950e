"""Resizing: other numbers of rows and columns, in all the ways that people ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.kinds import Array, Geometric, Region, Size
from daskimg.operation import operation
from daskimg.operations.fill import fill_value, filled
from daskimg.operations.resampling import INTERPOLATIONS, TAPS, axes, resample
from daskimg.parameters import Range, Unit, Vector

__all__ = ["resize"]


class Layout(NamedTuple):
    """Says how large a result is, how large the image is made for it, and where that one begins in the result."""

    size: Size
    scaled: Size
    top: int = 0
    left: int = 0


def _times(length: int, factor: float) -> int:
    """Return a scaled length as OpenCV rounds it, halves to even; one pixel is the least."""
    return max(1, round(length * factor))


def layout(size: Size, p: Any) -> Layout:
    """Return what the parameters mean for an image of this size.

    Raises
    ------
    ParameterError
        If they don't say one size.
    """
    rows, columns = size
    ways = [p.scale is not None, p.longest is not None, p.width is not None or p.height is not None]
    if sum(ways) != 1:
        raise ParameterError(
            "resize needs one of: width and height or one of them, scale, longest; such as resize(image, longest=1024)"
        )
    if p.scale is not None or p.longest is not None:
        factor = p.scale if p.scale is not None else p.longest / max(rows, columns)
        factor = factor if p.enlarge else min(factor, 1.0)
        scaled = _times(rows, factor), _times(columns, factor)
        return Layout(scaled, scaled)
    factors = [given / length for given, length in ((p.height, rows), (p.width, columns)) if given is not None]
    if len(factors) == 1:
        factor = factors[0] if p.enlarge else min(factors[0], 1.0)
        scaled = _times(rows, factor), _times(columns, factor)
        if p.enlarge or factors[0] <= 1:  # the side that was asked for is met exactly
            scaled = (p.height or scaled[0]), (p.width or scaled[1])
        return Layout(scaled, scaled)
    asked = (p.height, p.width)
    if p.fit == "fill":
        fill = asked if p.enlarge else (min(p.height, rows), min(p.width, columns))
        return Layout(fill, fill)
    factor = max(factors) if p.fit == "cover" else min(factors)
    if not p.enlarge:
        factor = min(factor, 1.0)
    scaled = _times(rows, factor), _times(columns, factor)
    if p.fit == "inside":
        inside = min(scaled[0], p.height), min(scaled[1], p.width)
        return Layout(inside, inside)
    if p.fit == "contain":
        scaled = min(scaled[0], p.height), min(scaled[1], p.width)
        return Layout(asked, scaled, (p.height - scaled[0]) // 2, (p.width - scaled[1]) // 2)
    cut = min(scaled[0], p.height), min(scaled[1], p.width)
    return Layout(cut, scaled, -((scaled[0] - cut[0]) // 2), -((scaled[1] - cut[1]) // 2))


_ANY = np.empty((0, 0), np.uint8)  # which pixels are needed does not depend on their type


def _needs(region: Region, size: Size, p: Any) -> Region:
    plan = layout(size, p)
    rows, columns = axes(size, plan.scaled, p.interpolation, _ANY)
    wanted = region.seen_from(plan.top, plan.left).cut(Region(0, 0, *plan.scaled))
    height, width = wanted.shape
    y = rows.needs(wanted.top, wanted.bottom) if height else (0, 0)
    x = columns.needs(wanted.left, wanted.right) if width else (0, 0)
    return Region(y[0], x[0], y[1], x[1])


def _part(pixels: Array, at: Region, region: Region, size: Size, p: Any) -> Array:
    plan = layout(size, p)
    rows, columns = axes(size, plan.scaled, p.interpolation, pixels)
    wanted = region.seen_from(plan.top, plan.left).cut(Region(0, 0, *plan.scaled))
    into = wanted.seen_from(region.top - plan.top, region.left - plan.left)
    if 0 in wanted.shape:
        return filled(region.shape, pixels, fill_value(p.background, pixels))
    part = resample(pixels, (at.top, at.left), rows, columns, wanted)
    if wanted.shape == region.shape:
        return part
    result = filled(region.shape, pixels, fill_value(p.background, pixels))
    result[into.slices] = part
    return result


def _edges(edges: Sequence[int], axis: int, size: Size, p: Any) -> tuple[Iterable[int], Iterable[int]]:
    plan = layout(size, p)
    offset, after, before = (plan.top, plan.left)[axis], plan.scaled[axis], size[axis]
    return [offset + round(edge * after / before) for edge in edges], ()


def _matrix(size: Size, p: Any) -> Array:
    plan = layout(size, p)
    down, across = size[0] / plan.scaled[0], size[1] / plan.scaled[1]
    return np.array(
        [
            [across, 0, (0.5 - plan.left) * across - 0.5],
            [0, down, (0.5 - plan.top) * down - 0.5],
        ]
    )


def _check(like: Array, p: Any) -> None:
    fill_value(p.background, like)


RESIZE = Geometric(lambda size, p: layout(size, p).size, _needs, _part, edges=_edges, matrix=_matrix, check=_check)


def _gain(p: Any, dtype: np.dtype[Any]) -> float:
    return float(TAPS.get(p.interpolation, 2))


@operation(kind=RESIZE, levels=lambda p, dtype: int(p.interpolation != "nearest"), gain=_gain)
def resize(
    image: Array,
    *,
    width: Annotated[int | None, Range(1), Unit("px")] = None,
    height: Annotated[int | None, Range(1), Unit("px")] = None,
    scale: Annotated[float | None, Range(above=0)] = None,
    longest: Annotated[int | None, Range(1), Unit("px")] = None,
    interpolation: Literal["nearest", "linear", "cubic", "area", "lanczos"] = "linear",
    fit: Literal["fill", "cover", "contain", "inside"] = "fill",
    enlarge: bool = True,
    background: Annotated[Vector | float, Unit("gray levels")] = 0.0,
) -> Array:
    """Change the numbers of rows and columns.

    Parameters
    ----------
    width, height : int
        Columns and rows of the result. Where one is None, it follows from the image's proportions.
    scale : float
        The factor on both, instead.
    longest : int
        The length of the longer side, instead.
    interpolation : {"nearest", "linear", "cubic", "area", "lanczos"}
        How pixels are found: the nearest one, from 2 x 2, 4 x 4 or (lanczos) 8 x 8 of them without smoothing before,
        or the mean of the area that a pixel covers, which is what reductions need.
    fit : {"fill", "cover", "contain", "inside"}
        What becomes of the proportions where width and height are given: "fill" distorts, "cover" cuts what is too
        much from both ends, "contain" adds a border of the background, "inside" gives less of one of both.
    enlarge : bool
        Whether images may become larger. Without it they are at most kept as large as they are.
    background : float or list of float
        The color of borders: a number, or one for each channel.

    Returns
    -------
    array
        `(height, width[, channels])` of the image's type.

    Raises
    ------
    ParameterError
        If no size is given, or more than one, or the background has another number of channels than the image.

    Notes
    -----
    `cv2.resize`: the same pixels for "nearest" and wherever the factor is a whole number, or a fraction with a power of
    two below; else integers deviate by at most one level. A fourth channel is treated as the others: colors are not
    weighted by it. With NaN in the image, results near it are NaN.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.zeros((300, 400, 3), np.uint8)
    >>> di.resize(image, longest=100, interpolation="area").shape
    (75, 100, 3)
    >>> di.resize(image, width=100, height=100, fit="cover").shape
    (100, 100, 3)
    """
    parameters = {
        "width": width,
        "height": height,
        "scale": scale,
        "longest": longest,
        "interpolation": interpolation,
        "fit": fit,
        "enlarge": enlarge,
        "background": background,
    }
    p = type("Parameters", (), parameters)
    plan = layout((image.shape[0], image.shape[1]), p)
    color = fill_value(background, image)
    rows, columns = axes(image.shape[:2], plan.scaled, interpolation, image)
    if image.dtype.kind == "f" and interpolation != "nearest" and not (rows.is_exact and columns.is_exact):
        return RESIZE.on_whole(image, parameters)
    resized = cv2.resize(image, plan.scaled[::-1], interpolation=INTERPOLATIONS[interpolation])
    if plan.scaled == plan.size:
        return resized
    if plan.top < 0 or plan.left < 0:
        return resized[-plan.top : plan.size[0] - plan.top, -plan.left : plan.size[1] - plan.left].copy()
    bottom, right = (plan.size[axis] - plan.scaled[axis] - (plan.top, plan.left)[axis] for axis in (0, 1))
    return cv2.copyMakeBorder(resized, plan.top, bottom, plan.left, right, cv2.BORDER_CONSTANT, value=color)
