"""What became of each file of a batch whose results go to an object store, where nothing can be appended.

There, `.daskimg/` beside the results holds the manifest as segments that never change, written every few seconds while
the batch runs, and a lease that keeps a second run away. A run that is killed leaves all but its last seconds.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from daskimg.errors import EnvironmentProblem, ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.urls import Location

__all__ = ["ROWS", "Lease", "Segment", "Segments"]

FORMAT = 1
SECONDS = 5.0  # between segments, so that at most so much is done again after a process was killed
AT_ONCE = 64  # segments that are fetched together
ROWS = 10_000  # of a segment, where many are put together


class Segment(NamedTuple):
    """Is a piece of a manifest: what its files were put through, and a row for each file."""

    header: dict[str, Any]
    rows: list[dict[str, Any]]


class Lease:
    """Is the right of one run to write to a place; it ends by itself where it is not renewed.

    A lease is an object with a number. Who finds the last one ended creates the next, which a store that knows
    `If-None-Match: *` (S3, Google, Azure) lets only one do. On other file systems, which look and then write, two runs
    that begin in the same instant may both get it.

    Parameters
    ----------
    place : Location
        The folder of the leases, at a URL.
    seconds : float
        How long it lasts unless it is renewed, which is done four times in that time. The clocks of machines that
        share a place may differ by less than that.
    """

    def __init__(self, place: Location, *, seconds: float = 60.0) -> None:
        self.place = place
        self.seconds = seconds
        self._fs, self._path = place.filesystem()
        self._token = uuid.uuid4().hex
        self._number = 0
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="daskimg-lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take it.

        Raises
        ------
        EnvironmentProblem
            If another run has it.
        """
        with translated(self.place.shown, "written"):
            number, last = self._last()
            if _holds(last):
                raise EnvironmentProblem(self._refusal(last))
            self._number = number + 1
            self._create()
            number, last = self._last()
            if last.get("token") != self._token:
                raise EnvironmentProblem(self._refusal(last))
            for older in self._numbers()[:-1]:
                self._fs.rm_file(self._name(older))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Let others have it. Its object stays, for the number."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            with contextlib.suppress(Exception):  # It ends by itself where the store does not answer.
                self._fs.pipe_file(self._name(self._number), self._content(until=0))

    def check(self) -> None:
        """Raise if another run has taken it over, since it could not be renewed in time.

        Raises
        ------
        EnvironmentProblem
            Naming the other.
        """
        if self._lost:
            raise EnvironmentProblem(self._lost)

    def _create(self) -> None:
        # A server may have done it though its answer was lost; so what counts is what is read afterwards.
        try:
            self._fs.pipe_file(self._name(self._number), self._content(time.time() + self.seconds), mode="create")
        except OSError:
            if not self._fs.exists(self._name(self._number)):
                raise

    def _renew(self) -> None:
        while not self._ended.wait(self.seconds / 4):
            try:
                number, last = self._last()
                if number > self._number:
                    self._lost = self._refusal(last)
                    return
                self._fs.pipe_file(self._name(self._number), self._content(time.time() + self.seconds))
            except Exception:  # the store does not answer; the next try may be in time
                continue

    def _numbers(self) -> list[int]:
        return sorted(int(name.rpartition("/")[2].partition(".")[0]) for name in _names(self._fs, self._path))

    def _last(self) -> tuple[int, dict[str, Any]]:
        numbers = self._numbers()
        if not numbers:
            return 0, {}
        return numbers[-1], json.loads(self._fs.cat_file(self._name(numbers[-1])))

    def _name(self, number: int) -> str:
        return f"{self._path}/{number:09d}.json"

    def _content(self, until: float) -> bytes:
        facts = {"host": socket.gethostname(), "process": os.getpid(), "token": self._token, "until": until}
        return json.dumps(facts).encode()

    def _refusal(self, last: dict[str, Any]) -> str:
        left = max(last["until"] - time.time(), 0)
        return (
            f"another run writes to {self.place.shown}: process {last['process']} on {last['host']}. Wait for it, or "
            f"choose another place. If it is no more, its lease ends in {left:.0f} seconds"
        )


