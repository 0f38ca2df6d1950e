"""Saves images that need not fit in memory: as Zarr, OME-Zarr, tiled TIFF, OME-TIFF and COG."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from daskimg.chunked.missing import nodata_of
from daskimg.errors import ArrayError, ImageFileError, ParameterError, suggest
from daskimg.io.formats import STREAMED, format_named
from daskimg.io.journal import Journal
from daskimg.io.pyramid import Downsample, Halving, level_sizes
from daskimg.io.sink import Sink, Target
from daskimg.io.streaming import active_client, aligned, check_seen, fingerprint, stream
from daskimg.io.urls import Location
from daskimg.progress import Progress

__all__ = ["Streaming", "save_large", "streamed_format", "target_of"]

IN_MEMORY = 256 << 20  # bytes up to which a plain TIFF is made in memory, in one piece
_WITH_PYRAMID = ("ome-zarr", "ome-tiff", "cog")
_MAX_CHUNK = 2048  # of Zarr, rows and columns, where the image's own chunks are taken


@dataclass(frozen=True)
class Streaming:
    """Says how a large image is written; `save_image` explains each."""

    compression: str | None = None
    pyramid: bool | None = None
    downsample: Downsample | None = None
    tile: int | None = None
    resume: bool = False
    threads: int | None = None
    progress: Callable[[Progress], None] | bool = False
    cancel: threading.Event | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether an option is set that only streaming has."""
        chosen = (self.pyramid, self.downsample, self.tile, self.threads, self.cancel)
        return any(one is not None for one in chosen) or self.resume or self.progress is not False


def streamed_format(format: str | None, url: str, image: Any, options: Streaming) -> str | None:
    """Return the kind of large image that is to be written, or None for one that is encoded in memory."""
    wanted = format_named(format, url)
    if wanted.name in STREAMED:
        return wanted.name
    large = image.nbytes > IN_MEMORY or image.ndim > 3
    return "tiff" if wanted.name == "tiff" and (large or options.is_asked_for) else None


def save_large(image: Any, place: Location, kind: str, options: Streaming, *, overwrite: bool = True) -> None:
    """Compute a lazy image and write it chunk by chunk; parameters and errors are those of `save_image`."""
    _check(options)
    if kind.endswith("zarr"):
        _check_writable_folder(place, overwrite=overwrite)
    else:
        place.check_writable(overwrite=overwrite)
    data, dims, attrs = _described(image)
    y = dims.index("y")
    tile = _tile_of(data, y, kind, options.tile)
    attrs["downsample"] = options.downsample or _default_downsample(data.dtype)
    target = target_of(data, dims, attrs, tile, pyramid=_wants_pyramid(kind, options))
    data = aligned(data, (tile, tile), y)
    client = None if options.threads else active_client()
    journal = _journal(place, fingerprint(data, target, kind, options.compression, tile)) if options.resume else None
    sink = _sink(place, target, kind, tile, options.compression, resume=journal is not None and journal.begun)
    if journal is not None and not sink.resumed:
        journal.forget()
    try:
        if client is not None and place.local and kind.endswith("zarr"):
            check_seen(client, os.path.dirname(place.url))
        _check_disk(place, int(data.nbytes))
    except BaseException:
        sink.discard() if journal is None else sink.keep()
        raise
    halve = Halving(attrs["downsample"], attrs.get("nodata"))
    stream(
        data,
        target,
        sink,
        halve,
        journal=journal,
        threads=options.threads,
        client=client,
        progress=options.progress,
        cancel=options.cancel,
    )


def _check(options: Streaming) -> None:
    if options.downsample not in (None, "mean", "nearest"):
        raise ParameterError(
            f"downsample must be 'mean' or 'nearest', got {options.downsample!r}."
            f"{suggest(str(options.downsample), ('mean', 'nearest'))}"
        )
    tile = options.tile
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 16 or tile % 16):
        raise ParameterError(f"tile must be a multiple of 16, such as 256 or 512, got {tile!r}.")


def _wants_pyramid(kind: str, options: Streaming) -> bool:
    return kind in _WITH_PYRAMID if options.pyramid is None else options.pyramid


def _default_downsample(dtype: np.dtype[Any]) -> Downsample:
    """Return how levels are made where nobody says: wide integers are labels, whose mean means nothing."""
    return "nearest" if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize >= 4) else "mean"


