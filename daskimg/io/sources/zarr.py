"""Zarr: plain arrays of formats 2 and 3, and OME-Zarr 0.4 and 0.5, in folders, .zip files and object stores.

A chunk is decoded by zarr-python; of a sharded array the inner chunk counts. Chunks that are absent are fill value.
That an array changed is told by its metadata document; chunks that are written anew under it are read as they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.sources.axes import guess_dims, numeric
from daskimg.io.sources.scenes import choose_scene
from daskimg.io.sources.zarr_chunks import ChunkFiles, chunk_files
from daskimg.io.stored import Layout, Level, StoredImage
from daskimg.io.urls import Location

__all__ = ["ZarrImage", "is_zarr", "open_zarr"]

Pixels = NDArray[Any]

DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")  # what makes a folder one of Zarr's
_OLD_AXES = ("t", "c", "z", "y", "x")  # of OME-Zarr 0.1 and 0.2, which did not name them
_COLORS = ["Red", "Green", "Blue", "Alpha"]  # what the channels of one picture are called


@dataclass(frozen=True, eq=False)
class ZarrImage(StoredImage):
    """Reads an image whose levels are Zarr arrays.

    Attributes
    ----------
    place : Location
        Of the store: a folder, a .zip file or a URL.
    paths : tuple of str
        The array of each level within the store.
    """

    place: Location
    paths: tuple[str, ...]
    layout: Layout
    version: tuple[Any, ...]

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Decode a chunk."""
        found = self.layout.levels[level]
        where = tuple(
            slice(at * size, min(at * size + size, length))
            for at, size, length in zip(index, found.tile, found.shape, strict=True)
        )
        with translated(self.place.shown, "read"):
            array, files = _open_level(self, level, self._credentials)
            if files is None:
                return np.asarray(array[where], self.layout.dtype)
            chunk = files.decode(index)[tuple(slice(part.stop - part.start) for part in where)]
            return np.asarray(chunk, self.layout.dtype)

    def read(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return a part of a level. Zarr reads it in one call: it asks for several chunks at a time."""
        with translated(self.place.shown, "read"):
            array, files = _open_level(self, level, self._credentials)
            if self.place.local:
                self.check(level, array)
            if files is None:
                return np.asarray(array[where], self.layout.dtype)
        return super().read(level, where)

    @property
    def _credentials(self) -> str:
        """The options of the file system: images are equal whatever they are, but not read alike."""
        return repr(sorted(self.place.options.items()))

    def check(self, level: int, array: Any) -> None:
        """Refuse a level that is no longer what it was when the image was opened."""
        if _version(self.place, self.paths[level], array) != self.version[2 + level]:
            raise ImageFileError(f"{self.place.shown} changed since it was opened; open it again.")


@lru_cache(maxsize=64)
def _open_level(image: ZarrImage, level: int, credentials: str) -> tuple[Any, ChunkFiles | None]:
    """Return the array of a level, and what reads its chunks faster than zarr; once in a process."""
    import zarr

    path = image.paths[level]
    array = zarr.open_array(_store(image.place), path=path, mode="r")
    image.check(level, array)
    folder = os.path.join(image.place.url, *path.split("/"))
    return array, chunk_files(array, folder) if image.place.local and os.path.isdir(folder) else None


def _store(place: Location) -> Any:
    """Return the place as a store of zarr's."""
    from zarr.storage import FsspecStore, LocalStore, ZipStore

    if place.local:
        local = Path(place.url)
        return ZipStore(local, mode="r") if local.is_file() else LocalStore(local, read_only=True)
    fs, path = place.filesystem()
    if _in_zip(place):
        import fsspec

        fs, path = fsspec.filesystem("zip", fo=fs.open(path, "rb")), ""
    return FsspecStore.from_mapper(fs.get_mapper(path), read_only=True)


def _in_zip(place: Location) -> bool:
    return "::" not in place.url and place.url.partition("?")[0].endswith(".zip")


def is_zarr(place: Location) -> bool:
    """Tell whether a place holds Zarr: a folder with its metadata, or a .zip file of one."""
    if place.local:
        if os.path.isdir(place.url):
            return any(os.path.isfile(os.path.join(place.url, name)) for name in DOCUMENTS)
        return _zip_of_zarr(place)
    if _in_zip(place):
        return _zip_of_zarr(place)
    with translated(place.shown, "reached"):
        fs, path = place.filesystem()
        return any(fs.isfile(f"{path.rstrip('/')}/{name}") for name in DOCUMENTS)


def _zip_of_zarr(place: Location) -> bool:
    import zipfile

    with place.open() as file:
        if not zipfile.is_zipfile(file):
            return False
        file.seek(0)
        names = set(zipfile.ZipFile(file).namelist())
    return not names.isdisjoint(DOCUMENTS)


def open_zarr(place: Location, *, scene: int | str | None = None) -> ZarrImage:
    """Open the image in a Zarr store; only metadata are read.

    The scenes are the series of bioformats2raw, the wells and fields of a plate, such as ``"A/1/0"``, or the arrays
    of a plain group.

    Raises
    ------
    ImageFileError
        The store holds no image, or several and `scene` does not say which.
    """
    import zarr

    with translated(place.shown, "read"):
        root = zarr.open(_store(place), mode="r")
        if isinstance(root, zarr.Array):
            choose_scene(scene, (), place.shown)
            return _image(place, "Zarr", [root], _plain(root, place))
        scenes, found = _scene(root, scene, place)
        if isinstance(found, zarr.Array):
            return _image(place, "Zarr", [found], _plain(found, place), scenes)
        multiscale = _ome(found)["multiscales"][0]
        levels = [found[one["path"]] for one in multiscale["datasets"]]
        return _image(place, "OME-Zarr", levels, _multiscale(found, multiscale, levels[0], place), scenes)


def _ome(group: Any) -> Mapping[str, Any]:
    """Return what OME-Zarr says of a group: in 0.5 under a key of its own."""
    attrs = dict(group.attrs)
    found: Mapping[str, Any] = attrs.get("ome", attrs)
    return found


def _scene(root: Any, scene: int | str | None, place: Location) -> tuple[tuple[str, ...], Any]:
    """Return the names of the images in a group, and the one that is wanted: an array, or a group of levels."""
    ome = _ome(root)
    if "multiscales" in ome:
        choose_scene(scene, (), place.shown)
        return (), root
    if "plate" in ome:
        names = _fields(root, ome["plate"])
    elif "bioformats2raw.layout" in ome:
        series = _ome(root["OME"]).get("series") if "OME" in root else None
        names = tuple(series or sorted((name for name in root.group_keys() if name.isdecimal()), key=int))
    elif "well" in ome:
        names = tuple(image["path"] for image in ome["well"]["images"])
    else:
        names = tuple(sorted(name for name, array in root.arrays() if array.ndim >= 2))
        if not names:
            raise ImageFileError(
                f"{place.shown} is a Zarr group without an image: {', '.join(sorted(root.keys())) or 'it is empty'}. "
                "Name the array or the group inside it that is one."
            )
    at = choose_scene(scene, names, place.shown)
    return names, root[names[at]]


def _fields(root: Any, plate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images of a plate, whose wells have the fields of the first, since reading all metadata takes long."""
    wells = [well["path"] for well in plate["wells"]]
    if not wells:
        return ()
    images = [image["path"] for image in _ome(root[wells[0]])["well"]["images"]]
    return tuple(f"{well}/{image}" for well in wells for image in images)


@dataclass(frozen=True)
class _Meaning:
    """Says what the numbers of an array mean."""

    dims: tuple[str, ...]
    pixel_size: tuple[float, float] | None
    unit: str
    attrs: dict[str, Any]


def _plain(array: Any, place: Location) -> _Meaning:
    """Return what a plain array says of itself, by `dimension_names` or as xarray writes it."""
    attrs = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None) or attrs.get("_ARRAY_DIMENSIONS")
    known = _known({**attrs, "nodata": attrs.get("nodata", attrs.get("_FillValue"))})
    size, unit = _numbers(attrs.get("pixel_size"), 2), attrs.get("unit")
    dims = guess_dims(array.shape, names, place.shown)
    return _Meaning(dims, (size[0], size[1]) if size else None, unit if isinstance(unit, str) else "", known)


def _known(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what attributes say that `ZarrSink` writes, if they are of the kind that is expected."""
    nodata, names = attrs.get("nodata"), attrs.get("channel_names")
    found = {
        "nodata": float("nan") if nodata == "NaN" else nodata if isinstance(nodata, int | float) else None,
        "transform": _numbers(attrs.get("transform"), 6, 9),
        "crs": attrs.get("crs"),
        "channel_names": tuple(map(str, names)) if isinstance(names, list) else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _numbers(value: Any, *lengths: int) -> tuple[float, ...] | None:
    fits = isinstance(value, list) and len(value) in lengths and all(isinstance(one, int | float) for one in value)
    return tuple(map(float, value)) if fits else None


def _multiscale(group: Any, multiscale: Mapping[str, Any], finest: Any, place: Location) -> _Meaning:
    axes = multiscale.get("axes") or _OLD_AXES[-finest.ndim :]
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
    dims = guess_dims(finest.shape, [axis["name"] for axis in axes], place.shown)
    y, x = dims.index("y"), dims.index("x")
    scale, origin = _placed(multiscale, finest.ndim)
    ours = group.attrs.get("daskimg", {})
    attrs = _known(ours)
    if origin[y] or origin[x]:
        attrs["origin"] = (origin[y], origin[x])
    channels = _ome(group).get("omero", {}).get("channels", [])
    names = [str(one.get("label", number)) for number, one in enumerate(channels)]
    if "c" in dims and len(names) == finest.shape[dims.index("c")]:
        attrs["channel_names"] = tuple(names)
        if names in (_COLORS, _COLORS[:3]):
            dims = tuple("channel" if name == "c" else name for name in dims)
    for name in ("z", "t"):
        if name in dims and scale[dims.index(name)] != 1:
            attrs[f"{name}_step"] = scale[dims.index(name)]
    unit = str(axes[y].get("unit", ""))
    size = (scale[y], scale[x])
    if ours.get("color"):  # of one picture, as ZarrSink says
        dims = tuple("channel" if name == "c" else name for name in dims)
    return _Meaning(dims, None if size == (1, 1) and not unit else size, unit, attrs)


def _placed(multiscale: Mapping[str, Any], ndim: int) -> tuple[list[float], list[float]]:
    """Return by how much each axis of the finest level is scaled and shifted."""
    scale, origin = [1.0] * ndim, [0.0] * ndim
    finest = multiscale["datasets"][0]
    for one in (finest, multiscale):
        for step in one.get("coordinateTransformations", ()):
            if step["type"] == "scale" and "scale" in step:
                scale = [a * float(b) for a, b in zip(scale, step["scale"], strict=True)]
                origin = [a * float(b) for a, b in zip(origin, step["scale"], strict=True)]
            elif step["type"] == "translation" and "translation" in step:
                origin = [a + float(b) for a, b in zip(origin, step["translation"], strict=True)]
    return scale, origin


def _image(
    place: Location, name: str, arrays: Sequence[Any], meaning: _Meaning, scenes: tuple[str, ...] = ()
) -> ZarrImage:
    finest = arrays[0]
    dtype = numeric(finest.dtype, place.shown)
    if any(array.ndim != finest.ndim or not math.prod(array.shape) for array in arrays):
        raise ArrayError(f"{place.shown} has levels of shapes {', '.join(str(array.shape) for array in arrays)}.")
    levels = tuple(
        Level(array.shape, tuple(min(a, b) for a, b in zip(array.chunks, array.shape, strict=True))) for array in arrays
    )
    layout = Layout(
        f"{name}, format {finest.metadata.zarr_format}",
        meaning.dims,
        dtype,
        levels,
        meaning.pixel_size,
        meaning.unit,
        meaning.attrs,
        scenes,
        ", ".join(type(one).__name__.removesuffix("Codec").lower() for one in finest.compressors),
    )
    paths = tuple(array.path for array in arrays)
    versions = [_version(place, path, array) for path, array in zip(paths, arrays, strict=True)]
    return ZarrImage(place, paths, layout, (place.url, "zarr", *versions))


def _version(place: Location, path: str, array: Any) -> tuple[Any, ...]:
    """Return what tells an array from an earlier one: its path, and the version of its metadata document."""
    if (place.local and os.path.isfile(place.url)) or _in_zip(place):
        return path, *place.version()
    document = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    inner = "/".join(filter(None, (path, document)))
    return path, *Location(f"{place.url.rstrip('/')}/{inner}", place.local, place.options).version()
