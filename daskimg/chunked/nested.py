"""Carries out nested operations: blocks are summed up, the sums joined to larger and larger regions, then all decided.

A block's state is held until its decision is known where it is small enough, else made anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer, again, may_be_held
from daskimg.chunked.apply import apply_kind, kind_of
from daskimg.chunked.linked import blocks_of
from daskimg.chunked.local import aligned_images
from daskimg.chunked.strips import native, one_cv2_thread
from daskimg.kinds import Array, Nested, Region, Size, Window, through_regions
from daskimg.operation import outcome
from daskimg.pipeline import Step

__all__: list[str] = []


@apply_kind.register(Nested)
def apply_nested(kind: Nested, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a nested step, cut as the image is."""
    dtype, channels = outcome(step, image.dtype.newbyteorder("="), None if image.ndim == 2 else image.shape[2])
    tail = () if channels is None else (channels,)
    chunks = (*image.chunks[:2], *((size,) for size in tail))
    if 0 in image.shape:
        nothing: da.Array = da.zeros((*image.shape[:2], *tail), dtype, chunks=chunks)
        return nothing
    tile = kind.tile(step.arguments)
    image = image.rechunk(
        (*((tile,) * 2 if tile else (tuple(filter(None, sizes)) for sizes in image.chunks[:2])), *image.chunks[2:])
    )
    images = [image, *aligned_images(image.shape[:2], image.chunks[:2], step)]
    outlined = step.outlined()
    token = tokenize([one.name for one in images], step)
    found = _found(images, outlined, f"{step.operation.name}-found-{token}")
    decisions: Mapping[Size, Any] = {(0, 0): None}
    needs = [found]
    if found.npartitions > 1:
        decided, decisions = _decided(found, image, outlined, f"{step.operation.name}-decided-{token}")
        needs.append(decided)
        if not may_be_held(image.shape[0] * image.shape[1] * kind.state_bytes(image.dtype)):
            sources = [again(one, decided) for one in images]
            if any(one is not other for one, other in zip(sources, images, strict=True)):
                needs[0] = found = _found(sources, outlined, f"{step.operation.name}-again-{token}")
    name = f"{step.operation.name}-{token}"
    tasks: dict[Any, Task] = {}
    for y, x, where in blocks_of(image):
        key = (name, y, x, *(0 for _ in tail))
        tasks[key] = Task(key, _apply, outlined, where, bool(tail), TaskRef((found.name, y, x)), decisions[y, x])
    graph = HighLevelGraph.from_collections(name, MaterializedLayer(tasks), dependencies=needs)  # type: ignore[arg-type]
    result: da.Array = da.Array(graph, name, (*image.chunks[:2], *((size,) for size in tail)), dtype=dtype)
    return result if result.chunks == chunks else result.rechunk(chunks)


def _found(images: list[da.Array], step: Step, name: str) -> da.Array:
    """Return the lazy grid of the states of blocks."""
    tasks: dict[Any, Task] = {}
    for y, x, where in blocks_of(images[0]):
        blocks = [TaskRef((one.name, y, x, *(0,) * (one.ndim - 2))) for one in images]
        tasks[name, y, x] = Task((name, y, x), _local, step, where, *blocks)
    graph = HighLevelGraph.from_collections(name, MaterializedLayer(tasks), dependencies=images)  # type: ignore[arg-type]
    return da.Array(graph, name, images[0].chunks[:2], dtype=object)


def _decided(found: da.Array, image: da.Array, step: Step, name: str) -> tuple[da.Array, Mapping[Size, TaskRef]]:
    """Return a lazy array that is there once the whole is decided, and references to the decision for each block."""
    size = image.shape[0], image.shape[1]
    tasks: dict[Any, Task] = {}

    def add(task: Any, *key: Any) -> TaskRef:
        tasks[key] = Task(key, *task)
        return TaskRef(key)

    def join(level: int, at: Size, region: Region, sums: list[Any]) -> TaskRef:
        return add((_join, step, region, size, List(*sums)), f"{name}-sum{level}", *at)

    def decide(level: int, at: Size, region: Region, sums: list[Any], decision: Any) -> list[TaskRef]:
        task = _decide, step, region, size, List(*sums), decision
        whole = add(task, name) if decision is None else add(task, f"{name}-all{level}", *at)
        return [add((_pick, whole, number), f"{name}-of{level}", *at, number) for number in range(len(sums))]

    sums = {
        (y, x): add((_sum_up, step, where, TaskRef((found.name, y, x))), f"{name}-sum", y, x)
        for y, x, where in blocks_of(image)
    }
    rows, columns = ([0, *itertools.accumulate(sizes)] for sizes in image.chunks[:2])
    decisions = through_regions(rows, columns, sums, join, decide)
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=[found])  # type: ignore[list-item]
    return da.Array(graph, name, (), dtype=object), decisions


# The tasks


def _local(step: Step, where: Window, *blocks: Array) -> Any:
    image, *others = map(native, blocks)
    arguments = SimpleNamespace(**{**step.params, **dict(zip(step.images, others, strict=True))})
    with one_cv2_thread():
        return kind_of(step, Nested).local(step.operation.colors(image), arguments, where)


def _sum_up(step: Step, where: Window, state: Any) -> Any:
    with one_cv2_thread():
        return kind_of(step, Nested).sum_up(state, step.arguments, where)


def _join(step: Step, region: Region, size: Size, sums: list[Any]) -> Any:
    return kind_of(step, Nested).join(sums, region, size, step.arguments)


def _decide(step: Step, region: Region, size: Size, sums: list[Any], decision: Any) -> list[Any]:
    return kind_of(step, Nested).decide(sums, decision, region, size, step.arguments)


def _pick(decisions: list[Any], number: int) -> Any:
    return decisions[number]


def _apply(step: Step, where: Window, has_channels: bool, state: Any, decision: Any) -> Array:
    with one_cv2_thread():
        block = kind_of(step, Nested).apply(state, decision, step.arguments, where)
    return block[:, :, np.newaxis] if has_channels and block.ndim == 2 else block
