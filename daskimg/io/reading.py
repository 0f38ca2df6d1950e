"""Opening images: lazily as dask arrays, or at once as NumPy arrays."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, ImageFileError, ParameterError, suggest
from daskimg.io import color
from daskimg.io.boundary import translated
from daskimg.io.containers import check_complete
from daskimg.io.decode import decode
from daskimg.io.formats import FORMATS, check_suffix
from daskimg.io.probe import Header, pixel_limit, probe
from daskimg.io.urls import Location, locate

if TYPE_CHECKING:
    import dask.array

__all__ = ["ColorProfile", "check_color_profile", "open_image", "read_image"]

Url: TypeAlias = str | os.PathLike[str]
ColorProfile: TypeAlias = Literal["srgb", "keep", "ignore"]
MaxPixels: TypeAlias = int | Literal["default"] | None
_COLOR_PROFILES = ("srgb", "keep", "ignore")


@dataclass(frozen=True)
class _Reader:
    """Reads one image of a file. It is what travels to the worker that decodes."""

    place: Location
    frame: int | None
    limit: int | None
    color_profile: ColorProfile
    strict: bool

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], Header]]:
        shown = self.place.shown
        with self.place.open() as file:
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
            yield file, header

    def header(self) -> Header:
        with self._opened() as (_, header):
            return header

    def pixels(self) -> NDArray[Any]:
        with self._opened() as (file, header):
            return decode(
                file,
                header,
                srgb=self.color_profile == "srgb",
                convert_ink=self.color_profile != "ignore",
                shown=self.place.shown,
            )

    def declared_pixels(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Decode, and refuse if the file is no longer what it was when it was opened."""
        pixels = self.pixels()
        if pixels.shape != shape or pixels.dtype != dtype:
            raise ImageFileError(
                f"{self.place.shown} changed since it was opened: it had {shape} {dtype}, now {pixels.shape} "
                f"{pixels.dtype}. Open it again."
            )
        return pixels


def check_color_profile(color_profile: str) -> None:
    """Refuse what is no way to treat a colour profile."""
    if color_profile not in _COLOR_PROFILES:
        raise ParameterError(
            f"color_profile must be 'srgb', 'keep' or 'ignore', got {color_profile!r}."
            f"{suggest(str(color_profile), _COLOR_PROFILES)}"
        )


def _reader(
    url: Url,
    frame: int | None,
    max_pixels: MaxPixels,
    color_profile: ColorProfile,
    strict: bool,
    storage_options: Mapping[str, Any] | None,
) -> _Reader:
    check_color_profile(color_profile)
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise ParameterError(f"frame must be a whole number from 0, got {frame!r}.")
    return _Reader(locate(url, storage_options), frame, pixel_limit(max_pixels), color_profile, strict)


