"""Carries out linked operations: parts are found in each block, and only what touches a side travels to be linked.

A block's state (labels, for instance) is held until all links are known where it is small enough, else made anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer, again, may_be_held, wait_for
from daskimg.chunked.apply import apply_kind, kind_of
from daskimg.chunked.layer import LocalLayer
from daskimg.chunked.reduction import reduce_image
from daskimg.chunked.strips import Axes, Place, fill, native, one_cv2_thread
from daskimg.errors import ParameterError
from daskimg.kinds import Array, Linked, Margins, Parts, Window
from daskimg.operation import outcome
from daskimg.pipeline import Step

__all__: list[str] = []


@dataclass(frozen=True)
class LinkedRun:
    """Holds what the tasks share that look at a block and find its parts."""

    step: Step
    axes: Axes
    reach: tuple[int, int]
    seeded: bool = False  # whether they get the value of the seed

    @property
    def out_axes(self) -> Axes:
        """The axes of the grid of what is found."""
        return Axes(0, 1)

    @property
    def task(self) -> Callable[..., Any]:
        """What a task calls."""
        return _find_parts


class LinkedLayer(MaterializedLayer):
    """Holds the tasks that make the result from what was found in each block and what was decided.

    With `starts_in_result`, what is found may be written where the result is wanted.
    """

    def __init__(self, tasks: Any, found: str, starts_in_result: bool) -> None:
        super().__init__(tasks)
        self.found = found
        self.starts_in_result = starts_in_result


@apply_kind.register(Linked)
def apply_linked(kind: Linked, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a linked step, cut as the image is."""
    dtype, channels = outcome(step, image.dtype.newbyteorder("="), None if image.ndim == 2 else image.shape[2])
    chunks = (*image.chunks[:2], *(() if channels is None else ((channels,),)))
    if 0 in image.shape:
        nothing: da.Array = da.zeros(
            (*image.shape[:2], *(() if channels is None else (channels,))), dtype, chunks=chunks
        )
        return nothing
    seeds = () if kind.seed is None else (_seed_of(image, step, kind.seed(step.arguments)),)
    reach, multiple = kind.reach(step.arguments), kind.multiple(step.arguments)
    image = _cut_for(image, max(reach, multiple), multiple)
    run = LinkedRun(step, Axes(0, 1, 2 if image.ndim == 3 else None), (reach, reach), bool(seeds))
    token = tokenize(image.name, step)
    name = f"{step.operation.name}-{token}"
    found = _parts_of(image, run, f"{step.operation.name}-parts-{token}", *seeds)
    decided = _decide_all(found, image, step, f"{step.operation.name}-links-{token}")
    if not may_be_held(image.shape[0] * image.shape[1] * kind.state_bytes):
        source = again(image, decided)
        if source is not image:
            found = _parts_of(source, run, f"{step.operation.name}-again-{token}", *seeds)
    tail = () if channels is None else (0,)
    tasks = {}
    for y, x, where in blocks_of(image):
        key, in_row = (name, y, x, *tail), TaskRef((f"{decided.name}-of", y))
        tasks[key] = Task(key, apply_decision, step, where, bool(tail), TaskRef((found.name, y, x)), in_row, x)
    layer = LinkedLayer(tasks, found.name, kind.starts_in_result and not tail)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[found, decided])  # type: ignore[list-item]
    cut = (*image.chunks[:2], *((channels,) for _ in tail))
    result: da.Array = da.Array(graph, name, cut, dtype=dtype)
    return result if cut == chunks else result.rechunk(chunks)


def blocks_of(image: da.Array) -> Iterator[tuple[int, int, Window]]:
    """Yield the numbers of each block along rows and columns, and where it lies."""
    rows, columns = image.chunks[:2]
    tops, lefts = [0, *itertools.accumulate(rows)], [0, *itertools.accumulate(columns)]
    for y, x in itertools.product(range(len(rows)), range(len(columns))):
        yield y, x, Window(tops[y], lefts[x], tops[-1], lefts[-1])


