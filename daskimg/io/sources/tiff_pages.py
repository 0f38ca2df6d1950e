"""Pages of a TIFF file: where their directories are, and how their tiles and strips are decoded."""

from __future__ import annotations

import io
import itertools
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import DaskimgError, ImageFileError, ImageTooLargeError
from daskimg.io.boundary import translated
from daskimg.io.containers import jxl_size, webp_header
from daskimg.io.sources.handles import SourceFile
from daskimg.io.tiff import check_inflated, check_segments, colored, has_imagecodecs
from daskimg.io.urls import Location

__all__ = ["Content", "Page", "Planes", "opened"]

Pixels = NDArray[Any]

_KEPT = 32  # pages of a file whose tile offsets are kept
_MOST_TAGS = 4096
_MOST_PAGES = 2**22
_JPEG, _JPEG2000, _PNG, _WEBP, _JXL = (6, 7, 33007, 34892), (33003, 33004, 33005, 34712), 34933, 50001, (50002, 52546)
#: Aperio's JPEG 2000, whose samples are YCbCr whatever the tags say.
YCC_JPEG2000 = 33003


class Planes(NamedTuple):
    """Says which pages the planes of one level are.

    Attributes
    ----------
    numbers : range or tuple of int
        Their numbers in the file's list of pages; -1 for a plane that is not there.
    sub : int or None
        Which of the page's SubIFDs, for a reduced level.
    stacked : bool
        All planes lie one behind the other in the first page, uncompressed, as ImageJ writes them beyond 4 GB.
    """

    numbers: range | tuple[int, ...]
    sub: int | None = None
    stacked: bool = False


def opened(stream: Any, name: str) -> Any:
    """Return a stream as tifffile's object; only its first page is read."""
    import tifffile

    stream.seek(0)
    # What one file says counts, and not what files beside it say.
    return tifffile.TiffFile(stream, name=name, _multifile=False, is_mmstack=False, is_ndtiff=False)


