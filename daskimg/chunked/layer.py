"""The graph of tasks that look at a chunk and what lies around it, made only when they are asked for.

Above each source chunk stand at most two tasks: the one that computes its result, and one that cuts the slivers which
its neighbours need. Chunks that are smaller than the reach are computed in groups; then a group has those two tasks
and each of its chunks one that takes its part.
"""

from __future__ import annotations

import functools
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef
from dask.highlevelgraph import Layer, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.strips import Axes, Place, Run, cut_slivers, run_window
from daskimg.kinds import Array, Window
from daskimg.pipeline import Step

__all__: list[str] = []

Chunks = tuple[tuple[int, ...], ...]


class Groups:
    """Groups the chunks along one axis so that each group is at least as long as the reach."""

    def __init__(self, sizes: Sequence[int], reach: int) -> None:
        self.starts: list[int] = []  # number of the first chunk of each group
        enough, length = True, 0
        for number, size in enumerate(sizes):
            if enough:
                self.starts.append(number)
                length = 0
                wanted = reach if size >= reach else 2 * reach
            length += size
            enough = length >= wanted
        if length < reach and len(self.starts) > 1:
            self.starts.pop()  # the last one is too short: it joins the one before
        self.stops = [*self.starts[1:], len(sizes)]
        edges = [0, *itertools.accumulate(sizes)]
        self.offsets = [edges[start] for start in self.starts]
        self.edges = edges

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, chunk: int) -> int:
        """Return the number of the group that holds a chunk."""
        return bisect_right(self.starts, chunk) - 1

    def members(self, group: int) -> range:
        """Return the numbers of a group's chunks."""
        return range(self.starts[group], self.stops[group])

    def part(self, chunk: int, group: int) -> slice:
        """Return where a chunk lies in its group."""
        return slice(self.edges[chunk] - self.offsets[group], self.edges[chunk + 1] - self.offsets[group])


# Where a group is in the grid: its batch indices, then its numbers along rows and columns. A plain tuple, since
# there are millions of them in a large graph.
Position = tuple[tuple[int, ...], int, int]


class LazyLayer(Layer):
    """Is a layer that makes its tasks, `_tasks`, when they are asked for."""

    has_legacy_tasks = False  # a plain class attribute, since finding out would make all tasks

    @functools.cached_property
    def _tasks(self) -> dict[Any, GraphNode]:
        raise NotImplementedError

    def is_materialized(self) -> bool:
        """Return whether the tasks have been made."""
        return "_tasks" in self.__dict__

    def __getitem__(self, key: Any) -> GraphNode:
        return self._tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def get_dependencies(self, key: Any, all_hlg_keys: Any) -> set[Any]:
        """Return the keys that a task needs."""
        return set(self._tasks[key].dependencies)