def _cut_for(image: da.Array, least: int, multiple: int) -> da.Array:
    """Return the image in chunks that have pixels, as many as the reach, and begin at multiples."""
    wanted = []
    for sizes in image.chunks[:2]:
        edges, size = [0], sum(sizes)
        for edge in itertools.accumulate(sizes):
            edge -= edge % multiple
            if edge - edges[-1] >= max(least, 1) and size - edge >= max(least, 1):
                edges.append(edge)
        wanted.append(tuple(np.diff([*edges, size]).tolist()))
    chunks = (*wanted, *image.chunks[2:])
    return image if chunks == image.chunks else image.rechunk(chunks)


def _seed_of(image: da.Array, step: Step, at: tuple[int, int]) -> da.Array:
    """Return the value of a pixel, as a lazy array of no axes.

    Raises
    ------
    ParameterError
        If it lies outside the image.
    """
    row, column = at
    if not (0 <= row < image.shape[0] and 0 <= column < image.shape[1]):
        raise ParameterError(
            f"{step.operation.name}: the pixel at row {row}, column {column} is outside the image of "
            f"{image.shape[0]} x {image.shape[1]} pixels"
        )
    pixel = image[row : row + 1, column : column + 1]
    return reduce_image(pixel, _only_value, _first, _itself, f"{step.operation.name}-seed")


def _only_value(block: Array, where: Window) -> Array:
    value: Array = block[0, 0]
    return value


def _first(values: list[Any]) -> Any:
    return values[0]


def _itself(value: Any) -> Any:
    return value


def _parts_of(image: da.Array, run: LinkedRun, name: str, *seeds: da.Array) -> da.Array:
    """Return the lazy grid of what `local` finds in each block."""
    keys = tuple((seed.name,) for seed in seeds)
    layer = LocalLayer(name, image.name, image.chunks, image._meta, run, (), keys)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[image, *seeds])  # type: ignore[list-item]
    return da.Array(graph, name, image.chunks[:2], dtype=object)


def _find_parts(run: LinkedRun, place: Place, own: Any, *values: Any, into: Array | None = None) -> tuple[Any, Parts]:
    slivers, seeds = values[: len(place.neighbours)], values[len(place.neighbours) :]
    operation = run.step.operation
    own = operation.colors(native(own))
    reach, _ = run.reach
    sides = [reach * (direction in place.neighbours) for direction in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    margins = Margins(*sides)
    if any(margins):
        lent = {
            (dy, dx): operation.colors(native(sliver[-dy, -dx]))
            for (dy, dx), sliver in zip(place.neighbours, slivers, strict=True)
        }
        rows, columns = own.shape[:2]
        shape = (margins.top + rows + margins.bottom, margins.left + columns + margins.right, *own.shape[2:])
        window = np.empty(shape, own.dtype)
        fill(window, -margins.top, own, lent, margins.left, margins.right)
    else:
        window = own
    with one_cv2_thread():
        kind = kind_of(run.step, Linked)
        parameters = SimpleNamespace(**run.step.params, seed=seeds[0]) if run.seeded else run.step.arguments
        options = {"into": into} if kind.starts_in_result else {}
        return kind.local(window, margins, parameters, place.where, **options)


def _decide_all(found: da.Array, image: da.Array, step: Step, name: str) -> da.Array:
    """Return a lazy array of one chunk, beside which stand the decisions for each row of blocks: keys `NAME-of`."""
    layout = image.numblocks[:2]
    tasks: dict[Any, Task] = {}
    for y in range(layout[0]):
        gathered = []
        for x in range(layout[1]):
            key: Any = (f"{name}-sides", y, x)
            tasks[key] = Task(key, _parts_alone, TaskRef((found.name, y, x)))
            gathered.append(TaskRef(key))
        key, token = (f"{name}-row", y), (f"{name}-order", y)
        # Each row waits for the one before: so dask goes through the image in raster order and holds few chunks.
        before = [TaskRef((f"{name}-order", y - 1))] if y else []
        tasks[key] = Task(key, _gathered, List(*gathered), *before)
        tasks[token] = Task(token, wait_for, TaskRef(key))
    tasks[(name,)] = Task((name,), decide_all, step, layout, *(TaskRef((f"{name}-row", y)) for y in range(layout[0])))
    for y in range(layout[0]):
        key = (f"{name}-of", y)
        before = [TaskRef((f"{name}-of", y - 1))] if y else []  # also for the order
        tasks[key] = Task(key, _decisions, TaskRef((name,)), slice(y * layout[1], (y + 1) * layout[1]), *before)
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=[found])  # type: ignore[list-item]
    return da.Array(graph, name, (), dtype=object)


