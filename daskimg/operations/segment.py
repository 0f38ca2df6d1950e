"""Segmentation: operations on connected parts of an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np

from daskimg.errors import OperationError, ParameterError
from daskimg.kinds import Array, Linked, Margins, Parts, Window
from daskimg.operation import operation
from daskimg.parameters import Range, Unit

__all__ = ["connected_components", "fill_holes", "flood_fill", "remove_small_objects"]

Connectivity = Literal["4", "8"]

STRIP = 1 << 16  # pixels that are looked up at a time: as many as stay in the processor's cache


def _connectivity(p: Any) -> int:
    return int(p.connectivity)


def _label(foreground: Array, connectivity: int, into: Array | None = None) -> tuple[int, Array]:
    """Return how many labels there are, with 0 for the background, and the labels as int32."""
    if foreground.dtype != np.uint8:
        foreground = (foreground != 0).view(np.uint8)
    count, labels = cv2.connectedComponents(foreground, into, connectivity, cv2.CV_32S)
    return count, labels


def _sides(labels: Array) -> tuple[tuple[Array, Array, Array, Array], Array]:
    """Return the sides of a label image as numbers of parts, and the label of each part; part 0 is label 0."""
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    on_sides = np.unique(np.concatenate([[0], *sides]))
    top, bottom, left, right = (np.searchsorted(on_sides, side).astype(np.int32) for side in sides)
    return (top, bottom, left, right), on_sides


def _look_up(table: Array, labels: Array) -> Array:
    """Replace labels by what a table says, in place where it is of their type."""
    result = labels if table.dtype == labels.dtype and labels.flags.writeable else np.empty(labels.shape, table.dtype)
    height = max(1, STRIP // max(1, labels.shape[1]))
    strips = [slice(row, row + height) for row in range(0, len(labels), height)]
    if len(table) > 1 << 16:
        for strip in strips:
            np.take(table, labels[strip], out=result[strip], mode="clip")
        return result
    # OpenCV's own tables, of at most 16 bits, are twice as fast.
    whole = np.zeros(1 << 16, table.dtype)
    whole[: len(table)] = table
    if table.dtype == bool:
        whole, into = whole.view(np.uint8), result.view(np.uint8)
    else:
        into = result
    for strip in strips:
        cv2.LUT(labels[strip].astype(np.uint16), whole, dst=into[strip])
    return result


# Numbering as OpenCV does it: in the order of the lines that components begin in, and within a line from left to right.
# A line is a row for 4-connected components, and two rows for 8-connected ones, which OpenCV finds by blocks of 2 x 2
# pixels. So a block of the image need only tell how many components begin in each of its lines.


class Begun(NamedTuple):
    """Tells how many components have begun up to each line of a block, and the labels of those on its sides."""

    upto: Array
    on_sides: Array


def _find_components(
    window: Array, margins: Margins, p: Any, where: Window, into: Array | None = None
) -> tuple[Any, Parts]:
    _, labels = _label(window, _connectivity(p), into)
    height = _line(p)
    highest = np.maximum.reduceat(labels.max(axis=1), np.arange(0, len(labels), height))
    begun = np.maximum.accumulate(highest).astype(np.int64)
    sides, on_sides = _sides(labels)
    return (labels, begun), Parts(sides, np.zeros(len(on_sides), bool), Begun(begun, on_sides))


def _line(p: Any) -> int:
    return 1 if _connectivity(p) == 4 else 2


class Numbering(NamedTuple):
    """Tells a block how many components have begun before each of its lines, and which labels come from elsewhere."""

    before: Array
    foreign: Array
    labels: Array


def _number_components(layout: tuple[int, int], parts: list[Parts], groups: list[Array], p: Any) -> list[Numbering]:
    rows, columns = layout
    begun = [one.more for one in parts]
    counts = [len(one.on_sides) - 1 for one in begun]
    block = np.repeat(np.arange(len(parts)), counts)
    label = np.concatenate([one.on_sides[1:] for one in begun])
    group = np.concatenate([one[1:] for one in groups])
    line = np.concatenate([np.searchsorted(one.upto, one.on_sides[1:]) for one in begun])  # within its block
    # Of the parts of a component, the one that begins first counts: by line of the image, then from left to right.
    order = np.lexsort((label, block % columns, line, block // columns, group))
    is_first = np.diff(group[order], prepend=-1) != 0
    root = np.empty(len(label), np.int64)
    root[order] = order[is_first][np.cumsum(is_first) - 1] if len(order) else order
    is_root = root == np.arange(len(label))

    numberings, total = [], 0
    ends = np.cumsum([0, *counts])
    own = np.zeros(len(label), np.int64)
    for y in range(rows):
        starts = []
        for here in range(y * columns, (y + 1) * columns):
            mine = slice(ends[here], ends[here + 1])
            here_begun = np.diff(begun[here].upto, prepend=0)
            here_begun -= np.bincount(line[mine][~is_root[mine]], minlength=len(here_begun))
            starts.append(here_begun)
        in_line = np.stack(starts)
        before = (
            total + np.concatenate([[0], np.cumsum(in_line.sum(axis=0))[:-1]]) + np.cumsum(in_line, axis=0) - in_line
        )
        total += int(in_line.sum())
        for x, here in enumerate(range(y * columns, (y + 1) * columns)):
            mine = slice(ends[here], ends[here + 1])
            numbering = Numbering(before[x], label[mine][~is_root[mine]], np.zeros(0, np.int64))
            own[mine] = _table(begun[here].upto, numbering)[label[mine]] if counts[here] else 0
            numberings.append(numbering)
    if total > np.iinfo(np.int32).max:
        raise OperationError(f"connected_components: {total} components do not fit into int32; remove noise first")
    final = own[root]
    return [
        one._replace(labels=final[ends[here] : ends[here + 1]][~is_root[ends[here] : ends[here + 1]]])
        for here, one in enumerate(numberings)
    ]


def _table(begun: Array, numbering: Numbering) -> Array:
    """Return the final label of each label of a block; of those from elsewhere only where these are known."""
    starts = np.diff(begun, prepend=0)
    is_own = np.ones(int(begun[-1]) + 1, bool)
    is_own[0] = is_own[numbering.foreign] = False
    upto = np.cumsum(is_own)
    line = np.repeat(np.arange(len(begun)), starts)
    before = upto[begun - starts]  # own ones, before each line
    table = np.zeros(len(is_own), np.int32)
    table[1:] = numbering.before[line] + upto[1:] - before[line]
    table[numbering.foreign[: len(numbering.labels)]] = numbering.labels
    return table


def _renumber(state: tuple[Array, Array], numbering: Numbering, p: Any, where: Window) -> Array:
    labels, begun = state
    return _look_up(_table(begun, numbering), labels)


@operation(
    kind=Linked(
        _find_components,
        _renumber,
        connectivity=_connectivity,
        multiple=_line,
        decide=_number_components,
        state_bytes=4,
        starts_in_result=True,
    ),
    dtypes="uint8 uint16 int16 int32 float32 float64 bool",
    accepts=(1,),
    missing="background",
)
def connected_components(image: Any, *, connectivity: Connectivity = "8") -> Any:
    """Number the connected parts of what is not zero.

    Parameters
    ----------
    connectivity : {"4", "8"}
        Whether pixels belong together only side by side, or also where they touch at a corner.

    Returns
    -------
    ndarray
        int32 labels `(rows, columns)`: 0 where the image is 0, and 1, 2, … elsewhere.

    Raises
    ------
    OperationError
        When computing: if there are more components than int32 can number.

    Notes
    -----
    `cv2.connectedComponents` with its very numbering, under any chunking: 4-connected components are numbered in
    raster order of their first pixels, 8-connected ones of their first blocks of 2 × 2 pixels. NaN is not zero.
    Between chunks travel only the labels on their sides and how many components begin in each row.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.connected_components(np.array([[0, 9, 0, 0], [9, 0, 0, 5]], np.uint8))
    array([[0, 1, 0, 0],
           [1, 0, 0, 2]], dtype=int32)
    """
    return _label(image, int(connectivity))[1]


# Parts that are kept or not for one value that is put together over the whole image.


def _by_label(labels: Array, of_label: Array) -> tuple[Any, Parts]:
    """Return the state and the parts of a block whose labels have each a value."""
    sides, on_sides = _sides(labels)
    return (labels, of_label, on_sides), Parts(sides, of_label[on_sides])


def _decided(state: Any, decision: Array) -> tuple[Array, Array]:
    """Return the labels of a block, and the values of the whole parts by label."""
    labels, of_label, on_sides = state
    of_label = of_label.copy()
    of_label[on_sides] = decision
    return labels, of_label


def _find_holes(window: Array, margins: Margins, p: Any, where: Window) -> tuple[Any, Parts]:
    count, labels = _label(window == 0, _background(p))
    is_outside = np.zeros(count, bool)
    rows, columns = window.shape[:2]
    if where.row == 0:
        is_outside[labels[0]] = True
    if where.row + rows == where.rows:
        is_outside[labels[-1]] = True
    if where.column == 0:
        is_outside[labels[:, 0]] = True
    if where.column + columns == where.columns:
        is_outside[labels[:, -1]] = True
    is_outside[0] = False
    state, parts = _by_label(labels, is_outside)
    return (window, *state), parts


def _background(p: Any) -> int:
    return 4 if p.connectivity == "8" else 8


def _fill_holes(state: Any, decision: Array, p: Any, where: Window) -> Array:
    window, *rest = state
    labels, is_outside = _decided(rest, decision)
    return _filled(window, labels, is_outside)


def _filled(image: Array, labels: Array, is_outside: Array) -> Array:
    is_hole = ~is_outside
    is_hole[0] = False
    result = image.copy()
    result[_look_up(is_hole, labels)] = True if image.dtype == bool else np.iinfo(image.dtype).max
    return result


@operation(
    kind=Linked(_find_holes, _fill_holes, connectivity=_background, state_bytes=5),
    dtypes="uint8 uint16 bool",
    accepts=(1,),
    missing="background",
)
def fill_holes(image: Any, *, connectivity: Connectivity = "4") -> Any:
    """Fill the holes of a binary image: zeros that are not connected to the image's border.

    Parameters
    ----------
    connectivity : {"4", "8"}
        How the foreground is connected; zeros are then connected the other way. With "4", a hole may leak through a
        corner, as in `scipy.ndimage.binary_fill_holes` it may not: that is "8".

    Returns
    -------
    ndarray
        The image with holes at the highest value of its type; what is not zero stays as it is.

    Notes
    -----
    A zero is a hole unless a path of zeros leads from it to the border of the whole image. `"8"` is
    `scipy.ndimage.binary_fill_holes`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], np.uint8)
    >>> di.fill_holes(ring)
    array([[  1,   1,   1,   0],
           [  1, 255,   1,   0],
           [  1,   1,   1,   0]], dtype=uint8)
    """
    where = Window(0, 0, *image.shape[:2])
    p = _Connected(connectivity)
    (window, labels, is_outside, _), _ = _find_holes(image, Margins(0, 0, 0, 0), p, where)
    return _filled(window, labels, is_outside)


class _Connected(NamedTuple):
    connectivity: str


def _find_areas(window: Array, margins: Margins, p: Any, where: Window) -> tuple[Any, Parts]:
    count, labels = _label(window, _connectivity(p))
    areas = np.bincount(labels.ravel(), minlength=count)
    state, parts = _by_label(labels, areas)
    return (window, *state), parts


def _remove_small(state: Any, decision: Array, p: Any, where: Window) -> Array:
    window, *rest = state
    labels, areas = _decided(rest, decision)
    return _removed(window, labels, areas, p.min_size)


def _removed(image: Array, labels: Array, areas: Array, min_size: int) -> Array:
    is_kept = areas >= min_size
    is_kept[0] = True
    return np.where(_look_up(is_kept, labels), image, image.dtype.type(0))


@operation(
    kind=Linked(_find_areas, _remove_small, np.add, connectivity=_connectivity, state_bytes=5),
    dtypes="uint8 uint16 int16 int32 bool",
    accepts=(1,),
    missing="background",
)
def remove_small_objects(
    image: Any,
    *,
    min_size: Annotated[int, Range(0), Unit("px")] = 64,
    connectivity: Connectivity = "8",
) -> Any:
    """Remove connected parts that have too few pixels.

    Parameters
    ----------
    min_size : int
        How many pixels a part has at least to stay.
    connectivity : {"4", "8"}
        Whether pixels belong together only side by side, or also where they touch at a corner.

    Returns
    -------
    ndarray
        The image with 0 in place of small parts; what stays keeps its values.

    Notes
    -----
    Parts are those of `connected_components`: what is not zero counts, whatever its value. On a binary image this is
    `skimage.morphology.remove_small_objects`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.remove_small_objects(np.array([[7, 7, 0, 7]], np.uint8), min_size=2)
    array([[7, 7, 0, 0]], dtype=uint8)
    """
    count, labels = _label(image, int(connectivity))
    return _removed(image, labels, np.bincount(labels.ravel(), minlength=count), min_size)


def _similar(window: Array, seed: Any, p: Any) -> Array:
    """Return where an image is near enough to the seed's value in all channels, as `cv2.floodFill` compares."""
    low, high = (np.asarray(diff, np.float32) for diff in (p.low_diff, p.high_diff))
    if window.dtype == np.uint8:
        low, high = np.floor(low), np.floor(high)
    difference = window.astype(np.float32) - np.asarray(seed, np.float32)
    similar: Array = (-low <= difference) & (difference <= high)
    return np.all(similar, axis=2) if similar.ndim == 3 else similar


