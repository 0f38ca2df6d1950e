"""Carries out two-pass operations: a tree of tasks measures the image, then a fused run applies what was measured."""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da
import numpy as np

from daskimg.chunked.again import again
from daskimg.chunked.apply import apply_kind
from daskimg.chunked.local import build, run_of
from daskimg.chunked.reduction import reduce_image
from daskimg.chunked.strips import Axes
from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import outcome
from daskimg.parameters import BoundImage
from daskimg.pipeline import MeasuredStep, Step

__all__: list[str] = []


def _kind(step: Step) -> TwoPass:
    kind = step.operation.declaration.kind
    assert isinstance(kind, TwoPass)
    return kind


def _measure_step(step: Step, block: Array, where: Window) -> Any:
    return _kind(step).measure(step.operation.colors(block), step.arguments, where)


def _combine_two(step: Step, statistics: list[Any]) -> Any:
    return functools.reduce(_kind(step).combine, statistics)


def _finish_step(step: Step, statistics: Any) -> Any:
    return _kind(step).measured(statistics, step.arguments)


@apply_kind.register(TwoPass)
def apply_two_pass(kind: TwoPass, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a two-pass step; its applying pass fuses with what stands before and follows."""
    axes = Axes(0, 1, 2 if image.ndim == 3 else None)
    outcome(step, image.dtype.newbyteorder("="), None if axes.c is None else image.shape[2])  # refuses what it must
    if 0 in image.shape:
        nothing: da.Array = da.from_array(step(np.empty(image.shape, image.dtype)))
        return nothing
    partial = functools.partial
    measured = reduce_image(
        image,
        partial(_measure_step, step),
        partial(_combine_two, step),
        partial(_finish_step, step),
        f"{step.operation.name}-measure",
    )
    source, before, axes = run_of(image, axes)
    steps = (*before, MeasuredStep(step, BoundImage(measured)))
    result: da.Array = build(again(source, measured), steps, axes)[0]
    return result
