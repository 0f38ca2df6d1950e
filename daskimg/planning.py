"""What a piece of work will take, said before it begins: chunks, tasks, bytes, memory; refused if it will not fit."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from html import escape
from typing import Any

import dask.array as da
import numpy as np

from daskimg.chunked.cost import cost_of
from daskimg.chunked.stored import StoredLayer
from daskimg.errors import EnvironmentProblem, ParameterError
from daskimg.io.cache import TILES
from daskimg.io.reading import open_image
from daskimg.io.streaming import active_client
from daskimg.io.urls import locate
from daskimg.pipeline import Pipeline, Step, as_pipeline

__all__ = ["Plan", "plan"]

WORKER = 250 << 20  # bytes of a worker process before its first task
SLACK = 1.3  # what the system's allocator keeps beside what is in use
TASK = 2500  # bytes of a task's description
BAND = 4000  # chunks whose tasks are in memory at once
SHARE = 0.8  # of the memory that may be planned for
SMALLEST = 256  # pixels: chunks that are read are not made smaller than that
MAY_SHRINK = 20  # images seldom shrink to less than a twentieth


@dataclass(frozen=True)
class Plan:
    """Says what a piece of work will take. Print it, or show it in a notebook.

    Attributes
    ----------
    shape, dtype : tuple of int, dtype
        Of the result.
    chunks : tuple of int
        The largest chunk of the image as it is read.
    chunk_count, tasks : int
        Chunks of the result, and tasks in all, about.
    read_bytes, written_bytes : int
        Pixels that are read, all passes together, and written, before compression.
    peak_bytes : int
        The most memory that a process will take; for a cluster, a worker.
    memory_bytes : int
        The memory that a process may take.
    processes, threads : int
        How many processes work, with how many threads each.
    where : str
        In words.
    problems : tuple of str
        Why it won't work, each with what to do about it; empty where it will.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    chunk_count: int
    tasks: int
    read_bytes: int
    written_bytes: int
    peak_bytes: int
    memory_bytes: int
    processes: int
    threads: int
    where: str
    problems: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it will work."""
        return not self.problems

    def check(self) -> Plan:
        """Return the plan, or raise if it won't work.

        Raises
        ------
        EnvironmentProblem
            With the numbers and what to do.
        """
        if self.problems:
            raise EnvironmentProblem("; ".join(self.problems))
        return self

    def rows(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of words."""
        return [
            ("result", f"{_sides(self.shape)} {self.dtype}, {_size(self.written_bytes)}"),
            ("chunks", f"{self.chunk_count:,}, read in {_sides(self.chunks)}"),
            ("tasks", f"about {self.tasks:,}"),
            ("reads", _size(self.read_bytes)),
            ("memory", f"at most {_size(self.peak_bytes)} a process of {_size(self.memory_bytes)}"),
            ("where", self.where),
            *(("problem", problem) for problem in self.problems),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:8} {text}" for name, text in self.rows())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in self.rows())
        return f"<table>{rows}</table>"


def plan(
    image: Any,
    pipeline: Pipeline | Step | str | None = None,
    to: str | os.PathLike[str] | None = None,
    *,
    memory: int | str | None = None,
    threads: int | None = None,
    client: Any = None,
) -> Plan:
    """Say what a pipeline on an image will take, before anything is computed.

    Parameters
    ----------
    image : str, path, dask array or DataArray
        The image. Chunks of one that is given by its place are chosen: whole stored tiles of a few MiB, smaller ones
        where memory is short.
    pipeline : Pipeline, Step or str, optional
        What is to be done; its text and JSON forms too.
    to : str or path, optional
        Where the result goes: a local disk must have room for it.
    memory : int or str, optional
        What a process may take, such as ``"2 GiB"``; by default what this machine has to give.
    threads : int, optional
        How many threads of this process work; as many as there are processors by default.
    client : distributed.Client, optional
        The cluster that works; by default this process's active client, if any.

    Returns
    -------
    Plan
        The figures; `.check()` refuses what won't fit.

    Raises
    ------
    DaskimgError
        If the image cannot be opened, or the pipeline be applied to it.

    Examples
    --------
    >>> import dask.array as da, daskimg as di
    >>> image = da.zeros((20000, 30000), chunks=2048, dtype="uint8")
    >>> found = di.plan(image, "gaussian_blur ksize=5 | canny low=50 high=120", threads=2)
    >>> found.chunk_count, found.fits
    (150, True)
    """
    steps = Pipeline() if pipeline is None else as_pipeline(pipeline)
    client = client if client is not None or threads is not None else active_client()
    place = _place(client, threads, memory)
    opened = image
    if isinstance(image, str | os.PathLike):
        opened = open_image(image, labelled=True)
        best = found = _planned(opened, steps, to, place)
        while found.problems and (smaller := _smaller(opened)) is not None:
            opened = open_image(image, labelled=True, chunks=smaller)
            found = _planned(opened, steps, to, place)
            best = min(best, found, key=lambda one: one.peak_bytes)
        return best
    return _planned(opened, steps, to, place)


