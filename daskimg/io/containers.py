"""The layout of files, read without decoding: is a file all there, and what does its header say.

Pillow tells most headers. What is here is what it tells only after it took memory (WebP: two whole canvases), or not
at all (a file that stops too early, Exif behind the pixels of a PNG), and what millions of small files have in common:
for them its time would count.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import IO, NamedTuple

from daskimg.errors import ImageFileError

__all__ = [
    "Plain",
    "WebP",
    "check_complete",
    "jpeg_header",
    "jxl_size",
    "png_header",
    "png_trailing_exif",
    "size_of",
    "webp_header",
]

_TAIL = 2**16


class WebP(NamedTuple):
    """Holds what a WebP header says; sizes in pixels."""

    columns: int
    rows: int
    alpha: bool
    frames: int
    icc: bytes | None
    exif: bytes | None


class Plain(NamedTuple):
    """Holds what the header of an image says that has neither profile nor Exif nor anything else unusual.

    `depth` is in bits, `dpi` as stored: anything, or nothing.
    """

    columns: int
    rows: int
    channels: int
    depth: int
    dpi: tuple[float, float] | None


# By color type: the depths that there are, and the channels as users get them.
_PNG_TYPES = {
    0: ((1, 2, 4, 8, 16), 1),
    2: ((8, 16), 3),
    3: ((1, 2, 4, 8), 3),
    4: ((8, 16), 4),
    6: ((8, 16), 4),
}
_PNG_PLAIN = frozenset(
    {b"PLTE", b"bKGD", b"cHRM", b"gAMA", b"hIST", b"iTXt", b"pHYs", b"sBIT", b"sRGB", b"tEXt", b"tIME", b"zTXt"}
)
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_HEAD = 2**12  # bytes that hold the headers of plain files


def png_header(file: IO[bytes]) -> Plain | None:
    """Read the header of a plain PNG; None for one that takes more than a short look, also if it is broken."""
    file.seek(0)
    head = file.read(_HEAD)
    if not head.startswith(_PNG_START) or len(head) < 33 or zlib.crc32(head[12:29]) != _number(head, 29, 4):
        return None
    columns, rows, depth, kind, compression, filtering = struct.unpack_from(">IIBBBB", head, 16)
    depths, channels = _PNG_TYPES.get(kind, ((), 0))
    if depth not in depths or compression or filtering:
        return None
    dpi = None
    position = 33
    while position + 8 <= len(head):
        length, name = struct.unpack_from(">I4s", head, position)
        if name == b"IDAT":
            return Plain(columns, rows, channels, depth, dpi)
        if name not in _PNG_PLAIN:
            return None
        if name == b"pHYs" and length == 9 and position + 17 <= len(head):
            x, y, unit = struct.unpack_from(">IIB", head, position + 8)
            dpi = (x * 0.0254, y * 0.0254) if unit == 1 else None
        position += 12 + length
    return None


def jpeg_header(file: IO[bytes]) -> Plain | None:
    """Read the header of a plain JPEG, gray or of three colors; None for one that takes more than a short look."""
    file.seek(0)
    head = file.read(_HEAD)
    found = dpi = None
    position = 2
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], _number(head, position + 2, 2)
        body = position + 4
        if marker == 0xDA:
            return found and found._replace(dpi=dpi)
        if marker in (0xC0, 0xC1, 0xC2) and found is None and body + 6 <= len(head):
            depth, rows, columns, channels = struct.unpack_from(">BHHB", head, body)
            if depth != 8 or channels not in (1, 3):
                return None
            found = Plain(columns, rows, channels, depth, None)
        elif marker == 0xE0 and head.startswith(b"JFIF\0", body) and length >= 14:
            unit, x, y = struct.unpack_from(">BHH", head, body + 7)
            scale = {1: 1.0, 2: 2.54}.get(unit)
            dpi = None if scale is None else (x * scale, y * scale)
        elif marker not in (0xC4, 0xDB, 0xDD, 0xFE, 0xE0):  # tables and remarks
            return None
        position += 2 + length
    return None


def _number(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(data[start : start + count], "big")


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
