"""Computes a lazy image into one NumPy array that is written once, and held once."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import dask.array as da
import dask.threaded
import numpy as np
from dask._task_spec import Task
from dask.base import get_scheduler
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.local import get_sync

from daskimg.chunked.geometric import GeometricLayer, compute_region
from daskimg.chunked.layer import LocalLayer
from daskimg.chunked.linked import LinkedLayer
from daskimg.chunked.strips import run_block, run_window
from daskimg.operation import Array

__all__ = ["to_numpy"]


def to_numpy(image: da.Array) -> Array:
    """Compute a lazy image into one NumPy array.

    `image.compute()` holds all chunks until the last one is done and then copies them together, which takes twice the
    memory of the result. Here threads of this process write each strip where it belongs. On processes or a cluster
    there is no shared array to write into, and this is `image.compute()`.

    Parameters
    ----------
    image : dask.array.Array
        The lazy image; it need not be daskimg's.

    Returns
    -------
    numpy.ndarray
        Equal to `image.compute()`.

    Examples
    --------
    >>> import dask.array as da, daskimg as di
    >>> di.to_numpy(di.invert(da.zeros((2, 3), chunks=2, dtype="uint8")))
    array([[255, 255, 255],
           [255, 255, 255]], dtype=uint8)
    """
    get = get_scheduler(collections=[image]) or dask.threaded.get
    if get not in (dask.threaded.get, get_sync):
        computed: Array = image.compute()
        return computed
    result = np.empty(image.shape, image.dtype)
    layer = image.dask.layers.get(image.name) if isinstance(image.dask, HighLevelGraph) else None
    if not isinstance(layer, (LocalLayer, LinkedLayer, GeometricLayer)):
        da.store(image, result, lock=False)
        return result
    edges = [[0, *itertools.accumulate(sizes)] for sizes in image.chunks]
    layers: dict[str, Any] = {**image.dask.layers, image.name: dict(layer)}
    if isinstance(layer, LinkedLayer):
        layers[layer.found] = dict(image.dask.layers[layer.found])
    keys = list(flatten(image.__dask_keys__()))
    for key in keys:
        part = tuple(slice(edge[number], edge[number + 1]) for edge, number in zip(edges, key[1:], strict=True))
        task = layers[image.name][key]
        layers[image.name][key] = Task(key, _write, result[part], task.func, *task.args)
        if isinstance(layer, LinkedLayer) and layer.starts_in_result:
            key = (layer.found, *key[1:3])
            task = layers[layer.found][key]
            layers[layer.found][key] = Task(key, functools.partial(task.func, into=result[part]), *task.args)
    graph = HighLevelGraph(layers, image.dask.dependencies)
    get(da.Array.__dask_optimize__(graph, keys), keys)
    return result


def _write(into: Array, function: Any, *arguments: Any) -> None:
    if function in (run_block, run_window, compute_region):
        function(*arguments, into=into)
        return
    block = function(*arguments)
    if block.ctypes.data != into.ctypes.data:  # it may have been written in place
        into[...] = block
