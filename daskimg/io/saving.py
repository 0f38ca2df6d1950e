"""Saving images: checked before anything is computed, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from daskimg.errors import ArrayError
from daskimg.io.boundary import translated
from daskimg.io.encode import Options, check_image, encode
from daskimg.io.formats import format_named
from daskimg.io.metadata import ImageMetadata
from daskimg.io.urls import locate

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
    overwrite: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Save an image, whole or not at all: a save that fails leaves nothing behind, and an older file as it was.

    Format, dtype, shape, options and target are checked before a dask array is computed.

    Parameters
    ----------
    image : ndarray, dask array or DataArray, (rows, columns) or (rows, columns, channels)
        Grey or RGB(A). A DataArray has dims y, x and at most one more. PNG holds uint8 and uint16; JPEG, WebP, BMP and
        AVIF uint8; TIFF integers of 8 to 32 bits, float32 and float64. Nothing is rounded to fit. A dask array is
        computed into memory.
    url : str or path
        A local path, in which every letter stands for itself, or any fsspec URL that can be written.
    format : str, optional
        ``"png"``, ``"jpeg"``, ``"webp"``, ``"tiff"``, ``"bmp"`` or ``"avif"``; by default that of the suffix.
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
    if not hasattr(image, "dtype") or not hasattr(image, "shape"):
        raise ArrayError(f"Expected a NumPy array, a dask array or a DataArray, got {type(image).__name__}.")
    return image
