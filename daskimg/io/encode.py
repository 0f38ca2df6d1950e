"""From pixels to the bytes of a file: what each format can hold, and how it is written."""

from __future__ import annotations

import functools
import io
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, DtypeError, ImageFileError, ParameterError
from daskimg.io.formats import FORMATS, STREAMED, Format
from daskimg.io.metadata import ImageMetadata, bare_exif, written_exif

__all__ = ["Options", "check_image", "encode"]

Pixels = NDArray[Any]

_DEFAULT_QUALITY = {"jpeg": 95, "webp": 90, "avif": 80}
_DEFAULT_PNG_COMPRESSION = 3
_SMALL = 2**14  # bytes of pixels
_INCHES_PER_METRE = 39.37007874015748


@dataclass(frozen=True)
class Options:
    """Holds the options of a format that the user set; None is the format's default."""

    quality: int | None = None
    lossless: bool = False
    compression: str | int | None = None

    def check(self, wanted: Format) -> None:
        """Refuse an option that the format has not, rather than ignore it.

        Raises
        ------
        ParameterError
            With the formats that have it, or the values that it may take.
        """
        name = wanted.name
        if self.quality is not None:
            if name not in _DEFAULT_QUALITY:
                raise ParameterError(f"{name.upper()} has no quality; it belongs to {', '.join(_DEFAULT_QUALITY)}.")
            if self.lossless:
                raise ParameterError("quality and lossless=True exclude each other; leave one out.")
            if isinstance(self.quality, bool) or not isinstance(self.quality, int) or not 1 <= self.quality <= 100:
                raise ParameterError(f"quality must be a whole number from 1 to 100, got {self.quality!r}.")
        if self.lossless and name in ("jpeg", "avif"):
            raise ParameterError(f"{name.upper()} cannot be lossless here; save as webp, png or tiff.")
        if name in STREAMED:
            return  # its compression is checked where it is written
        if name == "tiff":
            from daskimg.io.tiff_out import check_compression

            check_compression(self.compression)
        elif self.compression is not None:
            if name != "png":
                raise ParameterError(f"{name.upper()} has no compression option; png (0 to 9) and tiff have.")
            if not isinstance(self.compression, int) or not 0 <= self.compression <= 9:
                raise ParameterError(
                    f"compression of PNG must be a whole number from 0 to 9, got {self.compression!r}."
                )


def check_image(shape: tuple[int, ...], dtype: np.dtype[Any], wanted: Format) -> None:
    """Refuse an image that a format cannot hold, from its shape and dtype alone.

    Raises
    ------
    ArrayError
        The axes, the channels or the size don't fit.
    DtypeError
        The format lacks the dtype.

    Examples
    --------
    >>> check_image((40, 60, 3), np.dtype("int16"), FORMATS["png"])
    Traceback (most recent call last):
        ...
    daskimg.errors.DtypeError: PNG cannot hold int16, only uint8, uint16. Use rescale to map the values to one of \
these, or save as TIFF, which holds int16.
    """
    name = wanted.name.upper()
    if len(shape) not in (2, 3):
        raise ArrayError(f"Expected (rows, columns) or (rows, columns, channels), got an array of shape {shape}.")
    if any(map(math.isnan, shape)):  # dask marks an unknown size by nan.
        raise ArrayError("The size of this dask array is not known; call .compute_chunk_sizes() first.")
    if not all(shape):
        raise ArrayError(f"An image without pixels cannot be saved; its shape is {shape}.")
    channels = shape[2] if len(shape) == 3 else 1
    if channels not in wanted.channels:
        way = "choose channels, such as image[..., :3]"
        if channels == 4 and 3 in wanted.channels:
            way = "drop the alpha channel, image[..., :3], or save as png, webp or tiff"
        allowed = ", ".join(map(str, wanted.channels))
        raise ArrayError(f"{name} holds {allowed} channels, this image has {channels} (shape {shape}): {way}.")
    if max(shape[:2]) > wanted.largest_side:
        raise ArrayError(
            f"{name} holds at most {wanted.largest_side} pixels a side, this image has {shape[0]} x {shape[1]}: save "
            "as png or tiff."
        )
    if _name(dtype) not in wanted.dtypes:
        if dtype.kind == "b":
            way = "Write image.astype('uint8') * 255."
        elif dtype.name in FORMATS["tiff"].dtypes:
            way = f"Use rescale to map the values to one of these, or save as TIFF, which holds {dtype.name}."
        else:
            way = "Use rescale to map the values to one of these, or .astype('float32') and TIFF."
        raise DtypeError(f"{name} cannot hold {dtype.name}, only {', '.join(wanted.dtypes)}. {way}")


@functools.cache
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.newbyteorder("=").name


