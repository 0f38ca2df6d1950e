"""From a file's bytes to pixels: RGB(A) or grey, upright, and in sRGB if so wished."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError
from daskimg.io import color
from daskimg.io.boundary import translated
from daskimg.io.orientation import upright
from daskimg.io.probe import Header, pillow_image

__all__ = ["array_from_pillow", "can_reduce", "decode"]

Pixels = NDArray[Any]

# cv2's flags for a part of the rows and columns: those of IMREAD_REDUCED_GRAYSCALE_2, _4 and _8.
_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}


def decode(file: IO[bytes], header: Header, *, srgb: bool, convert_ink: bool, shown: str, reduced: int = 1) -> Pixels:
    """Decode one frame.

    Parameters
    ----------
    file : binary file
        Open for reading.
    header : Header
        What `probe` found in it.
    srgb : bool
        Convert the pixels from their colour profile to sRGB.
    convert_ink : bool
        Turn CMYK to RGB by its profile, where it has one, rather than by the plain formula.
    shown : str
        How messages call the file.
    reduced : {1, 2, 4, 8}
        Decode what `can_reduce` allows at this part of its rows and columns, rounded down: a last pixel that the image
        fills in part only would distort it.

    Raises
    ------
    ImageFileError
        The pixels are broken, or other than the header says.
    """
    if reduced > 1:
        header = replace(header, rows=header.rows // reduced or 1, columns=header.columns // reduced or 1)
    with translated(shown, "read"):
        if header.format == "tiff":
            from daskimg.io.tiff import decode_tiff

            pixels = decode_tiff(file, header, convert_ink=convert_ink, shown=shown)
        elif header.format == "jxl":
            from daskimg.io.jxl import decode_jxl

            pixels = decode_jxl(file, shown)
        elif _for_cv2(header):
            pixels = upright(_by_cv2(file, header, shown, reduced), header.orientation)
        else:
            pixels = upright(_by_pillow(file, header, convert_ink, shown), header.orientation)
        if pixels.shape != header.shape or pixels.dtype != header.dtype:
            raise ImageFileError(
                f"{shown} decodes to {pixels.shape} {pixels.dtype}, but its header declares {header.shape} "
                f"{header.dtype}: the file is broken."
            )
        if srgb and header.icc and color.needs_conversion(header.icc, header.grey):
            pixels = color.to_srgb(pixels, header.icc)
        return pixels


def _for_cv2(header: Header) -> bool:
    """Tell whether cv2 decodes this: it is the fastest, and the only one here with 16-bit RGB in PNG."""
    return header.frames == 1 and header.format in ("png", "webp", "jpeg") and header.mode != "CMYK"


def can_reduce(header: Header) -> bool:
    """Tell whether an image can be decoded smaller than it is: JPEG holds its blocks as frequencies."""
    return header.format == "jpeg" and _for_cv2(header)


def _by_cv2(file: IO[bytes], header: Header, shown: str, reduced: int) -> Pixels:
    import cv2

    data = np.frombuffer(_all_bytes(file), np.uint8)
    if header.channels == 4:
        pixels: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.ndim == 2:
            pixels = _with_transparent_grey(pixels, file, header, shown)
        elif pixels is not None and pixels.shape[2] == 4:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    else:
        color_flag = cv2.IMREAD_GRAYSCALE if header.grey else cv2.IMREAD_COLOR_RGB
        size_flag = _REDUCED[reduced]  # without its bit for color: RGB has another
        pixels = cv2.imdecode(data, color_flag | size_flag | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ImageFileError(f"{shown} is broken: its {header.format.upper()} header is right, but its pixels are not.")
    return np.asarray(pixels if reduced == 1 else pixels[: header.rows, : header.columns])


def _all_bytes(file: IO[bytes]) -> bytes | memoryview:
    if isinstance(file, io.BytesIO):
        return file.getbuffer()
    file.seek(0)
    return file.read()


def _with_transparent_grey(grey: Pixels, file: IO[bytes], header: Header, shown: str) -> Pixels:
    """Return RGBA for a grey PNG that declares one level transparent, which cv2 passes over."""
    level = pillow_image(file, header.format, shown).info["transparency"]
    file.seek(24)
    depth = file.read(1)[0]
    full = np.iinfo(grey.dtype).max
    alpha = np.where(grey == level * full // (2**depth - 1), 0, full).astype(grey.dtype)
    return np.dstack([grey, grey, grey, alpha])


def _by_pillow(file: IO[bytes], header: Header, convert_ink: bool, shown: str) -> Pixels:
    image = pillow_image(file, header.format, shown)
    if header.frame:
        image.seek(header.frame)
    if image.mode != "CMYK":
        return array_from_pillow(image, header)
    inks = np.asarray(image)
    # Pillow takes every CMYK JPEG for one of Adobe's, which hold the inks inverted. Without Adobe's mark they are not.
    if "adobe" not in image.info:
        inks = 255 - inks
    return color.cmyk_to_rgb(inks, header.icc if convert_ink else None)


def array_from_pillow(image: Any, header: Header) -> Pixels:
    """Decode a Pillow image to the channels that its header declares."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[header.channels]
    if header.dtype == np.uint16:
        return np.asarray(image, dtype=np.uint16)
    return np.asarray(image if image.mode == mode else image.convert(mode))