def _gathered(parts: list[Parts], *before: None) -> list[Parts]:
    return parts


def _parts_alone(found: tuple[Any, Parts]) -> Parts:
    return found[1]


def _decisions(decisions: list[Any], row: slice, *before: Any) -> list[Any]:
    return decisions[row]


def apply_decision(
    step: Step, where: Window, has_channels: bool, found: tuple[Any, Parts], in_row: list[Any], column: int
) -> Array:
    """Return a block of the result from its state and what was decided for its row of blocks."""
    with one_cv2_thread():
        block = kind_of(step, Linked).apply(found[0], in_row[column], step.arguments, where)
    return block[:, :, np.newaxis] if has_channels and block.ndim == 2 else block


def decide_all(step: Step, layout: tuple[int, int], *rows: list[Parts]) -> list[Any]:
    """Link the parts of all blocks that touch, and return the decision for each block."""
    parts = list(itertools.chain.from_iterable(rows))
    kind = kind_of(step, Linked)
    groups = link(
        layout, [one.sides for one in parts], [len(one.values) for one in parts], kind.connectivity(step.arguments)
    )
    if kind.decide is not None:
        return kind.decide(layout, parts, groups, step.arguments)
    return merged(kind.merge, [one.values for one in parts], groups)


def merged(merge: np.ufunc, values: list[Array], groups: list[Array]) -> list[Array]:
    """Return for each block the value of each of its parts, put together with those of the parts that it touches."""
    flat, group = np.concatenate(values), np.concatenate(groups)
    order = np.argsort(group, kind="stable")
    first = np.diff(group[order], prepend=-1) != 0
    whole = np.empty_like(flat)
    whole[order] = merge.reduceat(flat[order], np.flatnonzero(first))[np.cumsum(first) - 1]
    return np.split(whole, np.cumsum([len(one) for one in values])[:-1])


def link(
    layout: tuple[int, int], sides: list[tuple[Array, Array, Array, Array]], counts: list[int], connectivity: int
) -> list[Array]:
    """Return for each block the number of the whole that each of its parts belongs to; 0 for part 0, which is none.

    Parameters
    ----------
    layout : tuple of int
        The rows and columns of blocks.
    sides : list
        Top, bottom, left and right of each block, in raster order, as part numbers.
    counts : list of int
        How many parts each block has, with part 0.
    connectivity : {4, 8}
        Whether parts also touch at corners.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    offsets = np.concatenate([[0], np.cumsum(counts)])
    pairs: list[tuple[Array, Array]] = []

    def touch(first: int, one: Array, second: int, other: Array) -> None:
        both = (one != 0) & (other != 0)
        ends = np.stack([one[both] + offsets[first], other[both] + offsets[second]])
        if ends.size:  # along a side the same two parts mostly touch many times in a row
            ends = ends[:, np.concatenate([[True], (ends[:, 1:] != ends[:, :-1]).any(axis=0)])]
            pairs.append((ends[0], ends[1]))

    rows, columns = layout
    for y, x in itertools.product(range(rows), range(columns)):
        here = y * columns + x
        _, bottom, _, right = sides[here]
        beside = [(here + 1, right, 2)] if x + 1 < columns else []
        below = [(here + columns, bottom, 0)] if y + 1 < rows else []
        for there, one, side in beside + below:
            other = sides[there][side]
            touch(here, one, there, other)
            if connectivity == 8:
                touch(here, one[1:], there, other[:-1])
                touch(here, one[:-1], there, other[1:])
        if connectivity == 8 and y + 1 < rows:
            if x + 1 < columns:
                touch(here, bottom[-1:], here + columns + 1, sides[here + columns + 1][0][:1])
            if x > 0:
                touch(here, bottom[:1], here + columns - 1, sides[here + columns - 1][0][-1:])
    total = int(offsets[-1])
    if pairs:
        ends = np.concatenate([np.stack(pair) for pair in pairs], axis=1)
        graph = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), (total, total))
        group = connected_components(graph, directed=False)[1].astype(np.int64) + 1
    else:
        group = np.arange(1, total + 1)
    group[offsets[:-1]] = 0
    return np.split(group, offsets[1:-1])
