"""TIFF in, by tifffile; what tifffile lacks without imagecodecs (LZW, JPEG, fax) by libtiff."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import EnvironmentProblem, ImageFileError, ImageTooLargeError
from daskimg.io.color import cmyk_to_rgb
from daskimg.io.containers import size_of
from daskimg.io.metadata import tiff_exif
from daskimg.io.orientation import upright
from daskimg.io.probe import Header, pillow_image

__all__ = [
    "check_inflated",
    "check_segments",
    "colored",
    "decode_tiff",
    "grey_alpha",
    "has_imagecodecs",
    "resolution_dpi",
    "tiff_header",
]

Pixels = NDArray[Any]

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_PLAIN, _DEFLATE, _LZMA, _PACKBITS = 1, (8, 32946), 34925, 32773
_FLOAT_PREDICTOR = 3
_LZMA_MEMORY = 2**27  # What its strongest preset needs is half of that.


def has_imagecodecs() -> bool:
    """Tell whether tifffile has its decoders and encoders."""
    return find_spec("imagecodecs") is not None


def _opened(file: IO[bytes]) -> Any:
    import tifffile

    file.seek(0)  # Where the file stands is where tifffile looks for the header.
    return tifffile.TiffFile(cast(Any, file))


def _pages(tiff: Any, shown: str) -> list[Any]:
    """Return the pages that are images of their own, not previews or masks of another."""
    pages = [p for p in tiff.pages if not (p.is_reduced or p.is_mask)]
    if not pages or pages[0].is_dng:
        raise ImageFileError(
            f"{shown} is a camera's raw file, or holds previews only; develop it to TIFF or PNG first."
        )
    planes = int((tiff.imagej_metadata or {}).get("images", 1)) if tiff.is_imagej else 1
    if planes > len(pages):
        raise ImageFileError(f"{shown} is an ImageJ stack of {planes} planes in one page; save its planes as pages.")
    return pages


def tiff_header(file: IO[bytes], shown: str, frame: int) -> Header:
    """Read the header of one page."""
    with _opened(file) as tiff:
        pages = _pages(tiff, shown)
        page = pages[min(max(frame, 0), len(pages) - 1)]
        if page.dtype is None or page.dtype.kind not in "buif" or page.imagedepth > 1:
            raise ImageFileError(
                f"{shown} holds {page.bitspersample}-bit samples in {page.ndim} dimensions, which daskimg cannot read."
            )
        check_segments(page, size_of(file), shown)
        orientation = page.tags.valueof(274, 1)
        return Header(
            "tiff",
            page.imagelength,
            page.imagewidth,
            _channels(page, shown),
            np.dtype("uint8")
            if page.dtype.kind == "b" or page.photometric == _PALETTE
            else page.dtype.newbyteorder("="),
            orientation=orientation if orientation in range(1, 9) else 1,
            frame=min(max(frame, 0), len(pages) - 1),
            frames=len(pages),
            exif=tiff_exif(file),
            icc=page.iccprofile,
            dpi=resolution_dpi(page),
        )


def _channels(page: Any, shown: str) -> int:
    samples, photometric = page.samplesperpixel, page.photometric
    if photometric == _PALETTE and samples == 1:
        return 3
    if photometric == _SEPARATED and samples == 4 and page.dtype == np.uint8:
        return 3
    if photometric in (_RGB, _YCBCR) and 3 <= samples <= 4:
        return int(samples)
    if photometric in (_MINISWHITE, _MINISBLACK) and 1 <= samples <= 4:
        return 4 if grey_alpha(page) else int(samples)
    name = getattr(photometric, "name", photometric)
    raise ImageFileError(
        f"{shown} has {samples} samples of {name} per pixel; 1 to 4 channels of grey, RGB, palette or 8-bit "
        "CMYK can be read."
    )


def grey_alpha(page: Any) -> bool:
    """Tell whether two samples are grey and alpha, as Pillow writes them, rather than two channels of data."""
    return page.samplesperpixel == 2 and bool(set(page.extrasamples) & {1, 2})


def resolution_dpi(page: Any) -> tuple[float, float] | None:
    """Return the pixels per inch along columns and rows, where a page has a credible resolution."""
    unit = page.tags.valueof(296, 2)
    if unit not in (2, 3) or 282 not in page.tags:
        return None
    try:
        x, y = (page.tags.valueof(code, (0, 1)) for code in (282, 283))
        factor = 2.54 if unit == 3 else 1.0
        dpi = (round(x[0] / x[1] * factor, 4), round(y[0] / y[1] * factor, 4))
    except (TypeError, ZeroDivisionError):
        return None
    return dpi if all(1 < d < 1e6 for d in dpi) else None


def check_segments(page: Any, size: int, shown: str) -> None:
    """Refuse a page whose strips or tiles lie beyond the end of the file, or are far larger than the image."""
    if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise ImageFileError(f"{shown} is truncated: it stops after {size} bytes, before its last strip or tile ends.")
    if not len(page.dataoffsets):
        raise ImageFileError(f"{shown} has a page without strips or tiles; it holds no image.")
    if page.is_tiled and page.tilelength * page.tilewidth > 4 * page.imagelength * page.imagewidth + 2**24:
        raise ImageTooLargeError(
            f"{shown} has tiles of {page.tilelength} x {page.tilewidth} pixels, far beyond its size."
        )


def decode_tiff(file: IO[bytes], header: Header, *, convert_ink: bool, shown: str) -> Pixels:
    """Decode one page: upright, RGB(A) or channels as stored, in native byte order."""
    with _opened(file) as tiff:
        page = _pages(tiff, shown)[header.frame]
        if not _native(page):
            return _by_libtiff(file, header, page, shown)
        _check_strips(tiff.filehandle, page, shown)
        pixels = np.asarray(page.asarray())
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(header.rows, header.columns, page.samplesperpixel)
        pixels = colored(pixels, page, header.icc if convert_ink else None)
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return upright(np.ascontiguousarray(pixels, dtype=header.dtype), header.orientation)


def _native(page: Any) -> bool:
    """Tell whether tifffile decodes a page as it is installed."""
    if page.photometric == _YCBCR or page.bitspersample not in (1, 8, 16, 32, 64):
        return False
    if has_imagecodecs():
        return True
    return page.compression in (_PLAIN, *_DEFLATE, _LZMA, _PACKBITS) and page.predictor != _FLOAT_PREDICTOR


def _check_strips(handle: Any, page: Any, shown: str) -> None:
    """Refuse strips that inflate to more than they should."""
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    most = min(rows, page.imagelength if not page.is_tiled else rows) * columns * samples * max(1, page.dtype.itemsize)
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        handle.seek(start)
        check_inflated(handle.read(count), page.compression, most, shown)


def check_inflated(data: bytes, compression: int, most: int, shown: str) -> None:
    """Refuse a strip or tile that inflates to more than it should: without imagecodecs tifffile sets it no bound."""
    inflate: Callable[[bytes, int], bytes]
    if compression in _DEFLATE:
        if has_imagecodecs():
            return  # it refuses that itself
        inflate = lambda data, most: zlib.decompressobj().decompress(data, most)  # noqa: E731
    elif compression == _LZMA:
        inflate = lambda data, most: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(data, most)  # noqa: E731
    else:
        return
    if data and len(inflate(data, most + 1)) > most:
        raise ImageTooLargeError(f"{shown} has a strip or tile that inflates beyond its {most} bytes.")


def colored(pixels: Pixels, page: Any, icc: bytes | None) -> Pixels:
    """Turn the samples of a page, the last axis, to RGB(A) or channels; ink by its profile if that is given."""
    if page.photometric == _PALETTE:
        colors: Pixels = np.moveaxis((page.colormap >> 8).astype(np.uint8), 0, -1)
        return np.asarray(colors[pixels[..., 0].astype(np.intp, copy=False)])
    if page.photometric == _SEPARATED:
        return cmyk_to_rgb(pixels, icc)
    if page.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    if page.photometric == _MINISWHITE and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if grey_alpha(page):
        pixels = pixels[..., [0, 0, 0, 1]]
    return pixels


def _by_libtiff(file: IO[bytes], header: Header, page: Any, shown: str) -> Pixels:
    """Decode by the libtiff in Pillow (8 bits) or cv2 (the rest); both turn the image upright themselves."""
    import cv2

    name = getattr(page.compression, "name", page.compression)
    pixels: Pixels | None = None
    if header.dtype == np.uint8:
        from daskimg.io.decode import array_from_pillow

        image = pillow_image(file, "tiff", shown)
        image.seek(page.index)
        pixels = array_from_pillow(image, header)
    else:
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
        found, several = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1))
        if found and several:
            pixels = np.asarray(several[0])
            if header.channels >= 3:
                pixels = pixels[..., [2, 1, 0, 3][: header.channels]]  # cvtColor lacks int16 and float64.
    if pixels is None or pixels.dtype != header.dtype:
        raise EnvironmentProblem(
            f"{shown} is compressed with {name}, whose decoder is not installed: pip install 'daskimg[codecs]'"
        )
    return pixels
