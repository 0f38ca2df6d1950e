"""Zarr out, chunk by chunk: plain arrays of formats 2 and 3, and OME-Zarr 0.4 and 0.5.

zarr-python writes the metadata and numcodecs the chunks: through zarr's array a chunk of 1 MiB takes twice as long.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, DtypeError, ImageFileError, ParameterError
from daskimg.io.boundary import translated
from daskimg.io.sink import Encoder, Sink, Target
from daskimg.io.sinks.folder import begin, begun, finish, put, remove, sizes, temporary
from daskimg.io.sinks.ome import json_value, ome_attributes, ome_order
from daskimg.io.sources.zarr import is_zarr
from daskimg.io.urls import Location

__all__ = ["ZarrEncoder", "ZarrSink"]

Pixels = NDArray[Any]

# Each as Zarr 3 says it; numcodecs wants the same under other keys. Level 1 of Zstandard is twice as fast as its
# default, 3, for files that are a tenth larger.
_COMPRESSIONS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "zstd": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "gzip": {"name": "gzip", "configuration": {"level": 5}},
    "blosc": {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}},
}
_COMPRESSIONS["lz4"] = _COMPRESSIONS["blosc"]
_FORMATS = {"0.4": 2, "0.5": 3}  # the format of Zarr below each version of OME-Zarr
_MISSING = 2**64 - 1  # in the index of a shard


@dataclass(frozen=True)
class _Grid:
    """Says how a level is cut, along its array's axes: `tile` is what one object holds, a chunk or a shard of them."""

    path: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    tile: tuple[int, ...]


