"""Runs a chain of local operations over one chunk and what its neighbours lent it, strip by strip.

A strip is a run of rows small enough to stay in the processor's cache while the whole chain passes over it. At the
true border of the image nothing is padded, so OpenCV's own border rule acts there; inside, each step's result is
trimmed by its reach, so that only pixels whose surroundings were complete remain.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from daskimg.errors import ArrayError, OperationError
from daskimg.kinds import Array, Window
from daskimg.pipeline import Step

__all__: list[str] = []

STRIP_BYTES = 1 << 21  # what a strip's widest intermediate may take: about a core's own cache

STRIP_REACHES = 8  # how many times the reach a strip has at least: what lies around it is computed twice

# The eight neighbours by (row, column) direction.
DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


class Axes(NamedTuple):
    """Says which axes of an array are rows, columns and (where there is one) channels; all others are batch axes."""

    y: int
    x: int
    c: int | None = None

    def to_back(self, block: Array) -> Array:
        """Return a view with the axes in the order batch, rows, columns, channels."""
        if self.c is None:
            return np.moveaxis(block, (self.y, self.x), (-2, -1))
        return np.moveaxis(block, (self.y, self.x, self.c), (-3, -2, -1))


class Run(Protocol):
    """Is what all tasks of a layer share."""

    @property
    def axes(self) -> Axes:
        """The axes of the source."""

    @property
    def out_axes(self) -> Axes:
        """The axes of the result."""

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows and columns of the neighbours a task needs."""

    @property
    def task(self) -> Callable[..., Any]:
        """What a task calls: `(run, place, *member chunks, *slivers of the neighbours, *second images)`."""


@dataclass(frozen=True)
class LocalRun:
    """Holds what all tasks of a fused run share: its steps, their reach, and the kind of its result.

    `reaches` and `lanes` are those of the single steps, `images` the numbers of the second images that each takes, and
    `itemsize` is that of the widest intermediate, in bytes per pixel. With `aligned`, second images lie over the block.
    """

    steps: tuple[Step, ...]  # without the pixels of second images, which tasks get beside
    reaches: tuple[tuple[int, int], ...]
    lanes: tuple[int, ...]
    images: tuple[tuple[int, ...], ...]
    axes: Axes
    out_axes: Axes
    dtype: np.dtype[Any]
    channels: int | None
    itemsize: int
    aligned: bool = False

    @property
    def task(self) -> Callable[..., Any]:
        """What a task calls."""
        return run_block

    @functools.cached_property
    def reach(self) -> tuple[int, int]:
        """The summed reach in rows and columns, with the columns that are left out to align windows."""
        slack = sum(lanes for lanes, (_, x) in zip(self.lanes, self.reaches, strict=True) if lanes > 1 and x)
        return sum(y for y, _ in self.reaches), sum(x for _, x in self.reaches) + slack


class Place(NamedTuple):
    """Says where a task's block lies: the whole image's window, and how many member chunks it is put together from."""

    where: Window
    members: tuple[int, int]
    neighbours: tuple[tuple[int, int], ...]


def join(members: tuple[Array, ...], layout: tuple[int, int], axes: Axes) -> Array:
    """Put the chunks of a group together, given row by row."""
    if layout == (1, 1):
        return members[0]
    rows, columns = layout
    lines = [np.concatenate(members[row * columns : (row + 1) * columns], axis=axes.x) for row in range(rows)]
    return np.concatenate(lines, axis=axes.y)


def cut_slivers(reach: tuple[int, int], axes: Axes, layout: tuple[int, int], *members: Array) -> dict[Any, Array]:
    """Return copies of the sides and corners of a block that its neighbours need, by direction from the block."""
    block = join(members, layout, axes)
    reach_y, reach_x = reach
    slivers = {}
    for dy, dx in DIRECTIONS:
        index: list[slice] = [slice(None)] * block.ndim
        index[axes.y] = _side(dy, reach_y)
        index[axes.x] = _side(dx, reach_x)
        slivers[dy, dx] = block[tuple(index)].copy()
    return slivers


def _side(direction: int, reach: int) -> slice:
    if direction == 0:
        return slice(None)
    return slice(0, reach) if direction < 0 else slice(-reach if reach else 0, None if reach else 0)


def run_block(run: LocalRun, place: Place, *values: Any, into: Array | None = None) -> Array:
    """Return the run's result for one block from its member chunks, its neighbours' slivers and second images.

    The result is written into `into` where that is given.
    """
    count = place.members[0] * place.members[1]
    if any(isinstance(member, np.ma.MaskedArray) for member in values[:count]):
        raise ArrayError("OpenCV ignores masks; fill the masked pixels first: image.map_blocks(numpy.ma.filled, 0)")
    own = join(values[:count], place.members, run.axes)
    # A neighbour in direction (dy, dx) lends the sliver on its opposite side.
    lent = {
        (dy, dx): run.axes.to_back(slivers[-dy, -dx])
        for (dy, dx), slivers in zip(place.neighbours, values[count:], strict=False)
    }
    images = tuple(native(image) for image in values[count + len(place.neighbours) :])
    own = run.axes.to_back(native(own))

    def planes(index: tuple[int, ...]) -> _Surrounded:
        return _Surrounded(own[index], {direction: piece[index] for direction, piece in lent.items()}, run.reach)

    return _run_planes(run, place.where, own.shape, planes, images, into)