def _find_flooded(window: Array, margins: Margins, p: Any, where: Window) -> tuple[Any, Parts]:
    count, labels = _label(_similar(window, p.seed, p), _connectivity(p))
    is_flooded = np.zeros(count, bool)
    row, column = p.row - where.row, p.column - where.column
    if 0 <= row < len(labels) and 0 <= column < labels.shape[1]:
        is_flooded[labels[row, column]] = True
        is_flooded[0] = False  # a seed of NaN is like no pixel, itself included
    state, parts = _by_label(labels, is_flooded)
    return (window, *state), parts


def _flood(state: Any, decision: Array, p: Any, where: Window) -> Array:
    window, *rest = state
    labels, is_flooded = _decided(rest, decision)
    result: Array = window.copy()
    value = p.value if window.dtype == np.float32 else np.clip(np.rint(p.value), 0, 255)
    result[_look_up(is_flooded, labels)] = value
    return result


def _seed(p: Any) -> tuple[int, int]:
    return p.row, p.column


@operation(
    kind=Linked(_find_flooded, _flood, connectivity=_connectivity, state_bytes=5, seed=_seed, keeps_type=True),
    dtypes="uint8 float32",
    channels="joint",
    accepts=(1, 3),
)
def flood_fill(
    image: Any,
    *,
    row: Annotated[int, Range(0), Unit("px")],
    column: Annotated[int, Range(0), Unit("px")],
    value: float = 255.0,
    low_diff: Annotated[float, Range(0)] = 0.0,
    high_diff: Annotated[float, Range(0)] = 0.0,
    connectivity: Connectivity = "4",
) -> Any:
    """Fill the connected part around a pixel that has about its value.

    Parameters
    ----------
    row, column : int
        Where the filling starts: the seed.
    value : float
        The new value, in all channels.
    low_diff : float
        How much darker than the seed a pixel may be that is filled, in each channel.
    high_diff : float
        How much brighter it may be.
    connectivity : {"4", "8"}
        Whether pixels are neighbours only side by side, or also where they touch at a corner.

    Returns
    -------
    ndarray
        The image with the part filled, of the same data type; on uint8 the new value is rounded and saturated.

    Raises
    ------
    ParameterError
        If the seed is outside the image.

    Notes
    -----
    `cv2.floodFill` with `FLOODFILL_FIXED_RANGE`: differences are those from the seed, not from the neighbour.
    Where the seed is NaN nothing is filled.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.flood_fill(np.array([[10, 11, 50, 10]], np.uint8), row=0, column=0, value=99, high_diff=5)
    array([[99, 99, 50, 10]], dtype=uint8)
    """
    rows, columns = image.shape[:2]
    if row >= rows or column >= columns:
        raise ParameterError(
            f"flood_fill: the pixel at row {row}, column {column} is outside the image of {rows} x {columns} pixels"
        )
    if np.isnan(image[row, column]).any():
        return image.copy()
    channels = 1 if image.ndim == 2 else image.shape[2]
    spread = ([value] * channels, [low_diff] * channels, [high_diff] * channels)
    flags = int(connectivity) | cv2.FLOODFILL_FIXED_RANGE
    return cv2.floodFill(image.copy(), None, (column, row), *spread, flags)[1]
