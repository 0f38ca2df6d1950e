"""CZI, ND2 and LIF, by the libraries that the extra ``daskimg[microscopes]`` brings.

Zeiss' own reader of CZI puts mosaics together at any size; nd2 and liffile read planes. They read local files.
"""

from __future__ import annotations

import atexit
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import EnvironmentProblem, ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.sources.axes import guess_dims, numeric
from daskimg.io.sources.handles import OpenFiles
from daskimg.io.sources.scenes import choose_scene
from daskimg.io.stored import Layout, Level, StoredImage
from daskimg.io.urls import Location

__all__ = ["MicroscopeImage", "open_microscope"]

Pixels = NDArray[Any]
Where = tuple[slice, ...]

_MODULES = {"czi": "pylibCZIrw", "nd2": "nd2", "lif": "liffile"}
_REGION = 1024  # rows and columns of a mosaic that are put together at once
_CACHE_BYTES = 64 << 20  # of decoded tiles that Zeiss' reader keeps


class MicroscopeFile(ABC):
    """Is an open file of a microscope; several threads share it.

    Attributes
    ----------
    scenes : tuple of str
        The names of the images in it.
    """

    scenes: tuple[str, ...] = ()

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        with ExitStack() as closing:
            self._open(path, closing)
            self._closing = closing.pop_all()

    @abstractmethod
    def _open(self, path: str, closing: ExitStack) -> None:
        """Open the file and look at its metadata."""

    @abstractmethod
    def layout(self, scene: int) -> Layout:
        """Return what a scene holds."""

    @abstractmethod
    def part(self, scene: int, level: int, where: Where) -> Pixels:
        """Read a part of a level."""

    def close(self) -> None:
        """Close the file."""
        self._closing.close()