def run_window(
    run: LocalRun, where: Window, reader: Any, part: tuple[slice, ...], *images: Any, into: Array | None = None
) -> Array:
    """Return the run's result for one part of a stored image, which is read here together with what lies around it."""
    reach = run.reach
    window, margins = list(part), [0, 0, 0, 0]
    for number, (axis, far, size) in enumerate(zip(run.axes[:2], reach, (where.rows, where.columns), strict=True)):
        start, stop = part[axis].start, part[axis].stop
        window[axis] = slice(max(start - far, 0), min(stop + far, size))
        margins[2 * number : 2 * number + 2] = start - window[axis].start, window[axis].stop - stop
    top, bottom, left, right = margins
    pixels = run.axes.to_back(native(reader.read(tuple(window))))
    spatial = 2 if run.axes.c is None else 3
    rows, columns = pixels.shape[-spatial] - top - bottom, pixels.shape[1 - spatial] - left - right
    shape = (*pixels.shape[:-spatial], rows, columns, *pixels.shape[pixels.ndim - spatial + 2 :])

    def planes(index: tuple[int, ...]) -> _Windowed:
        return _Windowed(pixels[index], top, bottom, left, right)

    return _run_planes(run, where, shape, planes, tuple(native(image) for image in images), into)


def _run_planes(
    run: LocalRun,
    where: Window,
    shape: tuple[int, ...],
    planes: Callable[[tuple[int, ...]], _Surrounded | _Windowed],
    images: tuple[Array, ...],
    into: Array | None,
) -> Array:
    """Run the chain over each plane of a block of this shape, whose axes are batch, rows, columns, channels."""
    spatial = 2 if run.axes.c is None else 3
    batch = shape[:-spatial]
    rows, columns = shape[len(batch) : len(batch) + 2]
    tail = () if run.channels is None else (run.channels,)
    result = _empty(batch, (rows, columns, *tail), run) if into is None else into
    target = run.out_axes.to_back(result)
    with one_cv2_thread():
        for index in np.ndindex(batch):
            _run_plane(run, where, (rows, columns), planes(index), images, target[index])
    return result


def _empty(batch: tuple[int, ...], plane: tuple[int, ...], run: LocalRun) -> Array:
    """Return an uninitialised result with its axes in the order that the caller wants."""
    order = [axis for axis in run.out_axes if axis is not None]
    shape: list[int] = list(batch)
    for axis, size in sorted(zip(order, plane, strict=True)):
        shape.insert(axis, size)
    return np.empty(shape, run.dtype)


class _Surrounded:
    """Gives rows of a block with what its neighbours lent."""

    def __init__(self, own: Array, lent: Mapping[tuple[int, int], Array], reach: tuple[int, int]) -> None:
        self.own, self.lent = own, lent
        self.top, self.bottom = (reach[0] if (dy, 0) in lent else 0 for dy in (-1, 1))
        self.left, self.right = (reach[1] if (0, dx) in lent else 0 for dx in (-1, 1))
        # OpenCV takes rows that are apart in memory, but needs the columns of a row next to each other.
        self.dense = own.strides[1:] == own[:1].copy().strides[1:] or len(own) == 0
        self.buffer: Array | None = None

    def lines(self, start: int, stop: int) -> Array:
        """Return rows from `start` to `stop`, where row 0 is the block's first; valid until the next call."""
        own, left, right = self.own, self.left, self.right
        if self.dense and start >= 0 and stop <= len(own) and not left and not right:
            return own[start:stop]
        if self.buffer is None or len(self.buffer) < stop - start:
            self.buffer = np.empty((stop - start, left + own.shape[1] + right, *own.shape[2:]), own.dtype)
        window = self.buffer[: stop - start]
        fill(window, start, own, self.lent, left, right)
        return window


class _Windowed:
    """Gives rows of a block with what lies around it, from a window that holds both."""

    def __init__(self, window: Array, top: int, bottom: int, left: int, right: int) -> None:
        self.top, self.bottom, self.left, self.right = top, bottom, left, right
        dense = window.strides[1:] == window[:1].copy().strides[1:]
        self.window = window if dense else np.ascontiguousarray(window)

    def lines(self, start: int, stop: int) -> Array:
        """Return rows from `start` to `stop`, where row 0 is the block's first."""
        return self.window[self.top + start : self.top + stop]


