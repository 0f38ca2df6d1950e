"""Looking at images without decoding them: what a header says, and what goes with the pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskimg.errors import DaskimgError
from daskimg.io import color
from daskimg.io.metadata import ImageMetadata, gps_in
from daskimg.io.probe import probe
from daskimg.io.reading import ColorProfile, check_color_profile
from daskimg.io.sources import is_photo, kind_of, open_stored
from daskimg.io.urls import Location, locate

__all__ = ["ImageInfo", "image_info", "read_metadata"]


@dataclass(frozen=True)
class ImageInfo:
    """Holds what a file's header says of an image, as `image_info` finds it.

    Attributes
    ----------
    url : str
        Where it is.
    format : str
        Its format by content, such as ``"jpeg"``.
    shape : tuple of int
        The shape of one frame as `open_image` gives it: upright, (rows, columns) or (rows, columns, channels).
    dtype : dtype
        The type of its samples as `open_image` gives them.
    orientation : int
        How the file stores the pixels, from 1 (upright) to 8, as Exif counts.
    frames : int
        Its frames or pages.
    has_icc, has_gps : bool
        Whether it has a colour profile, and whether it tells where it was taken.
    dpi : tuple of float or None
        Dots per inch across and down.
    dims : tuple of str
        The names of the axes of `shape`.
    levels : tuple of tuples of int
        The shapes of its resolutions, from the finest on.
    pixel_size : tuple of float or None
        Height and width of a pixel in `unit`, where the file tells.
    unit : str
        Such as ``"micrometer"``.
    """

    url: str
    format: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    orientation: int
    frames: int
    has_icc: bool
    has_gps: bool
    dpi: tuple[float, float] | None
    dims: tuple[str, ...] = ()
    levels: tuple[tuple[int, ...], ...] = ()
    pixel_size: tuple[float, float] | None = None
    unit: str = ""


def image_info(
    url: str | os.PathLike[str], *, frame: int = 0, storage_options: Mapping[str, Any] | None = None
) -> ImageInfo:
    """Read what the header of an image says, of any size and under any name; no pixel is decoded.

    Parameters
    ----------
    url : str or path
        A local path or any fsspec URL.
    frame : int
        The frame or page to describe.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    ImageFileError
        The file is missing, no image, or its header is broken.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "depth.tif")
    >>> save_image(np.zeros((40, 60), "float32"), path)
    >>> info = image_info(path)
    >>> info.format, info.shape, info.dtype
    ('tiff', (40, 60), dtype('float32'))
    """
    place = locate(url, storage_options)
    if not is_photo(place, or_tiff=True) and kind_of(place) not in (None, "tiff"):
        return _stored_info(place)
    with place.open() as file:
        header = probe(file, place.shown, frame=frame)
    stored = None
    if header.format == "tiff":
        with suppress(DaskimgError):  # what keeps pixels from being read is no matter here
            stored, _ = open_stored(place, scene=0)
    return ImageInfo(
        place.url,
        header.format,
        header.shape,
        header.dtype,
        header.orientation,
        header.frames,
        header.icc is not None,
        gps_in(header.exif),
        header.dpi,
        ("y", "x", "channel")[: len(header.shape)],
        tuple(level.shape for level in stored.layout.levels) if stored else (header.shape,),
        stored.layout.pixel_size if stored else None,
        stored.layout.unit if stored else "",
    )


def _stored_info(place: Location) -> ImageInfo:
    stored, _ = open_stored(place, scene=0)
    assert stored is not None  # its kind is known
    layout = stored.layout
    finest = layout.levels[0].shape
    planes = [length for name, length in zip(layout.dims, finest, strict=True) if name not in ("y", "x", "channel")]
    return ImageInfo(
        place.url,
        layout.format,
        finest,
        layout.dtype,
        orientation=1,
        frames=math.prod(planes),
        has_icc="icc" in layout.attrs,
        has_gps=False,
        dpi=None,
        dims=layout.dims,
        levels=tuple(level.shape for level in layout.levels),
        pixel_size=layout.pixel_size,
        unit=layout.unit,
    )


def read_metadata(
    url: str | os.PathLike[str],
    *,
    color_profile: ColorProfile = "srgb",
    storage_options: Mapping[str, Any] | None = None,
) -> ImageMetadata:
    """Read what an image says beside its pixels, fit to be written with the pixels that `open_image` gives.

    Parameters
    ----------
    url : str or path
        A local path or any fsspec URL.
    color_profile : {"srgb", "keep", "ignore"}
        As for `open_image`. Only ``"keep"`` returns the profile: otherwise the pixels no longer follow it.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    ImageFileError
        The file is missing, no image, or its header is broken.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "scan.png")
    >>> save_image(np.zeros((4, 6), "uint8"), path, metadata=ImageMetadata(dpi=(300, 300)))
    >>> read_metadata(path).dpi
    (299.9994, 299.9994)
    """
    check_color_profile(color_profile)
    place = locate(url, storage_options)
    with place.open() as file:
        header = probe(file, place.shown)
    fits = color.profile_fits(header.icc, header.grey)  # The profile of CMYK inks does not fit the RGB they become.
    return ImageMetadata(header.exif, header.icc if color_profile == "keep" and fits else None, header.dpi)
