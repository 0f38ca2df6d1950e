"""A source as it is at one moment: read once, into memory where it is small, and looked at again afterwards."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from daskimg.batch.sources import version_in, version_of
from daskimg.errors import ImageFileError
from daskimg.io.archive import is_member, open_member
from daskimg.io.boundary import translated
from daskimg.io.urls import Location

__all__ = ["ChangedError", "Loaded", "loaded"]

IN_MEMORY = 1 << 26  # bytes up to which a file is read whole at once: most decoders want all of it anyway


class ChangedError(ImageFileError):
    """A file was written to while it was read."""


@dataclass
class Loaded:
    """Is an open source.

    Attributes
    ----------
    file : binary file
        Open for reading.
    version : str
        What tells its content from another, as `version_of` says it; nothing if unknown.
    """

    file: IO[bytes]
    version: str

    def check(self) -> None:
        """Raise `ChangedError` if what was read may be of two versions of the file."""
        try:
            descriptor = self.file.fileno()
        except OSError:  # in memory: compared when it was read; object stores compare by themselves
            return
        if version_of(os.fstat(descriptor)) != self.version:
            raise ChangedError("changed while it was read")


@contextmanager
def loaded(place: Location) -> Iterator[Loaded]:
    """Open a source for reading, with its version.

    Raises
    ------
    ImageFileError
        If it is missing or may not be read.
    ChangedError
        If it was written to meanwhile.
    """
    if is_member(place.url):
        file, version = open_member(place.url, place.options)
        yield Loaded(file, version)
        return
    if not place.local:
        with place.open() as file:
            yield _of_remote(file, place.shown)
        return
    with translated(place.shown, "read"):
        raw = _opened(place)
    with raw:
        with translated(place.shown, "read"):
            status = os.fstat(raw.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageFileError(f"{place.shown} is no regular file, not an image.")
            found = _in_memory(raw, status) if status.st_size <= IN_MEMORY else None
        yield found or Loaded(io.BufferedReader(raw), version_of(status))


def _opened(place: Location) -> io.FileIO:
    try:
        return io.FileIO(place.url, opener=lambda path, _: os.open(path, _FLAGS))
    except IsADirectoryError:
        raise ImageFileError(f"{place.shown} is a folder, not an image.") from None


# A named pipe would wait for a writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def _in_memory(raw: io.FileIO, status: os.stat_result) -> Loaded:
    data = raw.read()
    version = version_of(status)
    if version_of(os.fstat(raw.fileno())) != version or len(data) != status.st_size:
        raise ChangedError("changed while it was read")
    return Loaded(io.BytesIO(data), version)


def _of_remote(file: Any, shown: str) -> Loaded:
    facts = getattr(file, "details", None) or {}
    size = facts.get("size")
    version = version_in(facts)
    if size is None or size > IN_MEMORY:
        return Loaded(file, version)
    with translated(shown, "read"):
        return Loaded(io.BytesIO(file.read()), version)
