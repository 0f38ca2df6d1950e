"""The kinds of operation that chunks alone cannot do: what an author declares, and the engine in `chunked` carries out.

An operation's function is always what happens to a whole image in memory. Its kind says how the same pixels come from
chunks: by functions on single blocks, which know nothing of dask. Without a kind an operation is local: what lies
within its `reach` is all that a pixel depends on.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "Carried",
    "Geometric",
    "Kind",
    "Linked",
    "Margins",
    "Parts",
    "Region",
    "Separable",
    "Sliding",
    "Spectral",
    "Sweep",
    "TwoPass",
    "Window",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Window(NamedTuple):
    """Tells an operation where in the whole image its array lies, in pixels.

    An operation whose function has a parameter `where: Window = ANYWHERE` gets one: marks and texts are placed with it.
    """

    row: int
    column: int
    rows: int
    columns: int


class Region(NamedTuple):
    """Is a rectangle of pixels: from `top` up to, not including, `bottom`, and from `left` to `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns; 0 where the region is empty."""
        return max(0, self.bottom - self.top), max(0, self.right - self.left)

    def cut(self, other: Region) -> Region:
        """Return what two regions have in common."""
        return Region(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def seen_from(self, row: int, column: int) -> Region:
        """Return the same region where (`row`, `column`) is called (0, 0)."""
        return Region(self.top - row, self.left - column, self.bottom - row, self.right - column)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index that cuts the region out of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


ANYWHERE = Window(0, 0, 0, 0)  # the default that keeps type checkers from asking callers for a window


class Kind:
    """Is what the kinds have in common: `chunked` knows by the class how to carry one out."""

    keeps_size = True  # whether the result has the rows and columns of the image
    keeps_type = False  # whether it has its data type and channels too, so that nothing need be tried out
    takes_images = False  # whether its operations may have second images


@dataclass(frozen=True)
class TwoPass(Kind):
    """Measures the whole image first, then changes each pixel by what was measured.

    Attributes
    ----------
    measure : callable
        `(block, parameters, where) -> statistics` of one block: anything small that can be pickled.
    combine : callable
        `(statistics, statistics) -> statistics`. The order of blocks is not defined.
    apply : callable
        `(block, measured, parameters, where) -> block`: the new pixels.
    finish : callable
        `(statistics, parameters) -> measured`, once: a NumPy array, such as a table. Without it the statistics are one.
        Second images are measured as the first is: `parameters` hold their statistics.
    positional : bool
        Whether `measure` depends on where pixels lie. Else it may get any picks of the pixels, as an image of one
        column, and its `where` does not matter.
    """

    measure: Callable[[Array, Any, Window], Any]
    combine: Callable[[Any, Any], Any]
    apply: Callable[[Array, Any, Any, Window], Array]
    finish: Callable[[Any, Any], Any] | None = None
    positional: bool = False

    takes_images = True

    def measured(self, statistics: Any, parameters: Any) -> Any:
        """Return what the blocks' statistics, combined, amount to."""
        return statistics if self.finish is None else self.finish(statistics, parameters)

    def on_whole(self, image: Array, parameters: Mapping[str, Any]) -> Array:
        """Do both passes on a whole image: the function of an operation that OpenCV does not have."""
        arguments = SimpleNamespace(**parameters)

        def statistics(one: Array) -> Any:
            return self.measure(one, arguments, Window(0, 0, *one.shape[:2]))

        found = {name: statistics(one) for name, one in parameters.items() if isinstance(one, np.ndarray)}
        measured = self.measured(statistics(image), SimpleNamespace(**{**parameters, **found}))
        return self.apply(image, measured, arguments, Window(0, 0, *image.shape[:2]))


class Margins(NamedTuple):
    """Tells how many rows and columns of its neighbours lie around a block in the window that it is given."""

    top: int
    bottom: int
    left: int
    right: int

    def inner(self, window: Array) -> Array:
        """Return the block alone, as a view."""
        return window[self.top : len(window) - self.bottom, self.left : window.shape[1] - self.right]


class Parts(NamedTuple):
    """Tells which parts of a block reach its sides, and what is known of them here.

    Attributes
    ----------
    sides : tuple of four ndarray
        The top and bottom rows, the left and right columns: the number of the part that each pixel belongs to, or 0.
    values : ndarray
        By number of the part, from 0 on (0 is no part): what `merge` puts together for parts that touch.
    more : object
        Whatever else the operation's own `decide` needs.
    """

    sides: tuple[Array, Array, Array, Array]
    values: Array
    more: Any = None


@dataclass(frozen=True)
class Linked(Kind):
    """Finds connected parts within each block, links those that touch across its sides, and decides on the whole.

    Attributes
    ----------
    local : callable
        `(window, margins, parameters, where) -> (state, Parts)`: what one block knows; `where` is the block's.
    apply : callable
        `(state, decision, parameters, where) -> block`. It may write into the state.
    merge : numpy.ufunc
        Puts the values of parts that touch together.
    connectivity : callable
        `(parameters) -> 4 or 8`: whether parts also touch at corners.
    reach : callable
        `(parameters) -> pixels` of the neighbours that `local` sees.
    multiple : callable
        `(parameters) -> pixels`: blocks begin at multiples of it.
    decide : callable
        `(layout, parts, groups, parameters) -> list of decisions`, where layout is the grid of blocks, parts are the
        blocks' in raster order, and groups the number of the whole part that each part belongs to. Without it a
        block's decision is the merged value of each of its parts.
    state_bytes : float
        What a state takes per pixel: small states of small images are held between the passes.
    starts_in_result : bool
        Whether `local` also gets `into`: where the block of the result will lie, so that the state is made there; or
        None.
    seed : callable
        `(parameters) -> (row, column)` of a pixel whose value `local` needs: it gets it as `parameters.seed`.
    keeps_type : bool
        Whether the result has the image's data type and channels.
    """

    local: Callable[..., tuple[Any, Parts]]
    apply: Callable[[Any, Any, Any, Window], Array]
    merge: np.ufunc = np.maximum
    connectivity: Callable[[Any], int] = lambda p: 8
    reach: Callable[[Any], int] = lambda p: 0
    multiple: Callable[[Any], int] = lambda p: 1
    decide: Callable[[tuple[int, int], list[Parts], list[Array], Any], list[Any]] | None = None
    state_bytes: float = 1
    starts_in_result: bool = False
    seed: Callable[[Any], tuple[int, int]] | None = None
    keeps_type: bool = False


Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Geometric(Kind):
    """Moves pixels: a part of the result is computed from a part of the image.

    All positions are those in the whole image and in the whole result; sizes are (rows, columns).

    Attributes
    ----------
    size : callable
        `(size, parameters) -> size` of the result. It raises where parameters and size don't go together.
    needs : callable
        `(region, size, parameters) -> region` of the image that a region of the result is computed from. What lies
        outside the image is cut off. It may be empty.
    compute : callable
        `(pixels, at, region, size, parameters) -> pixels`: computes a region of the result from the image's pixels `at`
        a region that holds all that it needs. `size` is that of the image. Where the operation has second images, which
        lie over the result, parameters hold their part of this region.
    view : callable
        `(image, parameters) -> image or None`: the result as a mere view of the image, NumPy's or dask's, where there
        is one.
    edges : callable
        `(edges, axis, size, parameters) -> (edges, hard)`: where the result is best cut along an axis, from where the
        chunks of the image begin and end, and where it must be. What rows need then must not depend on the columns,
        nor the other way round. Without it chunks are as large as the image's.
    matrix : callable
        `(size, parameters) -> 2 x 3 matrix or None`: takes (column, row, 1) of a pixel of the result to its (column,
        row) in the image, so that coordinates can follow. None where that is not affine.
    check : callable
        `(empty image, parameters)`: raises where parameters don't suit the image's type or channels.
    """

    size: Callable[[Size, Any], Size]
    needs: Callable[[Region, Size, Any], Region]
    compute: Callable[[Array, Region, Region, Size, Any], Array]
    view: Callable[[Any, Any], Any] | None = None
    edges: Callable[[Sequence[int], int, Size, Any], tuple[Iterable[int], Iterable[int]]] | None = None
    matrix: Callable[[Size, Any], Array | None] = lambda size, p: None
    check: Callable[[Array, Any], None] = lambda like, p: None

    keeps_size = False
    keeps_type = True
    takes_images = True

    def on_whole(self, image: Array, parameters: Mapping[str, Any]) -> Array:
        """Compute the whole result from a whole image in memory."""
        arguments = SimpleNamespace(**parameters)
        self.check(image[:0, :0], arguments)
        seen = None if self.view is None else self.view(image, arguments)
        if seen is not None:
            return np.ascontiguousarray(seen)
        rows, columns = image.shape[:2]
        region = Region(0, 0, *self.size((rows, columns), arguments))
        return self.compute(image, Region(0, 0, rows, columns), region, (rows, columns), arguments)


class Carried(NamedTuple):
    """Is what the blocks before and after a block, along one axis, amount to; None where there are none."""

    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Sweep:
    """Goes along one axis of the grid of blocks and gives each block what those before and after it amount to.

    Attributes
    ----------
    axis : int
        0: down the rows, 1: along the columns.
    hand_on : callable
        `(block, carried, parameters, where) -> (onward, backward)`: what a block hands on to those after it and to
        those before it. `carried` are its `Carried` of the sweeps before this one.
    join : callable
        `(carried, handed, parameters) -> carried`: adds what the next block hands on to what those behind it amount to.
    backward : bool
        Whether blocks look at those after them, too.
    """

    axis: int
    hand_on: Callable[[Array, tuple[Carried, ...], Any, Window], tuple[Any, Any]]
    join: Callable[[Any, Any, Any], Any]
    backward: bool = False


@dataclass(frozen=True)
class Separable(Kind):
    """Works along one axis at a time: small sums travel from block to block, then each block is finished by itself.

    Attributes
    ----------
    sweeps : tuple of Sweep
        One after another, each with a look at the image.
    apply : callable
        `(block, carried, parameters, where) -> block`, with a `Carried` of each sweep.
    lead : int
        How many rows and columns of zeros stand before those of the image in the result.
    most : int
        How many rows and columns an image may have.
    """

    sweeps: tuple[Sweep, ...]
    apply: Callable[[Array, tuple[Carried, ...], Any, Window], Array]
    lead: int = 0
    most: int = sys.maxsize

    @property
    def keeps_size(self) -> bool:  # type: ignore[override]
        """Whether the result has the rows and columns of the image."""
        return self.lead == 0

    def on_whole(self, image: Array, parameters: Mapping[str, Any]) -> Array:
        """Work on a whole image: the function of an operation that OpenCV does not have."""
        where = Window(0, 0, *image.shape[:2])
        result = self.apply(image, (Carried(),) * len(self.sweeps), SimpleNamespace(**parameters), where)
        return np.pad(result, ((self.lead, 0), (self.lead, 0), *((0, 0) for _ in image.shape[2:])))


@dataclass(frozen=True)
class Spectral(Kind):
    """Multiplies the Fourier transform of the whole image by the response of a filter.

    Attributes
    ----------
    response : callable
        `(frequencies along y, along x, parameters) -> factors`: in cycles per pixel, arrays that broadcast.
    """

    response: Callable[[Array, Array, Any], Array]

    keeps_type = True


@dataclass(frozen=True)
class Sliding(Kind):
    """Computes each pixel of a smaller result from a window of the image, whose first pixel lies where it does.

    All of the result is computed in the same squares, whatever the chunks, so that floats are the same as well.

    Attributes
    ----------
    extent : callable
        `(parameters) -> (rows, columns)` of the window.
    side : callable
        `(parameters) -> pixels`: the side of the squares, whose corners lie at multiples of it.
    compute : callable
        `(pixels, parameters) -> pixels`: the square from all pixels that it needs. Parameters hold second images whole.
    check : callable
        `(shape, dtype, parameters)`: raises where second images, of which only shape and dtype may be looked at, don't
        go with an image.
    """

    extent: Callable[[Any], Size]
    side: Callable[[Any], int]
    compute: Callable[[Array, Any], Array]
    check: Callable[[tuple[int, ...], np.dtype[Any], Any], None]

    keeps_size = False
    takes_images = True

    def on_region(self, pixels: Array, parameters: Any) -> Array:
        """Compute all squares of a part of the result that begins with one."""
        (high, wide), side = self.extent(parameters), self.side(parameters)
        rows, columns = pixels.shape[0] - high + 1, pixels.shape[1] - wide + 1
        result: Array | None = None
        for top, left in itertools.product(range(0, rows, side), range(0, columns, side)):
            bottom, right = min(top + side, rows), min(left + side, columns)
            square = self.compute(pixels[top : bottom + high - 1, left : right + wide - 1], parameters)
            if result is None:
                result = np.empty((rows, columns, *square.shape[2:]), square.dtype)
            result[top:bottom, left:right] = square
        assert result is not None
        return result


@dataclass(frozen=True)
class Nested(Kind):
    """Sums blocks up, joins the sums to those of larger and larger regions, then decides from the largest down.

    What travels is as large as the sides of blocks; each region is joined from those of at most 4 x 4 parts.

    Attributes
    ----------
    local : callable
        `(block, parameters, where) -> state`: what is found within a block. Where the operation has second images,
        parameters hold their part of this block.
    sum_up : callable
        `(state, parameters, where) -> sum`: what others need to know of a block. Not called where there is but one.
    join : callable
        `(sums, region, size, parameters) -> sum` of a region of the image, from those of its parts.
    decide : callable
        `(sums, decision, region, size, parameters) -> decisions` for the parts of a region, from what was decided for
        the region; for the whole image that is None.
    apply : callable
        `(state, decision, parameters, where) -> block`. It does not write into the state.
    state_bytes : callable
        `(dtype) -> bytes` that a state takes per pixel: small states of small images are held between the passes.
    tile : callable
        `(parameters) -> pixels`: blocks are squares of this size, whatever the chunks, or 0.
    """

    local: Callable[[Array, Any, Window], Any]
    sum_up: Callable[[Any, Any, Window], Any]
    join: Callable[[list[Any], Region, Size, Any], Any]
    decide: Callable[[list[Any], Any, Region, Size, Any], list[Any]]
    apply: Callable[[Any, Any, Any, Window], Array]
    state_bytes: Callable[[np.dtype[Any]], float]
    tile: Callable[[Any], int] = lambda p: 0

    takes_images = True

    def on_whole(self, image: Array, parameters: Mapping[str, Any]) -> Array:
        """Work on a whole image in memory, by its squares where the result depends on these."""
        arguments = SimpleNamespace(**parameters)
        size = image.shape[0], image.shape[1]
        rows, columns = ([*range(0, length, self.tile(arguments) or length), length] for length in size)
        states, where = {}, {}
        for y, x in np.ndindex(len(rows) - 1, len(columns) - 1):
            own = Region(rows[y], columns[x], rows[y + 1], columns[x + 1]).slices
            cut = {name: one[own] if isinstance(one, np.ndarray) else one for name, one in parameters.items()}
            where[y, x] = Window(rows[y], columns[x], *size)
            states[y, x] = self.local(image[own], SimpleNamespace(**cut), where[y, x])
        decisions: Mapping[Size, Any] = {(0, 0): None}
        if len(states) > 1:
            decisions = through_regions(
                rows,
                columns,
                {at: self.sum_up(state, arguments, where[at]) for at, state in states.items()},
                lambda level, at, region, sums: self.join(sums, region, size, arguments),
                lambda level, at, region, sums, decision: self.decide(sums, decision, region, size, arguments),
            )
        blocks = {at: self.apply(state, decisions[at], arguments, where[at]) for at, state in states.items()}
        if len(blocks) == 1:
            return blocks[0, 0]
        lines = [[blocks[y, x] for x in range(len(columns) - 1)] for y in range(len(rows) - 1)]
        return np.concatenate([np.concatenate(line, axis=1) for line in lines])


NESTED_SIDE = 4  # how many regions along each axis are joined to one


def through_regions(
    rows: Sequence[int],
    columns: Sequence[int],
    sums: Mapping[Size, Any],
    join: Callable[[int, Size, Region, list[Any]], Any],
    decide: Callable[[int, Size, Region, list[Any], Any], Sequence[Any]],
) -> Mapping[Size, Any]:
    """Join the sums of blocks up to the whole image, decide from there down, and return the decision of each block.

    Parameters
    ----------
    rows, columns : sequence of int
        The edges of blocks.
    sums : mapping
        By number of the block.
    join, decide : callable
        `(level, number, region, sums of its parts[, decision]) -> sum`, or `-> decisions`; or what stands for these.
    """
    levels = []
    while True:
        shape = len(rows) - 1, len(columns) - 1
        levels.append((rows, columns, sums))
        if shape == (1, 1):
            break
        rows, columns = ([*edges[:-1:NESTED_SIDE], edges[-1]] for edges in (rows, columns))
        if max(shape) <= NESTED_SIDE:
            levels.append((rows, columns, {}))  # nothing lies around the whole
            break
        below, sums = sums, {}
        for at in np.ndindex(len(rows) - 1, len(columns) - 1):
            region = Region(rows[at[0]], columns[at[1]], rows[at[0] + 1], columns[at[1] + 1])
            sums[at] = join(len(levels), at, region, [below[part] for part in _parts(at, shape)])
    decisions: dict[Size, Any] = {(0, 0): None}
    for level in range(len(levels) - 1, 0, -1):
        rows, columns, _ = levels[level]
        below_rows, below_columns, below = levels[level - 1]
        shape = len(below_rows) - 1, len(below_columns) - 1
        upper, decisions = decisions, {}
        for at in np.ndindex(len(rows) - 1, len(columns) - 1):
            region = Region(rows[at[0]], columns[at[1]], rows[at[0] + 1], columns[at[1] + 1])
            parts = _parts(at, shape)
            found = decide(level, at, region, [below[part] for part in parts], upper[at])
            decisions.update(zip(parts, found, strict=True))
    return decisions


def _parts(at: Size, shape: Size) -> list[Size]:
    """Return the numbers of the parts of a region, where there are so many parts in all."""
    along = [range(NESTED_SIDE * one, min(NESTED_SIDE * (one + 1), most)) for one, most in zip(at, shape, strict=True)]
    return [(y, x) for y in along[0] for x in along[1]]
