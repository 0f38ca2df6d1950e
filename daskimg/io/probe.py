"""What a file's header says, before any pixel is decoded.

The classes of Pillow's formats are called directly rather than through ``Image.open``: that limits what hostile bytes
can reach to the formats that daskimg reads, and leaves Pillow's own global limit on pixels out of play.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from daskimg.errors import ImageFileError, ImageTooLargeError, ParameterError
from daskimg.io import containers
from daskimg.io.boundary import extra_missing, translated
from daskimg.io.formats import FORMATS, SNIFF_BYTES, sniff
from daskimg.io.metadata import dpi_of, exif_block, orientation_of

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["DEFAULT_MAX_PIXELS", "Header", "check_limits", "pillow_image", "pixel_limit", "probe"]

#: The largest image that is opened without asking, in pixels (rows x columns): 268 megapixels.
DEFAULT_MAX_PIXELS = 2**28
_LIMIT_VARIABLE = "DASKIMG_MAX_PIXELS"
# Metadata, previews and films that cameras append to a picture.
_SPARE_BYTES = 2**26


@dataclass(frozen=True)
class Header:
    """Holds what a header says of one frame. `rows` and `columns` are as stored, before the orientation acts.

    `mode` is the decoder's own word for the pixels where that matters, such as ``"CMYK"``, and `frame` the index of
    the frame among `frames`.
    """

    format: str
    rows: int
    columns: int
    channels: int
    dtype: np.dtype[Any]
    mode: str = ""
    orientation: int = 1
    frame: int = 0
    frames: int = 1
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array as users get it: upright, two axes if grey."""
        rows, columns = (self.columns, self.rows) if self.orientation >= 5 else (self.rows, self.columns)
        return (rows, columns) if self.channels == 1 else (rows, columns, self.channels)

    @property
    def grey(self) -> bool:
        """Tell whether the pixels have one channel."""
        return self.channels == 1


def probe(file: IO[bytes], shown: str, *, frame: int | None = None, limit: int | None = None) -> Header:
    """Read the header of an image.

    Parameters
    ----------
    file : binary file
        Open for reading, and seekable.
    shown : str
        How messages call the file.
    frame : int, optional
        The frame or page that is wanted; the first if None.
    limit : int, optional
        The most pixels that may be; None is no limit.

    Raises
    ------
    ImageFileError
        The content is no image, or its header is broken, or there is no such frame.
    ImageTooLargeError
        The header declares more pixels than `limit`.
    EnvironmentProblem
        The format needs a decoder that is not installed.
    """
    with translated(shown, "read"):
        file.seek(0)
        head = file.read(SNIFF_BYTES)
        name = sniff(head, shown).name
        if name == "tiff":
            from daskimg.io.tiff import tiff_header

            header = tiff_header(file, shown, frame or 0)
        elif name == "webp":
            header = _webp(file, shown)
        elif name == "jxl":
            header = _jxl(file, shown, limit)
        else:
            header = _plain(file, name) or _by_pillow(file, name, head, shown)
        if frame is not None:
            if not 0 <= frame < header.frames:
                raise ImageFileError(f"{shown} has no frame {frame}: its frames are 0 to {header.frames - 1}.")
            header = replace(header, frame=frame)
        if header.rows < 1 or header.columns < 1:
            raise ImageFileError(f"{shown} declares {header.rows} x {header.columns} pixels; it holds no image.")
        if header.frames > 1 and name != "tiff":
            # Frames of an animation lie on a canvas that may be transparent: composed, they are RGBA.
            header = replace(header, channels=4, dtype=np.dtype("uint8"))
        check_limits(header, file, limit, shown)
        if header.dpi is None and header.exif is not None:
            header = replace(header, dpi=dpi_of(header.exif))
        return header


def _webp(file: IO[bytes], shown: str) -> Header:
    found = containers.webp_header(file, shown)
    exif = exif_block(found.exif)
    return Header(
        "webp",
        found.rows,
        found.columns,
        4 if found.alpha else 3,
        np.dtype("uint8"),
        orientation=orientation_of(exif),
        frames=found.frames,
        exif=exif,
        icc=found.icc,
    )


def _jxl(file: IO[bytes], shown: str, limit: int | None) -> Header:
    from daskimg.io.jxl import decode_jxl

    rows, columns = containers.jxl_size(file, shown)
    check_limits(Header("jxl", rows, columns, 4, np.dtype("uint8")), file, limit, shown)
    pixels = decode_jxl(file, shown)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return Header("jxl", pixels.shape[0], pixels.shape[1], channels, pixels.dtype)


