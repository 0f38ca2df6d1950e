"""The structure of a TIFF file that has no tiles yet: written by tifffile, with the places where tiles are told."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError
from daskimg.io.sink import Target
from daskimg.io.sinks.geotiff import geo_tags, nodata_tag
from daskimg.io.sinks.tiff_codec import COMPRESSIONS

__all__ = ["BIG", "Plan", "TileTable", "written_header"]

#: Bytes of pixels from which on a file is BigTIFF: half of what 32 bits reach, since some tiles are written twice.
BIG = 2**31

_CENTIMETERS = {"nanometer": 1e-7, "micrometer": 1e-4, "millimeter": 0.1, "centimeter": 1.0, "meter": 100.0}
_SYMBOLS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "centimeter": "cm", "meter": "m"}
_SYMBOLS |= {"inch": "in", "pixel": "pixel"}


@dataclass(frozen=True)
class Plan:
    """Says how an image becomes a TIFF file.

    Attributes
    ----------
    target : Target
        The image.
    kind : str
        ``"tiff"``, ``"ome-tiff"`` or ``"cog"``.
    tile : tuple of int
        Rows and columns of a tile.
    compression : str
        By its name in daskimg.
    predictor : int
        The value of the tag.
    bigtiff : bool
        Offsets have 64 bits.
    """

    target: Target
    kind: str
    tile: tuple[int, int]
    compression: str
    predictor: int
    bigtiff: bool

    @property
    def bands(self) -> int:
        """How many planes a page has, one after the other: those of the axis before `y` where they are bands."""
        banded = self.target.batch and (self.kind == "cog" or self.target.dims[len(self.target.batch) - 1] == "band")
        return self.target.batch[-1] if banded and self.kind != "ome-tiff" else 1

    @property
    def pages(self) -> int:
        """How many images the file has, beside coarser resolutions."""
        return math.prod(self.target.batch) // self.bands

    @property
    def chained(self) -> bool:
        """Coarser levels are pages that follow, as OpenSlide and GDAL know them; else they hang below their page."""
        return self.kind == "cog" or (self.kind == "tiff" and self.pages == 1)


@dataclass
class TileTable:
    """Says where the tiles of one page at one resolution are, and where in the file this is told.

    Attributes
    ----------
    grid : tuple of int
        How many tiles there are: bands, rows, columns.
    offsets, counts : ndarray of uint64
        Of the tiles; a count of 0 says that the tile has not come.
    fields : tuple
        For offsets and counts: their place in the file and their type there.
    """

    grid: tuple[int, int, int]
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    fields: tuple[tuple[int, str], tuple[int, str]]

    def encoded(self) -> Iterator[tuple[int, bytes]]:
        """Yield what is to be written, and where."""
        for (position, dtype), values in zip(self.fields, (self.offsets, self.counts), strict=True):
            yield position, values.astype(dtype).tobytes()


def written_header(plan: Plan) -> tuple[bytearray, list[list[TileTable]]]:
    """Return a file without tiles, and its tables by page and level.

    The file depends on nothing but the plan, so that a later run can tell whether it may go on with it.
    """
    import tifffile

    stream = io.BytesIO()
    with tifffile.TiffWriter(
        cast(Any, stream), bigtiff=plan.bigtiff, byteorder="<", ome=plan.kind == "ome-tiff", shaped=False
    ) as writer:
        below = len(plan.target.levels) - 1
        for level in range(below + 1):
            options = _options(plan, level)
            if level == 0 and below and not plan.chained:
                options["subifds"] = below
            # What yields no bytes leaves all tiles empty.
            writer.write(cast(Any, itertools.repeat((b"", 0))), **options)
    stream.seek(0)
    with tifffile.TiffFile(cast(Any, stream)) as file:
        tables = [[_table(plan, page) for page in pages] for pages in _levels(plan, file)]
        if plan.compression == "none":
            for page in itertools.chain.from_iterable(_levels(plan, file)):
                page.tags[259].overwrite(1, erase=False)
    return bytearray(stream.getbuffer()), tables


def _levels(plan: Plan, file: Any) -> Iterator[list[Any]]:
    """Yield the pages of each image in the file, from the finest level on."""
    file.pages.useframes = False
    if plan.chained:
        yield list(file.pages)
        return
    for page in file.pages:
        yield [page, *(page.pages or ())] if len(plan.target.levels) > 1 else [page]


def _table(plan: Plan, page: Any) -> TileTable:
    fields = []
    for code in (324, 325):
        tag = page.tags[code]
        fields.append((tag.valueoffset, {3: "<u2", 4: "<u4", 16: "<u8"}[int(tag.dtype)]))
        count = tag.count
    rows, columns = (
        -(-length // size) for length, size in zip((page.imagelength, page.imagewidth), plan.tile, strict=True)
    )
    zeros = np.zeros(count, np.uint64)
    return TileTable((plan.bands, rows, columns), zeros, zeros.copy(), (fields[0], fields[1]))


def _options(plan: Plan, level: int) -> dict[str, Any]:
    target = plan.target
    size = target.levels[level]
    channels = target.channels or 1
    options: dict[str, Any] = {
        "dtype": target.dtype,
        "shape": (plan.pages, *size),
        "photometric": "minisblack",
        "tile": plan.tile,
        # An uncompressed image of one tile would be written at once; the tag is set right afterwards.
        "compression": COMPRESSIONS["deflate" if plan.compression == "none" else plan.compression].tag,
        "predictor": plan.predictor if plan.predictor > 1 else None,
        "software": "daskimg",
        "metadata": None,
    }
    if plan.bands > 1:
        options |= {"shape": (plan.bands, *size), "planarconfig": "separate", "extrasamples": (0,) * (plan.bands - 1)}
    elif channels > 1:
        color = channels in (3, 4)
        extra = {4: (2,)}.get(channels, () if color else (0,) * (channels - 1))
        options |= {"shape": (plan.pages, *size, channels), "planarconfig": "contig", "extrasamples": extra or None}
        options["photometric"] = "rgb" if color else "minisblack"
    if level:
        options["subfiletype"] = 1
    else:
        options["iccprofile"] = target.attrs.get("icc")
        options |= _ome(plan) if plan.kind == "ome-tiff" else {}
    options["extratags"] = [*(geo_tags(target) if level == 0 else ()), *nodata_tag(target)]
    return options | _resolution(target, level)


def _resolution(target: Target, level: int) -> dict[str, Any]:
    size, unit = target.attrs.get("pixel_size"), target.attrs.get("unit", "")
    centimeters = _CENTIMETERS.get(unit)
    if not size or centimeters is None:
        return {}
    height, width = (
        value * centimeters * full / now
        for value, full, now in zip(size, target.levels[0], target.levels[level], strict=True)
    )
    return {"resolution": (1 / width, 1 / height), "resolutionunit": "centimeter"}


def _ome(plan: Plan) -> dict[str, Any]:
    target = plan.target
    batch = target.dims[: len(target.batch)]
    axes = "".join(name.upper() for name in batch)
    if set(batch) - {"t", "c", "z"}:
        raise ArrayError(
            f"OME-TIFF has the axes t, c and z beside y and x, with RGB(A) as channel; the image has "
            f"{', '.join(target.dims)}. Rename or select, or write OME-Zarr."
        )
    channels = target.channels or 1
    shape = (*target.batch, *target.levels[0], *((channels,) if channels > 1 else ()))
    metadata: dict[str, Any] = {"axes": axes + ("YXS" if channels > 1 else "YX"), "Creator": "daskimg"}
    # Not drawn by chance: a later run makes the same file.
    metadata["UUID"] = str(uuid5(NAMESPACE_URL, repr((target.shape, target.dims, target.dtype.str))))
    size, unit = target.attrs.get("pixel_size"), target.attrs.get("unit", "")
    if size:
        symbol = _SYMBOLS.get(unit, "pixel")
        metadata |= {"PhysicalSizeY": float(size[0]), "PhysicalSizeX": float(size[1])}
        metadata |= {"PhysicalSizeYUnit": symbol, "PhysicalSizeXUnit": symbol}
    names = target.attrs.get("channel_names")
    if names and "c" in batch:
        metadata["Channel"] = {"Name": [str(name) for name in names]}
    return {"shape": shape, "metadata": metadata}
