"""TIFF files of any size, written tile by tile in any order: tiled, pyramidal, OME-TIFF, cloud-optimized."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from daskimg.errors import ArrayError, DtypeError, ImageFileError, ParameterError
from daskimg.io.sink import Sink, Target
from daskimg.io.sinks.part_file import PartFile
from daskimg.io.sinks.tiff_codec import TiffEncoder, chosen_predictor, compression_named
from daskimg.io.sinks.tiff_header import BIG, Plan, TileTable, written_header
from daskimg.io.urls import Location

__all__ = ["TiffSink"]

_KINDS = ("tiff", "ome-tiff", "cog")
_DTYPES = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]
_SMALL = 4096  # bytes of an encoded tile that is hardly more than one color; such are written once
_SHARED = 1024  # how many of these are remembered


class TiffSink(Sink):
    """Writes a TIFF file.

    The file grows under a hidden name beside its place, or among temporary files where that is a URL, and gets its name
    when it is whole. Its header is there from the beginning; tiles follow as they come.

    Parameters
    ----------
    place : Location
        Where the file is to be.
    target : Target
        What is to be written. Batch axes become pages; one named `band` becomes the samples of a pixel, stored plane by
        plane (which GDAL and tifffile read, libvips does not), and so does any in a COG, which has room for one. Beside
        what `Target` says, `attrs` may have the color profile as `icc`.
    kind : str
        ``"tiff"``; ``"ome-tiff"``, with OME-XML; or ``"cog"``, a cloud-optimized GeoTIFF, whose tiles are put in order
        at the end, which takes its size on disk once more.
    compression : str, optional
        ``"deflate"`` (default), ``"none"``, ``"lzma"``, and with the extra ``daskimg[codecs]`` ``"lzw"``, ``"zstd"``,
        ``"jpeg"``, ``"jpeg2000"`` and ``"webp"``.
    level : int, optional
        Of deflate 1 to 12 (default 5), zstd 1 to 22 (3), lzma 0 to 9 (6); the quality of jpeg and webp, 1 to 100 (90);
        the signal-to-noise ratio of jpeg2000 in dB (lossless by default).
    tile : int
        Rows and columns of a tile, a multiple of 16.
    predictor : bool, optional
        Encode the differences of neighbours; by default for integers.
    bigtiff : bool, optional
        Offsets of 64 bits; by default where pixels take 2 GiB or more.
    resume : bool
        Go on with the file that an earlier sink of the same place, target and options left.

    Attributes
    ----------
    resumed : bool
        Whether there was such a file; else nothing is to be restored.

    Raises
    ------
    DtypeError, ArrayError
        TIFF, this kind of it or the compression doesn't hold such an image.
    ParameterError
        An option has no such value.
    EnvironmentProblem
        The encoder is not installed.
    ImageFileError
        The file cannot be written, or another process is writing it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from daskimg.io.urls import locate
    >>> place = locate(pathlib.Path(tempfile.mkdtemp()) / "dots.tif")
    >>> target = Target((20, 40), ("y", "x"), np.dtype("uint8"), ((20, 40),))
    >>> sink = TiffSink(place, target, tile=32)
    >>> for column in (1, 0):
    ...     payload = sink.encoder.encode(0, (), (0, column), np.full((20, 32 - 24 * column), column, "uint8"))
    ...     entry = sink.append(0, (), (0, column), payload)
    >>> sink.finish()
    >>> import daskimg
    >>> daskimg.read_image(place.url)[0, 30:34]
    array([0, 0, 1, 1], dtype=uint8)
    """

    def __init__(
        self,
        place: Location,
        target: Target,
        *,
        kind: str = "tiff",
        compression: str | None = None,
        level: int | None = None,
        tile: int = 512,
        predictor: bool | None = None,
        bigtiff: bool | None = None,
        resume: bool = False,
    ) -> None:
        _check(target, kind, tile)
        name, chosen = compression_named(compression, level, target.dtype, target.channels or 1)
        rows, columns = (min(tile, -(-length // 16) * 16) for length in target.levels[0])
        self.tile = (rows, columns)
        coded = chosen_predictor(predictor, name, target.dtype)
        self.encoder = TiffEncoder(self.tile, target.dtype.newbyteorder("<").str, name, chosen, coded)
        big = _pixel_bytes(target, self.tile) >= BIG if bigtiff is None else bigtiff
        self._plan = Plan(target, kind, self.tile, name, coded, big)
        self._target, self._shown, self._limit = target, place.shown, 2**64 if big else 2**32
        header, self._tables = written_header(self._plan)
        self._shared: dict[bytes, tuple[int, int]] = {}
        gaps = [(at, np.dtype(kind).itemsize * table.counts.size) for table in self._all() for at, kind in table.fields]
        self._file = PartFile(place, header, gaps if resume else None)
        self.resumed = self._file.resumed

    def append(self, level: int, batch: tuple[int, ...], at: tuple[int, int], payload: Any) -> list[int]:
        """Write an encoded tile, and return its offset and size."""
        entry = self._shared.get(payload) if len(payload) <= _SMALL else None
        if entry is None:
            if self._file.size + len(payload) > self._limit:
                raise ImageFileError(
                    f"{self._shown} grows beyond 4 GiB, which only BigTIFF can; pass bigtiff=True or leave it out."
                )
            entry = self._file.append(payload), len(payload)
            if len(payload) <= _SMALL and len(self._shared) < _SHARED:
                self._shared[payload] = entry
        self._note(level, batch, at, *entry)
        return list(entry)

    def restore(self, level: int, batch: tuple[int, ...], at: tuple[int, int], entry: Any) -> None:
        """Take over a tile by what `append` returned."""
        offset, count = entry
        if not self.resumed or offset + count > self._file.size:
            raise ImageFileError(
                f"{self._shown}: what an interrupted run left is shorter than it was, or of other options; pass "
                "resume=False to start anew."
            )
        self._note(level, batch, at, offset, count)

    def _note(self, level: int, batch: tuple[int, ...], at: tuple[int, int], offset: int, count: int) -> None:
        number = int(np.ravel_multi_index(batch, self._target.batch)) if batch else 0
        page, band = divmod(number, self._plan.bands)
        table = self._tables[page][level]
        index = int(np.ravel_multi_index((band, *at), table.grid))
        table.offsets[index], table.counts[index] = offset, count

    def flush(self) -> None:
        """Make sure that tiles are on the disk."""
        self._file.flush()

    def finish(self) -> None:
        """Write where the tiles are, and show the file under its name."""
        missing = sum(int(np.count_nonzero(table.counts == 0)) for table in self._all())
        if missing:
            raise ImageFileError(f"{self._shown} is not whole: {missing} tiles were never written.")
        if self._plan.kind == "cog":
            # Readers of a part want coarse levels in front, and neighbours together.
            self._file.reorder([(table.offsets, table.counts) for table in reversed(self._tables[0])])
        for table in self._all():
            for position, data in table.encoded():
                self._file.overwrite(position, data)
        self._file.finish()

    def keep(self) -> None:
        """Leave the hidden file for a later run."""
        self._file.close()

    def discard(self) -> None:
        """Remove the hidden file."""
        self._file.discard()

    def _all(self) -> list[TileTable]:
        return [table for page in self._tables for table in page]


def _pixel_bytes(target: Target, tile: tuple[int, int]) -> int:
    """Return how much the tiles of all levels take without compression."""
    tiles = sum(
        math.prod(-(-length // size) for length, size in zip(level, tile, strict=True)) for level in target.levels
    )
    return tiles * math.prod(tile) * math.prod(target.batch) * (target.channels or 1) * target.dtype.itemsize


def _check(target: Target, kind: str, tile: int) -> None:
    if kind not in _KINDS:
        raise ParameterError(f"kind of TIFF must be one of {', '.join(_KINDS)}; got {kind!r}.")
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < 16 or tile % 16:
        raise ParameterError(f"tile must be a multiple of 16, such as 256 or 512; got {tile!r}.")
    if target.dtype.name not in _DTYPES:
        way = "image.astype('uint8')" if target.dtype == bool else "astype to one of these, or write Zarr"
        raise DtypeError(f"TIFF holds {', '.join(_DTYPES)}, not {target.dtype}; use {way}.")
    if kind == "ome-tiff" and target.dtype == np.float16:
        raise DtypeError("OME-TIFF does not hold float16; use image.astype('float32').")
    if 0 in target.shape:
        raise ArrayError(f"An image without pixels cannot be written; its shape is {target.shape}.")
    if kind == "cog" and len(target.batch) > 1:
        raise ArrayError(
            f"A COG is one image, with at most one more axis as its bands; this one has {', '.join(target.dims)}. "
            "Select along one of them."
        )