def _described(image: Any) -> tuple[da.Array, tuple[str, ...], dict[str, Any]]:
    """Return the pixels with their axes in order, the names of these, and what else is known."""
    attrs: dict[str, Any] = {}
    if hasattr(image, "dims"):
        if not {"y", "x"} <= set(image.dims):
            raise ArrayError(f"the axes are {', '.join(map(str, image.dims))}; rows and columns must be called y and x")
        attrs = _known(image)
        colors = ["channel"] if "channel" in image.dims and image.sizes["channel"] <= 4 else []
        batch = [name for name in image.dims if name not in ("y", "x", *colors)]
        image = image.transpose(*batch, "y", "x", *colors)
        dims, data = tuple(map(str, image.dims)), image.data
    else:
        data = image
        if data.ndim not in (2, 3) or (data.ndim == 3 and data.shape[2] > 4):
            raise ArrayError(
                f"Expected (rows, columns) or (rows, columns, 1 to 4 channels), got an array of shape {data.shape}. "
                "Name the axes of a stack: xarray.DataArray(image, dims=('z', 'y', 'x'))."
            )
        dims = ("y", "x", "channel")[: data.ndim]
    if not isinstance(data, da.Array):
        data = da.from_array(np.asarray(data), chunks="auto" if data.ndim == 2 else (*("auto",) * (data.ndim - 1), -1))
    if any(np.isnan(size) for size in data.shape):
        raise ArrayError("The size of this dask array is not known; call .compute_chunk_sizes() first.")
    if not all(data.shape):
        raise ArrayError(f"An image without pixels cannot be saved; its shape is {data.shape}.")
    if dims[-1] == "channel" and data.numblocks[-1] > 1:
        data = data.rechunk({data.ndim - 1: -1})
    return data, dims, attrs


def _known(image: Any) -> dict[str, Any]:
    """Return what a labelled image says of its pixels."""
    known = {name: image.attrs[name] for name in ("unit", "transform", "crs") if image.attrs.get(name) is not None}
    size = image.attrs.get("pixel_size")
    if size is not None:
        known["pixel_size"] = (float(size), float(size)) if np.ndim(size) == 0 else tuple(map(float, size))
    nodata = nodata_of(image)
    if nodata is not None:
        known["nodata"] = nodata
    for name in ("c", "channel"):
        if name in image.dims and name in image.coords and image.coords[name].dtype.kind in "UO":
            known["channel_names"] = [str(one) for one in image.coords[name].values]
    return known


def _tile_of(image: da.Array, y: int, kind: str, wanted: int | None) -> int:
    """Return the side of tiles: what is asked for, that of the image's own chunks for Zarr, or what suits most."""
    if wanted is not None:
        return wanted
    if not kind.endswith("zarr"):
        return 512
    side = image.chunks[y][0]
    own = {length for sizes in image.chunks[y : y + 2] for length in sizes[:-1]} == {side}
    return side if own and side % 16 == 0 and 64 <= side <= _MAX_CHUNK else 1024


def target_of(image: da.Array, dims: tuple[str, ...], attrs: Mapping[str, Any], tile: int, *, pyramid: bool) -> Target:
    """Return what is to be written of an image."""
    y = dims.index("y")
    rows, columns = image.shape[y : y + 2]
    levels = level_sizes(rows, columns, tile) if pyramid else ((rows, columns),)
    return Target(tuple(image.shape), dims, image.dtype.newbyteorder("="), levels, dict(attrs))


def _sink(place: Location, target: Target, kind: Any, tile: int, compression: str | None, *, resume: bool) -> Sink:
    if kind.endswith("zarr"):
        from daskimg.io.sinks.zarr import ZarrSink

        return ZarrSink(place, target, kind=kind, compression=compression, chunk=tile, resume=resume)
    from daskimg.io.sinks.tiff import TiffSink

    return TiffSink(place, target, kind=kind, compression=compression, tile=tile, resume=resume)


def _check_writable_folder(place: Location, *, overwrite: bool) -> None:
    """Refuse a Zarr that cannot be written, or that exists and may not be replaced."""
    if not place.local:
        if not overwrite:
            fs, path = place.filesystem()
            if fs.exists(path):
                raise ImageFileError(f"{place.shown} exists already; pass overwrite=True to replace it.")
        return
    target = Path(place.url)
    if not target.parent.is_dir():
        raise ImageFileError(f"{place.shown}: the folder {str(target.parent)!r} does not exist; make it first.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ImageFileError(f"{place.shown}: the folder {str(target.parent)!r} may not be written to.")
    if target.exists():
        if not overwrite:
            raise ImageFileError(f"{place.shown} exists already; pass overwrite=True to replace it.")
        if not target.is_dir() or not any((target / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
            raise ImageFileError(f"{place.shown} exists and is no Zarr; choose another name.")


def _check_disk(place: Location, nbytes: int) -> None:
    """Refuse what cannot fit: images seldom shrink to a twentieth."""
    if not place.local:
        return
    free = shutil.disk_usage(os.path.dirname(place.url)).free
    if nbytes > 20 * free:
        raise ImageFileError(
            f"{place.shown}: the disk has {free / 2**30:.1f} GiB left for an image of {nbytes / 2**30:.1f} GiB; "
            "free some, or write elsewhere."
        )


def _journal(place: Location, name: str) -> Journal:
    """Return the journal beside a local result; one for a URL lies in the user's cache."""
    if place.local:
        target = Path(place.url)
        return Journal(target.with_name(f".{target.name[:200]}.journal"), name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "daskimg")
    cache.mkdir(parents=True, exist_ok=True)
    return Journal(cache / f"{name}.journal", name)
