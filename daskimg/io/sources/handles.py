"""Open files: byte ranges of local and remote files, read by several threads, from few handles."""

from __future__ import annotations

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Generic, Protocol, TypeVar

from daskimg.errors import ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.remote import patiently
from daskimg.io.urls import Location

__all__ = ["OpenFiles", "SourceFile"]

# Headers of remote files are read in blocks that are kept: a few requests for the directories of a large TIFF.
_BLOCK, _BLOCKS = 2**17, 64
# Ranges with no more than this between them are one request, and this much is fetched at once.
_GAP, _AT_ONCE = 2**14, 2**23


class SourceFile:
    """Reads byte ranges of a file that must not change; several threads share it.

    Parameters
    ----------
    place : Location
        Where the file is.
    version : tuple
        What `place.version()` was when the file was first looked at.

    Attributes
    ----------
    stream : binary file
        For headers: buffered, with one position for all threads.
    size : int
        Bytes.

    Raises
    ------
    ImageFileError
        The file is missing, or has another version by now.
    """

    def __init__(self, place: Location, version: tuple[Any, ...]) -> None:
        self.place = place
        self.version = version
        self._lock = threading.Lock()
        self._closing = ExitStack()
        self._range: Callable[[int, int], bytes] = self._by_stream
        self._ranges: Callable[[list[int], list[int]], list[bytes]] | None = None
        self._ahead = threading.local()
        if not place.local and place.version() != version:
            raise self._changed()
        with translated(place.shown, "read"):
            self.stream = self._opened()
            self.size = self.stream.seek(0, os.SEEK_END)
        if place.local:
            self._check_unchanged()

    def _opened(self) -> IO[bytes]:
        if self.place.local:
            if hasattr(os, "pread"):
                self._range = self._by_descriptor
            return self._closing.enter_context(self.place.open())
        fs, path = self.place.filesystem()
        if fs.async_impl:
            self._range = lambda start, count: patiently(lambda: fs.cat_file(path, start=start, end=start + count))
            self._ranges = lambda starts, stops: patiently(
                lambda: fs.cat_ranges([path] * len(starts), starts, stops, on_error="raise")
            )
        options = {"cache_type": "blockcache", "cache_options": {"maxblocks": _BLOCKS}}
        # The file system lives as long as the stream, because an archive closes with it.
        self._fs = fs
        stream: IO[bytes] = patiently(lambda: fs.open(path, "rb", block_size=_BLOCK, **options))
        self._closing.enter_context(stream)
        cache: Any = getattr(stream, "cache", None)
        if fetch := getattr(cache, "fetcher", None):
            cache.fetcher = lambda start, stop: patiently(lambda: fetch(start, stop))
            if "http" in fs.protocol:  # Some servers send the whole file for any part of it.
                cache.fetcher(cache.size - 1, cache.size)
        return stream

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start` on.

        Raises
        ------
        ImageFileError
            The file ends before, cannot be read, or has changed.
        """
        data = getattr(self._ahead, "parts", {}).get((start, count))
        if data is None:
            with translated(self.place.shown, "read"):
                data = self._range(start, count)
        if self.place.local:
            self._check_unchanged()
        if len(data) != count:
            if not self.place.local and self.place.version() != self.version:
                raise self._changed()
            raise ImageFileError(
                f"{self.place.shown}: {count} bytes were wanted at {start}, {len(data)} came. The file is truncated, "
                "or its server cannot send parts of files. Copy or download it again."
            )
        return data

    @contextmanager
    def fetched(self, wanted: Iterable[tuple[int, int]]) -> Iterator[None]:
        """Fetch ranges of a remote file, (start, count), at the same time, for what this thread reads inside."""
        from fsspec.utils import merge_offset_ranges

        ranges = sorted({(start, count) for start, count in wanted if count > 0})
        if self._ranges is None or len(ranges) < 2:
            yield
            return
        ends = [start + count for start, count in ranges]
        _, starts, stops = merge_offset_ranges([""] * len(ranges), [start for start, _ in ranges], ends, _GAP, _AT_ONCE)
        with translated(self.place.shown, "read"):
            blocks = self._ranges(starts, stops)
        if any(len(block) != stop - start for block, start, stop in zip(blocks, starts, stops, strict=True)):
            yield  # what is wrong is told where single ranges are read
            return
        parts = {}
        for start, count in ranges:
            at = bisect.bisect_right(starts, start) - 1
            parts[start, count] = blocks[at][start - starts[at] : start - starts[at] + count]
        self._ahead.parts = parts
        try:
            yield
        finally:
            self._ahead.parts = {}

    def _by_descriptor(self, start: int, count: int) -> bytes:
        return os.pread(self.stream.fileno(), count, start)

    def _by_stream(self, start: int, count: int) -> bytes:
        with self._lock:
            self.stream.seek(start)
            return self.stream.read(count)

    def _check_unchanged(self) -> None:
        status = os.fstat(self.stream.fileno())
        if (status.st_size, status.st_mtime_ns, status.st_ino) != self.version:
            raise self._changed()

    def _changed(self) -> ImageFileError:
        return ImageFileError(f"{self.place.shown} changed since it was opened. Open it again.")

    def close(self) -> None:
        """Close the file."""
        self._closing.close()


class _Closable(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=_Closable)


@dataclass
class _Entry(Generic[File]):
    file: File | None = None
    users: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)


class OpenFiles(Generic[File]):
    """Keeps the files that were used last open, up to a number; one in use is never closed.

    Parameters
    ----------
    limit : int
        The most files that stay open while nobody uses them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[File]] = OrderedDict()

    @contextmanager
    def use(self, key: Hashable, open_file: Callable[[], File]) -> Iterator[File]:
        """Yield the file that is open under a key; open it if there is none."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            entry.users += 1
        try:
            with entry.opening:
                if entry.file is None:
                    entry.file = open_file()
            yield entry.file
        finally:
            with self._lock:
                entry.users -= 1
                idle = self._too_many()
            for file in idle:
                file.close()

    def _too_many(self) -> list[File]:
        """Take out the entries that failed to open, and the oldest ones beyond the limit."""
        idle = [key for key, entry in self._entries.items() if not entry.users]
        excess = len(self._entries) - self.limit
        gone = [key for at, key in enumerate(idle) if at < excess or self._entries[key].file is None]
        return [file for key in gone if (file := self._entries.pop(key).file) is not None]

    def close(self) -> None:
        """Close the files that nobody uses."""
        with self._lock:
            idle = [key for key, entry in self._entries.items() if not entry.users]
            files = [self._entries.pop(key).file for key in idle]
        for file in files:
            if file is not None:
                file.close()
