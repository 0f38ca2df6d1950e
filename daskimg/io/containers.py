"""The layout of files, read without decoding: is a file all there, and what does its header say.

Pillow tells most headers. What is here is what it tells only after it took memory (WebP: two whole canvases), or not
at all (a file that stops too early, Exif behind the pixels of a PNG).
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import IO, NamedTuple

from daskimg.errors import ImageFileError

__all__ = ["WebP", "check_complete", "jxl_size", "png_trailing_exif", "size_of", "webp_header"]

_TAIL = 2**16


class WebP(NamedTuple):
    """Holds what a WebP header says; sizes in pixels."""

    columns: int
    rows: int
    alpha: bool
    frames: int
    icc: bytes | None
    exif: bytes | None


def size_of(file: IO[bytes]) -> int:
    """Return a file's length in bytes."""
    return file.seek(0, os.SEEK_END)


def webp_header(file: IO[bytes], shown: str) -> WebP:
    """Read the header and the metadata of a WebP file, chunk by chunk."""
    file.seek(0)
    end = 8 + struct.unpack("<I", file.read(12)[4:8])[0]
    columns = rows = frames = 0
    alpha = False
    blobs: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= end:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name in (b"ICCP", b"EXIF"):
            blobs[name] = file.read(min(length, end - position))
        elif name == b"ANMF":
            frames += 1
        elif name == b"ALPH":
            alpha = True
        elif name in (b"VP8X", b"VP8L", b"VP8 ") and not columns:
            head = file.read(10)
            if name == b"VP8X":
                alpha = bool(head[0] & 0x10)
                columns, rows = (1 + int.from_bytes(head[i : i + 3], "little") for i in (4, 7))
            elif name == b"VP8L":
                bits = int.from_bytes(head[1:5], "little")
                columns, rows, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
            else:
                columns, rows = (x & 0x3FFF for x in struct.unpack("<HH", head[6:10]))
        position += 8 + length + length % 2
    if not columns or not rows:
        raise ImageFileError(f"{shown} is a WebP file without an image.")
    return WebP(columns, rows, alpha, max(frames, 1), blobs.get(b"ICCP"), blobs.get(b"EXIF"))


def _png_ends(file: IO[bytes], size: int) -> bool:
    if _tail(file, size).endswith(b"IEND\xaeB`\x82"):
        return True
    position = 8
    while position + 12 <= size:  # Something follows, or the end is missing: only a walk can tell.
        file.seek(position)
        length = int.from_bytes(file.read(4), "big")
        position += 12 + length
        if file.read(4) == b"IEND":
            return position <= size
    return False


def _jpeg_ends(file: IO[bytes], size: int) -> bool:
    if _tail(file, size).rstrip(b"\0").endswith(b"\xff\xd9"):
        return True
    file.seek(0)  # Cameras append previews and films: look for an end behind the start of the first scan.
    data = file.read()
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], struct.unpack(">H", data[position + 2 : position + 4])[0]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) > 0
        position += 1 if marker == 0xFF else 2 + length
    return False


def _webp_ends(file: IO[bytes], size: int) -> bool:
    file.seek(4)
    return bool(8 + struct.unpack("<I", file.read(4))[0] <= size)


def _boxes_end(file: IO[bytes], size: int) -> bool:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # The last box runs to the end of the file.
            return True
        if length < 8:
            break
        position += length
    return position <= size


_ENDS = {"png": _png_ends, "jpeg": _jpeg_ends, "webp": _webp_ends, "avif": _boxes_end, "heic": _boxes_end}


def check_complete(file: IO[bytes], format_name: str, shown: str) -> None:
    """Refuse a file that stops before its own layout says it ends; other formats find out while they decode."""
    size = size_of(file)
    ends = _ENDS.get(format_name)
    if ends is not None and not ends(file, size):
        raise ImageFileError(
            f"{shown} is truncated: it stops after {size} bytes, before the {format_name.upper()} ends. "
            "Copy or download it again."
        )


def png_trailing_exif(file: IO[bytes]) -> bytes | None:
    """Return the Exif that a PNG keeps behind its pixels, where some programs write it, or None."""
    tail = _tail(file, size_of(file))
    start = tail.rfind(b"eXIf")
    if start < 4:
        return None
    length = struct.unpack(">I", tail[start - 4 : start])[0]
    body = tail[start : start + 4 + length]
    checksum = tail[start + 4 + length : start + 8 + length]
    # The four letters may stand among the pixels by chance; their checksum will not.
    return body[4:] if struct.pack(">I", zlib.crc32(body)) == checksum else None


def jxl_size(file: IO[bytes], shown: str) -> tuple[int, int]:
    """Return the rows and columns that a JPEG XL file declares (ISO 18181-1, SizeHeader), before its decoder runs."""
    file.seek(0)
    head = file.read(2**16)
    start = head.find(b"\xff\x0a")  # The codestream, bare or in a box.
    if start < 0:
        raise ImageFileError(f"{shown} is a JPEG XL file without a codestream.")
    bits = int.from_bytes(head[start + 2 : start + 16], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows = side()
    ratio = take(3)
    across, down = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return rows, rows * across // down if ratio else side()


def _tail(file: IO[bytes], size: int) -> bytes:
    file.seek(max(0, size - _TAIL))
    return file.read(_TAIL)