def _run_plane(
    run: LocalRun,
    where: Window,
    size: tuple[int, int],
    source: _Surrounded | _Windowed,
    images: tuple[Array, ...],
    target: Array,
) -> None:
    """Run the chain over one plane, a strip at a time, into `target`."""
    rows, columns = size
    reach_y = run.reach[0]
    width = source.left + columns + source.right
    height = max(STRIP_BYTES // max(1, run.itemsize * width), STRIP_REACHES * reach_y, 1)
    if 2 * height > rows:
        height = max(rows, 1)
    for first in range(0, rows, height):
        last = min(first + height, rows)
        start, stop = max(first - reach_y, -source.top), min(last + reach_y, rows + source.bottom)
        window = source.lines(start, stop)
        lying = tuple(image[first:last] for image in images) if run.aligned else images
        _run_strip(run, where, window, start, -source.left, lying, target[first:last], first)


def fill(window: Array, start: int, own: Array, lent: Mapping[tuple[int, int], Array], left: int, right: int) -> None:
    """Copy rows `start` onwards of the block and its neighbours into `window`; row 0 is the block's first."""
    rows, columns = own.shape[:2]
    stop = start + len(window)
    for dy, low, high in ((-1, start, min(stop, 0)), (0, max(start, 0), min(stop, rows)), (1, max(start, rows), stop)):
        if low >= high:
            continue
        into = window[low - start : high - start]
        for dx, begin, end in ((-1, 0, left), (0, left, left + columns), (1, left + columns, left + columns + right)):
            if begin >= end:
                continue
            piece = own if (dy, dx) == (0, 0) else lent[dy, dx]
            offset = {-1: len(piece), 0: 0, 1: -rows}[dy]
            into[:, begin:end] = piece[low + offset : high + offset]


def _run_strip(
    run: LocalRun,
    where: Window,
    window: Array,
    row: int,
    column: int,
    images: tuple[Array, ...],
    target: Array,
    first: int,
) -> None:
    """Run the chain over a window whose corner is at (`row`, `column`) of the block, and write its middle."""
    row, column = where.row + row, where.column + column  # in the whole image from here on
    image = window
    for step, (reach_y, reach_x), lanes, numbers in zip(run.steps, run.reaches, run.lanes, run.images, strict=True):
        image, column, before, after = _aligned(image, column, where.columns, reach_x, lanes)
        position = Window(row, column, where.rows, where.columns)
        bound = tuple(images[number] for number in numbers)
        bottom = row + image.shape[0]
        image = step.operation.run(image, step, position, bound)
        # What lies within reach of a cut, rather than of the image's true border, is not complete.
        above = reach_y if row > 0 else 0
        below = reach_y if bottom < where.rows else 0
        image = image[above : image.shape[0] - below, before : image.shape[1] - after]
        row, column = row + above, column + before
    if image.dtype != run.dtype or image.shape[2:] != target.shape[2:]:
        raise OperationError(
            f"{run.steps[-1]!r} gave {image.dtype} {image.shape}, but on a small image {run.dtype} and "
            f"{run.channels or 'no'} channels: an operation's type and channels must not depend on the pixels"
        )
    row, column = where.row + first - row, where.column - column
    target[...] = image[row : row + target.shape[0], column : column + target.shape[1]]


def _aligned(image: Array, column: int, columns: int, reach: int, lanes: int) -> tuple[Array, int, int, int]:
    """Return a window to run on, its first column in the whole image, and what to cut of the result's left and right.

    OpenCV rounds otherwise where a row's last vector of pixels is not full, which in the whole image is at its right
    border. So a window begins where one of its vectors does, and the result of what follows its own last full vector
    is cut. Where columns don't matter to each other, any others serve to begin and to fill vectors.
    """
    right = column + image.shape[1]
    if lanes == 1 or reach or image.size == 0:
        skip = -column % lanes if column > 0 else 0
        column += skip
        return image[:, skip:], column, reach if column > 0 else 0, reach + lanes - 1 if right < columns else 0
    before, after = column % lanes, min(lanes, columns - right)  # the image's own last vector may be near
    window = np.empty((len(image), before + image.shape[1] + after, *image.shape[2:]), image.dtype)
    window[:, :before] = image[:, :1]
    window[:, before : before + image.shape[1]] = image
    window[:, before + image.shape[1] :] = image[:, -1:]
    return window, column - before, before, after


def native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


_lock = threading.Lock()
_running = 0
_threads_before = 1


@contextlib.contextmanager
def one_cv2_thread() -> Iterator[None]:
    """Keep OpenCV to one thread while tasks run: dask's threads or processes are the parallelism already."""
    global _running, _threads_before
    with _lock:
        if _running == 0:
            _threads_before = cv2.getNumThreads()
            if _threads_before != 1:
                cv2.setNumThreads(1)
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0 and _threads_before != 1:
                cv2.setNumThreads(_threads_before)
