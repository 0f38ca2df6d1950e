"""Applies local steps to a dask array: lazily, fused with the steps that stand before."""

from __future__ import annotations

import itertools
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize

from daskimg.chunked.layer import LocalLayer
from daskimg.chunked.stored import StoredLayer
from daskimg.chunked.strips import Axes, LocalRun, Place, run_block
from daskimg.errors import ArrayError, EnvironmentProblem
from daskimg.kinds import Window
from daskimg.operation import check_axes, outcome, second_image
from daskimg.pipeline import Step

__all__: list[str] = []


def check_array(image: da.Array) -> None:
    """Raise where a dask array is none that the engine can take."""
    if dask.config.get("array.query-planning", False):
        raise EnvironmentProblem(
            "dask's setting array.query-planning is on, which hides the graph that daskimg fuses; "
            "turn it off before dask.array is imported: dask.config.set({'array.query-planning': False})"
        )
    if not isinstance(image._meta, np.ndarray) or isinstance(image._meta, np.ma.MaskedArray):
        raise ArrayError(
            f"the chunks are {type(image._meta).__name__}, OpenCV takes NumPy arrays; "
            "convert them: image.map_blocks(numpy.asarray)"
        )
    if np.isnan(image.shape).any():
        raise ArrayError("the sizes of the chunks are unknown; find them out first: image.compute_chunk_sizes()")


def extend(image: da.Array, steps: tuple[Step, ...], axes: Axes) -> tuple[da.Array, Axes]:
    """Return the lazy result of local steps, in one layer with those that made `image` if that can be."""
    if not steps:
        return image, axes
    source, before, axes = run_of(image, axes)
    return build(source, (*before, *steps), axes)


def run_of(image: da.Array, axes: Axes) -> tuple[da.Array, tuple[Step, ...], Axes]:
    """Return the array under the fused run that made an image, its steps and axes; the image itself without one."""
    layer = image.dask.layers.get(image.name) if isinstance(image.dask, HighLevelGraph) else None
    annotations = dask.get_annotations() or None
    if (
        not isinstance(layer, LocalLayer)
        or not layer.steps
        or layer.run.out_axes != axes
        or layer.annotations != annotations
    ):
        return image, (), axes
    if layer.stored:
        graph = HighLevelGraph({layer.source: layer.stored}, {layer.source: set()})
    else:
        graph = image.dask.cull_layers([layer.source])  # without that run
    source = da.Array(graph, layer.source, layer.source_chunks, meta=layer.source_meta)
    return source, layer.steps, layer.run.axes


def build(source: da.Array, steps: tuple[Step, ...], axes: Axes) -> tuple[da.Array, Axes]:
    native = source.dtype.newbyteorder("=")
    dtype, channels = native, None if axes.c is None else source.shape[axes.c]
    itemsize = dtype.itemsize * (channels or 1)
    reaches, lanes = [], []
    for step in steps:
        reaches.append(step.operation.reach(step, dtype))
        lanes.append(step.operation.lanes(step, dtype))
        dtype, channels = outcome(step, dtype, channels)
        itemsize = max(itemsize, dtype.itemsize * (channels or 1))
    bound = {value: None for step in steps for value in step.images.values()}  # each second image once
    numbers = {value: number for number, value in enumerate(bound)}
    whole = [_whole_image(value) for value in bound]
    out_axes = _axes_after(axes, channels, source.ndim)
    run = LocalRun(
        steps=tuple(step.outlined() for step in steps),
        reaches=tuple(reaches),
        lanes=tuple(lanes),
        images=tuple(tuple(numbers[value] for value in step.images.values()) for step in steps),
        axes=axes,
        out_axes=out_axes,
        dtype=dtype,
        channels=channels,
        itemsize=itemsize,
    )
    name = f"{'-'.join(step.operation.name for step in steps[-3:])}-{tokenize(source.name, steps, axes)}"
    keys = tuple((one.name, *(0,) * one.ndim) for one in whole)
    stored = source.dask.layers.get(source.name) if isinstance(source.dask, HighLevelGraph) else None
    if not isinstance(stored, StoredLayer) or not stored.gives_windows(run.reach, axes[:2]):
        stored = None
    layer = LocalLayer(name, source.name, source.chunks, source._meta, run, steps, keys, stored)
    needs = whole if stored else [source, *whole]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=needs)  # type: ignore[arg-type]
    chunks = list(source.chunks)
    if axes.c is not None:
        chunks.pop(axes.c)
    if out_axes.c is not None and channels is not None:
        chunks.insert(out_axes.c, (channels,))
    return da.Array(graph, name, tuple(chunks), dtype=dtype), out_axes


