"""TIFF out, by tifffile, with Exif, which tifffile leaves to its caller."""

from __future__ import annotations

import io
import struct
from typing import Any, cast

from numpy.typing import NDArray

from daskimg.errors import EnvironmentProblem, ParameterError
from daskimg.io.metadata import ImageMetadata, written_exif
from daskimg.io.tiff import has_imagecodecs

__all__ = ["check_compression", "encode_tiff"]

Pixels = NDArray[Any]

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# What `compression` can be called, and what tifffile calls it.
_COMPRESSIONS = {"none": None, "deflate": "adobe_deflate", "lzma": "lzma", "lzw": "lzw", "zstd": "zstd"}
_NEED_IMAGECODECS = ("lzw", "zstd")


def encode_tiff(pixels: Pixels, metadata: ImageMetadata, compression: str | int | None) -> bytes:
    """Encode one page.

    Parameters
    ----------
    pixels : ndarray, (rows, columns) or (rows, columns, 1 to 4)
        Three and four channels are saved as RGB(A), two as data.
    metadata : ImageMetadata
        What to write beside the pixels.
    compression : str, optional
        ``"deflate"`` (the default), ``"none"``, ``"lzma"``, ``"lzw"`` or ``"zstd"``.
    """
    import tifffile

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    stream = io.BytesIO()
    directories = _exif_directories(written_exif(metadata))
    tifffile.imwrite(
        cast(Any, stream),
        pixels,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples={2: ["unspecified"], 4: ["unassalpha"]}.get(channels),
        compression=_COMPRESSIONS[check_compression(compression)],
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        software=False,
        metadata=None,
        extratags=_texts(directories),
    )
    return _with_directories(bytearray(stream.getbuffer()), directories)


def check_compression(compression: str | int | None) -> str:
    """Return the name of a TIFF compression, and refuse one that cannot be written here."""
    name = "deflate" if compression is None else compression
    if name not in _COMPRESSIONS:
        raise ParameterError(f"compression of TIFF must be one of {', '.join(_COMPRESSIONS)}; got {compression!r}.")
    if name in _NEED_IMAGECODECS and not has_imagecodecs():
        raise EnvironmentProblem(
            f"TIFF compression {name!r} needs an encoder that is not installed: pip install 'daskimg[codecs]'"
        )
    return str(name)


Directories = dict[int, dict[int, Any]]


def _exif_directories(exif: bytes | None) -> Directories:
    """Split an Exif block: its first directory under 0, then those of Exif and GPS under their tags."""
    from PIL import Image

    if not exif:
        return {}
    block = Image.Exif()
    block.load(exif)
    split: Directories = {0: {t: v for t, v in block.items() if t not in (_EXIF_IFD, _GPS_IFD)}}
    for tag in (_EXIF_IFD, _GPS_IFD):
        if tag in block:
            split[tag] = block.get_ifd(tag)
    return split


def _texts(directories: Directories) -> list[tuple[Any, ...]]:
    return [(tag, "s", 0, text, True) for tag, text in directories.get(0, {}).items() if isinstance(text, str) and text]


def _with_directories(data: bytearray, directories: Directories) -> bytes:
    """Append the directories of Exif and GPS, and the main one anew with pointers to them, which tifffile refuses."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    order = "<" if data[:2] == b"II" else ">"
    nested = {tag: content for tag, content in directories.items() if tag}
    if not nested or struct.unpack_from(f"{order}H", data, 2) != (42,):  # Beyond 4 GiB, where pointers are longer.
        return bytes(data)
    pointers = []
    for tag, content in nested.items():
        data.extend(bytes(len(data) % 2))
        pointers.append(struct.pack(f"{order}HHII", tag, 4, 1, len(data)))
        directory = ImageFileDirectory_v2(bytes(data[:8]))
        for key, value in content.items():
            directory[key] = value
        data.extend(directory.tobytes(len(data)))
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = [bytes(data[start + 2 + 12 * i : start + 14 + 12 * i]) for i in range(count)] + pointers
    entries.sort(key=lambda entry: struct.unpack_from(f"{order}H", entry))
    data.extend(bytes(len(data) % 2))
    struct.pack_into(f"{order}I", data, 4, len(data))
    data.extend(struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4))
    return bytes(data)
