"""Writes a lazy image to where it goes, chunk by chunk: it is never in memory as a whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import dask.array as da
from dask.tokenize import tokenize

from daskimg.chunked.bands import BAND, chunks_by_threads, chunks_on_cluster
from daskimg.errors import EnvironmentProblem
from daskimg.io.journal import Journal
from daskimg.io.pyramid import Assembler, Block, Halving, Tile, TileMaker
from daskimg.io.sink import Sink, Target
from daskimg.progress import Progress, drawn

__all__ = ["Stopped", "active_client", "aligned", "stream"]

PAYLOADS = 256 << 20  # bytes of chunks whose tiles may wait on a cluster's workers to be written


class Stopped(Exception):
    """Says that writing was stopped before the end, because the caller wished so."""


def aligned(image: da.Array, tile: tuple[int, int], y: int) -> da.Array:
    """Return an image whose chunks consist of whole tiles, so that each makes its own; the image itself if they do."""
    wanted: dict[int, Any] = {}
    for axis, size in zip((y, y + 1), tile, strict=True):
        sizes = image.chunks[axis]
        if any(length % size for length in sizes[:-1]):
            wanted[axis] = max(size, round(max(sizes) / size) * size)
    return image.rechunk(wanted) if wanted else image


def stream(
    image: da.Array,
    target: Target,
    sink: Sink,
    halve: Halving,
    *,
    journal: Journal | None = None,
    threads: int | None = None,
    client: Any = None,
    progress: Callable[[Progress], None] | bool = False,
    cancel: threading.Event | None = None,
) -> None:
    """Compute an image and write it; the sink is finished, or left for a later run, or discarded.

    Parameters
    ----------
    image : dask.array.Array
        The image, with the shape and type that `target` says.
    target : Target
        What the sink was made for.
    sink : Sink
        Where it goes.
    halve : Halving
        How coarser levels are made.
    journal : Journal, optional
        Where it is noted what is done. With it a run that is interrupted, or fails, can go on later.
    threads : int
        How many threads of this process; as many as there are processors by default.
    client : distributed.Client, optional
        The cluster that computes, instead of threads.
    progress : callable or bool
        Called with a `Progress` that counts chunks; True draws a bar on stderr.
    cancel : threading.Event
        Set it from elsewhere to stop.

    Raises
    ------
    Stopped
        If `cancel` was set before the end.
    """
    starts = tuple(tuple(itertools.accumulate(sizes, initial=0)) for sizes in image.chunks)
    maker = TileMaker(target, sink.tile, sink.encoder, halve, starts)
    writer = _Writer(sink, Assembler(target, sink.tile, sink.encoder, halve), journal)
    try:
        done = writer.resume()
        indices = itertools.product(*map(range, image.numblocks))
        wanted = [index for index in indices if index not in done] if done else None
        chunks = _computed(image, maker, writer, wanted, threads, client, cancel)
        with drawn(progress) as draw, contextlib.closing(chunks):
            total, began, count = image.npartitions, time.perf_counter(), len(done)
            draw(Progress(count, 0, total, 0.0, unit="chunks", before=count))
            for _ in chunks:
                count += 1
                draw(Progress(count, 0, total, time.perf_counter() - began, unit="chunks", before=len(done)))
        if cancel is not None and cancel.is_set() and count < total:
            raise Stopped("writing was stopped; what is done is kept" if journal else "writing was stopped")
        sink.finish()
    except BaseException:
        if journal is None:
            sink.discard()
        else:
            sink.keep()
            journal.close()
        raise
    if journal is not None:
        journal.remove()


def _computed(
    image: da.Array,
    maker: TileMaker,
    writer: _Writer,
    wanted: list[Any] | None,
    threads: int | None,
    client: Any,
    cancel: threading.Event | None,
) -> Generator[Any, None, None]:
    """Compute the chunks and write their tiles."""
    if client is None:
        # Written by the thread that made them: what waits to be written takes no memory.
        stop = _Either(cancel)
        yield from chunks_by_threads(
            image, lambda index, pixels: writer.write(index, maker(index, pixels)), wanted, threads=threads, stop=stop
        )
        return
    largest = max(image.dtype.itemsize, 1)
    for sizes in image.chunks:
        largest *= max(sizes, default=1)
    band = max(2 * sum(client.nthreads().values()), min(BAND, PAYLOADS // largest))
    for index, block in chunks_on_cluster(image, maker, client, wanted, band=band, stop=cancel):
        writer.write(index, block)
        yield index, None


class _Either(threading.Event):
    """Is set when it is, or when another event is."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self.other = other

    def is_set(self) -> bool:
        return super().is_set() or (self.other is not None and self.other.is_set())


class _Writer:
    """Takes what became of chunks to the sink and notes it, one at a time."""

    def __init__(self, sink: Sink, assembler: Assembler, journal: Journal | None) -> None:
        self.sink, self.assembler, self.journal = sink, assembler, journal
        self._lock = threading.Lock()

    def resume(self) -> set[tuple[int, ...]]:
        """Take over what an interrupted run did, and return the indices of those chunks."""
        done = set()
        for chunk, tiles, rests in self.journal.entries() if self.journal else ():
            for level, batch, at, entry in tiles:
                self.sink.restore(level, tuple(batch), tuple(at), entry)
            for rest in rests:
                for tile in self.assembler.add(rest):
                    self._append(tile)
            done.add(chunk)
        return done

    def write(self, index: tuple[int, ...], block: Block) -> None:
        """Write the tiles of a chunk, and those of coarser levels that are whole now."""
        with self._lock:
            entries = [[*tile[:3], self._append(tile)] for tile in block.tiles]
            for rest in block.rests:
                for tile in self.assembler.add(rest):
                    self._append(tile)
            if self.journal is not None:
                self.journal.add(index, entries, block.rests)

    def _append(self, tile: Tile) -> Any:
        return self.sink.append(*tile)


def active_client() -> Any:
    """Return the dask client that this process works with, if any, as dask's own `compute` does."""
    distributed = vars(sys.modules["distributed"]) if "distributed" in sys.modules else None
    if distributed is None:
        return None
    try:
        client = distributed["default_client"]()
    except ValueError:
        return None
    return None if client.asynchronous else client


def check_seen(client: Any, folder: str) -> None:
    """Raise unless all workers see a local folder that they are to write to.

    Raises
    ------
    EnvironmentProblem
        With the remedy.
    """
    seen: dict[str, bool] = client.run(os.path.isdir, folder)
    blind = [worker for worker, sees in seen.items() if not sees]
    if blind:
        raise EnvironmentProblem(
            f"{len(blind)} of {len(seen)} workers (such as {blind[0]}) do not see the folder {folder!r}, where the "
            "image is to be written; write to a folder that all machines share, to a URL such as "
            "s3://bucket/image.zarr, or to a TIFF file, which this process writes"
        )


def fingerprint(image: da.Array, target: Target, *options: Any) -> str:
    """Return what tells this image and how it is written from others."""
    return str(tokenize(image.name, image.chunks, target, *options))
