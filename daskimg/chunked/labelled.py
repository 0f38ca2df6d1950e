"""Applies steps to an xarray.DataArray: on its y and x, over all other axes.

`y` and `x` are rows and columns. A channel axis (`c`, `channel`, `channels`, `s`, `rgb`, `rgba`, `band`) counts as
the channels of one picture where it stands last and has one to four entries, or where an operation mixes colors. All
other axes, and longer or differently placed channel axes, are batch axes: each plane is worked on by itself.
"""

from __future__ import annotations

import importlib
from typing import Any

import dask.array as da
import numpy as np

from daskimg.chunked.apply import apply_to_dask
from daskimg.chunked.coordinates import moved
from daskimg.chunked.missing import apply_masked, find_missing
from daskimg.chunked.strips import Axes
from daskimg.errors import ArrayError
from daskimg.kinds import Geometric
from daskimg.pipeline import Step, apply

__all__: list[str] = []

ROWS, COLUMNS = "y", "x"
CHANNELS = ("c", "channel", "channels", "s", "rgb", "rgba", "band")


def apply_to_labelled(image: Any, steps: tuple[Step, ...]) -> Any:
    """Return the result of steps on an `xarray.DataArray`, with its names, coordinates and attributes.

    Chunked data stay lazy, data in memory are computed at once.

    Raises
    ------
    ArrayError
        If there is no axis `y` or `x`, or an operation that mixes colors finds no channel axis of up to 4 entries.
    """
    lazy = isinstance(image.data, da.Array)
    missing = find_missing(image)
    if missing is not None and steps:
        image = apply_masked(image, steps, missing, _apply_one)
    else:
        for step in steps:
            image = _apply_one(image, step)
    return image if lazy else image.compute(scheduler="synchronous")


def _apply_one(image: Any, step: Step) -> Any:
    dims = list(image.dims)
    for name in (ROWS, COLUMNS):
        if name not in dims:
            raise ArrayError(
                f"the axes are {', '.join(map(str, dims))}; rows and columns must be called y and x: "
                "image.rename(lat='y', lon='x')"
            )
    y, x = dims.index(ROWS), dims.index(COLUMNS)
    channel = next((name for name in CHANNELS if name in dims), None)
    c = None if channel is None else dims.index(channel)
    if c is not None and not _binds(step, image, c):
        c = None
    data = image.data
    if not isinstance(data, da.Array):
        data = da.from_array(np.asarray(data), chunks=-1, name=False)
    result = apply_to_dask(data, (step,), Axes(y, x, c))
    if isinstance(step.operation.declaration.kind, Geometric):
        return moved(image, step, result)
    kind = step.operation.declaration.kind
    if kind is not None and not kind.keeps_size:
        before = c is not None and result.ndim < image.ndim and c < min(y, x)  # the channels, which are gone
        image = _resized(image, result.shape[y - before], result.shape[x - before])
    if result.shape != image.shape:  # the channels are others now, and have no coordinates
        if c is not None:
            image = image.isel({channel: 0}, drop=True)
        if result.ndim > image.ndim:
            at = image.ndim if c is None else c
            image = image.expand_dims({channel or "c": result.shape[at]}, axis=at)
    labelled = image.copy(data=result)
    labelled.encoding = {}  # it tells how the image was stored, as what type for instance, and the result is another
    return labelled


def _resized(image: Any, rows: int, columns: int) -> Any:
    """Return an image of other rows and columns, to be filled: with the coordinates of those that it begins with.

    Where it has more of them, there are none.
    """
    if rows <= image.sizes[ROWS] and columns <= image.sizes[COLUMNS]:
        return image.isel({ROWS: slice(rows), COLUMNS: slice(columns)})
    sizes = {**image.sizes, ROWS: rows, COLUMNS: columns}
    placed = [name for name, one in image.coords.items() if {ROWS, COLUMNS} & set(one.dims)]
    variables = image.drop_vars(placed)
    empty = np.broadcast_to(np.zeros((), image.dtype), tuple(sizes.values()))
    return type(image)(empty, variables.coords, image.dims, image.name, image.attrs)


def _binds(step: Step, image: Any, c: int) -> bool:
    """Return whether the channel axis is that of one picture for this step, rather than a batch axis."""
    size = image.shape[c]
    if step.operation.channels(step) != "each":
        if size > 4:
            raise ArrayError(
                f"{step.operation.name} mixes colors, and axis {image.dims[c]!r} has {size} entries; "
                f"choose up to four: image.isel({image.dims[c]}=[0, 1, 2])"
            )
        return True
    return bool(c == image.ndim - 1 and size in step.operation.declaration.accepts)


def _register() -> None:
    xarray = importlib.import_module("xarray")
    apply.register(xarray.DataArray, apply_to_labelled)
    apply.register(xarray.Dataset, _refuse_dataset)


def _refuse_dataset(dataset: Any, steps: tuple[Step, ...]) -> Any:
    raise ArrayError(
        f"a Dataset holds several images: {', '.join(map(str, dataset.data_vars))}; choose one, as in dataset['name'], "
        "or process each: dataset.map(pipeline)"
    )


apply.register_lazy("xarray", _register)