@dataclass(frozen=True)
class _Place:
    processes: int
    threads: int
    memory: int
    base: int
    where: str


def _place(client: Any, threads: int | None, memory: int | str | None) -> _Place:
    from dask.utils import parse_bytes

    given = None if memory is None else parse_bytes(memory)
    if client is not None:
        workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
        if not workers:
            raise EnvironmentProblem("the cluster has no workers; add some: cluster.scale(2)")
        least = min(worker["memory_limit"] for worker in workers) or 1 << 62
        most = max(worker["nthreads"] for worker in workers)
        where = f"{len(workers)} worker{'s' * (len(workers) != 1)} of {client.scheduler.address}"
        return _Place(len(workers), most, given or least, WORKER, where)
    import psutil
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    threads = threads or CPU_COUNT
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ParameterError(f"threads={threads!r} is not allowed; threads is a whole number, 1 or more")
    own = psutil.Process().memory_info().rss
    free = min(MEMORY_LIMIT, psutil.virtual_memory().available + own)
    return _Place(1, threads, given or free, own, f"{threads} thread{'s' * (threads != 1)} in this process")


def _planned(image: Any, pipeline: Pipeline, to: Any, place: _Place) -> Plan:
    data, dims = _data_of(image)
    result = pipeline(image)
    lazy, _ = _data_of(result)
    cost = cost_of(data, pipeline.steps, dims)
    count = lazy.npartitions
    out_chunk = math.prod(max(sizes) for sizes in lazy.chunks) * lazy.dtype.itemsize
    per_chunk = 1 + 2 * len(pipeline.steps)
    stored = data.dask.layers.get(data.name)
    tiles = TILES.limit if isinstance(stored, StoredLayer) and math.prod(stored.reader.tile) > 1 else 0
    # A chunk's encoded tiles and its coarser levels stand beside it until they are written.
    writing = 0 if to is None else 2 * out_chunk
    at_once = min(place.threads, count)
    peak = place.base + tiles + SLACK * (at_once * (cost.task + writing) + cost.held / place.processes)
    peak += TASK * per_chunk * min(count, BAND)
    written = int(lazy.nbytes)
    return Plan(
        tuple(lazy.shape),
        lazy.dtype,
        tuple(max(sizes) for sizes in data.chunks),
        count,
        count * per_chunk,
        int(data.nbytes) * cost.passes,
        written,
        int(peak),
        place.memory,
        place.processes,
        place.threads,
        place.where,
        tuple(_problems(int(peak), place, written, to)),
    )


def _problems(peak: int, place: _Place, written: int, to: Any) -> list[str]:
    problems = []
    if peak > SHARE * place.memory:
        problems.append(
            f"it takes up to {_size(peak)} of memory a process, and there are {_size(place.memory)}: use "
            "smaller chunks, fewer threads a process, or larger machines; or raise memory="
        )
    if to is not None and (target := locate(to)).local:
        folder = os.path.dirname(target.url)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if written > MAY_SHRINK * free:
            problems.append(
                f"the result has {_size(written)} before compression, and the disk of {folder!r} has {_size(free)} "
                "left: free some, or write elsewhere"
            )
    return problems


def _data_of(image: Any) -> tuple[da.Array, tuple[str, ...]]:
    """Return the dask array inside an image, and the names of its axes."""
    if hasattr(image, "dims"):
        data = image.data if isinstance(image.data, da.Array) else da.from_array(np.asarray(image.data), name=False)
        return data, tuple(map(str, image.dims))
    data = image if isinstance(image, da.Array) else da.from_array(np.asarray(image), name=False)
    return data, ("y", "x", "channel")[: data.ndim]


def _smaller(image: Any) -> dict[str, int] | None:
    """Return chunks of half the rows or columns; None where they are small already, or are what is decoded at once."""
    data, dims = _data_of(image)
    layer = data.dask.layers.get(data.name)
    sizes, least = {}, {}
    for name in ("y", "x"):
        axis = dims.index(name)
        sizes[name] = max(data.chunks[axis])
        least[name] = max(SMALLEST, layer.reader.tile[axis] if isinstance(layer, StoredLayer) else sizes[name])
    name = max(sizes, key=lambda one: sizes[one] / least[one])
    return None if sizes[name] // 2 < least[name] else {**sizes, name: sizes[name] // 2}


def _size(nbytes: float) -> str:
    from dask.utils import format_bytes

    text: str = format_bytes(int(nbytes))
    return text


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