def _axes_after(axes: Axes, channels: int | None, ndim: int) -> Axes:
    """Return the axes of a result that may have gained or lost its channels."""
    if axes.c is None:
        return axes if channels is None else Axes(axes.y, axes.x, ndim)
    if channels is not None:
        return axes
    return Axes(axes.y - (axes.y > axes.c), axes.x - (axes.x > axes.c))


def _whole_image(value: Any) -> da.Array:
    """Return a second image as a dask array of one chunk."""
    image = second_image(value)
    lazy: da.Array = image if isinstance(image, da.Array) else da.from_array(np.asarray(image), chunks=-1)
    if lazy.dtype == object:  # what was measured
        return lazy
    check_axes(lazy.shape)
    whole: da.Array = lazy.rechunk(-1)
    return whole


def with_aligned_images(image: da.Array, step: Step, axes: Axes) -> tuple[da.Array, Axes]:
    """Return the lazy result of a step whose second images lie over the whole first, cut along its chunks."""
    dtype, channels = outcome(step, image.dtype.newbyteorder("="), None if axes.c is None else image.shape[axes.c])
    out_axes = _axes_after(axes, channels, image.ndim)
    size = image.shape[axes.y], image.shape[axes.x]
    labels = itertools.count(image.ndim)  # of axes that only one of the arrays has
    others: list[Any] = []
    for other in aligned_images(size, (image.chunks[axes.y], image.chunks[axes.x]), step):
        others += [other, (axes.y, axes.x, *(next(labels) for _ in other.shape[2:]))]
    index = [label for label in range(image.ndim) if label != axes.c]
    new_axes = {}
    if out_axes.c is not None and channels is not None:
        new_axes[label := next(labels)] = channels
        index.insert(out_axes.c, label)
    run = LocalRun(
        steps=(step.outlined(),),
        reaches=((0, 0),),
        lanes=(1,),
        images=(tuple(range(len(step.images))),),
        axes=axes,
        out_axes=out_axes,
        dtype=dtype,
        channels=channels,
        itemsize=max(image.dtype.itemsize, dtype.itemsize),
        aligned=True,
    )
    result = da.blockwise(
        _run_aligned,
        index,
        image,
        range(image.ndim),
        *others,
        run=run,
        new_axes=new_axes,
        concatenate=True,
        token=step.operation.name,
        dtype=dtype,
        meta=np.empty((0,) * len(index), dtype),
    )
    return result, out_axes


def aligned_images(size: tuple[int, int], cut: tuple[tuple[int, ...], ...], step: Step) -> list[da.Array]:
    """Return the second images of a step, which lie over an image of a size, in its chunks along rows and columns."""
    aligned = []
    for value in step.images.values():
        other = second_image(value)
        check_axes(other.shape)
        if other.shape[:2] != size:
            raise ArrayError(
                f"{step.operation.name}: the second image has {other.shape[0]} x {other.shape[1]} pixels, the first "
                f"{size[0]} x {size[1]}; resize one of them first"
            )
        chunks = (*cut, *((size,) for size in other.shape[2:]))
        lazy = other if isinstance(other, da.Array) else da.from_array(np.asarray(other), chunks=chunks)
        aligned.append(lazy.rechunk(chunks))
    return aligned


def _run_aligned(own: Any, *others: Any, run: LocalRun) -> Any:
    where = Window(0, 0, own.shape[run.axes.y], own.shape[run.axes.x])
    return run_block(run, Place(where, (1, 1), ()), own, *others)
