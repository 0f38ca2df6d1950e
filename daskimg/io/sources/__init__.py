"""Stored images: what is read part by part, by the format that a file's content tells."""

from __future__ import annotations

import os

from daskimg.errors import ImageFileError
from daskimg.io.formats import FORMATS, SNIFF_BYTES, suffix_of
from daskimg.io.stored import StoredImage
from daskimg.io.urls import Location

__all__ = ["is_photo", "kind_of", "open_stored"]

_MAGIC = (
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "zip"),
    (b"ZISRAWFILE", "czi"),
    (b"\xda\xce\xbe\x0a", "nd2"),
    (b"\x70\0\0\0", "lif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
_TIFFS = FORMATS["tiff"].suffixes
_PHOTOS = {suffix for one in FORMATS.values() for suffix in one.suffixes}.difference(_TIFFS)


def is_photo(place: Location, *, or_tiff: bool = False) -> bool:
    """Tell whether a file's name is that of a photo, which is decoded whole, or of a TIFF, which can be."""
    suffix = suffix_of(place.url)
    return suffix in _PHOTOS or (or_tiff and suffix in _TIFFS)


def open_stored(
    place: Location, *, scene: int | str | None = None, frame: int | None = None
) -> tuple[StoredImage | None, int | None]:
    """Open an image that can be read part by part; only headers are read.

    Parameters
    ----------
    place : Location
        A file, a folder or a URL.
    scene : int or str, optional
        Which of several images in it.
    frame : int, optional
        Which page or plane.

    Returns
    -------
    image : StoredImage or None
        None for what is decoded whole, such as a photo, and for what is no image at all.
    frame : int or None
        The plane that is still to be chosen in it.
    """
    kind = kind_of(place)
    if kind == "zarr":
        from daskimg.io.sources.zarr import open_zarr

        return open_zarr(place, scene=scene), frame
    if kind == "tiff":
        from daskimg.io.sources.tiff import open_tiff

        return open_tiff(place, scene=scene, frame=frame), None
    if kind == "npy":
        from daskimg.io.sources.npy import open_npy

        return open_npy(place, scene=scene), frame
    if kind in ("czi", "nd2", "lif"):
        from daskimg.io.sources.microscopes import open_microscope

        return open_microscope(place, kind, scene=scene), frame
    return None, frame


def kind_of(place: Location) -> str | None:
    """Return the format by which a place is read part by part, such as ``"zarr"``; None if there is none."""
    from daskimg.io.sources.zarr import is_zarr

    if place.local and os.path.isdir(place.url):
        return "zarr" if is_zarr(place) else None
    if not place.local and _names_zarr(place.url) and is_zarr(place):
        return "zarr"
    try:
        with place.open() as file:
            head = file.read(SNIFF_BYTES)
    except ImageFileError:
        # Object stores have no folders to open.
        if not place.local and is_zarr(place):
            return "zarr"
        raise
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind == "zip":
        return "zarr" if is_zarr(place) else None
    if kind is None and head[:1] == b"<" and place.url.startswith("http") and is_zarr(place):
        return "zarr"  # what the server showed is a list of the folder
    return kind


def _names_zarr(url: str) -> bool:
    parts = url.partition("?")[0].rstrip("/").split("/")
    return any(part.endswith(".zarr") for part in parts)
