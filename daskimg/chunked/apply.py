"""Applies steps to a dask array, each as its kind says."""

from __future__ import annotations

from typing import Any, TypeVar

import dask.array as da
from dask.utils import Dispatch

from daskimg.chunked.local import check_array, extend, with_aligned_images
from daskimg.chunked.strips import Axes
from daskimg.kinds import Kind
from daskimg.operation import check_axes
from daskimg.pipeline import Step, apply

__all__: list[str] = []

K = TypeVar("K", bound=Kind)

apply_kind = Dispatch("apply_kind")
"""Applies a step to a lazy image `(rows, columns[, channels])` by its kind: `apply_kind(kind, image, step)`."""


def kind_of(step: Step, expected: type[K]) -> K:
    """Return the kind of a step, of which its engine knows the class."""
    kind = step.operation.declaration.kind
    assert isinstance(kind, expected)
    return kind


def apply_to_dask(image: da.Array, steps: tuple[Step, ...], axes: Axes | None = None) -> da.Array:
    """Return the lazy result of steps on a dask array; nothing is computed.

    Parameters
    ----------
    image : dask.array.Array
        `(rows, columns)` or `(rows, columns, channels)`, of any chunks; with `axes`, any shape.
    steps : tuple of Step
        What to do.
    axes : Axes
        Which axes are rows, columns and channels, where that is not plain from the shape.

    Raises
    ------
    ArrayError, DtypeError, OperationError
        If a step cannot be applied to an array of this kind.
    """
    check_array(image)
    if axes is None:
        check_axes(image.shape)
        axes = Axes(0, 1, 2 if image.ndim == 3 else None)
    if axes.c is not None and image.numblocks[axes.c] > 1:
        image = image.rechunk({axes.c: -1})  # a color axis is never chunked
    local: list[Step] = []
    for step in steps:
        kind = step.operation.declaration.kind
        if kind is None and not step.operation.is_aligned:
            local.append(step)
            continue
        image, axes = extend(image, tuple(local), axes)
        local = []
        if kind is None:
            image, axes = with_aligned_images(image, step, axes)
        else:
            image, axes = _each_plane(kind, image, step, axes)
    return extend(image, tuple(local), axes)[0]


apply.register(da.Array, apply_to_dask)


def _each_plane(kind: Any, image: da.Array, step: Step, axes: Axes) -> tuple[da.Array, Axes]:
    """Return the lazy result of a step that looks at whole images, for each image of a stack by itself."""
    planar = [axis for axis in axes if axis is not None]
    if planar == list(range(image.ndim)):
        result: da.Array = apply_kind(kind, image, step)
        return result, Axes(0, 1, 2 if result.ndim == 3 else None)
    batch = [axis for axis in range(image.ndim) if axis not in planar]
    stack = image.transpose(*batch, *planar)

    def results(index: tuple[int, ...]) -> da.Array:
        if len(index) == len(batch):
            plane: da.Array = apply_kind(kind, stack[index], step)
            return plane
        planes: da.Array = da.stack([results((*index, number)) for number in range(stack.shape[len(index)])])
        return planes

    result = results(())
    # Every axis returns to where it was; channels that are new come last, and those that are gone close the gap.
    channels = result.ndim - len(batch) == 3
    now = [*batch, axes.y, axes.x] + ([image.ndim if axes.c is None else axes.c] if channels else [])
    order = sorted(now)
    places = [order.index(axis) for axis in now[len(batch) :]]
    return result.transpose(*map(now.index, order)), Axes(*places)
