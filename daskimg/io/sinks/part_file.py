"""A file in the making: hidden until it is whole, then shown at once; what is left of it can be gone on with."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.urls import Location

__all__ = ["PartFile"]

_WINDOWS = os.name == "nt"  # There an open file can be neither renamed nor removed.


class PartFile:
    """Grows at its end, under a hidden name that depends on its place only: so a later run finds it, or replaces it.

    It lies beside its place; for a URL among dask's temporary files, from where `finish` uploads it.

    Parameters
    ----------
    place : Location
        Where it is to be.
    header : bytes
        What it begins with.
    gaps : iterable of (int, int), optional
        Offsets and lengths in the header that are written at the end; with them, what an earlier run left is gone on
        with if its header is the same but for those.

    Attributes
    ----------
    size : int
        Bytes until now.
    resumed : bool
        Whether it goes on with what was there.

    Raises
    ------
    ImageFileError
        It cannot be written, or another process writes to it.
    """

    def __init__(self, place: Location, header: bytes | bytearray, gaps: Iterable[tuple[int, int]] | None) -> None:
        self._place, self._header_size = place, len(header)
        with self._written():
            # A link stays a link; the file behind it changes.
            self._target = Path(place.url).resolve() if place.local else None
            name = hashlib.sha1((self._target.name if self._target else place.url).encode()).hexdigest()
            folder = self._target.parent if self._target else _temporary_folder()
            self._path = folder / f".{name[:20]}.part"
            self._stream = _opened_alone(self._path, place.shown)
            self._ordered_path = self._path.with_suffix(".sorted")
            self._unordered: tuple[FileIO, Path] | None = None
            try:
                self._ordered_path.unlink(missing_ok=True)
                self.resumed = gaps is not None and _same_header(self._stream, header, gaps)
                if self.resumed:
                    self.size = self._stream.seek(0, os.SEEK_END)
                else:
                    self._stream.truncate(0)
                    self.size = 0
                    self.append(header)
            except BaseException:
                self.discard()
                raise

    def append(self, data: Any) -> int:
        """Write bytes at the end, and return their offset."""
        offset = self.size
        with self._written():
            _write(self._stream, offset, data)
        self.size += len(data)
        return offset

    def overwrite(self, offset: int, data: bytes) -> None:
        """Write bytes over others."""
        with self._written():
            _write(self._stream, offset, data)

    def reorder(self, parts: Sequence[tuple[NDArray[np.uint64], NDArray[np.uint64]]]) -> None:
        """Put what was appended into another order, in a copy; parts that share bytes share them afterwards.

        Parameters
        ----------
        parts : sequence of (offsets, counts)
            In the order wanted; the offsets are changed to the new ones.
        """
        with self._written():
            ordered = _opened_alone(self._ordered_path, self._place.shown)
            try:
                _write(ordered, 0, _read(self._stream, 0, self._header_size))
                end = self._header_size
                for offsets, counts in parts:
                    end = self._copy(ordered, end, offsets, counts)
            except BaseException:
                _remove(ordered, self._ordered_path)
                raise
        # What there was stays till the end, since a later run can go on with nothing else.
        self._unordered = self._stream, self._path
        self._stream, self._path, self.size = ordered, self._ordered_path, end

    def _copy(self, ordered: FileIO, end: int, offsets: NDArray[np.uint64], counts: NDArray[np.uint64]) -> int:
        _, first, same = np.unique(offsets, return_index=True, return_inverse=True)
        leads = first[same] == np.arange(offsets.size)
        moved = np.zeros_like(offsets)
        for index in np.flatnonzero(leads):
            data = _read(self._stream, int(offsets[index]), int(counts[index]))
            _write(ordered, end, data)
            moved[index] = end
            end += len(data)
        offsets[:] = moved[first][same]
        return end

    def flush(self) -> None:
        """Make sure that it survives a crash of the machine."""
        with self._written():
            os.fsync(self._stream.fileno())

    def finish(self) -> None:
        """Show it under its name."""
        with self._written():
            if self._target is None:
                self._place.upload(self._path)
            else:
                os.fsync(self._stream.fileno())
                with suppress(FileNotFoundError):
                    os.chmod(self._path, stat.S_IMODE(self._target.stat().st_mode))
                if _WINDOWS:
                    self._stream.close()
                os.replace(self._path, self._target)
                self._stream.close()
        self.discard()

    def close(self) -> None:
        """Close it, and leave it as it was before it was put in order."""
        if self._unordered:
            _remove(self._stream, self._path)
            self._stream = self._unordered[0]
        self._stream.close()

    def discard(self) -> None:
        """Close it, and remove it."""
        _remove(self._stream, self._path)
        if self._unordered:
            _remove(*self._unordered)

    @contextmanager
    def _written(self) -> Iterator[None]:
        with translated(self._place.shown, "written"):
            try:
                yield
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                folder = str(self._path.parent)
                raise ImageFileError(
                    f"{self._place.shown} cannot be written: the disk with {folder!r} is full. Make room, or choose "
                    f"another {'folder' if self._target else 'one by dask.config.set(temporary_directory=...)'}."
                ) from error


def _temporary_folder() -> Path:
    """Return a folder for temporary files that nobody else can write to."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(dask.config.get("temporary-directory", None) or tempfile.gettempdir()) / f"daskimg-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise ImageFileError(f"The folder {str(folder)!r} belongs to somebody else; remove it.")
    return folder


def _opened_alone(path: Path, shown: str) -> FileIO:
    """Open a file, which is made if it is not there, for this process only."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # Windows: another process is noticed when this one wants to rename the file
        return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
    while True:
        stream = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+b")
        try:
            flock(stream.fileno(), LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise ImageFileError(f"{shown} is being written by another process; wait for it, or stop it.") from error
        except OSError:
            pass  # a file system without locks
        with suppress(FileNotFoundError):
            # Another may have finished, and renamed or removed it, between opening and locking.
            if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return stream
        stream.close()


def _remove(stream: FileIO, path: Path) -> None:
    if stream.closed:
        return
    if _WINDOWS:
        stream.close()
    # Before it is closed: with that the lock is lost, and the name might be another's.
    with suppress(OSError):
        path.unlink()
    stream.close()


def _same_header(stream: FileIO, header: bytes | bytearray, gaps: Iterable[tuple[int, int]]) -> bool:
    if os.fstat(stream.fileno()).st_size < len(header):
        return False
    there, wanted = bytearray(_read(stream, 0, len(header))), bytearray(header)
    for offset, length in gaps:
        there[offset : offset + length] = wanted[offset : offset + length] = bytes(length)
    return there == wanted


def _write(stream: FileIO, offset: int, data: Any) -> None:
    stream.seek(offset)
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def _read(stream: FileIO, offset: int, count: int) -> bytes:
    stream.seek(offset)
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise OSError("it is shorter than it was")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
