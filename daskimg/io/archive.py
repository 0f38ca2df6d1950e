"""Images in ZIP archives: an archive's table is read once by each process, however many images it holds."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Any

from daskimg.errors import ImageFileError, ImageTooLargeError
from daskimg.io.boundary import translated
from daskimg.io.urls import Location, locate

__all__ = ["LARGEST_MEMBER", "is_member", "member_url", "members", "open_member"]

#: Bytes that a member may inflate to; archives of a few kilobytes can hold terabytes.
LARGEST_MEMBER = 2**31
_SCHEME = "zip://"


def member_url(archive: Location, name: str) -> str:
    """Return the URL of an image in an archive, as fsspec writes it."""
    return f"{_SCHEME}{name}::{archive.url}"


def is_member(url: str) -> bool:
    """Tell whether a URL names an image in an archive."""
    return url.startswith(_SCHEME) and "::" in url


def members(archive: Location) -> Iterator[tuple[str, str, str]]:
    """Yield for each file in an archive, sorted, its name as the archive has it and as it was meant, and its version.

    The version, size and checksum, tells its content from another.

    Raises
    ------
    ImageFileError
        If the archive is missing or broken.
    """
    with _Archive(archive) as opened:
        table = opened.zip.infolist()
    table.sort(key=lambda member: member.filename)
    for member in table:
        if not member.is_dir():
            yield member.filename, _meant(member), f"{member.file_size}-{member.CRC:08x}"


def _meant(member: zipfile.ZipInfo) -> str:
    """Return a name in the letters that it was written in: UTF-8, which many programs don't declare."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def open_member(url: str, options: Mapping[str, Any] | None = None) -> tuple[IO[bytes], str]:
    """Read one file of an archive into memory; return it with its version, as `members` does.

    Parameters
    ----------
    url : str
        As `member_url` returns it.
    options : mapping, optional
        Options of the file system that the archive is on.

    Raises
    ------
    ImageFileError
        If there is no such file in it, or it is broken.
    ImageTooLargeError
        If it is larger than `LARGEST_MEMBER`.
    """
    name, _, place = url.removeprefix(_SCHEME).partition("::")
    archive = locate(place, options)
    shown = f"{archive.shown[:-1]}/{name}'"
    with translated(shown, "read"):
        opened = _kept(_Key(archive, str(archive.version())))
        try:
            member = opened.zip.getinfo(name)
        except KeyError:
            raise ImageFileError(f"{shown}: there is no such file in the archive.") from None
        if member.file_size > LARGEST_MEMBER:
            raise ImageTooLargeError(
                f"{shown} declares {member.file_size:,} bytes, and at most {LARGEST_MEMBER:,} are taken out of an "
                "archive; unpack it, if you trust it."
            )
        # zipfile reads no more than the size declared, and compares the checksum.
        return io.BytesIO(opened.zip.read(member)), f"{member.file_size}-{member.CRC:08x}"


class _Archive:
    """Is an archive that is open; closed when it is forgotten."""

    def __init__(self, place: Location) -> None:
        self._open = ExitStack()
        with translated(place.shown, "read"):
            self.zip = zipfile.ZipFile(self._open.enter_context(place.open()))

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __del__(self) -> None:
        self._open.close()


@dataclass(frozen=True)
class _Key:
    """Is a place that can be looked up; options of file systems cannot be hashed."""

    place: Location
    version: str

    def __hash__(self) -> int:
        return hash((self.place.url, self.version))


@functools.lru_cache(maxsize=4)
def _kept(key: _Key) -> _Archive:
    return _Archive(key.place)