@dataclass(frozen=True)
class ZarrEncoder(Encoder):
    """Encodes a chunk, or a shard, and writes it to its place; it never reads.

    Attributes
    ----------
    place : Location
        What the image will be called.
    folder : Location
        Where it is written.
    grids : tuple
        How each level is cut.
    axes : tuple of int
        Where in the order of the target each axis of the arrays is.
    dtype : dtype
        Of the samples as they are stored.
    fill : number
        What chunks that are left out consist of.
    codec : str
        How numcodecs is asked for the compression, as JSON.
    prefix : str
        How the names of chunks begin.
    sharded : bool
        Whether an object holds several chunks.
    """

    place: Location
    folder: Location
    grids: tuple[_Grid, ...]
    axes: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    codec: str
    prefix: str
    sharded: bool

    def encode(self, level: int, batch: tuple[int, ...], at: tuple[int, int], pixels: Pixels) -> int:
        """Write a tile, and return how many bytes it has become: none where it consists of the fill value."""
        grid, index = self.grids[level], self._index(batch, at)
        block = pixels[(None,) * len(batch)].transpose(self.axes)
        expected = tuple(min(t, n - i * t) for i, t, n in zip(index, grid.tile, grid.shape, strict=True))
        if block.shape != expected:
            raise ArrayError(f"tile {at} of level {level} is {block.shape}, not the whole of {expected}")
        block = self._padded(block, grid.tile)
        data = self._shard(block, grid) if self.sharded else self._chunk(block)
        if data is None:
            return 0
        with translated(self.place.shown, "written"):
            put(self.folder, self.key(level, batch, at), data)
        return len(data)

    def key(self, level: int, batch: tuple[int, ...], at: tuple[int, int]) -> str:
        """Return the name of a tile's object."""
        return f"{self.grids[level].path}{self.prefix}{'/'.join(map(str, self._index(batch, at)))}"

    def _index(self, batch: tuple[int, ...], at: tuple[int, int]) -> tuple[int, ...]:
        place = (*batch, *at, 0)  # All channels of a pixel are in one chunk.
        return tuple(place[axis] for axis in self.axes)

    def _padded(self, block: Pixels, shape: tuple[int, ...]) -> Pixels:
        if block.shape == shape:
            return np.ascontiguousarray(block, self.dtype)
        whole = np.full(shape, self.fill, self.dtype)
        whole[tuple(map(slice, block.shape))] = block
        return whole

    def _chunk(self, block: Pixels) -> Any:
        """Return a chunk's bytes; None where all of it is the fill value, bit by bit."""
        sample = np.dtype(f"u{min(self.dtype.itemsize, 8)}")
        bits, fill = block.reshape(-1).view(sample), np.array([self.fill], self.dtype).view(sample)[0]
        if bits[0] == fill and (bits == fill).all():
            return None
        codec = _codec(self.codec)
        return block.reshape(-1).view(np.uint8).data if codec is None else codec.encode(block)

    def _shard(self, block: Pixels, grid: _Grid) -> Any:
        """Return a shard's bytes: its chunks, then their offsets and sizes, then a checksum of these."""
        import numcodecs

        counts = [t // c for t, c in zip(grid.tile, grid.chunk, strict=True)]
        index = np.full((*counts, 2), _MISSING, "<u8")
        parts: list[Any] = []
        offset = 0
        for at in np.ndindex(*counts):
            inside = tuple(slice(i * c, i * c + c) for i, c in zip(at, grid.chunk, strict=True))
            data = self._chunk(np.ascontiguousarray(block[inside]))
            if data is not None:
                index[at] = offset, len(data)
                offset += len(data)
                parts.append(data)
        return b"".join([*parts, numcodecs.CRC32C(location="end").encode(index)]) if parts else None


class ZarrSink(Sink):
    """Writes a Zarr array, or an OME-Zarr image of several levels; chunks are written where they are encoded.

    A local image is written to a hidden folder beside its place and renamed when it is whole. In an object store,
    which cannot rename, an image that is replaced goes first, chunks are written under their names, and what makes
    them an image comes last.

    Parameters
    ----------
    place : Location
        A folder to be, or a URL.
    target : Target
        What is to be written. In OME-Zarr the channels of RGB become the axis `c`, first, and all of them are in
        one chunk.
    kind : str, optional
        ``"zarr"`` or ``"ome-zarr"``; by default the latter where there are several levels or the name says so.
    version : str, optional
        Of OME-Zarr: ``"0.5"``, the default, or ``"0.4"``.
    zarr_format : int, optional
        3, the default, or 2. OME-Zarr 0.5 is format 3, 0.4 is format 2.
    compression : str, optional
        ``"zstd"``, the default, ``"blosc"`` or ``"lz4"`` (which mean Blosc with LZ4), ``"gzip"`` or ``"none"``.
    chunk : int
        Rows and columns of a chunk. Making a file takes as long as encoding 100 KB, so that smaller ones are slower;
        larger ones are not faster, and of any a reader must decode all for a single pixel.
    shard : int, optional
        Rows and columns of what is one object, a multiple of `chunk`. By default each chunk is an object.
    resume : bool
        Go on with what an interrupted run left, where it was to be the same; else it is taken away.

    Attributes
    ----------
    resumed : bool
        Whether there was something to go on with.

    Raises
    ------
    ParameterError
        Choices that don't exist, or don't go together.
    ArrayError
        OME-Zarr has no room for such axes.
    DtypeError
        Zarr has no such type.
    ImageFileError
        The place cannot be written to, or holds something that is no Zarr.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from daskimg.io.urls import locate
    >>> place = locate(tempfile.mkdtemp() + "/black.zarr")
    >>> sink = ZarrSink(place, Target((40, 60), ("y", "x"), np.dtype("uint8"), ((40, 60),)))
    >>> sink.append(0, (), (0, 0), sink.encoder.encode(0, (), (0, 0), np.ones((40, 60), "uint8"))) > 0
    True
    >>> sink.finish()
    """

    encoder: ZarrEncoder

    def __init__(
        self,
        place: Location,
        target: Target,
        *,
        kind: Literal["zarr", "ome-zarr"] | None = None,
        version: Literal["0.4", "0.5"] | None = None,
        zarr_format: Literal[2, 3] | None = None,
        compression: str | None = None,
        chunk: int = 1024,
        shard: int | None = None,
        resume: bool = False,
    ) -> None:
        self.place = place
        name = place.url.rstrip("/").rpartition("/")[2]
        self.kind = kind or ("ome-zarr" if len(target.levels) > 1 or ".ome." in name else "zarr")
        ome = self.kind == "ome-zarr"
        self.version, self.zarr_format = _versions(ome, version, zarr_format)
        _check(self.kind, target, compression, chunk, shard, self.zarr_format)
        self.tile = (shard or chunk,) * 2
        axes = ome_order(target.dims) if ome else tuple(range(len(target.dims)))
        compressor = _COMPRESSIONS[compression or "zstd"]
        self.encoder = ZarrEncoder(
            place,
            temporary(place),
            tuple(
                _grid(f"{level}/" if ome else "", target, level, axes, chunk, shard or chunk)
                for level in range(len(target.levels))
            ),
            axes,
            target.dtype.newbyteorder("<"),
            _fill(target),
            json.dumps(_for_numcodecs(compressor)),
            "c/" if self.zarr_format == 3 else "",
            shard is not None,
        )
        attributes = ome_attributes(target, self.version, name.split(".")[0]) if ome else json_value(target.attrs)
        dims = ["c" if ome and target.dims[axis] == "channel" else target.dims[axis] for axis in axes]
        self._documents = _documents(self.encoder, ome, attributes, dims, self.zarr_format, compressor)
        self._sizes: dict[str, int] | None = None
        plan = json.dumps({key: data.decode() for key, data in self._documents.items()}).encode()
        with translated(place.shown, "written"):
            _check_place(place)
            self.resumed = begin(self.encoder.folder, plan, resume=resume)

    def append(self, level: int, batch: tuple[int, ...], at: tuple[int, int], payload: Any) -> Any:
        """Return the number of bytes of the chunk, which is written already."""
        return payload

    def restore(self, level: int, batch: tuple[int, ...], at: tuple[int, int], entry: Any) -> None:
        """Check that the chunk of an interrupted run is there.

        Raises
        ------
        ImageFileError
            It is not, or is of another size.
        """
        if not entry:
            return
        key = self.encoder.key(level, batch, at)
        with translated(self.place.shown, "read"):
            if self._sizes is None:
                self._sizes = sizes(self.encoder.folder)
        if self._sizes.get(key) != entry:
            raise ImageFileError(
                f"{self.place.shown} lacks the chunk {key}, which an interrupted run wrote; start anew."
            )

    def flush(self) -> None:
        """Do nothing: a chunk that was encoded is in its place."""

    def finish(self) -> None:
        """Write what makes the chunks an image, and show it under its name."""
        folder = self.encoder.folder
        with translated(self.place.shown, "written"):
            for key, data in self._documents.items():
                put(folder, key, data)
            finish(folder, self.place)

    def keep(self) -> None:
        """Leave what there is for a later run."""

    def discard(self) -> None:
        """Take away what was written."""
        with translated(self.place.shown, "deleted"):
            remove(self.encoder.folder)


def _versions(ome: bool, version: str | None, zarr_format: int | None) -> tuple[str, int]:
    """Return the version of OME-Zarr and the format of Zarr, of which one tells the other."""
    version = version or ("0.4" if ome and zarr_format == 2 else "0.5")
    if version not in _FORMATS:
        raise ParameterError(f"version of OME-Zarr must be one of {', '.join(_FORMATS)}; got {version!r}.")
    zarr_format = zarr_format or (_FORMATS[version] if ome else 3)
    if zarr_format not in _FORMATS.values():
        raise ParameterError(f"zarr_format must be 2 or 3; got {zarr_format!r}.")
    if ome and _FORMATS[version] != zarr_format:
        raise ParameterError(f"OME-Zarr {version} is Zarr of format {_FORMATS[version]}, not {zarr_format}; leave one.")
    return version, zarr_format


def _check(kind: str, target: Target, compression: str | None, chunk: int, shard: int | None, zarr_format: int) -> None:
    if kind not in ("zarr", "ome-zarr"):
        raise ParameterError(f"kind must be 'zarr' or 'ome-zarr'; got {kind!r}.")
    if kind == "zarr" and len(target.levels) > 1:
        raise ParameterError("A plain Zarr array has one level; write OME-Zarr for smaller ones beside it.")
    if compression is not None and compression not in _COMPRESSIONS:
        raise ParameterError(f"compression of Zarr must be one of {', '.join(_COMPRESSIONS)}; got {compression!r}.")
    if chunk < 1 or (shard is not None and (shard < chunk or shard % chunk)):
        raise ParameterError(
            f"shard must be a multiple of chunk, which is at least 1; got chunk {chunk}, shard {shard}."
        )
    if shard is not None and zarr_format == 2:
        raise ParameterError("Zarr of format 2 has no shards; use format 3, or OME-Zarr 0.5.")
    if target.dtype.kind not in "biufc" or target.dtype.itemsize > (16 if target.dtype.kind == "c" else 8):
        raise DtypeError(f"Zarr cannot hold {target.dtype}, only booleans, integers, floats and complex numbers.")


def _grid(path: str, target: Target, level: int, axes: tuple[int, ...], chunk: int, tile: int) -> _Grid:
    """Return how a level is cut; where one tile holds it, without what would lie beyond its end."""
    rows_columns = target.levels[level]
    colors = () if target.channels is None else (target.channels,)
    ones = (1,) * len(target.batch)
    chunks = [min(chunk, length) for length in rows_columns]
    tiles = [min(tile, -(-length // size) * size) for length, size in zip(rows_columns, chunks, strict=True)]
    shape, chunk_shape, tile_shape = (
        (*target.batch, *rows_columns, *colors),
        (*ones, *chunks, *colors),
        (*ones, *tiles, *colors),
    )
    return _Grid(path, *(tuple(one[axis] for axis in axes) for one in (shape, chunk_shape, tile_shape)))


def _fill(target: Target) -> Any:
    """Return what is not stored where it fills a chunk: `nodata`, where the type can hold it, or 0."""
    nodata, dtype = target.attrs.get("nodata"), target.dtype
    fits = nodata is not None and (
        (dtype.kind in "iu" and math.isfinite(nodata) and np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max)
        or dtype.kind == "f"
    )
    return dtype.type(nodata if fits else 0)


def _for_numcodecs(compressor: dict[str, Any] | None) -> dict[str, Any] | None:
    if compressor is None:
        return None
    shuffles = {"shuffle": 1} if compressor["name"] == "blosc" else {}
    return {"id": compressor["name"], **compressor["configuration"], **shuffles}


@lru_cache
def _codec(config: str) -> Any:
    import numcodecs

    found = json.loads(config)
    return None if found is None else numcodecs.get_codec(found)


def _documents(
    encoder: ZarrEncoder,
    ome: bool,
    attributes: dict[str, Any],
    dims: list[str],
    zarr_format: int,
    compressor: dict[str, Any] | None,
) -> dict[str, bytes]:
    """Return the metadata documents as zarr-python writes them, by name; what makes it an image comes last."""
    import zarr
    from zarr.storage import MemoryStore

    held: dict[str, Any] = {}
    store = MemoryStore(held)
    options: dict[str, Any] = {
        "zarr_format": zarr_format,
        "dtype": encoder.dtype,
        "fill_value": encoder.fill,
        "compressors": compressor if zarr_format == 3 else _codec(encoder.codec),
        "chunk_key_encoding": {"name": "default" if zarr_format == 3 else "v2", "separator": "/"},
    }
    if ome:
        zarr.create_group(store, zarr_format=options["zarr_format"], attributes=attributes)
    if zarr_format == 3:
        options["dimension_names"] = dims
        options["attributes"] = {} if ome else attributes
    else:
        options["attributes"] = {"_ARRAY_DIMENSIONS": dims, **({} if ome else attributes)}
    for grid in encoder.grids:
        shards = grid.tile if encoder.sharded else None
        name = grid.path.rstrip("/") or None
        zarr.create_array(store, name=name, shape=grid.shape, chunks=grid.chunk, shards=shards, **options)
    order = sorted(held, key=lambda key: (-key.count("/"), not key.endswith(".zattrs"), key))
    return {key: held[key].to_bytes() for key in order}


def _check_place(place: Location) -> None:
    """Refuse what cannot be written, and what holds something else than an older image."""
    if place.local:
        parent = os.path.dirname(temporary(place).url)
        if not os.path.isdir(parent):
            raise ImageFileError(f"{place.shown}: the folder {parent!r} does not exist; make it first.")
        empty = not os.path.lexists(place.url) or (os.path.isdir(place.url) and not os.listdir(place.url))
    else:
        place.check_writable(overwrite=True)
        fs, path = place.filesystem()
        empty = not fs.exists(path) or begun(place)
    if not empty and not (is_zarr(place) and (not place.local or os.path.isdir(place.url))):
        raise ImageFileError(f"{place.shown} holds something that is no Zarr; remove it, or choose another name.")
