"""Carries out geometric operations: each chunk of the result reads the part of the image that it is computed from.

A part of a chunk is cut out by a task of its own, so that on a cluster only that part travels and nobody holds the
chunk for it; what is needed nearly whole is taken whole.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.apply import apply_kind
from daskimg.chunked.strips import native, one_cv2_thread
from daskimg.errors import ArrayError
from daskimg.kinds import Array, Geometric, Region, Size
from daskimg.operation import outcome, second_image
from daskimg.pipeline import Step

__all__: list[str] = []

LEAST_SIDE = 64  # pixels: chunks of a result that are shorter are merged
MOST_SIDE = 1024  # pixels: what a chunk of a result may have where those of the image are smaller
MERGED_SIDE = 4096  # pixels of the image that merging may bring together
NEARLY_ALL = 0.75  # the share of a chunk from which on it is taken whole
MOST_NEEDED = 4  # how many times a chunk's pixels a chunk of the result may be computed from, where that can be
SAMPLED = 12  # chunks along each axis that are looked at for that


@apply_kind.register(Geometric)
def apply_geometric(kind: Geometric, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a geometric step."""
    outcome(step, image.dtype.newbyteorder("="), image.shape[2] if image.ndim == 3 else None)  # refuses what it must
    size: Size = (image.shape[0], image.shape[1])
    if 0 in size:
        raise ArrayError(f"{step!r} needs at least one pixel, and the image has the shape {image.shape}")
    arguments = step.arguments
    seen: da.Array | None = None if kind.view is None else kind.view(image, arguments)
    if seen is not None:
        return seen
    rows, columns = kind.size(size, arguments)
    images = {name: second_image(value) for name, value in step.images.items()}
    edges = _edges(kind, image, (rows, columns), arguments, images)
    aligned = [_aligned(one, edges) for one in images.values()]
    spec = Spec(step.outlined(), size, tuple(images), image.dtype.newbyteorder("="), image.shape[2:])
    known = {name: one if isinstance(one, np.ndarray) else None for name, one in images.items()}
    name = f"{step.operation.name}-{tokenize(image.name, step, edges)}"
    layer = GeometricLayer(name, image.name, image.chunks, spec, edges, known, tuple(one.name for one in aligned))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[image, *aligned])  # type: ignore[list-item]
    chunks = (*(tuple(np.diff(one).tolist()) for one in edges), *image.chunks[2:])
    return da.Array(graph, name, chunks, dtype=spec.dtype)


@dataclass(frozen=True)
class Spec:
    """Holds what all tasks of a geometric step share; `images` names the parameters that are second images."""

    step: Step
    size: Size
    images: tuple[str, ...]
    dtype: np.dtype[Any]
    tail: tuple[int, ...]

    @property
    def kind(self) -> Geometric:
        kind = self.step.operation.declaration.kind
        assert isinstance(kind, Geometric)
        return kind

    def arguments(self, images: Iterable[Any]) -> Any:
        """Return the step's parameters with the parts of second images in their places."""
        return SimpleNamespace(**{**dict(self.step.items), **dict(zip(self.images, images, strict=True))})

    def needs(self, region: Region, images: Iterable[Any]) -> Region:
        """Return the region of the image that a region of the result is computed from."""
        rows, columns = self.size
        return self.kind.needs(region, self.size, self.arguments(images)).cut(Region(0, 0, rows, columns))


# How the result is cut