class _Czi(MicroscopeFile):
    def _open(self, path: str, closing: ExitStack) -> None:
        from pylibCZIrw import czi

        cache = czi.CacheOptions(czi.CacheType.Standard, _CACHE_BYTES)
        self._file = closing.enter_context(czi.open_czi(path, cache_options=cache))
        self._places = dict(self._file.scenes_bounding_rectangle) or {None: self._file.total_bounding_rectangle}
        self.scenes = tuple(str(number) for number in self._places) if len(self._places) > 1 else ()
        self._sizes = {
            name: stop - start
            for name, (start, stop) in self._file.total_bounding_box.items()
            if name not in "XYBS" and stop - start > 1
        }
        self._before = sorted(self._sizes, key="TZC".find)
        self._about = self._file.metadata.get("ImageDocument", {}).get("Metadata", {})

    def layout(self, scene: int) -> Layout:
        pixel = self._file.get_channel_pixel_type(0)
        dtype = {"Gray8": "uint8", "Bgr24": "uint8", "Gray16": "uint16", "Bgr48": "uint16", "Gray32Float": "float32"}
        if pixel not in dtype:
            raise ImageFileError(f"its pixels are {pixel}, which daskimg does not read")
        before = self._before
        lengths = tuple(self._sizes[name] for name in before)
        colors = (3,) if pixel.startswith("Bgr") else ()
        place = list(self._places.values())[scene]
        factor, count = self._pyramid(scene)
        levels = tuple(
            Level(
                (*lengths, rows, columns, *colors),
                (*(1 for _ in before), min(_REGION, rows), min(_REGION, columns), *colors),
            )
            for rows, columns in ((place.h // factor**level, place.w // factor**level) for level in range(count + 1))
            if rows and columns
        )
        size, names = _czi_pixel_size(self._about), _czi_channels(self._about)
        return Layout(
            "CZI",
            (*(name.lower() for name in before), "y", "x", *(("channel",) if colors else ())),
            np.dtype(dtype[pixel]),
            levels,
            size,
            "micrometer" if size else "",
            {"channel_names": names} if "C" in before and len(names) == self._sizes["C"] else {},
            self.scenes,
        )

    def _pyramid(self, scene: int) -> tuple[int, int]:
        """Return by how much each level of a scene is smaller than the one before, and how many are stored."""
        dimensions = self._about.get("Information", {}).get("Image", {}).get("Dimensions", {})
        scenes = _listed(((dimensions.get("S") or {}).get("Scenes") or {}).get("Scene"))
        stored = (scenes[scene].get("PyramidInfo") or {}) if scene < len(scenes) else {}
        factor = int(float(stored.get("MinificationFactor", 2)))
        return (factor, int(stored.get("PyramidLayersCount", 0))) if factor > 1 else (2, 0)

    def part(self, scene: int, level: int, where: Where) -> Pixels:
        number, place = list(self._places.items())[scene]
        before, (rows, columns) = where[: len(self._before)], where[len(self._before) : len(self._before) + 2]
        factor = self._pyramid(scene)[0] ** level
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        roi = (place.x + columns.start * factor, place.y + rows.start * factor, wide * factor, high * factor)
        planes = []
        for at in itertools.product(*(range(one.start, one.stop) for one in before)):
            plane = dict(zip(self._before, at, strict=True))
            found = self._file.read(roi, plane, number, 1 / factor, self._file.get_channel_pixel_type(0))
            # OpenCV's order of colors is Zeiss' too.
            planes.append(found[..., ::-1] if found.shape[-1] == 3 else found[..., 0])
            if planes[-1].shape[:2] != (high, wide):
                raise ImageFileError(f"a part of {high} x {wide} pixels came as {planes[-1].shape[:2]}")
        return np.stack(planes).reshape(*(one.stop - one.start for one in before), *planes[0].shape)


def _listed(found: Any) -> list[Any]:
    """Return the elements of XML that has been turned to dictionaries, where a single one is no list."""
    return found if isinstance(found, list) else [] if found is None else [found]


def _czi_pixel_size(about: Mapping[str, Any]) -> tuple[float, float] | None:
    distances = _listed((about.get("Scaling") or {}).get("Items", {}).get("Distance"))
    meters = {one.get("@Id"): float(one.get("Value") or 0) for one in distances}
    if not (meters.get("X") and meters.get("Y")):
        return None
    return meters["Y"] * 1e6, meters["X"] * 1e6


def _czi_channels(about: Mapping[str, Any]) -> tuple[str, ...]:
    shown = (about.get("DisplaySetting") or {}).get("Channels") or {}
    stored = about.get("Information", {}).get("Image", {}).get("Dimensions", {}).get("Channels") or {}
    named = _listed(shown.get("Channel")) or _listed(stored.get("Channel"))
    return tuple(str(one.get("@Name") or one.get("ShortName") or one.get("@Id")) for one in named)


class _Nd2(MicroscopeFile):
    def _open(self, path: str, closing: ExitStack) -> None:
        import nd2

        self._file = closing.enter_context(nd2.ND2File(path))
        self._sizes = dict(self._file.sizes)
        count = self._sizes.pop("P", 1)
        self.scenes = tuple(map(str, range(count))) if count > 1 else ()
        self._before = [name for name in self._sizes if name not in "CYXS"]
        self._frames = {
            tuple(at.get(name, 0) for name in ("P", *self._before)): number
            for number, at in enumerate(self._file.loop_indices)
        }

    def layout(self, scene: int) -> Layout:
        sizes = self._sizes
        names = [*self._before, *(name for name in "CYXS" if name in sizes)]
        shape = tuple(sizes[name] for name in names)
        size, channels = self._about()
        return Layout(
            "ND2",
            tuple("channel" if name == "S" else name.lower() for name in names),
            numeric(self._file.dtype, ""),
            (Level(shape, tuple(1 if name in self._before else sizes[name] for name in names)),),
            size,
            "micrometer" if size else "",
            {"channel_names": channels} if "C" in sizes and len(channels) == sizes["C"] else {},
            self.scenes,
        )

    def _about(self) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
        """Return the size of a pixel and the names of the channels."""
        with suppress(Exception):  # the pixels are worth reading where nd2 does not understand what is said of them
            size = self._file.voxel_size()
            channels = tuple(one.channel.name for one in self._file.metadata.channels or ())
            known = size.x > 0 and (size.x, size.y) != (1, 1)
            return (size.y, size.x) if known else None, channels
        return None, ()

    def part(self, scene: int, level: int, where: Where) -> Pixels:
        before, inside = where[: len(self._before)], where[len(self._before) :]
        frame = tuple(self._sizes[name] for name in "CYXS" if name in self._sizes)
        planes = []
        for at in itertools.product(*(range(one.start, one.stop) for one in before)):
            with self._lock:
                found = self._file.read_frame(self._frames.get((scene, *at), 0))
            planes.append(np.array(found.reshape(frame)[inside]))
        return np.stack(planes).reshape(*(one.stop - one.start for one in before), *planes[0].shape)


class _Lif(MicroscopeFile):
    def _open(self, path: str, closing: ExitStack) -> None:
        import liffile

        self._file = closing.enter_context(liffile.LifFile(path))
        images = [image for image in self._file.images if not image.is_flim and image.ndim >= 2]
        if not images:
            raise ImageFileError("it holds no image")
        self._images = images
        names = [image.name for image in images]
        unique = [name if names.count(name) == 1 else f"{name}#{at}" for at, name in enumerate(names)]
        self.scenes = tuple(unique) if len(images) > 1 else ()

    def layout(self, scene: int) -> Layout:
        image = self._images[scene]
        inside = image.frames.frame_dims
        tile = tuple(length if name in inside else 1 for name, length in image.sizes.items())
        named = ["channel" if name == "S" else name for name in image.dims]
        coordinates = [image.coords.get(name) for name in ("Y", "X")]
        known = all(one is not None and len(one) > 1 and one[1] != one[0] for one in coordinates)
        height, width = (abs(float(one[1] - one[0])) * 1e6 for one in coordinates) if known else (0.0, 0.0)
        return Layout(
            "LIF",
            guess_dims(image.shape, named, repr(image.name)),
            numeric(image.dtype, image.name),
            (Level(tuple(image.shape), tile),),
            (height, width) if known else None,
            "micrometer" if known else "",
            {},
            self.scenes,
        )

    def part(self, scene: int, level: int, where: Where) -> Pixels:
        image = self._images[scene]
        inside = image.frames.frame_dims
        before = [(name, one) for name, one in zip(image.dims, where, strict=True) if name not in inside]
        if image.dims[len(before) :] != inside:
            raise ImageFileError(f"its axes {', '.join(image.dims)} are not planes one after another")
        planes = []
        for at in itertools.product(*(range(one.start, one.stop) for _, one in before)):
            with self._lock:
                found = image.frame(**{name: number for (name, _), number in zip(before, at, strict=True)})
            planes.append(found[where[len(before) :]])
        return np.stack(planes).reshape(*(one.stop - one.start for _, one in before), *planes[0].shape)


_READERS: dict[str, Callable[[str], MicroscopeFile]] = {"czi": _Czi, "nd2": _Nd2, "lif": _Lif}

#: The microscopes' files of this process that are open.
FILES: OpenFiles[MicroscopeFile] = OpenFiles(16)
atexit.register(FILES.close)  # nd2 warns of files that Python closes


@dataclass(frozen=True, eq=False)
class MicroscopeImage(StoredImage):
    """Reads one scene of a microscope's file."""

    kind: str
    place: Location
    scene: int
    content: tuple[Any, ...]
    layout: Layout
    version: tuple[Any, ...]

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Decode a plane, or a part of a mosaic."""
        found = self.layout.levels[level]
        return self._part(
            level,
            tuple(
                slice(at * size, min(at * size + size, length))
                for at, size, length in zip(index, found.tile, found.shape, strict=True)
            ),
        )

    def read(self, level: int, where: Where) -> Pixels:
        """Return a part of a level; Zeiss' reader keeps the tiles of a mosaic itself."""
        return self._part(level, where) if self.kind == "czi" else super().read(level, where)

    def _part(self, level: int, where: Where) -> Pixels:
        with translated(self.place.shown, "read"):
            if self.place.version() != self.content:
                raise ImageFileError(f"{self.place.shown} changed since it was opened; open it again.")
            with _opened(self.kind, self.place, self.content) as file:
                return np.ascontiguousarray(file.part(self.scene, level, where), self.layout.dtype)


def _opened(kind: str, place: Location, content: tuple[Any, ...]) -> AbstractContextManager[MicroscopeFile]:
    return FILES.use((kind, place.url, content), lambda: _READERS[kind](place.url))


def open_microscope(place: Location, kind: str, *, scene: int | str | None = None) -> MicroscopeImage:
    """Open a file of a microscope; its metadata are read.

    Parameters
    ----------
    place : Location
        A local file.
    kind : {"czi", "nd2", "lif"}
        Its format.
    scene : int or str, optional
        Which of several images.

    Raises
    ------
    EnvironmentProblem
        The library for the format is not installed.
    ImageFileError
        The file is broken or not local, or holds several scenes and none is named.
    """
    from importlib.util import find_spec

    if find_spec(_MODULES[kind]) is None:
        raise EnvironmentProblem(
            f"{place.shown} is {kind.upper()}, which needs a reader that is not installed: "
            "pip install 'daskimg[microscopes]'"
        )
    if not place.local:
        raise ImageFileError(
            f"{place.shown} is {kind.upper()}, which is read from local files only; download it first."
        )
    content = place.version()
    with translated(place.shown, "read"), _opened(kind, place, content) as file:
        number = choose_scene(scene, file.scenes, place.shown)
        return MicroscopeImage(kind, place, number, content, file.layout(number), (place.url, kind, number, content))
