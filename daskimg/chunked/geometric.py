"""Carries out geometric operations: each chunk of the result reads the part of the image that it is computed from.

A part of a chunk is cut out by a task of its own, so that on a cluster only that part travels and nobody holds the
chunk for it; what is needed nearly whole is taken whole.
"""

from __future__ import annotations

import functools
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked import strips
from daskimg.chunked.apply import apply_kind
from daskimg.chunked.layer import LazyLayer
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
MOST_SHARED = 12  # pieces of a chunk that one task cuts: what travels to others travels with all of them
SAMPLED = 12  # chunks along each axis that are looked at for that


@apply_kind.register(Geometric)
def apply_geometric(kind: Geometric, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a geometric step."""
    outcome(step, image.dtype.newbyteorder("="), image.shape[2] if image.ndim == 3 else None)  # refuses what it must
    size: Size = (image.shape[0], image.shape[1])
    if 0 in size:
        raise ArrayError(f"{step!r} needs at least one pixel, and the image has the shape {image.shape}")
    images = {name: second_image(value) for name, value in step.images.items()}
    arguments = SimpleNamespace(**{**dict(step.items), **images})
    kind.check(step.operation.colors(np.empty((0, 0, *image.shape[2:]), image.dtype)), arguments)
    if any(0 in sizes for sizes in image.chunks[:2]):  # dask loses pixels where it turns empty chunks round
        image = image.rechunk({axis: tuple(filter(None, image.chunks[axis])) for axis in (0, 1)})
    seen: da.Array | None = None if kind.view is None else kind.view(image, arguments)
    if seen is not None:
        return seen
    rows, columns = kind.size(size, arguments)
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
    if kind.edges is not None:
        along = [[0, *itertools.accumulate(sizes)] for sizes in image.chunks[:2]]
        wished = [kind.edges(edges, axis, image.shape[:2], arguments) for axis, edges in enumerate(along)]
        rows, columns = (
            _fitting(*wished[axis], size[axis], image.shape[axis], max(image.chunks[axis])) for axis in (0, 1)
        )
        return rows, columns
    longest = [min(max(max(sizes), LEAST_SIDE), max(MOST_SIDE, max(sizes))) for sizes in image.chunks[:2]]
    most = MOST_NEEDED * math.prod(longest)
    while True:
        rows, columns = ((*range(0, length, side), length) for length, side in zip(size, longest, strict=True))
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


def _fitting(wished: Iterable[int], hard: Iterable[int], length: int, before: int, longest: int) -> tuple[int, ...]:
    """Return a result's edges along an axis: those wished, but tiny chunks are merged and huge ones split.

    `before` is the image's length along the axis, and `longest` that of its longest chunk.
    """
    most = max(MOST_SIDE, longest)
    least = min(LEAST_SIDE, math.ceil(max(MERGED_SIDE, longest) * length / before))  # what merging may bring together
    kept = {length, *(edge for edge in hard if 0 < edge < length)}
    edges = [0]
    for edge in sorted(kept.union(edge for edge in wished if 0 < edge < length)):
        if edge - edges[-1] < least and edge not in kept:
            continue
        parts = math.ceil((edge - edges[-1]) / most)
        edges += [edges[-1] + (edge - edges[-1]) * part // parts for part in range(1, parts + 1)]
    return tuple(edges)


def _aligned(image: Any, edges: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return a second image in chunks that lie over those of the result."""
    chunks = (*(tuple(np.diff(one).tolist()) for one in edges), *((size,) for size in image.shape[2:]))
    lazy = image if isinstance(image, da.Array) else da.from_array(np.asarray(image), chunks=chunks)
    cut: da.Array = lazy.rechunk(chunks)
    return cut


# The graph


class Place(NamedTuple):
    """Says which chunk of the result a task computes, and where the pieces lie that it gets."""

    number: Size
    region: Region
    needed: Region
    corners: tuple[Size, ...]


class GeometricLayer(LazyLayer):
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

    def __reduce__(self) -> Any:
        fields = (self.name, self.source, self.source_chunks, self.spec, self.edges, self.known, self.aligned)
        return GeometricLayer, (*fields, self.annotations)

    @functools.cached_property
    def _shares(self) -> tuple[Shares, Shares] | None:
        """What chunks of the result need along each axis, where rows and columns don't matter to each other."""
        if self.spec.kind.edges is None:
            return None
        rows, columns = self.edges
        needs = self.spec.needs
        along_y = [needs(Region(top, 0, bottom, columns[1]), ()) for top, bottom in itertools.pairwise(rows)]
        along_x = [needs(Region(0, left, rows[1], right), ()) for left, right in itertools.pairwise(columns)]
        return (
            Shares([(one.top, one.bottom) for one in along_y], self._source_edges[0]),
            Shares([(one.left, one.right) for one in along_x], self._source_edges[1]),
        )

    def _parts(self, y: int, x: int) -> tuple[Region, list[Part], list[Part]]:
        """Return what a chunk of the result needs, and of which chunks of the image, along rows and columns."""
        if self._shares is not None:
            by_row, by_column = self._shares
            (top, bottom), (left, right) = by_row.needed[y], by_column.needed[x]
            return Region(top, left, bottom, right), by_row.parts[y], by_column.parts[x]
        rows, columns = self.edges
        region = Region(rows[y], columns[x], rows[y + 1], columns[x + 1])
        known = [one if one is None else one[region.slices] for one in self.known.values()]
        needed = self.spec.needs(region, known)
        along_y, along_x = self._source_edges
        return needed, _parts(along_y, needed.top, needed.bottom), _parts(along_x, needed.left, needed.right)

    def _tasks_for(self, keys: Iterable[Any]) -> dict[Any, GraphNode]:
        """Make the tasks of these chunks, and those that cut the pieces which they need."""
        rows, columns = self.edges
        tasks: dict[Any, GraphNode] = {}
        shared: dict[tuple[int, int], TaskRef | None] = {}
        wholes: dict[tuple[int, int], TaskRef] = {}
        for key in keys:
            y, x = key[1:3]
            needed, from_rows, from_columns = self._parts(y, x)
            references, corners = [], []
            for down, across in itertools.product(from_rows, from_columns):
                number = down.number, across.number
                if (whole := wholes.get(number)) is None:
                    whole = wholes[number] = TaskRef((self.source, *number, *self._tail))
                if _is_nearly_all(down, across):
                    references.append(whole)
                    corners.append((down.first, across.first))
                    continue
                corners.append((down.start, across.start))
                if number not in shared:
                    cut = self._shared_cut(whole, *number)
                    if cut is not None:
                        tasks[cut.key] = cut
                    shared[number] = None if cut is None else TaskRef(cut.key)
                if (reference := shared[number]) is None:
                    own: Any = (f"{self.name}-cut", y, x, *number)
                    tasks[own] = Task(own, cut_piece, whole, _part(down, across))
                    reference = TaskRef(own)
                references.append(reference)
            region = Region(rows[y], columns[x], rows[y + 1], columns[x + 1])
            images = [TaskRef((name, y, x)) for name in self.aligned]
            place = Place((y, x), region, needed, tuple(corners))
            tasks[key] = Task(key, compute_region, self.spec, place, *references, *images)
        return tasks

    def _shared_cut(self, whole: TaskRef, sy: int, sx: int) -> Task | None:
        """Return the task that cuts all pieces out of a chunk; None where each should have one of its own."""
        if self._shares is None:
            return None
        by_row, by_column = self._shares
        if len(by_row.takers[sy]) * len(by_column.takers[sx]) > MOST_SHARED:
            return None
        parts = [
            ((y, x), _part(down, across))
            for (y, down), (x, across) in itertools.product(by_row.takers[sy], by_column.takers[sx])
            if not _is_nearly_all(down, across)
        ]
        return Task((f"{self.name}-cut", sy, sx), cut_pieces, whole, tuple(parts))

    @functools.cached_property
    def _tasks(self) -> dict[Any, GraphNode]:
        return self._tasks_for(self._output_keys())

    def _output_keys(self) -> list[Any]:
        grid = itertools.product(*(range(len(one) - 1) for one in self.edges))
        return [(self.name, y, x, *self._tail) for y, x in grid]

    # What dask asks of a layer

    def get_output_keys(self) -> set[Any]:
        """Return the keys of the result's chunks."""
        return set(self._output_keys())

    def cull(self, keys: set[Any], all_hlg_keys: Any) -> tuple[Layer, dict[Any, set[Any]]]:
        """Return a layer of just the tasks that are needed for `keys`, and what each needs."""
        tasks = self._tasks_for([key for key in keys if isinstance(key, tuple) and key[0] == self.name])
        return MaterializedLayer(tasks, annotations=self.annotations), {
            key: set(task.dependencies) for key, task in tasks.items()
        }


class Part(NamedTuple):
    """Is what is needed of one chunk of the image along one axis."""

    number: int  # of the chunk
    start: int  # in the image
    stop: int
    first: int  # where the chunk begins in the image
    length: int  # of the chunk


def _parts(edges: Sequence[int], start: int, stop: int) -> list[Part]:
    """Return what of each chunk, save empty ones, lies between start and stop."""
    parts = []
    if start < stop:
        for number in range(bisect_right(edges, start) - 1, len(edges) - 1):
            first, end = edges[number], edges[number + 1]
            if first >= stop:
                break
            if first < end:
                parts.append(Part(number, max(start, first), min(stop, end), first, end - first))
    return parts


def _is_nearly_all(down: Part, across: Part) -> bool:
    """Return whether what is needed of a chunk is so much of it that the chunk is taken as it is."""
    needed = (down.stop - down.start) * (across.stop - across.start)
    return needed >= NEARLY_ALL * down.length * across.length


def _part(down: Part, across: Part) -> Region:
    """Return what is needed of a chunk, as the chunk counts."""
    return Region(
        down.start - down.first, across.start - across.first, down.stop - down.first, across.stop - across.first
    )


class Shares:
    """Tells along one axis what chunks of the result need: which pixels, and of which chunks of the image.

    Parameters
    ----------
    needed : list
        The pixels from start to stop that each chunk of the result needs.
    edges : sequence of int
        Where the chunks of the image begin and end.
    """

    def __init__(self, needed: list[tuple[int, int]], edges: Sequence[int]) -> None:
        self.needed = needed
        self.parts = [_parts(edges, *one) for one in needed]
        self.takers: list[list[tuple[int, Part]]] = [[] for _ in edges]
        for taker, parts in enumerate(self.parts):
            for part in parts:
                self.takers[part.number].append((taker, part))


# The tasks


def cut_piece(chunk: Array, part: Region) -> Array:
    """Return a copy of a part of a chunk."""
    return chunk[part.slices].copy()


def cut_pieces(chunk: Array, parts: tuple[tuple[Size, Region], ...]) -> dict[Size, Array]:
    """Return copies of parts of a chunk by the numbers of the chunk of the result that needs them."""
    return {number: cut_piece(chunk, part) for number, part in parts}


def compute_region(spec: Spec, place: Place, *values: Any, into: Array | None = None) -> Array:
    """Return a region of the result from the pieces of the image that hold what it needs, and second images.

    The result is written into `into` where that is given.
    """
    number, region, needed, corners = place
    images = values[len(corners) :]
    pieces = tuple([one[number] if isinstance(one, dict) else one for one in values[: len(corners)]])
    window = native(_window(spec, needed, corners, pieces))
    arguments = spec.arguments([native(one) for one in images])
    rows = region.bottom - region.top
    height = rows if images else max(1, 8 * rows * strips.STRIP_BYTES // max(1, window.nbytes))
    if into is None and height < rows:
        into = np.empty((*region.shape, *spec.tail), spec.dtype)
    with one_cv2_thread():
        if into is None:
            return _computed(spec, window, needed, region, arguments)
        # Strips of rows, so that each lies in the processor's cache until it is written where it belongs.
        for first in range(region.top, region.bottom, max(1, height)):
            strip = region._replace(top=first, bottom=min(first + height, region.bottom))
            part = spec.kind.needs(strip, spec.size, spec.step.arguments).cut(needed) if height < rows else needed
            seen = window[part.seen_from(needed.top, needed.left).slices]
            into[strip.seen_from(region.top, region.left).slices] = _computed(spec, seen, part, strip, arguments)
    return into


def _computed(spec: Spec, window: Array, at: Region, region: Region, arguments: Any) -> Array:
    """Return a region of the result from the image's pixels at a region that holds what it needs."""
    step = spec.step
    result: Array = step.operation.carry_out(
        window, step, lambda seen: spec.kind.compute(seen, at, region, spec.size, arguments)
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
        dense = window[:1, :2].flags.c_contiguous
        return window if dense else np.ascontiguousarray(window)
    window = np.empty((*needed.shape, *spec.tail), spec.dtype)
    for (row, column), piece in zip(corners, pieces, strict=True):
        at = Region(row, column, row + piece.shape[0], column + piece.shape[1])
        part = at.cut(needed)
        window[part.seen_from(needed.top, needed.left).slices] = piece[part.seen_from(row, column).slices]
    return window
