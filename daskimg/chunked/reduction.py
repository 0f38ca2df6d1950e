"""Reduces a whole image to something small: each chunk is read once and released."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer, wait_for
from daskimg.chunked.strips import DIRECTIONS, Axes, cut_slivers, native, one_cv2_thread
from daskimg.kinds import Array, Window

__all__: list[str] = []

FAN_IN = 16  # how many statistics one task combines


def reduce_image(
    image: da.Array,
    on_block: Callable[..., Any],
    combine: Callable[[list[Any]], Any],
    finish: Callable[[Any], Any],
    name: str,
    *others: da.Array,
    halo: int = 0,
) -> da.Array:
    """Return what a whole image amounts to, as a lazy array of no axes that holds any Python object.

    Parameters
    ----------
    image : dask.array.Array
        `(rows, columns[, channels])`; each chunk is read once and released.
    on_block : callable
        `(block, where, *blocks of the others) -> statistics`; with a halo
        `(window, where, own) -> statistics`, where `own` are the slices of the block in its window.
    combine : callable
        `(list of statistics, in raster order) -> statistics`, of neighbours in the raster order.
    finish : callable
        `(statistics) -> result`, at the end.
    name : str
        What its tasks are called.
    *others : dask.array.Array
        More images of the same rows and columns, cut as the first is.
    halo : int
        How many pixels of its neighbours `on_block` sees around a block. No chunk may be smaller.
    """
    others = tuple(other.rechunk((*image.chunks[:2], *other.shape[2:])) for other in others)
    name = f"{name}-{tokenize(image.name, on_block, combine, finish, [other.name for other in others], halo)}"
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
        own = TaskRef((image.name, y, x, *tail))
        level.append(key)
        if halo:
            around = [(dy, dx) for dy, dx in DIRECTIONS if 0 <= y + dy < len(rows) and 0 <= x + dx < len(columns)]
            cut: Any = (f"{name}-slivers", y, x)
            tasks[cut] = Task(cut, cut_slivers, (halo, halo), Axes(0, 1), (1, 1), own)
            lent = [TaskRef((f"{name}-slivers", y + dy, x + dx)) for dy, dx in around]
            tasks[key] = Task(key, _on_window, on_block, where, tuple(around), own, *lent)
        else:
            beside = [TaskRef((other.name, y, x, *(0,) * (other.ndim - 2))) for other in others]
            tasks[key] = Task(key, _on_block, on_block, where, own, *beside)
    for depth in itertools.count():
        if len(level) <= FAN_IN:
            break
        above = []
        for number, first in enumerate(range(0, len(level), FAN_IN)):
            key = (f"{name}-combine", depth, number)
            before = [TaskRef((f"{name}-order", number - 1))] if depth == 0 and number else []
            tasks[key] = Task(key, _combine, combine, List(*map(TaskRef, level[first : first + FAN_IN])), *before)
            above.append(key)
            if depth == 0:  # each waits for the one before: so dask goes through the image in raster order
                token = (f"{name}-order", number)
                tasks[token] = Task(token, wait_for, TaskRef(key))
        level = above
    tasks[(name,)] = Task((name,), _finish, finish, combine, *map(TaskRef, level))
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=[image, *others])  # type: ignore[list-item]
    return da.Array(graph, name, (), dtype=object)


def _on_block(on_block: Callable[..., Any], where: Window, block: Array, *beside: Array) -> Any:
    with one_cv2_thread():
        return on_block(native(block), where, *map(native, beside))


def _on_window(
    on_block: Callable[..., Any], where: Window, around: tuple[tuple[int, int], ...], block: Array, *slivers: Any
) -> Any:
    pieces = {(dy, dx): sliver[-dy, -dx] for (dy, dx), sliver in zip(around, slivers, strict=True)}
    pieces[0, 0] = block
    lines = [[pieces[dy, dx] for dx in (-1, 0, 1) if (dy, dx) in pieces] for dy in (-1, 0, 1) if (dy, 0) in pieces]
    window = np.concatenate([np.concatenate(line, axis=1) for line in lines])
    top = len(pieces[-1, 0]) if (-1, 0) in pieces else 0
    left = pieces[0, -1].shape[1] if (0, -1) in pieces else 0
    with one_cv2_thread():
        return on_block(native(window), where, (slice(top, top + len(block)), slice(left, left + block.shape[1])))


def _combine(combine: Callable[[list[Any]], Any], statistics: list[Any], *before: None) -> Any:
    return combine(statistics)


def _finish(finish: Callable[[Any], Any], combine: Callable[[list[Any]], Any], *statistics: Any) -> Any:
    return finish(combine(list(statistics)))


def as_delayed(measured: da.Array) -> Delayed:
    """Return what `reduce_image` gave as a `Delayed`, whose `compute()` is the very object, also a tuple or list."""
    return Delayed((measured.name,), measured.dask, layer=measured.name)
