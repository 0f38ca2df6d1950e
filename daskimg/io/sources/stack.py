"""A folder, a pattern or a list of equal frames, as one image with an axis more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from glob import glob, has_magic
from typing import Any

import numpy as np
from dask._task_spec import GraphNode, Task
from dask.tokenize import tokenize
from numpy.typing import NDArray

from daskimg.chunked.stored import StoredLayer, read_part
from daskimg.errors import ArrayError, ImageFileError
from daskimg.io.formats import FORMATS, suffix_of
from daskimg.io.photo import Photo
from daskimg.io.sources import is_photo, open_stored
from daskimg.io.sources.zarr import is_zarr
from daskimg.io.stored import Layout, Level, StoredImage
from daskimg.io.urls import Location, locate

__all__ = ["StackImage", "StackLayer", "members", "open_stack"]

Pixels = NDArray[Any]

_SUFFIXES = {suffix for one in FORMATS.values() for suffix in one.suffixes} | {".npy"}


def members(url: Any, storage_options: Mapping[str, Any] | None) -> list[Location] | None:
    """Return the files that a folder, a pattern or a list names, in the order of their numbers; None for one file.

    What exists under its name is no pattern, even with ``*`` in it.

    Raises
    ------
    ImageFileError
        There are none.
    """
    if isinstance(url, list | tuple):
        if not url:
            raise ImageFileError("The list of frames is empty.")
        return [locate(one, storage_options) for one in url]
    place = locate(url, storage_options)
    if not place.local:
        if "*" not in place.url.partition("?")[0] or "::" in place.url or place.url.startswith("data:"):
            return None
        fs, pattern = place.filesystem()
        if fs.isfile(pattern):
            return None
        found = [fs.unstrip_protocol(name) for name in fs.glob(pattern)]
        names = [Location(name, False, place.options) for name in sorted(found, key=_natural)]
    elif os.path.isdir(place.url):
        if is_zarr(place):
            return None
        inside = (entry for entry in os.scandir(place.url) if entry.is_file() and not entry.name.startswith("."))
        names = _local(entry.path for entry in inside if suffix_of(entry.name) in _SUFFIXES)
    elif has_magic(place.url) and not os.path.exists(place.url):
        names = _local(glob(place.url, recursive=True))
    else:
        return None
    if not names:
        what = "a folder without images" if place.local and os.path.isdir(place.url) else "a pattern that no file has"
        raise ImageFileError(f"{place.shown} is {what}, not an image.")
    return names


def _local(paths: Any) -> list[Location]:
    return [Location(path, True) for path in sorted(paths, key=_natural)]


def _natural(name: str) -> list[Any]:
    """Return what sorts ``frame-2`` before ``frame-10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True, eq=False)
class StackImage(StoredImage):
    """Reads equal images as one: the first is looked at when it is opened, each other when it is read.

    Attributes
    ----------
    places : tuple of Location
        The files.
    facts : tuple
        What tells the content of each from an earlier one; None where it was not asked for.
    photo : Photo
        How each is read, where it is a photo.
    """

    places: tuple[Location, ...]
    facts: tuple[Any, ...]
    photo: Photo
    layout: Layout
    version: tuple[Any, ...]

    def part(self, frames: slice) -> StackImage:
        """Return some of the frames: to whoever reads these, the names of the others need not travel."""
        places = self.places[frames]
        levels = tuple(replace(level, shape=(len(places), *level.shape[1:])) for level in self.layout.levels)
        version = (*self.version, frames.start, frames.stop)
        return StackImage(places, self.facts[frames], self.photo, replace(self.layout, levels=levels), version)

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Decode a part of one frame."""
        return self._frame(index[0], level).decode(level, index[1:])[None]

    def read(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return a part of some frames."""
        frames = range(where[0].start, where[0].stop)
        return np.stack([self._frame(at, level).read(level, where[1:]) for at in frames])

    def _frame(self, at: int, level: int) -> StoredImage:
        place, facts = self.places[at], self.facts[at]
        if facts is not None and place.version() != facts:
            raise ImageFileError(f"{place.shown} changed since it was opened; open it again.")
        frame = _kept_frame(self, at)
        mine = self.layout.levels[level].shape[1:]
        if frame.layout.dtype != self.layout.dtype or frame.layout.levels[level].shape != mine:
            raise ImageFileError(
                f"{place.shown} differs from the first of its stack: it has shape {frame.layout.levels[level].shape} "
                f"and {frame.layout.dtype}, not {mine} and {self.layout.dtype}."
            )
        return frame


@dataclass(frozen=True, eq=False)
class _WholeFrame(StoredImage):
    """Reads a photo as a stored image of one tile."""

    photo: Photo
    layout: Layout
    version: tuple[Any, ...]

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        return self.photo.declared_pixels(self.layout.levels[0].shape, self.layout.dtype)


def _open_frame(photo: Photo) -> StoredImage:
    stored, _ = (None, None) if photo.strict and is_photo(photo.place) else open_stored(photo.place)
    if stored is not None:
        return stored
    header = photo.header()
    dims = ("y", "x", "channel")[: len(header.shape)]
    layout = Layout(header.format.upper(), dims, header.dtype, (Level(header.shape, header.shape),))
    return _WholeFrame(photo, layout, (photo.place.url, photo.place.version(), tokenize(photo)))


@lru_cache(maxsize=256)
def _kept_frame(stack: StackImage, at: int) -> StoredImage:
    return _open_frame(replace(stack.photo, place=stack.places[at]))


def open_stack(places: Sequence[Location], photo: Photo) -> StackImage:
    """Return equal images as one with a leading axis; the header of the first is read.

    Parameters
    ----------
    places : sequence of Location
        The files.
    photo : Photo
        How the first is read, where it is a photo.

    Raises
    ------
    ArrayError
        A frame has more axes than rows, columns and channels.
    """
    first = _open_frame(photo)
    layout = first.layout
    if not set(layout.dims) <= {"y", "x", "channel"}:
        raise ArrayError(
            f"{places[0].shown} has the axes {', '.join(layout.dims)}; the frames of a stack have rows, columns and "
            "channels. Open each by itself."
        )
    levels = tuple(Level((len(places), *level.shape), (1, *level.tile)) for level in layout.levels)
    stack = replace(layout, format=f"{layout.format} stack", dims=("frame", *layout.dims), levels=levels)
    # Of remote files only the first is looked at: to ask for each would take a request each.
    facts = tuple([place.version() if place.local else None for place in places])
    version = ("stack", tokenize([place.url for place in places], facts, first.version))
    return StackImage(tuple(places), facts, photo, stack, version)


class StackLayer(StoredLayer):
    """Is the layer of a stack: each task gets the names of its own frames."""

    def __reduce__(self) -> Any:
        return StackLayer, (self.name, self.reader, self.chunks, self.annotations)

    def _tasks_for(self, keys: Iterable[Any]) -> dict[Any, GraphNode]:
        tasks: dict[Any, GraphNode] = {}
        for key in keys:
            frames, *where = (slice(edge[at], edge[at + 1]) for edge, at in zip(self._edges, key[1:], strict=True))
            reader = replace(self.reader, image=self.reader.image.part(frames))  # type: ignore[type-var, attr-defined]
            tasks[key] = Task(key, read_part, reader, (slice(0, frames.stop - frames.start), *where))
        return tasks

    def gives_windows(self, reach: tuple[int, int], axes: tuple[int, int]) -> bool:
        """Return False: a window is read by the whole stack's reader, and with it all names would travel."""
        return False
