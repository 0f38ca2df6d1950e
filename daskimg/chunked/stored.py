"""Lazy images over pixels that are stored somewhere, read where and when they are needed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import Any, Protocol

import dask.array as da
import numpy as np
from dask._task_spec import GraphNode, Task
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.tokenize import tokenize

from daskimg.chunked.layer import LazyLayer
from daskimg.kinds import Array

__all__ = ["Reader", "StoredLayer", "lazy_image", "read_part"]

Where = tuple[slice, ...]
Chunks = tuple[tuple[int, ...], ...]

#: How many times more than needed may be decoded, along rows, for a task to read its surroundings by itself.
MOST_DECODED = 1.5
#: Bytes of a chunk up to which any number of tiles costs less than the tasks that lending takes.
TINY = 1 << 16


class Reader(Protocol):
    """Reads parts of a stored image. It is pickled, and travels to where the parts are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The image's shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its samples."""

    @property
    def tile(self) -> tuple[int, ...]:
        """What is decoded at once, along each axis."""

    def read(self, where: Where) -> Array:
        """Return the pixels there: one slice for each axis, with start and stop, within the image."""


class StoredLayer(LazyLayer):
    """Is the layer of an image whose chunks are read by a reader."""

    def __init__(self, name: str, reader: Reader, chunks: Chunks, annotations: Any = None) -> None:
        super().__init__(annotations=annotations)
        self.name = name
        self.reader = reader
        self.chunks = chunks

    def __reduce__(self) -> Any:
        return StoredLayer, (self.name, self.reader, self.chunks, self.annotations)

    @functools.cached_property
    def _edges(self) -> list[list[int]]:
        return [[0, *itertools.accumulate(sizes)] for sizes in self.chunks]

    def _tasks_for(self, keys: Iterable[Any]) -> dict[Any, GraphNode]:
        tasks: dict[Any, GraphNode] = {}
        for key in keys:
            where = tuple([slice(edge[at], edge[at + 1]) for edge, at in zip(self._edges, key[1:], strict=True)])
            tasks[key] = Task(key, read_part, self.reader, where)
        return tasks

    @functools.cached_property
    def _tasks(self) -> dict[Any, GraphNode]:
        return self._tasks_for(self._keys())

    def _keys(self) -> Iterable[Any]:
        return itertools.product([self.name], *(range(len(sizes)) for sizes in self.chunks))

    def get_output_keys(self) -> set[Any]:
        """Return the keys of the chunks."""
        return set(self._keys())

    def cull(self, keys: set[Any], all_hlg_keys: Any) -> tuple[Layer, dict[Any, set[Any]]]:
        """Return a layer of just the chunks that are wanted."""
        tasks = self._tasks_for(key for key in keys if isinstance(key, tuple) and key[0] == self.name)
        return MaterializedLayer(tasks, annotations=self.annotations), {key: set() for key in tasks}

    def gives_windows(self, reach: tuple[int, int], axes: tuple[int, int]) -> bool:
        """Return whether a task may read its surroundings by itself, rather than get them from its neighbours' tasks.

        It may where tiles are small beside chunks, so that few are decoded twice, and where chunks are tiny. Along rows
        of chunks, tiles that two tasks need are still in the reader's cache.
        """
        if math.prod(sizes[0] for sizes in self.chunks) * self.reader.dtype.itemsize <= TINY:
            return True
        for axis, far in zip(axes, reach, strict=True):
            sizes, tile = self.chunks[axis], self.reader.tile[axis]
            extra = 2 * -(-far // tile) * tile
            if len(sizes) > 1 and far and sizes[0] + extra > (MOST_DECODED if axis == axes[0] else 2) * sizes[0]:
                return False
        return True


def read_part(reader: Reader, where: Where) -> Array:
    """Return a part of a stored image."""
    return reader.read(where)


def lazy_image(
    reader: Reader, chunks: Chunks, name: str = "stored", layer: type[StoredLayer] = StoredLayer
) -> da.Array:
    """Return a stored image as a dask array; nothing is read.

    Parameters
    ----------
    reader : Reader
        What reads it. It has a deterministic token, in which the file's version counts.
    chunks : tuple of tuples of int
        The chunks along each axis.
    name : str
        What its tasks are called.
    layer : type
        The layer that makes them.
    """
    name = f"{name}-{tokenize(reader, chunks)}"
    graph = HighLevelGraph({name: layer(name, reader, chunks)}, {name: set()})
    return da.Array(graph, name, chunks, dtype=reader.dtype)