# Where the class for each format is; imported when a file of that format comes.
_CLASSES = {
    "avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "heic": ("pi_heif.as_plugin", "HeifImageFile"),
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
}
# Pillow's modes: channels and dtype of the array that they become.
_MODES = {
    "1": (1, "uint8"),
    "L": (1, "uint8"),
    "I;16": (1, "uint16"),
    "I;16L": (1, "uint16"),
    "I;16B": (1, "uint16"),
    "P": (3, "uint8"),
    "LA": (4, "uint8"),
    "PA": (4, "uint8"),
    "RGB": (3, "uint8"),
    "RGBX": (3, "uint8"),
    "RGBA": (4, "uint8"),
    "RGBa": (4, "uint8"),
    "YCbCr": (3, "uint8"),
    "CMYK": (3, "uint8"),
}


def pillow_image(file: IO[bytes], name: str, shown: str) -> ImageFile:
    """Open a file with Pillow's class for one format, without decoding it."""
    module, class_name = _CLASSES[name]
    try:
        found = getattr(import_module(module), class_name)
    except ImportError as error:
        if FORMATS[name].extra is None:
            raise
        raise extra_missing(shown, name) from error
    file.seek(0)
    image: ImageFile = found(file)
    return image


_PLAIN = {"jpeg": containers.jpeg_header, "png": containers.png_header}


def _plain(file: IO[bytes], name: str) -> Header | None:
    """Return the header of a file that has nothing beside its pixels, without Pillow; None for others."""
    look = _PLAIN.get(name)
    found = look(file) if look else None
    if found is None or (name == "png" and exif_block(containers.png_trailing_exif(file))):
        return None
    dtype = _UINT16 if found.depth == 16 else _UINT8
    return Header(name, found.rows, found.columns, found.channels, dtype, dpi=found.dpi and _dpi(found.dpi))


_UINT8, _UINT16 = np.dtype("uint8"), np.dtype("uint16")


def _by_pillow(file: IO[bytes], name: str, head: bytes, shown: str) -> Header:
    image = pillow_image(file, name, shown)
    if image.mode not in _MODES:
        raise ImageFileError(f"{shown} holds {image.mode} pixels, which daskimg does not read.")
    channels, dtype = _MODES[image.mode]
    if "transparency" in image.info:
        channels = 4
    exif = exif_block(image.info.get("exif"))
    if name == "png":
        exif = exif or exif_block(containers.png_trailing_exif(file))
        depth, color_type = head[24], head[25]
        channels = 4 if color_type & 4 or "transparency" in image.info else 3 if color_type & 2 else 1
        dtype = "uint16" if depth == 16 else "uint8"
    orientation = orientation_of(exif)
    if name == "heic":  # Its decoder turns the pixels itself.
        orientation = 1
    return Header(
        name,
        image.size[1],
        image.size[0],
        channels,
        np.dtype(dtype),
        mode=image.mode,
        orientation=orientation,
        # The other pictures in JPEG (MPO) and HEIC files are previews and depth maps beside the primary one.
        frames=1 if name in ("jpeg", "heic") else getattr(image, "n_frames", 1),
        exif=exif,
        icc=image.info.get("icc_profile"),
        dpi=_dpi(image.info.get("dpi")),
    )


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        dpi = (round(float(value[0]), 4), round(float(value[1]), 4))
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    # 1 dpi or less is how files say that they do not know.
    return dpi if all(1 < d < 1e6 for d in dpi) else None


def pixel_limit(max_pixels: int | str | None) -> int | None:
    """Return the limit on pixels: the one given, else that of DASKIMG_MAX_PIXELS, else the default; None is no limit.

    >>> pixel_limit(100), pixel_limit(None)
    (100, None)
    """
    if max_pixels == "default":
        text = os.environ.get(_LIMIT_VARIABLE, "")
        if not text:
            return DEFAULT_MAX_PIXELS
        if not text.isdecimal() or not int(text):
            raise ParameterError(f"{_LIMIT_VARIABLE} must be a positive number of pixels, got {text!r}.")
        return int(text)
    if max_pixels is None:
        return None
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise ParameterError(
            f"max_pixels must be a positive number, None for no limit, or 'default'; got {max_pixels!r}."
        )
    return max_pixels


def check_limits(header: Header, file: IO[bytes], limit: int | None, shown: str) -> None:
    """Refuse an image that is larger than the limit, or a file far larger than its image could need.

    Raises
    ------
    ImageTooLargeError
        With the numbers and the way out.
    """
    pixels = header.rows * header.columns
    raw = pixels * header.channels * header.dtype.itemsize
    if limit is not None and pixels > limit:
        raise ImageTooLargeError(
            f"{shown} declares {header.rows} x {header.columns} = {pixels:,} pixels ({raw / 2**20:,.0f} MiB decoded), "
            f"more than the limit of {limit:,}. If you trust the file, pass max_pixels={pixels} (or None for no limit) "
            f"or set {_LIMIT_VARIABLE}."
        )
    size = containers.size_of(file)
    if limit is not None and header.format != "tiff" and size > _SPARE_BYTES + 2 * raw * header.frames:
        raise ImageTooLargeError(
            f"{shown} has {size:,} bytes for an image of {raw:,} bytes: most of the file is something else. "
            "If you trust the file, pass max_pixels=None."
        )