class Page:
    """Decodes the tiles or strips of one page; several threads share it.

    Parameters
    ----------
    page : tifffile.TiffPage
        The page as tifffile parses it.
    file : SourceFile
        The file that it is in.
    """

    def __init__(self, page: Any, file: SourceFile) -> None:
        self.offsets = np.asarray(page.dataoffsets, np.int64)
        self.lengths = np.asarray(page.databytecounts, np.int64)
        tables = {"jpegtables": page.jpegtables, "jpegheader": getattr(page, "jpegheader", None)}
        self.tables = {name: value for name, value in tables.items() if value is not None}
        page = page.keyframe  # itself, but where tifffile read no more than the offsets
        self.file = file
        self.page = page
        self.decode = page.decode
        self.bounded = has_imagecodecs()  # which gives a tile no more room than it needs
        self.final = bool(page.is_final)
        self.rows, self.columns = int(page.imagelength), int(page.imagewidth)
        self.samples = int(page.samplesperpixel)
        self.apart = page.planarconfig == 2 and self.samples > 1
        self.tile = tile_shape(page)
        if min(self.rows, self.columns, *self.tile) < 1:
            raise ImageFileError(f"{file.place.shown} declares {self.rows} x {self.columns} pixels; it holds no image.")
        self.across = -(-self.columns // self.tile[1])
        self.count = -(-self.rows // self.tile[0]) * self.across
        self.nodata = page.nodata
        self.icc = page.iccprofile if page.photometric == 5 else None
        self.stored = page.dtype.newbyteorder(page.parent.byteorder)

    def check(self, planes: int) -> None:
        """Refuse a page that has fewer tiles than it should, some far too large, or some beyond the file's end.

        `planes` is how many lie one behind the other from its first byte on.
        """
        shown = self.file.place.shown
        wanted = self.count * (self.samples if self.apart else 1)
        if len(self.offsets) < wanted or len(self.lengths) < wanted:
            raise ImageFileError(
                f"{shown} declares {self.rows} x {self.columns} pixels in {wanted} tiles or strips, and lists "
                f"{min(len(self.offsets), len(self.lengths))}. It is damaged."
            )
        check_segments(self.page, self.file.size, shown)
        if self.final and int(self.offsets[0]) + planes * int(self.page.nbytes) > self.file.size:
            raise ImageFileError(
                f"{shown} is truncated: it stops after {self.file.size} bytes, too early for {planes} planes of "
                f"{int(self.page.nbytes)}. Copy or download it again."
            )

    @property
    def kind(self) -> tuple[Any, ...]:
        """What pages of one image have in common."""
        colors = (int(self.page.photometric), tuple(self.page.extrasamples))
        return (self.rows, self.columns, self.tile, self.samples, self.apart, self.final, self.stored.str, colors)

    def region(self, rows: slice, columns: slice, sample: int, stacked: int = 0) -> Pixels:
        """Return a part of uncompressed data: rows, columns, samples; of one sample where they lie apart.

        `stacked` is the number of a plane behind the first page's.
        """
        width = self.stored.itemsize * (1 if self.apart else self.samples)
        line = width * self.columns
        start = int(self.offsets[0]) + stacked * int(self.page.nbytes) + (sample * self.rows + rows.start) * line
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if self.file.place.local and wide * 4 < self.columns:
            start += columns.start * width
            parts = [self.file.read(start + row * line, wide * width) for row in range(high)]
            pixels = np.frombuffer(b"".join(parts), self.stored).reshape(high, wide, -1)
        else:
            data = np.frombuffer(self.file.read(start, high * line), self.stored)
            pixels = data.reshape(high, self.columns, -1)[:, columns]
        return pixels.astype(self.stored.newbyteorder("="), copy=False)

    def which(self, sample: int | None) -> Sequence[int]:
        """Return the samples that are decoded one by one: all where they lie apart and none is meant."""
        return range(self.samples) if self.apart and sample is None else [sample or 0]

    def numbers(self, rows: slice, columns: slice, sample: int) -> Iterator[tuple[int, int, int]]:
        """Yield the tile, or the strips, that lie there: their numbers, and the rows and columns they begin at."""
        high, wide = self.tile
        first = sample * self.count + columns.start // wide
        for row in range(rows.start, rows.stop, high):
            yield first + (row // high) * self.across, row, columns.start

    def segment(self, number: int, row: int, column: int) -> Pixels:
        """Return a tile or strip, which begins at a row and column, clipped to the page: rows, columns, samples."""
        shape = (min(self.tile[0], self.rows - row), min(self.tile[1], self.columns - column))
        start, length = int(self.offsets[number]), int(self.lengths[number])
        if start == 0 or length == 0:
            return np.full((*shape, 1 if self.apart else self.samples), self.nodata, self.page.dtype)
        shown = f"{self.file.place.shown}: the tile or strip at row {row}, column {column}"
        if start < 0 or length < 0 or start + length > self.file.size:
            raise ImageFileError(
                f"{shown} ends after the file, which is truncated to {self.file.size} bytes. Copy or download it again."
            )
        data = self.file.read(start, length)
        try:
            self._check_declared(data, shown)
            found = self.decode(data, number, **self.tables)[0]
            pixels: Pixels = found[0, : shape[0], : shape[1]]
            if pixels.shape[:2] != shape:
                raise ValueError(f"it holds {found.shape[1]} x {found.shape[2]} pixels")
            return pixels
        except (MemoryError, DaskimgError):
            raise
        except Exception as error:  # Hostile bytes make decoders raise anything.
            reason = " ".join(str(error).split())
            raise ImageFileError(f"{shown} is damaged ({reason}). Copy or download the file again.") from error

    def _check_declared(self, data: bytes, shown: str) -> None:
        """Refuse a tile that inflates to more pixels than a tile has, before memory is taken for it."""
        size = declared_size(data, self.page.compression)
        rows, columns = self.tile
        # Files exist whose last tiles are of other sizes.
        if size is not None and (size[0] > max(rows, 64) * 2 or size[1] > max(columns, 64) * 2):
            raise ImageTooLargeError(
                f"{shown} is damaged: it declares {size[0]} x {size[1]} pixels where {rows} x {columns} belong. "
                "Copy or download the file again."
            )
        if not self.bounded:
            most = rows * columns * (1 if self.apart else self.samples) * self.stored.itemsize
            check_inflated(data, self.page.compression, most, shown)

    def colored(self, pixels: Pixels) -> Pixels:
        """Return samples as the colors or channels that users see."""
        if self.page.compression == YCC_JPEG2000 and self.samples == 3:
            import cv2

            pixels = cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
        return colored(pixels, self.page, self.icc)


def tile_shape(page: Any) -> tuple[int, int]:
    """Return the rows and columns of a page's tiles or strips."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(page.rowsperstrip), int(page.imagewidth)


def declared_size(data: bytes, compression: int) -> tuple[int, int] | None:
    """Return the rows and columns that the header of a compressed tile declares; None where it has none."""
    if compression in _JPEG:
        return _jpeg_size(data)
    if compression in _JPEG2000:
        start = data.find(b"\xff\x4f\xff\x51")
        x, y, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
        return y - top, x - left
    if compression == _PNG:
        columns, rows = struct.unpack(">2I", data[16:24])
        return rows, columns
    if compression == _WEBP:
        found = webp_header(io.BytesIO(data), "a tile")
        return found.rows, found.columns
    return jxl_size(io.BytesIO(data), "a tile") if compression in _JXL else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = struct.unpack(">2H", data[at + 5 : at + 9])
            return rows, columns
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


class Content:
    """Holds an open TIFF file and the pages that were read of it last; several threads share it."""

    def __init__(self, place: Location, version: tuple[Any, ...]) -> None:
        self.file = SourceFile(place, version)
        self.name = place.url.partition("?")[0].replace("\\", "/").rpartition("/")[2]
        self.lock = threading.RLock()
        self._pages: OrderedDict[Any, Page] = OrderedDict()

    @cached_property
    def tiff(self) -> Any:
        """The file as tifffile parses it."""
        return opened(self.file.stream, self.name)

    @cached_property
    def _form(self) -> tuple[str, str, int, int]:
        """How directories are laid out: formats of a count and of an offset, bytes of a tag, the first one's place."""
        head = self._at(0, 16)
        order = {b"II": "<", b"MM": ">", b"EP": "<"}.get(head[:2])
        if order is None:
            raise ImageFileError(f"{self.file.place.shown} is no TIFF file.")
        if struct.unpack(order + "H", head[2:4])[0] == 43:
            return order + "Q", order + "Q", 20, struct.unpack(order + "Q", head[8:16])[0]
        if self.name.lower().endswith(".ndpi"):  # Hamamatsu's offsets have 64 bits.
            return order + "H", order + "Q", 12, struct.unpack(order + "Q", head[4:12])[0]
        return order + "H", order + "I", 12, struct.unpack(order + "I", head[4:8])[0]

    def _at(self, start: int, count: int) -> bytes:
        self.file.stream.seek(start)
        data = self.file.stream.read(count)
        if len(data) < count and start:
            raise ImageFileError(
                f"{self.file.place.shown} is truncated: it stops after {self.file.size} bytes, within its list of "
                "pages."
            )
        return data

    def directories(self, start: int | None = None) -> Iterator[int]:
        """Yield where the directories of the pages are, from one on; without end where they are a circle."""
        count, pointer, tag, first = self._form
        offset = first if start is None else start
        while 0 < offset < self.file.size:
            yield offset
            (tags,) = struct.unpack(count, self._at(offset, struct.calcsize(count)))
            if tags > _MOST_TAGS:
                raise ImageFileError(f"{self.file.place.shown} is damaged: a page has {tags} tags.")
            (offset,) = struct.unpack(
                pointer, self._at(offset + struct.calcsize(count) + tags * tag, struct.calcsize(pointer))
            )

    def all_directories(self) -> list[int]:
        """Return where all directories are, each once."""
        found: dict[int, None] = {}
        for offset in self.directories():
            if offset in found or len(found) >= _MOST_PAGES:
                raise ImageFileError(f"{self.file.place.shown} is damaged: its list of pages has no end.")
            found[offset] = None
        return list(found)

    def page(self, key: Any, find: Callable[[], Any]) -> Page:
        """Return the page that is kept under a key, or the one that is found."""
        with self.lock:
            page = self._pages.get(key)
            if page is None:
                with translated(self.file.place.shown, "read"):
                    page = self._pages[key] = Page(find(), self.file)
                while len(self._pages) > _KEPT:
                    self._pages.popitem(last=False)
            self._pages.move_to_end(key)
            return page

    def parsed(self, offset: int, number: int, sub: int | None) -> Any:
        """Return the page whose directory is there, or one of its SubIFDs, as tifffile parses it."""
        import tifffile

        tiff = self.tiff
        self.file.stream.seek(offset)
        page = tifffile.TiffPage(tiff, number)
        if sub is None:
            return page
        if page.subifds is None or sub >= len(page.subifds):
            raise ImageFileError(f"{self.file.place.shown} is damaged: page {number} lacks a reduced image.")
        self.file.stream.seek(page.subifds[sub])
        return tifffile.TiffPage(tiff, (number, sub))

    def directory(self, number: int, anchors: tuple[int, ...], stride: int) -> int:
        """Return where the directory of a page is, looked for from the nearest one that is known."""
        start = anchors[number // stride]
        return next(itertools.islice(self.directories(start), number % stride, None))

    def close(self) -> None:
        """Close the file."""
        self.file.close()