def encode(pixels: Pixels, wanted: Format, options: Options, metadata: ImageMetadata) -> bytes | memoryview:
    """Encode an image that `check_image` and `Options.check` let pass.

    Parameters
    ----------
    pixels : ndarray, (rows, columns) or (rows, columns, channels)
        RGB(A) or grey, of any byte order and memory layout.
    wanted : Format
        The format to write.
    options : Options
        Its options.
    metadata : ImageMetadata
        What to write beside the pixels, as far as the format has a place for it.
    """
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if wanted.name == "tiff":
        from daskimg.io.tiff_out import encode_tiff

        return encode_tiff(pixels, metadata, options.compression)
    if wanted.name == "png":
        return _with_png_chunks(_by_cv2(pixels, ".png", _png_flags(pixels, options)), metadata)
    if wanted.name == "jpeg":
        quality = options.quality or _DEFAULT_QUALITY["jpeg"]
        return _with_jpeg_segments(_by_cv2(pixels, ".jpg", [("JPEG_QUALITY", quality)]), metadata)
    if wanted.name == "bmp":
        return _with_bmp_resolution(_by_cv2(pixels, ".bmp", []), metadata)
    return _by_pillow(pixels, wanted.name, options, metadata)


def _png_flags(pixels: Pixels, options: Options) -> list[tuple[str, int]]:
    if options.compression is not None:
        return [("PNG_COMPRESSION", int(options.compression))]
    # OpenCV's own choice takes half the time, and what it would save of a small file is less than a block of the disk.
    return [("PNG_COMPRESSION", _DEFAULT_PNG_COMPRESSION)] if pixels.nbytes > _SMALL else []


def _by_cv2(pixels: Pixels, suffix: str, flags: list[tuple[str, int]]) -> bytes:
    import cv2

    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA))
    done, data = cv2.imencode(suffix, pixels, [n for name, v in flags for n in (getattr(cv2, f"IMWRITE_{name}"), v)])
    if not done:
        raise ImageFileError(f"OpenCV could not encode a {suffix} image of shape {pixels.shape}.")
    return data.tobytes()


def _by_pillow(pixels: Pixels, name: str, options: Options, metadata: ImageMetadata) -> memoryview:
    from PIL import Image

    extras: dict[str, Any] = {"quality": options.quality or _DEFAULT_QUALITY[name]}
    if options.lossless:
        # `exact` keeps the colours under full transparency, which a lossless file owes.
        extras = {"lossless": True, "exact": True, "quality": 75}
    elif name == "webp":
        extras["exact"] = True
    exif = written_exif(metadata)
    if metadata.dpi and not exif:
        exif = bare_exif(metadata.dpi)
    if exif:
        extras["exif"] = exif
    if metadata.icc:
        extras["icc_profile"] = metadata.icc
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, name.upper(), **extras)
    return stream.getbuffer()


def _with_jpeg_segments(data: bytes, metadata: ImageMetadata) -> bytes:
    """Put resolution, Exif and profile behind the start of a JPEG, where readers expect them."""
    if metadata == _NOTHING:
        return data
    header_end = 4 + struct.unpack_from(">H", data, 4)[0]
    header = bytearray(data[:header_end])
    if metadata.dpi:
        x, y = (min(round(dpi), 0xFFFF) for dpi in metadata.dpi)
        struct.pack_into(">BHH", header, 13, 1, x, y)  # of the JFIF segment, which OpenCV writes
    exif = written_exif(metadata)
    segments = _jpeg_segment(0xE1, b"Exif\0\0" + exif) if exif else b""
    icc = metadata.icc or b""
    parts = [icc[start : start + _ICC_PART] for start in range(0, len(icc), _ICC_PART)]
    for number, part in enumerate(parts, 1):
        segments += _jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
    return bytes(header) + segments + data[header_end:]


_NOTHING = ImageMetadata()
_ICC_PART = 65519  # bytes of a profile that a segment holds


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    if len(body) > 0xFFFF - 2:
        raise ImageFileError(
            f"The Exif block has {len(body):,} bytes and JPEG holds {0xFFFF - 2:,}; save as webp, png or tiff, or "
            "without private data."
        )
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def _with_png_chunks(data: bytes, metadata: ImageMetadata) -> bytes:
    """Put profile, resolution and Exif behind the header of a PNG, where readers expect them."""
    if metadata == _NOTHING:
        return data
    chunks = b""
    if metadata.icc:
        chunks += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi:
        x, y = (round(dpi * _INCHES_PER_METRE) for dpi in metadata.dpi)
        chunks += _png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    exif = written_exif(metadata)
    if exif:
        chunks += _png_chunk(b"eXIf", exif)
    header_end = 8 + 25
    return data[:header_end] + chunks + data[header_end:]


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _with_bmp_resolution(data: bytes, metadata: ImageMetadata) -> bytes:
    if metadata.dpi is None:
        return data
    x, y = (round(dpi * _INCHES_PER_METRE) for dpi in metadata.dpi)
    return data[:38] + struct.pack("<ii", x, y) + data[46:]
