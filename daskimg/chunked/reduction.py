"""Reduces a whole image to something small, by a tree of tasks: each chunk is read once and released."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import dask.array as da
from dask._task_spec import Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer
from daskimg.chunked.strips import native, one_cv2_thread
from daskimg.kinds import Array, Window

__all__: list[str] = []

FAN_IN = 16  # how many statistics one task combines


def reduce_image(
    image: da.Array,
    on_block: Callable[[Array, Window], Any],
    combine: Callable[[list[Any]], Any],
    finish: Callable[[Any], Any],
    name: str,
) -> da.Array:
    """Return what a whole image amounts to, as a lazy array of no axes that holds any Python object.

    Parameters
    ----------
    image : dask.array.Array
        `(rows, columns[, channels])`; each chunk is read once and released.
    on_block : callable
        `(block, where) -> statistics`.
    combine : callable
        `(list of statistics, in raster order) -> statistics`, of neighbours in the raster order.
    finish : callable
        `(statistics) -> result`, at the end.
    name : str
        What its tasks are called.
    """
    name = f"{name}-{tokenize(image.name, on_block, combine, finish)}"
    rows, columns = image.chunks[:2]
    tops, lefts = [0, *itertools.accumulate(rows)], [0, *itertools.accumulate(columns)]
    tail = (0,) * (image.ndim - 2)
    tasks: dict[Any, Task] = {}
    level = []
    for y, x in itertools.product(range(len(rows)), range(len(columns))):
        if rows[y] == 0 or columns[x] == 0:
            continue
        key: Any = (f"{name}-block", y, x)
        where = Window(tops[y], lefts[x], tops[-1], lefts[-1])
        tasks[key] = Task(key, _on_block, on_block, TaskRef((image.name, y, x, *tail)), where)
        level.append(key)
    for depth in itertools.count():
        if len(level) <= FAN_IN:
            break
        above = []
        for number, first in enumerate(range(0, len(level), FAN_IN)):
            key = (f"{name}-combine", depth, number)
            tasks[key] = Task(key, _combine, combine, *map(TaskRef, level[first : first + FAN_IN]))
            above.append(key)
        level = above
    tasks[(name,)] = Task((name,), _finish, finish, combine, *map(TaskRef, level))
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=[image])  # type: ignore[list-item]
    return da.Array(graph, name, (), dtype=object)


def _on_block(on_block: Callable[[Array, Window], Any], block: Array, where: Window) -> Any:
    with one_cv2_thread():
        return on_block(native(block), where)


def _combine(combine: Callable[[list[Any]], Any], *statistics: Any) -> Any:
    return combine(list(statistics))


def _finish(finish: Callable[[Any], Any], combine: Callable[[list[Any]], Any], *statistics: Any) -> Any:
    return finish(combine(list(statistics)))


def as_delayed(measured: da.Array) -> Delayed:
    """Return what `reduce_image` gave as a `Delayed`, whose `compute()` is the very object, also a tuple or list."""
    return Delayed((measured.name,), measured.dask, layer=measured.name)