def _edges(
    kind: Geometric, image: da.Array, size: Size, arguments: Any, images: dict[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the chunks of the result begin and end along both axes."""
    if kind.scales:
        rows, columns = (_scaled_edges(sizes, length) for sizes, length in zip(image.chunks[:2], size, strict=True))
        return rows, columns
    longest = [min(max(max(sizes), LEAST_SIDE), max(MOST_SIDE, max(sizes))) for sizes in image.chunks[:2]]
    most = MOST_NEEDED * math.prod(longest)
    while True:
        rows, columns = (tuple(range(0, length, side)) + (length,) for length, side in zip(size, longest, strict=True))
        if images or max(longest) <= LEAST_SIDE:
            return rows, columns
        needed = (
            kind.needs(region, (image.shape[0], image.shape[1]), arguments)
            .cut(Region(0, 0, image.shape[0], image.shape[1]))
            .shape
            for region in _sampled(rows, columns)
        )
        if max(math.prod(one) for one in needed) <= most:
            return rows, columns
        longest = [max(side // 2, LEAST_SIDE) for side in longest]


def _sampled(rows: Sequence[int], columns: Sequence[int]) -> Iterator[Region]:
    """Return some of the regions between edges, the first and last of each axis among them."""
    picked = [
        sorted({round(number) for number in np.linspace(0, len(one) - 2, min(SAMPLED, len(one) - 1))})
        for one in (rows, columns)
    ]
    for y, x in itertools.product(*picked):
        yield Region(rows[y], columns[x], rows[y + 1], columns[x + 1])


def _scaled_edges(sizes: Sequence[int], length: int) -> tuple[int, ...]:
    """Return a result's edges along an axis: those of the image, scaled; tiny chunks merged and huge ones split."""
    total = sum(sizes)
    most = max(MOST_SIDE, *sizes)
    edges, taken = [0], 0
    for edge in itertools.accumulate(sizes):
        scaled = length if edge == total else round(edge * length / total)
        fits = scaled - edges[-1] < LEAST_SIDE and edge - taken < max(MERGED_SIDE, *sizes)
        if scaled == edges[-1] or (fits and edge != total):
            continue
        parts = math.ceil((scaled - edges[-1]) / most)
        edges += [edges[-1] + (scaled - edges[-1]) * part // parts for part in range(1, parts + 1)]
        taken = edge
    return tuple(edges)


def _aligned(image: Any, edges: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return a second image in chunks that lie over those of the result."""
    chunks = (*(tuple(np.diff(one).tolist()) for one in edges), *((size,) for size in image.shape[2:]))
    lazy = image if isinstance(image, da.Array) else da.from_array(np.asarray(image), chunks=chunks)
    cut: da.Array = lazy.rechunk(chunks)
    return cut


# The graph


class GeometricLayer(Layer):
    """Is the layer of a geometric step, which makes its tasks when they are asked for.

    Parameters
    ----------
    name, source : str
        The names of the resulting and of the source dask array.
    source_chunks : tuple
        The chunks of the source.
    spec : Spec
        What the tasks do.
    edges : tuple
        Where the chunks of the result begin and end, along both axes.
    known : dict
        Second images that are in memory, which tell what a chunk needs; None for others.
    aligned : tuple of str
        The names of the second images as dask arrays, in the chunks of the result.
    """

    has_legacy_tasks = False  # a plain class attribute, since finding out would make all tasks

    def __init__(
        self,
        name: str,
        source: str,
        source_chunks: tuple[tuple[int, ...], ...],
        spec: Spec,
        edges: tuple[tuple[int, ...], ...],
        known: dict[str, Any],
        aligned: tuple[str, ...],
        annotations: Any = None,
    ) -> None:
        super().__init__(annotations=annotations)
        self.name, self.source, self.source_chunks, self.spec = name, source, source_chunks, spec
        self.edges, self.known, self.aligned = edges, known, aligned
        self._source_edges = [[0, *itertools.accumulate(sizes)] for sizes in source_chunks[:2]]
        self._tail = (0,) * len(spec.tail)
        self._made: dict[Any, GraphNode] | None = None

    def __reduce__(self) -> Any:
        fields = (self.name, self.source, self.source_chunks, self.spec, self.edges, self.known, self.aligned)
        return GeometricLayer, (*fields, self.annotations)

    def _tasks_for(self, keys: Iterable[Any]) -> dict[Any, GraphNode]:
        """Make the tasks of these chunks, and those that cut the pieces which they need."""
        rows, columns = self.edges
        along_y, along_x = self._source_edges
        tasks: dict[Any, GraphNode] = {}
        for key in keys:
            y, x = key[1:3]
            region = Region(rows[y], columns[x], rows[y + 1], columns[x + 1])
            known = [one if one is None else one[region.slices] for one in self.known.values()]
            needed = self.spec.needs(region, known)
            pieces: list[Any] = []
            corners: list[Size] = []
            for sy, sx in itertools.product(
                _overlapping(along_y, needed.top, needed.bottom), _overlapping(along_x, needed.left, needed.right)
            ):
                chunk = Region(along_y[sy], along_x[sx], along_y[sy + 1], along_x[sx + 1])
                part = needed.cut(chunk)
                whole: Any = (self.source, sy, sx, *self._tail)
                if math.prod(part.shape) >= NEARLY_ALL * math.prod(chunk.shape):
                    pieces.append(TaskRef(whole))
                    corners.append((chunk.top, chunk.left))
                    continue
                cut: Any = (f"{self.name}-cut", y, x, sy, sx)
                tasks[cut] = Task(cut, cut_piece, TaskRef(whole), part.seen_from(chunk.top, chunk.left))
                pieces.append(TaskRef(cut))
                corners.append((part.top, part.left))
            images = [TaskRef((name, y, x)) for name in self.aligned]
            tasks[key] = Task(key, compute_region, self.spec, region, needed, tuple(corners), *pieces, *images)
        return tasks

    @property
    def _tasks(self) -> dict[Any, GraphNode]:
        if self._made is None:
            self._made = self._tasks_for(self._output_keys())
        return self._made

    def _output_keys(self) -> list[Any]:
        grid = itertools.product(*(range(len(one) - 1) for one in self.edges))
        return [(self.name, y, x, *self._tail) for y, x in grid]

    # What dask asks of a layer

    def is_materialized(self) -> bool:
        """Return whether the tasks have been made."""
        return self._made is not None

    def __getitem__(self, key: Any) -> GraphNode:
        return self._tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def get_output_keys(self) -> set[Any]:
        """Return the keys of the result's chunks."""
        return set(self._output_keys())

    def get_dependencies(self, key: Any, all_hlg_keys: Any) -> set[Any]:
        """Return the keys that a task needs."""
        return set(self._tasks[key].dependencies)

    def cull(self, keys: set[Any], all_hlg_keys: Any) -> tuple[Layer, dict[Any, set[Any]]]:
        """Return a layer of just the tasks that are needed for `keys`, and what each needs."""
        tasks = self._tasks_for([key for key in keys if isinstance(key, tuple) and key[0] == self.name])
        return MaterializedLayer(tasks, annotations=self.annotations), {
            key: set(task.dependencies) for key, task in tasks.items()
        }


def _overlapping(edges: Sequence[int], start: int, stop: int) -> list[int]:
    """Return the numbers of the chunks, save empty ones, that hold a part of what lies between start and stop."""
    if start >= stop:
        return []
    first = bisect_right(edges, start) - 1
    return [number for number in range(first, len(edges) - 1) if edges[number] < min(stop, edges[number + 1])]


# The tasks


def cut_piece(chunk: Array, part: Region) -> Array:
    """Return a copy of a part of a chunk."""
    return chunk[part.slices].copy()


def compute_region(spec: Spec, region: Region, needed: Region, corners: tuple[Size, ...], *values: Any) -> Array:
    """Return a region of the result from the pieces of the image that hold what it needs, and second images."""
    pieces, images = values[: len(corners)], values[len(corners) :]
    step = spec.step
    window = native(_window(spec, needed, corners, pieces))
    arguments = spec.arguments([native(one) for one in images])
    with one_cv2_thread():
        result = step.operation.carry_out(
            window, step, lambda seen: spec.kind.compute(seen, needed, region, spec.size, arguments)
        )
    if result.shape != (*region.shape, *spec.tail) or result.dtype != spec.dtype:
        raise ArrayError(f"{step!r} gave {result.dtype} {result.shape} for a region of {region.shape}")
    return result


def _window(spec: Spec, needed: Region, corners: tuple[Size, ...], pieces: tuple[Array, ...]) -> Array:
    if any(isinstance(piece, np.ma.MaskedArray) for piece in pieces):
        raise ArrayError("OpenCV ignores masks; fill the masked pixels first: image.map_blocks(numpy.ma.filled, 0)")
    if len(pieces) == 1:
        window: Array = pieces[0][needed.seen_from(*corners[0]).slices]
        # OpenCV takes rows that are apart in memory, but needs the columns of a row next to each other.
        return window if window[:1, :2].flags.c_contiguous else np.ascontiguousarray(window)
    window = np.empty((*needed.shape, *spec.tail), spec.dtype)
    for (row, column), piece in zip(corners, pieces, strict=True):
        at = Region(row, column, row + piece.shape[0], column + piece.shape[1])
        part = at.cut(needed)
        window[part.seen_from(needed.top, needed.left).slices] = piece[part.seen_from(row, column).slices]
    return window
