"""Carries out two-pass operations: one pass measures the image, then a fused run applies what was measured."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize

from daskimg.chunked.again import MeasuredLayer, again
from daskimg.chunked.apply import apply_kind, kind_of
from daskimg.chunked.local import build, check_array, run_of
from daskimg.chunked.reduction import reduce_image
from daskimg.chunked.strips import Axes
from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import check_axes, outcome, second_image
from daskimg.parameters import BoundImage
from daskimg.pipeline import MeasuredStep, Step

__all__: list[str] = []


def _measure_step(step: Step, block: Array, where: Window) -> Any:
    return kind_of(step, TwoPass).measure(step.operation.colors(block), step.arguments, where)


def _combine_two(step: Step, statistics: list[Any]) -> Any:
    return functools.reduce(kind_of(step, TwoPass).combine, statistics)


def _unfinished(statistics: Any) -> Any:
    return statistics


def _finish_step(step: Step, statistics: Any, *others: Any) -> Any:
    arguments = {**step.params, **dict(zip(step.images, others, strict=True))}
    return kind_of(step, TwoPass).measured(statistics, SimpleNamespace(**arguments))


def _lazy(value: Any) -> da.Array:
    image = second_image(value)
    lazy: da.Array = image if isinstance(image, da.Array) else da.from_array(np.asarray(image))
    check_array(lazy)
    check_axes(lazy.shape)
    return lazy if lazy.ndim == 2 else lazy.rechunk({2: -1})


def _measured(image: da.Array, step: Step) -> da.Array:
    """Return what is measured of an image and of the step's second images, as a lazy array of no axes."""
    name = f"{step.operation.name}-measure"
    outlined = step.outlined()
    passes = functools.partial(_measure_step, outlined), functools.partial(_combine_two, outlined)
    finish = functools.partial(_finish_step, outlined)
    if not step.images:
        return reduce_image(image, *passes, finish, name)
    images = [image, *map(_lazy, step.images.values())]
    statistics = [reduce_image(one, *passes, _unfinished, name) for one in images]
    name = f"{step.operation.name}-measured-{tokenize(outlined, statistics)}"
    tasks = {(name,): Task((name,), finish, *(TaskRef((one.name,)) for one in statistics))}
    graph = HighLevelGraph.from_collections(name, MeasuredLayer(tasks), dependencies=statistics)  # type: ignore[arg-type]
    return da.Array(graph, name, (), dtype=object)


@apply_kind.register(TwoPass)
def apply_two_pass(kind: TwoPass, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a two-pass step; its applying pass fuses with what stands before and follows."""
    axes = Axes(0, 1, 2 if image.ndim == 3 else None)
    outcome(step, image.dtype.newbyteorder("="), None if axes.c is None else image.shape[2])  # refuses what it must
    if 0 in image.shape:
        nothing: da.Array = da.from_array(step(np.empty(image.shape, image.dtype)))
        return nothing
    measured = _measured(image, step)
    source, before, axes = run_of(image, axes)
    steps = (*before, MeasuredStep(step.outlined(), BoundImage(measured)))
    result: da.Array = build(again(source, measured), steps, axes)[0]
    return result
