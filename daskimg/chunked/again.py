"""Lets a second pass read its image anew, instead of having dask hold the whole image between two passes."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from dask.base import clone_key
from dask.graph_manipulation import chunks
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.tokenize import tokenize
from dask.utils import parse_bytes

from daskimg.chunked.layer import LocalLayer

__all__: list[str] = []

HELD = "daskimg.held"
"""The dask setting that says up to which size an intermediate image is held between two passes over it."""

MOST_HELD = "1 GiB"


class MeasuredLayer(MaterializedLayer):
    """Holds the tasks that measure an image: few and small results, never computed twice."""


def may_be_held(nbytes: float) -> bool:
    """Return whether an intermediate of this size may stay in memory between two passes: the setting daskimg.held."""
    return nbytes <= parse_bytes(dask.config.get(HELD, MOST_HELD))


def again(image: da.Array, after: da.Array) -> da.Array:
    """Return the same lazy image under other keys, so that its chunks are computed anew for a second pass.

    An image that may be held, or whose chunks are in memory anyway, is returned as it is. Reading waits for the first
    pass, else idle threads would read the image while its results are put together. It waits row by row, each for the
    one before: so dask goes through the image in this order and holds few chunks.

    Parameters
    ----------
    image : dask.array.Array
        What the second pass reads.
    after : dask.array.Array
        What the first pass found.
    """
    if may_be_held(image.nbytes):
        return image
    graph = image.dask.cull_layers([image.name])
    seed = after.name
    layers: dict[str, Any] = dict(graph.layers)
    dependencies: dict[str, set[str]] = {name: set(needs) for name, needs in graph.dependencies.items()}
    renamed: dict[str, str] = {}
    gates = _Gates(image, after)
    for name in graph._toposort_layers():
        layer, needs = graph.layers[name], graph.dependencies[name]
        changed = {need: renamed[need] for need in needs if need in renamed}
        if isinstance(layer, MeasuredLayer) or (not changed and _is_held(layer)):
            continue
        renamed[name] = new = clone_key(name, seed)
        dependencies[new] = needs | set(changed.values())
        if isinstance(layer, LocalLayer) and not layer.stored:
            layers[new] = layer.moved(new, renamed.get(layer.source, layer.source))
            continue
        layers[new] = MaterializedLayer(_moved_tasks(layer, changed, seed, gates), annotations=layer.annotations)
        dependencies[new].add(gates.name)
    if not renamed:
        return image
    for name, layer in after.dask.layers.items():
        layers.setdefault(name, layer)
        dependencies.setdefault(name, set(after.dask.dependencies[name]))
    layers[gates.name], dependencies[gates.name] = MeasuredLayer(gates.tasks), {after.name}
    # What only the first pass needs is left out.
    whole = HighLevelGraph(layers, dependencies)
    new = renamed[image.name]
    return da.Array(whole.cull_layers([new]), new, image.chunks, meta=image._meta)


def _is_held(layer: Layer) -> bool:
    """Return whether all of a layer is data that are in memory already, here or as futures on a cluster."""
    return type(layer) is MaterializedLayer and not any(
        isinstance(task, Task) or (type(task) is tuple and task and callable(task[0])) for task in layer.values()
    )


class _Gates:
    """Makes the gates that reading waits at: one for each row of chunks, behind the one before."""

    def __init__(self, image: da.Array, after: da.Array) -> None:
        self.name = f"gates-{tokenize(image.name, after.name)}"  # several images may wait for the same
        self.tasks: dict[Any, GraphNode] = {}
        self._last: Any = (after.name,)
        self._row: Any = None

    def of(self, row: Any) -> TaskRef:
        """Return the gate of a row, the last or a new one."""
        if not self.tasks or row != self._row:
            key = (self.name, len(self.tasks))
            self.tasks[key] = Task(key, wait_for, TaskRef(self._last))
            self._last, self._row = key, row
        return TaskRef(self._last)


def wait_for(before: Any) -> None:
    """Do nothing: what needs this result waits for what it is given, and does not get it."""


def _moved_tasks(layer: Layer, changed: dict[str, str], seed: str, gates: _Gates) -> dict[Any, GraphNode]:
    """Return a layer's tasks under new keys, which use what has been moved; those that begin anew wait at a gate."""
    old: dict[Any, GraphNode] = convert_legacy_graph(dict(layer))
    keys = {key: clone_key(key, seed) for key in old}
    tasks: dict[Any, GraphNode] = {}
    for key, task in old.items():
        swapped = {}
        for need in task.dependencies:
            name = need[0] if isinstance(need, tuple) else need
            if need in keys:
                swapped[need] = keys[need]
            elif name in changed:
                swapped[need] = clone_key(need, seed)
        moved = task.substitute(swapped, key=keys[key])
        if not swapped and isinstance(task, Task):
            row = key[1] if isinstance(key, tuple) else key
            moved = Task(keys[key], chunks.bind, moved, gates.of(row))
        tasks[keys[key]] = moved
    return tasks
