"""Carries out sliding operations: each chunk of the result reads the chunks of the image that lie under its windows."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.apply import apply_kind
from daskimg.chunked.strips import native, one_cv2_thread
from daskimg.kinds import Array, Sliding
from daskimg.operation import outcome, second_image
from daskimg.pipeline import Step

__all__: list[str] = []

Span = tuple[int, int]


@apply_kind.register(Sliding)
def apply_sliding(kind: Sliding, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a sliding step, in chunks of about the image's size that hold whole squares."""
    native_type = image.dtype.newbyteorder("=")
    dtype, channels = outcome(step, native_type, image.shape[2] if image.ndim == 3 else None)
    lazy = {name: second_image(value) for name, value in step.images.items()}
    arguments = SimpleNamespace(**{**dict(step.items), **lazy})
    kind.check(image.shape, image.dtype, arguments)
    extent, side = kind.extent(arguments), kind.side(arguments)
    edges = [_edges(image.shape[axis] - extent[axis] + 1, side, max(image.chunks[axis])) for axis in (0, 1)]
    cut = tuple(tuple(np.diff([*one[:-1], size]).tolist()) for one, size in zip(edges, image.shape, strict=False))
    source = image.rechunk((*cut, *image.chunks[2:]))
    seconds = [da.asarray(one).rechunk(-1) for one in lazy.values()]
    whole = [TaskRef((one.name, *(0,) * one.ndim)) for one in seconds]
    name = f"{step.operation.name}-{tokenize(image.name, step)}"
    tail = (0,) * (image.ndim - 2)
    tasks: dict[Any, Task] = {}
    for y, x in itertools.product(*(range(len(one) - 1) for one in edges)):
        below, beside = (_reaching(edges[axis], (y, x)[axis], extent[axis]) for axis in (0, 1))
        pieces = []
        for (row, high), (column, wide) in itertools.product(below, beside):
            key: Any = (source.name, row, column, *tail)
            if (row, column) != (y, x):
                part: Any = (f"{name}-part{high}x{wide}", row, column)
                tasks.setdefault(part, Task(part, _part, TaskRef(key), high, wide))
                key = part
            pieces.append(TaskRef(key))
        key = (name, y, x, *(0 for _ in (() if channels is None else (channels,))))
        tasks[key] = Task(key, _slide, step.outlined(), tuple(lazy), len(beside), *whole, *pieces)
    needs: list[Any] = [source, *seconds]
    graph = HighLevelGraph.from_collections(name, MaterializedLayer(tasks), dependencies=needs)
    chunks = [tuple(np.diff(one).tolist()) for one in edges] + ([] if channels is None else [(channels,)])
    return da.Array(graph, name, tuple(chunks), dtype=dtype)


def _edges(length: int, side: int, chunk: int) -> list[int]:
    """Return where the chunks of the result begin and end: at squares."""
    step = max(1, round(chunk / side)) * side
    return [*range(0, length, step), length]


def _reaching(edges: list[int], number: int, extent: int) -> list[Span]:
    """Return the chunks of the image that a chunk of the result needs: their numbers, and how many of their pixels.

    The last chunk of the image has what lies beyond the result, too.
    """
    spans = [(number, -1)]
    stop = edges[number + 1] + extent - 1
    for later in range(number + 1, len(edges) - 1):
        if edges[later] >= stop:
            break
        is_last = later == len(edges) - 2
        spans.append((later, stop - edges[later] if is_last or stop < edges[later + 1] else -1))
    return spans


def _part(chunk: Array, high: int, wide: int) -> Array:
    return np.ascontiguousarray(chunk[: None if high < 0 else high, : None if wide < 0 else wide])


def _slide(step: Step, names: tuple[str, ...], across: int, *values: Any) -> Array:
    images, pieces = values[: len(names)], values[len(names) :]
    rows = [np.concatenate(pieces[first : first + across], axis=1) for first in range(0, len(pieces), across)]
    kind = step.operation.declaration.kind
    assert isinstance(kind, Sliding)
    arguments = SimpleNamespace(**{**dict(step.items), **dict(zip(names, map(native, images), strict=True))})
    with one_cv2_thread():
        pixels = native(np.concatenate(rows))
        result: Array = step.operation.carry_out(pixels, step, lambda seen: kind.on_region(seen, arguments))
    return result