def _holds(lease: dict[str, Any]) -> bool:
    """Return whether a lease still keeps others away; that of a process which ended on this machine does not."""
    import psutil

    if not lease or lease["until"] < time.time():
        return False
    return lease["host"] != socket.gethostname() or bool(psutil.pid_exists(lease["process"]))


class Segments:
    """Keeps rows on an object store: each segment is written once, by a thread beside the work, one at a time.

    Parameters
    ----------
    place : Location
        The folder of the segments, at a URL.
    lease : Lease
        Without which nothing is written.
    seconds : float
        How often a segment is written.
    """

    def __init__(self, place: Location, lease: Lease, *, seconds: float | None = None) -> None:
        self.place = place
        self.lease = lease
        self.seconds = SECONDS if seconds is None else seconds
        self.header: dict[str, Any] = {}
        self._fs, self._path = place.filesystem()
        self._next = 0
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="daskimg-manifest", daemon=True)

    def read(self) -> Iterator[Segment]:
        """Yield what runs before have written, the oldest first: the last row of a file is the one that counts.

        Raises
        ------
        ImageFileError
            A segment is broken, or of a later version of daskimg.
        """
        with translated(self.place.shown, "read"):
            names = sorted(_names(self._fs, self._path))
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            with translated(self.place.shown, "read"):
                found = self._fs.cat(some, on_error="raise")
            for name in some:
                with translated(self.place.shown, "read"):
                    segment = _decode(found[name], name)
                yield segment
        self._next = 1 + max((int(name.rpartition("/")[2].partition("-")[0]) for name in names), default=-1)

    def begin(self, header: dict[str, Any]) -> None:
        """Begin to write, after what there was is read; the header goes with all rows that are added."""
        self.header = header
        self._thread.start()

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows in, to be written within seconds; this does not wait.

        Raises
        ------
        EnvironmentProblem
            If the lease is lost to another run.
        """
        self.lease.check()
        with self._lock:
            self._rows += rows

    def close(self, whole: Iterable[Segment] | None = None) -> None:
        """Write what is left.

        Parameters
        ----------
        whole : iterable of Segment
            All rows that count, to be put together in few segments in the place of all that there are.

        Raises
        ------
        ImageFileError
            If that cannot be written.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._flush()
        if whole is None:
            return
        with translated(self.place.shown, "written"):
            before = _names(self._fs, self._path)
        for segment in whole:
            self._put(segment)
        with translated(self.place.shown, "written"):
            if before:
                self._fs.rm(before)

    def _write_on(self) -> None:
        while not self._ended.wait(self.seconds):
            try:
                self._flush()
            except Exception:  # the rows wait for the next time, and `close` says what is wrong
                continue

    def _flush(self) -> None:
        with self._lock:
            rows, self._rows = self._rows, []
        try:
            if rows:
                self._put(Segment(self.header, rows))
        except BaseException:
            with self._lock:
                self._rows = rows + self._rows
            raise

    def _put(self, segment: Segment) -> None:
        self.lease.check()
        with translated(self.place.shown, "written"):
            self._fs.pipe_file(f"{self._path}/{self._next:09d}-{uuid.uuid4().hex}.jsonl.gz", _encode(segment))
        self._next += 1


def _encode(segment: Segment) -> bytes:
    lines = [{"format": FORMAT, **segment.header}, *segment.rows]
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), compresslevel=3, mtime=0)


def _decode(data: bytes, name: str) -> Segment:
    header, *rows = json.loads(b"[" + b",".join(gzip.decompress(data).splitlines()) + b"]")
    if header.pop("format") != FORMAT:
        raise ImageFileError(f"the manifest {name!r} was written by another version of daskimg; use that, or delete it")
    return Segment(header, rows)


def _names(fs: Any, folder: str) -> Sequence[str]:
    try:
        return [name for name in fs.ls(folder, detail=False) if not name.endswith("/")]
    except FileNotFoundError:
        return []
