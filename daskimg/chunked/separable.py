"""Carries out separable operations: chains of small tasks go along the rows and columns of chunks, one per sweep.

Each sweep reads the image once, and so does the end; what travels are the ends of chunks, a row or column of numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer, again
from daskimg.chunked.apply import apply_kind, kind_of
from daskimg.chunked.reduction import FAN_IN
from daskimg.chunked.strips import native, one_cv2_thread
from daskimg.errors import ArrayError
from daskimg.kinds import Array, Carried, Separable, Window
from daskimg.operation import outcome
from daskimg.pipeline import Step

__all__: list[str] = []

At = tuple[int, int]


@apply_kind.register(Separable)
def apply_separable(kind: Separable, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a separable step, cut as the image is; the first chunks are longer by its lead."""
    dtype, channels = outcome(step, image.dtype.newbyteorder("="), None if image.ndim == 2 else image.shape[2])
    tail = () if channels is None else (channels,)
    if 0 in image.shape:
        nothing: da.Array = da.from_array(step(np.empty(image.shape, image.dtype)))
        return nothing
    if max(image.shape[:2]) > kind.most:
        raise ArrayError(f"{step!r} takes up to {kind.most} rows and columns, not {image.shape[0]} x {image.shape[1]}")
    source = image
    swept: list[da.Array] = []
    carried: dict[At, tuple[Any, ...]] = {at: () for at, _ in _blocks(image)}
    for number in range(len(kind.sweeps)):
        measured, ends = _sweep(source, step, number, carried, swept)
        carried = {at: (*carried[at], *ends.get(at, (None, None))) for at in carried}
        swept.append(measured)
        source = again(image, measured)
    name = f"{step.operation.name}-{tokenize(image.name, step)}"
    tasks: dict[Any, Task] = {}
    for (y, x), where in _blocks(image):
        key = (name, y, x, *(0 for _ in tail))
        lead = (kind.lead * (y == 0), kind.lead * (x == 0))
        shape = (image.chunks[0][y], image.chunks[1][x], *tail)
        block = TaskRef((source.name, y, x, *(0,) * (image.ndim - 2)))
        if 0 in shape:
            empty = (shape[0] + lead[0], shape[1] + lead[1], *tail)
            tasks[key] = Task(key, np.zeros, empty, dtype)
        else:
            tasks[key] = Task(key, _finish, step, where, lead, block, *carried[y, x])
    chunks = tuple((sizes[0] + kind.lead, *sizes[1:]) for sizes in image.chunks[:2])
    needs: list[Any] = [source, *swept]
    graph = HighLevelGraph.from_collections(name, MaterializedLayer(tasks), dependencies=needs)
    return da.Array(graph, name, (*chunks, *((size,) for size in tail)), dtype=dtype)


def _blocks(image: da.Array) -> Iterator[tuple[At, Window]]:
    rows, columns = image.chunks[:2]
    tops, lefts = [0, *itertools.accumulate(rows)], [0, *itertools.accumulate(columns)]
    for y, x in itertools.product(range(len(rows)), range(len(columns))):
        yield (y, x), Window(tops[y], lefts[x], tops[-1], lefts[-1])


def _sweep(
    image: da.Array, step: Step, number: int, carried: dict[At, tuple[Any, ...]], before: list[da.Array]
) -> tuple[da.Array, dict[At, tuple[Any, Any]]]:
    """Return a lazy array that is there once the sweep is done, and references to what it carries to each block."""
    sweep = kind_of(step, Separable).sweeps[number]
    name = f"{step.operation.name}-sweep{number}-{tokenize(image.name, step)}"
    tail = (0,) * (image.ndim - 2)
    tasks: dict[Any, Task] = {}
    lines: dict[int, list[At]] = {}
    for (y, x), where in _blocks(image):
        if image.chunks[0][y] and image.chunks[1][x]:
            key: Any = (f"{name}-ends", y, x)
            tasks[key] = Task(key, _hand_on, step, number, where, TaskRef((image.name, y, x, *tail)), *carried[y, x])
            lines.setdefault((x, y)[sweep.axis], []).append((y, x))
    ends: dict[At, tuple[Any, Any]] = {}
    done = []
    for line in lines.values():
        onward = _chain(tasks, name, "before", step, number, line)
        backward = _chain(tasks, name, "after", step, number, line[::-1]) if sweep.backward else {}
        ends.update({at: (onward.get(at), backward.get(at)) for at in line})
        last: Any = (f"{name}-done", *line[-1])
        needs = [TaskRef((f"{name}-ends", *line[-1])), onward.get(line[-1]), backward.get(line[0])]
        tasks[last] = Task(last, _done, *(need for need in needs if need is not None))
        done.append(TaskRef(last))
    for depth in itertools.count():
        if len(done) <= FAN_IN:
            break
        level = []
        for first in range(0, len(done), FAN_IN):
            key = (f"{name}-done{depth}", first)
            tasks[key] = Task(key, _done, *done[first : first + FAN_IN])
            level.append(TaskRef(key))
        done = level
    tasks[(name,)] = Task((name,), _done, *done)
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=[image, *before])  # type: ignore[list-item]
    return da.Array(graph, name, (), dtype=object), ends


def _chain(tasks: dict[Any, Task], name: str, side: str, step: Step, number: int, line: list[At]) -> dict[At, TaskRef]:
    """Add the tasks of a line of blocks that join what each hands on; return what each gets from those behind it."""
    given: dict[At, TaskRef] = {}
    for behind, at in itertools.pairwise(line):
        key: Any = (f"{name}-{side}", *at)
        tasks[key] = Task(
            key, _join, step, number, side == "after", given.get(behind), TaskRef((f"{name}-ends", *behind))
        )
        given[at] = TaskRef(key)
    return given


def _pairs(carried: tuple[Any, ...]) -> tuple[Carried, ...]:
    return tuple(Carried(*carried[first : first + 2]) for first in range(0, len(carried), 2))


def _hand_on(step: Step, number: int, where: Window, block: Array, *carried: Any) -> tuple[Any, Any]:
    block = step.operation.colors(native(block))
    with one_cv2_thread():
        return kind_of(step, Separable).sweeps[number].hand_on(block, _pairs(carried), step.arguments, where)


def _join(step: Step, number: int, after: bool, carried: Any, ends: tuple[Any, Any]) -> Any:
    handed = ends[after]
    return handed if carried is None else kind_of(step, Separable).sweeps[number].join(carried, handed, step.arguments)


def _done(*parts: Any) -> None:
    """Be done when all parts are."""


def _finish(step: Step, where: Window, lead: At, block: Array, *carried: Any) -> Array:
    colors = step.operation.colors(native(block))
    with one_cv2_thread():
        result = kind_of(step, Separable).apply(colors, _pairs(carried), step.arguments, where)
    if result.ndim < block.ndim:
        result = result[:, :, np.newaxis]
    if any(lead):
        result = np.pad(result, ((lead[0], 0), (lead[1], 0), *((0, 0) for _ in result.shape[2:])))
    return result
