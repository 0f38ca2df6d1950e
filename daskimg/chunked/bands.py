"""Computes a lazy image in bands of chunks, and hands each chunk on as soon as it is done.

A graph of 400,000 tasks takes dask a minute and a half before the first of them begins, and is held until the last has
ended. Bands are cut from the lazy layers one after another. What all bands need, such as the histogram of the whole
image, is computed once, before the first.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
import dask.array as da
import dask.threaded
from dask._task_spec import DataNode, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from dask.system import CPU_COUNT
from dask.utils import ensure_dict

from daskimg.chunked.allocation import keep_freed_memory
from daskimg.chunked.strips import one_cv2_thread

__all__ = ["chunks_by_threads", "chunks_on_cluster"]

BAND = 2000  # chunks; an image of fewer than three bands is one
AT_ONCE = 64  # chunks that are fetched from a cluster at once, at most
AHEAD = 2  # chunks for each thread that are left of a band when the next one begins, so that no thread is idle

Index = tuple[int, ...]
OnChunk = Callable[[Index, Any], Any]
Graph = dict[Any, GraphNode]


class _Stopped(Exception):
    """Ends a band that is no longer wanted."""


def chunks_by_threads(
    image: da.Array,
    on_chunk: OnChunk,
    wanted: Sequence[Index] | None = None,
    *,
    threads: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Index, Any]]:
    """Compute a lazy image on threads of this process; yield what `on_chunk` returned for each chunk when it is done.

    Parameters
    ----------
    image : dask.array.Array
        Any lazy image.
    on_chunk : callable
        `(index of the chunk, pixels) -> anything`; called on the threads.
    wanted : sequence of tuple of int, optional
        Which chunks; all of them by default.
    threads : int
        How many; as many as there are processors by default.
    stop : threading.Event
        Set it to stop: nothing more is begun, and the iterator ends.

    Yields
    ------
    tuple of int, object
        A chunk's index and what came of it.
    """
    threads = threads or CPU_COUNT
    stop = stop or threading.Event()
    done: queue.SimpleQueue[tuple[Index | None, Any]] = queue.SimpleQueue()

    def finish(index: Index, pixels: Any) -> None:
        if stop.is_set():
            raise _Stopped
        done.put((index, on_chunk(index, pixels)))

    def compute(graph: Graph, keys: list[Any]) -> None:
        try:
            dask.threaded.get(graph, keys, pool=pool)
            done.put((None, None))
        except BaseException as error:
            done.put((None, error))

    keep_freed_memory()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="daskimg")
    bands = ThreadPoolExecutor(2, thread_name_prefix="daskimg-band")
    try:
        with one_cv2_thread():
            waiting = _bands(image, wanted, lambda graph, keys: dask.threaded.get(graph, keys, pool=pool))
            left = running = 0
            while True:
                while left <= AHEAD * threads and running < 2 and not stop.is_set():
                    if (band := next(waiting, None)) is None:
                        break
                    graph, names = band
                    keys = [_add_last(graph, name, finish) for name in names]
                    bands.submit(compute, graph, keys)
                    left, running = left + len(keys), running + 1
                if not running:
                    return
                index, result = done.get()
                if index is not None:
                    left -= 1
                    yield index, result
                    continue
                running -= 1
                if isinstance(result, BaseException) and not isinstance(result, _Stopped):
                    raise result
    finally:
        stop.set()
        bands.shutdown(wait=True)
        pool.shutdown(wait=True)


def chunks_on_cluster(
    image: da.Array,
    on_chunk: OnChunk,
    client: Any,
    wanted: Sequence[Index] | None = None,
    *,
    band: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Index, Any]]:
    """Compute a lazy image on the workers of a cluster; yield what `on_chunk` returned for each chunk when it is done.

    Parameters
    ----------
    image, on_chunk, wanted, stop
        As for `chunks_by_threads`; `on_chunk` travels to the workers, and what it returns from them.
    client : distributed.Client
        The cluster's client.
    band : int
        How many chunks are handed to the cluster at once: what they return waits there until it is fetched.

    Yields
    ------
    tuple of int, object
        A chunk's index and what came of it.
    """
    held: list[Any] = []  # what all bands need stays on the cluster as long as this knows of it
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    under_way: dict[Any, Index] = {}

    def hold(graph: Graph, keys: list[Any]) -> list[Any]:
        held.extend(client.get(graph, keys, sync=False))
        return []

    waiting = _bands(image, wanted, hold, band)
    try:
        while not (stop and stop.is_set()):
            while len(under_way) <= AHEAD * max(1, sum(client.nthreads().values())):
                if (found := next(waiting, None)) is None:
                    break
                graph, names = found
                keys = [_add_last(graph, name, on_chunk) for name in names]
                for future, name in zip(client.get(graph, keys, sync=False), names, strict=True):
                    under_way[future] = name[1:]
                    future.add_done_callback(done.put)
            if not under_way:
                return
            finished = [done.get()]
            with contextlib.suppress(queue.Empty):
                while len(finished) < AT_ONCE:
                    finished.append(done.get_nowait())
            # Fetched together: one by one, each would wait for the network.
            for future, result in zip(finished, client.gather(finished), strict=True):
                yield under_way.pop(future), result
            del finished, future, result  # what is done is let go of
    finally:
        client.cancel(list(under_way), force=True)


def _add_last(graph: Graph, name: Any, function: OnChunk) -> Any:
    """Add the task that hands a chunk on, and return its key."""
    key = (f"{name[0]}-finished", *name[1:])
    graph[key] = Task(key, function, name[1:], TaskRef(name))
    return key


def _bands(
    image: da.Array,
    wanted: Sequence[Index] | None,
    get: Callable[[Graph, list[Any]], Sequence[Any]],
    size: int | None = None,
) -> Iterator[tuple[Graph, list[Any]]]:
    """Yield the graph of each band with the keys of its chunks, in raster order.

    What the first and the last band both need, all need: `get` computes it before, and gives its values back, or none
    where it keeps them under their keys.
    """
    size = size or BAND
    keys = list(flatten(image.__dask_keys__())) if wanted is None else [(image.name, *index) for index in wanted]
    if len(keys) < 3 * size:
        if keys:
            yield _graph_of(image, keys), keys
        return
    parts = [keys[first : first + size] for first in range(0, len(keys), size)]
    ends = _graph_of(image, parts[0]), _graph_of(image, parts[-1])
    shared = ends[0].keys() & ends[1].keys()
    used = [
        {need for key, task in graph.items() if key not in shared for need in task.dependencies & shared}
        for graph in ends
    ]
    common = list(used[0] & used[1])
    values = dict(zip(common, get(ends[0], common), strict=False)) if common else {}
    del ends, shared
    for part in parts:
        graph = _graph_of(image, part)
        if values:
            for key in values.keys() & graph.keys():
                graph[key] = DataNode(key, values[key])
            graph = _needed(graph, part)
        yield graph, part


def _graph_of(image: da.Array, keys: list[Any]) -> Graph:
    """Return the tasks that some of an image's chunks need."""
    with dask.config.set({"optimization.fuse.active": False}):
        found: Graph = convert_legacy_graph(ensure_dict(da.Array.__dask_optimize__(image.dask, keys)))
    return found


def _needed(graph: Graph, keys: list[Any]) -> Graph:
    """Return the tasks of a graph that some keys need."""
    needed: Graph = {}
    waiting = list(keys)
    while waiting:
        if (key := waiting.pop()) not in needed:
            needed[key] = graph[key]
            waiting.extend(graph[key].dependencies)
    return needed
