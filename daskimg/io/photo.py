"""Photos and other images that are decoded whole, as PNG and JPEG must be."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError
from daskimg.io import color
from daskimg.io.boundary import translated
from daskimg.io.chunks import wanted_chunks
from daskimg.io.containers import check_complete
from daskimg.io.decode import decode
from daskimg.io.formats import FORMATS, check_suffix
from daskimg.io.probe import Header, probe
from daskimg.io.urls import Location

if TYPE_CHECKING:
    import dask.array

__all__ = ["Photo"]


@dataclass(frozen=True)
class Photo:
    """Reads one image of a file. It is what travels to the worker that decodes.

    Attributes
    ----------
    place : Location
        Where it is.
    frame : int or None
        The frame of an animation or page that is wanted; None where there must be only one.
    limit : int or None
        The most pixels that may be; None is no limit.
    color_profile : {"srgb", "keep", "ignore"}
        What to do with an ICC profile.
    strict : bool
        Refuse an image whose suffix is that of another format.
    """

    place: Location
    frame: int | None
    limit: int | None
    color_profile: str
    strict: bool

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], Header]]:
        with self.place.open() as file:
            yield file, self.checked(file)

    def checked(self, file: IO[bytes]) -> Header:
        """Return the header of an open file, and refuse what cannot be decoded."""
        shown = self.place.shown
        header = probe(file, shown, frame=self.frame, limit=self.limit)
        if self.strict:
            check_suffix(self.place.url, FORMATS[header.format], shown)
        if self.frame is None and header.frames > 1:
            raise ImageFileError(
                f"{shown} holds {header.frames} frames; say which: frame=0 for the first, up to "
                f"frame={header.frames - 1}."
            )
        with translated(shown, "read"):
            check_complete(file, header.format, shown)
        if self.color_profile == "srgb":
            color.check_convertible(header.icc, header.grey, header.dtype, shown)
        return header

    def decoded(self, file: IO[bytes], header: Header, *, reduced: int = 1) -> NDArray[Any]:
        """Decode an open file whose header was checked; a JPEG at 1/2, 1/4 or 1/8 of its size if so wished."""
        return decode(
            file,
            header,
            srgb=self.color_profile == "srgb",
            convert_ink=self.color_profile != "ignore",
            shown=self.place.shown,
            reduced=reduced,
        )

    def header(self) -> Header:
        """Read the header, and refuse what cannot be decoded."""
        with self._opened() as (_, header):
            return header

    def pixels(self) -> NDArray[Any]:
        """Decode."""
        with self._opened() as (file, header):
            return self.decoded(file, header)

    def declared_pixels(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Decode, and refuse if the file is no longer what it was when it was opened."""
        pixels = self.pixels()
        if pixels.shape != shape or pixels.dtype != dtype:
            raise ImageFileError(
                f"{self.place.shown} changed since it was opened: it had {shape} {dtype}, now {pixels.shape} "
                f"{pixels.dtype}. Open it again."
            )
        return pixels

    def lazy(self, chunks: Any) -> dask.array.Array:
        """Return it as a dask array: one task decodes, others cut chunks out of what it gives."""
        import dask.array as da
        from dask._task_spec import Task, TaskRef
        from dask.array.core import slices_from_chunks
        from dask.base import tokenize
        from dask.highlevelgraph import HighLevelGraph

        header = self.header()
        dims = ("y", "x", "channel")[: len(header.shape)]
        normal = wanted_chunks(chunks, header.shape, dims, header.dtype)
        version = tokenize(self, self.place.version())
        # The decoded file has a name of its own, so that the same file in other chunks is decoded once in one
        # computation.
        name, whole = f"open-image-{tokenize(version, normal)}", f"decode-image-{version}"
        blocks = zip(itertools.product(*(range(len(c)) for c in normal)), slices_from_chunks(normal), strict=True)
        graph: dict[Any, Task] = {whole: Task(whole, self.declared_pixels, header.shape, header.dtype)} | {
            (name, *index): Task((name, *index), operator.getitem, TaskRef(whole), where) for index, where in blocks
        }
        return da.Array(HighLevelGraph.from_collections(name, graph), name, normal, dtype=header.dtype)
