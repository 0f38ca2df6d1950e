"""Saving images: checked before anything is computed, written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from daskimg.errors import ArrayError, ParameterError
from daskimg.io.boundary import translated
from daskimg.io.encode import Options, check_image, encode
from daskimg.io.formats import format_named
from daskimg.io.large import Streaming, save_large, streamed_format
from daskimg.io.metadata import ImageMetadata
from daskimg.io.pyramid import Downsample
from daskimg.io.urls import locate
from daskimg.progress import Progress

__all__ = ["save_image"]


def save_image(
    image: Any,
    url: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    compression: str | int | None = None,
    metadata: ImageMetadata | None = None,
    strip_private: bool = False,
    pyramid: bool | None = None,
    downsample: Downsample | None = None,
    tile: int | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | bool = False,
    cancel: threading.Event | None = None,
    threads: int | None = None,
    overwrite: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Save an image, whole or not at all: a save that fails leaves nothing behind, and an older file as it was.

    Format, dtype, shape, options and target are checked before a dask array is computed.

    Zarr, OME-Zarr, OME-TIFF, COG and large TIFF are streamed: an image of any size is computed chunk by chunk, by the
    active dask client or by threads, and each is written when it is done. Everything else is computed into memory.

    Parameters
    ----------
    image : ndarray, dask array or DataArray, (rows, columns) or (rows, columns, channels)
        Grey or RGB(A). A DataArray has dims y, x and at most one more; where it is streamed, any more. PNG holds uint8
        and uint16; JPEG, WebP, BMP and AVIF uint8; TIFF integers of 8 to 32 bits, float32 and float64. Nothing is
        rounded to fit.
    url : str or path
        A local path, in which every letter stands for itself, or any fsspec URL that can be written.
    format : str, optional
        ``"png"``, ``"jpeg"``, ``"webp"``, ``"tiff"``, ``"bmp"``, ``"avif"``, ``"zarr"``, ``"ome-zarr"``,
        ``"ome-tiff"`` or ``"cog"``; by default that of the suffix (``.ome.zarr`` and ``.ome.tif`` too).
    quality : int, optional
        From 1 to 100, for JPEG (default 95), WebP (90) and AVIF (80).
    lossless : bool
        Write WebP bit for bit. PNG, TIFF and BMP always are.
    compression : str or int, optional
        For PNG 0 (fast) to 9 (small), default 3; for TIFF ``"deflate"`` (default), ``"none"``, ``"lzma"``, and with
        the extra ``daskimg[codecs]`` ``"lzw"`` and ``"zstd"``.
    metadata : ImageMetadata, optional
        What to write beside the pixels, for example that of the source by `read_metadata`; by default nothing. The
        orientation is written as 1, because the pixels are upright. BMP holds the resolution only.
    strip_private : bool
        Write `metadata` without what `ImageMetadata.without_private` takes away, such as the position.
    pyramid : bool, optional
        Write coarser levels too, each half of the one before, in the same pass. By default OME-Zarr, OME-TIFF and COG
        have them.
    downsample : {"mean", "nearest"}, optional
        How coarser levels are made; pixels without data are left out of a mean. By default labels, that is integers
        of 32 bits and more, take the nearest pixel, all others the mean of four.
    tile : int, optional
        The side of tiles or of Zarr's chunks, in pixels: a multiple of 16. By default 512 for TIFF, for Zarr that of
        the image's own chunks if these are regular, else 1024.
    resume : bool
        Keep what is done of an image that is streamed when it is interrupted or fails, and go on there the next time.
    progress : callable or bool
        For what is streamed: called with a `Progress` that counts chunks; True draws a bar on stderr.
    cancel : threading.Event, optional
        For what is streamed: set it from elsewhere to stop.
    threads : int, optional
        For what is streamed: work on this many threads of this process, even where there is a client.
    overwrite : bool
        Replace a file that exists; False refuses.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    UnknownNameError
        The suffix or `format` stands for no format that can be written.
    DtypeError, ArrayError
        The format cannot hold this dtype, these channels or this size.
    ParameterError
        The format has no such option, or not this value.
    ImageFileError
        The folder is missing, or the file cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> save_image(np.zeros((40, 60, 3), "uint8"), folder / "black.webp", quality=80)
    >>> save_image(np.zeros((40, 60), "int16"), folder / "black.jpg")
    Traceback (most recent call last):
        ...
    daskimg.errors.DtypeError: JPEG cannot hold int16, only uint8. Use rescale to map the values to one of these, or \
save as TIFF, which holds int16.
    """
    place = locate(url, storage_options)
    streaming = Streaming(compression, pyramid, downsample, tile, resume, threads, progress, cancel)  # type: ignore[arg-type]
    kind = streamed_format(format, place.url, _checked(image), streaming)
    if kind is not None:
        if quality is not None or lossless or metadata is not None:
            raise ParameterError(f"{kind} is streamed and takes no quality, lossless or metadata; leave them out.")
        save_large(image, place, kind, streaming, overwrite=overwrite)
        return
    if streaming.is_asked_for:
        raise ParameterError(
            "pyramid, downsample, tile, resume, progress, cancel and threads are options of images that are streamed: "
            "of tiff, ome-tiff, cog, zarr and ome-zarr; leave them out, or choose one of these."
        )
    wanted = format_named(format, place.url)
    options = Options(quality, lossless, compression)
    options.check(wanted)
    data = _plain_array(image)
    check_image(tuple(data.shape), np.dtype(data.dtype), wanted)
    place.check_writable(overwrite=overwrite)
    metadata = metadata or ImageMetadata()
    if strip_private:
        metadata = metadata.without_private()
    pixels = np.asarray(data)  # This computes a dask array; what its tasks raise is theirs and passes as it is.
    with translated(place.shown, "written"):
        encoded = encode(pixels, wanted, options, metadata)
    place.write(encoded)


def _plain_array(image: Any) -> Any:
    """Return the NumPy or dask array inside, with rows and columns first."""
    dims = getattr(image, "dims", None)
    if dims is not None:
        if not {"y", "x"} <= set(dims) or len(dims) > 3:
            raise ArrayError(
                f"Expected a DataArray with dims y, x and at most one of channels, got {tuple(dims)}; rename or select."
            )
        return image.transpose("y", "x", ...).data
    return image


def _checked(image: Any) -> Any:
    if not hasattr(image, "dtype") or not hasattr(image, "shape"):
        raise ArrayError(f"Expected a NumPy array, a dask array or a DataArray, got {type(image).__name__}.")
    return image