class LocalLayer(LazyLayer):
    """Is the layer of one run over a source array.

    Parameters
    ----------
    name, source : str
        The names of the resulting and of the source dask array.
    source_chunks, source_meta
        The chunks of the source, whose channel axis is one chunk, and its empty example array.
    run : Run
        What the tasks do: a `LocalRun` for a fused run of local steps.
    steps : tuple of Step
        What the run does, with second images: what a longer run starts from.
    image_keys : tuple
        The keys of second images, which every task gets whole.
    stored : StoredLayer, optional
        The source's layer, where each task reads its part of the source by itself, with what lies around it.
    """

    def __init__(
        self,
        name: str,
        source: str,
        source_chunks: Chunks,
        source_meta: Array,
        run: Run,
        steps: tuple[Step, ...],
        image_keys: tuple[Any, ...] = (),
        stored: Any = None,
        annotations: Any = None,
    ) -> None:
        super().__init__(annotations=annotations)
        self.name = name
        self.source = source
        self.source_chunks = source_chunks
        self.source_meta = source_meta
        self.run = run
        self.steps = steps
        self.image_keys = image_keys
        self.stored = stored

    def __reduce__(self) -> Any:
        fields = (self.name, self.source, self.source_chunks, self.source_meta, self.run, self.steps, self.image_keys)
        return LocalLayer, (*fields, self.stored, self.annotations)

    def moved(self, name: str, source: str) -> LocalLayer:
        """Return the same run over the same image under another name."""
        fields = (self.source_chunks, self.source_meta, self.run, self.steps, self.image_keys)
        return LocalLayer(name, source, *fields, annotations=self.annotations)

    # Geometry

    @functools.cached_property
    def _groups(self) -> tuple[Groups, Groups]:
        reach_y, reach_x = (0, 0) if self.stored else self.run.reach
        axes = self.run.axes
        return Groups(self.source_chunks[axes.y], reach_y), Groups(self.source_chunks[axes.x], reach_x)

    @functools.cached_property
    def _slivers(self) -> str:
        return "slivers-" + tokenize(self.source, self.run.reach, self.run.axes)

    @functools.cached_property
    def _batch(self) -> list[int]:
        axes = self.run.axes
        return [len(sizes) for axis, sizes in enumerate(self.source_chunks) if axis not in axes]

    def _out_key(self, batch: tuple[int, ...], y: int, x: int) -> Any:
        return _key(self.name, batch, y, x, self.run.out_axes)

    # Tasks

    def _all_positions(self) -> Iterator[Position]:
        along_y, along_x = self._groups
        return itertools.product(self._batches(), range(len(along_y)), range(len(along_x)))

    def _batches(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*map(range, self._batch))

    def _tasks_for(self, positions: Iterable[Position]) -> dict[Any, GraphNode]:
        """Make the tasks of these groups, and those that cut the slivers which they need."""
        if self.stored:
            return self._reading_tasks(positions)
        run, axes, sliver_name = self.run, self.run.axes, self._slivers
        along_y, along_x = self._groups
        images = [TaskRef(key) for key in self.image_keys]
        tasks: dict[Any, GraphNode] = {}
        # References and tuples that several tasks share are made once: a large graph is mostly made of them.
        sources: dict[Position, tuple[TaskRef, ...]] = {}
        slivers: dict[Position, TaskRef] = {}
        places = _Places(along_y, along_x, run.reach)

        def source(at: Position) -> tuple[TaskRef, ...]:
            if (refs := sources.get(at)) is None:
                batch, y, x = at
                members = itertools.product(along_y.members(y), along_x.members(x))
                refs = sources[at] = tuple([TaskRef(_key(self.source, batch, *member, axes)) for member in members])
            return refs

        def sliver(at: Position) -> TaskRef:
            batch, y, x = at
            key: Any = (sliver_name, *batch, y, x)
            tasks[key] = Task(key, cut_slivers, run.reach, axes, places.layout(y, x), *source(at))
            ref = slivers[at] = TaskRef(key)
            return ref

        for at in positions:
            batch, y, x = at
            place = places.of(y, x)
            lenders = [(batch, y + dy, x + dx) for dy, dx in place.neighbours]
            lent = [slivers.get(lender) or sliver(lender) for lender in lenders]
            arguments = (run, place, *source(at), *lent, *images)
            if place.members == (1, 1):
                key = self._out_key(batch, along_y.starts[y], along_x.starts[x])
                tasks[key] = Task(key, run.task, *arguments)
                continue
            group: Any = (f"{self.name}-group", *batch, y, x)
            tasks[group] = Task(group, run.task, *arguments)
            for row, column in itertools.product(along_y.members(y), along_x.members(x)):
                key = self._out_key(batch, row, column)
                part = along_y.part(row, y), along_x.part(column, x)
                tasks[key] = Task(key, take_part, TaskRef(group), run.out_axes, *part)
        return tasks

    def _reading_tasks(self, positions: Iterable[Position]) -> dict[Any, GraphNode]:
        """Make the tasks of chunks that read what they need by themselves."""
        run, axes, reader = self.run, self.run.axes, self.stored.reader
        edges = [[0, *itertools.accumulate(sizes)] for sizes in self.source_chunks]
        images = [TaskRef(key) for key in self.image_keys]
        tasks: dict[Any, GraphNode] = {}
        for batch, y, x in positions:
            key = self._out_key(batch, y, x)
            numbers = _key(self.source, batch, y, x, axes)[1:]
            part = tuple([slice(edge[at], edge[at + 1]) for edge, at in zip(edges, numbers, strict=True)])
            where = Window(part[axes.y].start, part[axes.x].start, edges[axes.y][-1], edges[axes.x][-1])
            tasks[key] = Task(key, run_window, run, where, reader, part, *images)
        return tasks

    @functools.cached_property
    def _tasks(self) -> dict[Any, GraphNode]:
        return self._tasks_for(self._all_positions())

    # What dask asks of a layer

    def get_output_keys(self) -> set[Any]:
        """Return the keys of the result's chunks."""
        axes = self.run.axes
        sizes = range(len(self.source_chunks[axes.y])), range(len(self.source_chunks[axes.x]))
        return {self._out_key(*at) for at in itertools.product(self._batches(), *sizes)}

    def cull(self, keys: set[Any], all_hlg_keys: Any) -> tuple[Layer, dict[Any, set[Any]]]:
        """Return a layer of just the tasks that are needed for `keys`, and what each needs."""
        along_y, along_x = self._groups
        axes = self.run.out_axes
        wanted = {key for key in keys if isinstance(key, tuple) and key[0] == self.name}
        if self.is_materialized() and len(wanted) == self._size:
            tasks = self._tasks
        else:
            positions: dict[Position, None] = {}
            for key in wanted:
                batch = tuple(number for axis, number in enumerate(key[1:]) if axis not in axes)
                positions[batch, along_y.of(key[1 + axes.y]), along_x.of(key[1 + axes.x])] = None
            tasks = self._tasks_for(positions)
            # A group may have made parts that nobody wants.
            tasks = {key: task for key, task in tasks.items() if key[0] != self.name or key in wanted}
        return MaterializedLayer(tasks, annotations=self.annotations), {
            key: set(task.dependencies) for key, task in tasks.items()
        }

    @property
    def _size(self) -> int:
        axes = self.run.axes
        return math.prod((*self._batch, len(self.source_chunks[axes.y]), len(self.source_chunks[axes.x])))