def read_image(
    url: Url,
    *,
    frame: int | None = None,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Read an image into memory; parameters, result and errors are those of `open_image`.

    Returns
    -------
    ndarray, (rows, columns) or (rows, columns, 3 or 4)

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "grey.png")
    >>> save_image(np.eye(3, dtype="uint8"), path)
    >>> read_image(path)
    array([[1, 0, 0],
           [0, 1, 0],
           [0, 0, 1]], dtype=uint8)
    """
    return _reader(url, frame, max_pixels, color_profile, strict, storage_options).pixels()


def open_image(
    url: Url,
    *,
    chunks: Any = "auto",
    frame: int | None = None,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> dask.array.Array:
    """Open an image lazily: its header is read now, its pixels when they are computed.

    PNG, JPEG, WebP, TIFF, BMP, AVIF and GIF are read; HEIC and JPEG XL with the extras ``daskimg[heic]`` and
    ``daskimg[codecs]``. Colour is RGB(A). The pixels stand upright, as Exif or TIFF orientation asks.

    Parameters
    ----------
    url : str or path
        A local path, in which every letter stands for itself (also ``*`` and ``#``), or any fsspec URL.
    chunks : optional
        Chunks as dask takes them, for rows and columns; colour stays whole. ``"auto"`` is one chunk for a photo. The
        file is decoded once whatever the chunks.
    frame : int, optional
        The frame of an animation or the page of a TIFF, from 0. A file with several is refused unless this is set.
    color_profile : {"srgb", "keep", "ignore"}
        What to do with an ICC profile: convert the pixels to sRGB; keep them as stored, with the profile in
        `read_metadata`; or drop the profile. CMYK always becomes RGB, by its profile, with ``"ignore"`` by the plain
        formula.
    max_pixels : int, None or "default"
        The most pixels (rows x columns) that a header may declare; None is no limit. The default is that of the
        environment variable ``DASKIMG_MAX_PIXELS``, else 2**28.
    strict : bool
        Refuse an image whose suffix is that of another image format; False goes by the content.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Returns
    -------
    dask array, (rows, columns) or (rows, columns, 3 or 4)
        uint8, for 16-bit PNG uint16, for TIFF as stored. One bit becomes 0 and 255; a palette RGB(A); grey with alpha
        RGBA; an animation's frame RGBA. AVIF and HEIC of 10 and 12 bits become 8. TIFF data with two to four grey
        channels stay as they are.

    Raises
    ------
    ImageFileError
        The file is missing, broken, truncated, no image, or of several frames.
    ImageTooLargeError
        The header declares more pixels than `max_pixels`.
    EnvironmentProblem
        The format needs a decoder that is not installed.

    Notes
    -----
    JPEG XL is decoded when it is opened, too, because its decoder knows no header.

    Damage inside a JPEG's compressed data that leaves its end in place cannot be told from content.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "photo.png")
    >>> save_image(np.zeros((400, 600, 3), "uint8"), path)
    >>> image = open_image(path, chunks=256)
    >>> image.shape, image.chunks[0], image.numblocks
    ((400, 600, 3), (256, 144), (2, 3, 1))
    """
    import dask.array as da
    from dask._task_spec import Task, TaskRef
    from dask.array.core import slices_from_chunks
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    reader = _reader(url, frame, max_pixels, color_profile, strict, storage_options)
    header = reader.header()
    normal = _normal_chunks(chunks, header)
    version = tokenize(reader, reader.place.version())
    # The decoded file has a name of its own, so that the same file in other chunks is decoded once in one computation.
    name, whole = f"open-image-{tokenize(version, normal)}", f"decode-image-{version}"
    blocks = zip(itertools.product(*(range(len(c)) for c in normal)), slices_from_chunks(normal), strict=True)
    graph: dict[Any, Task] = {whole: Task(whole, reader.declared_pixels, header.shape, header.dtype)} | {
        (name, *index): Task((name, *index), operator.getitem, TaskRef(whole), where) for index, where in blocks
    }
    return da.Array(HighLevelGraph.from_collections(name, graph), name, normal, dtype=header.dtype)


def _normal_chunks(chunks: Any, header: Header) -> tuple[tuple[int, ...], ...]:
    from dask.array.core import normalize_chunks

    shape = header.shape
    if len(shape) == 3:
        if isinstance(chunks, dict):
            chunks = {2: -1, **chunks}
        elif not isinstance(chunks, tuple | list):
            chunks = (chunks, chunks, -1)
        elif len(chunks) == 2:
            chunks = (*chunks, -1)
    try:
        normal: tuple[tuple[int, ...], ...] = normalize_chunks(chunks, shape=shape, dtype=header.dtype)
    except (ValueError, TypeError) as error:
        raise ArrayError(f"chunks={chunks!r} do not fit an image of shape {shape}: {error}") from error
    if len(shape) == 3 and len(normal[2]) > 1:
        raise ArrayError(f"Colour is never chunked; give chunks for rows and columns only, got {chunks!r}.")
    return normal