class _Places:
    """Makes the places of groups, which share what is equal."""

    def __init__(self, along_y: Groups, along_x: Groups, reach: tuple[int, int]) -> None:
        self.along_y, self.along_x, self.reach = along_y, along_x, reach
        self._neighbours: dict[tuple[bool, ...], tuple[tuple[int, int], ...]] = {}
        self._layouts: dict[tuple[int, int], tuple[int, int]] = {}

    def layout(self, y: int, x: int) -> tuple[int, int]:
        """Return how many chunks a group has along rows and columns."""
        along_y, along_x = self.along_y, self.along_x
        layout = along_y.stops[y] - along_y.starts[y], along_x.stops[x] - along_x.starts[x]
        return self._layouts.setdefault(layout, layout)

    def of(self, y: int, x: int) -> Place:
        """Return the place of a group."""
        along_y, along_x = self.along_y, self.along_x
        last_y, last_x = len(along_y.starts) - 1, len(along_x.starts) - 1
        pattern = (y > 0, y < last_y, x > 0, x < last_x)
        if (neighbours := self._neighbours.get(pattern)) is None:
            above, below, before, after = pattern
            rows = [dy for dy, there in ((-1, above), (0, True), (1, below)) if there and (self.reach[0] or not dy)]
            columns = [dx for dx, there in ((-1, before), (0, True), (1, after)) if there and (self.reach[1] or not dx)]
            neighbours = tuple((dy, dx) for dy in rows for dx in columns if (dy, dx) != (0, 0))
            self._neighbours[pattern] = neighbours
        where = Window(along_y.offsets[y], along_x.offsets[x], along_y.edges[-1], along_x.edges[-1])
        return Place(where, self.layout(y, x), neighbours)


def _key(name: str, batch: tuple[int, ...], y: int, x: int, axes: Axes) -> Any:
    """Return the key of a chunk from its numbers; channels are one chunk."""
    if not batch:
        if axes == (0, 1, None):
            return (name, y, x)
        if axes == (0, 1, 2):
            return (name, y, x, 0)
    numbers = list(batch)
    for axis, number in sorted(
        (axis, number) for axis, number in zip(axes, (y, x, 0), strict=True) if axis is not None
    ):
        numbers.insert(axis, number)
    return (name, *numbers)


def take_part(block: Array, axes: Axes, rows: slice, columns: slice) -> Array:
    """Return a copy of one chunk's part of its group's result."""
    index: list[slice] = [slice(None)] * block.ndim
    index[axes.y], index[axes.x] = rows, columns
    return np.ascontiguousarray(block[tuple(index)])
