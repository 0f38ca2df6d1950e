"""The file formats: how each is recognised, and what it can hold.

A format is told by its first bytes, never by the name of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from daskimg.errors import ImageFileError, UnknownNameError, suggest

__all__ = [
    "FORMATS",
    "PARTWISE",
    "STREAMED",
    "Format",
    "check_suffix",
    "format_named",
    "sniff",
    "streamed_by_name",
    "suffix_of",
]

#: Bytes from the start of a file that `sniff` wants to see.
SNIFF_BYTES = 64


@dataclass(frozen=True)
class Format:
    """Says what a file format is called and what it can hold.

    `dtypes` and `channels` are what can be saved (none: the format is only read), `largest_side` is the longest side
    in pixels, and `extra` names the optional dependency that brings the decoder.
    """

    name: str
    suffixes: tuple[str, ...]
    dtypes: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    largest_side: int = 2**31 - 1
    extra: str | None = None


FORMATS = {
    f.name: f
    for f in (
        Format("png", (".png", ".apng"), ("uint8", "uint16"), (1, 3, 4)),
        Format("jpeg", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ("uint8",), (1, 3), 65535),
        Format("webp", (".webp",), ("uint8",), (1, 3, 4), 16383),
        Format(
            "tiff",
            (".tif", ".tiff"),
            ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"),
            (1, 2, 3, 4),
        ),
        Format("bmp", (".bmp", ".dib"), ("uint8",), (1, 3, 4), 2**15 - 1),
        Format("avif", (".avif", ".avifs"), ("uint8",), (1, 3, 4), 16384),
        Format("gif", (".gif",)),
        Format("heic", (".heic", ".heif", ".hif", ".heics"), extra="heic"),
        Format("jxl", (".jxl",), extra="codecs"),
    )
}

_NUMBERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")

#: Formats that images of any size are streamed to; what each can hold is checked where it is written.
STREAMED = {
    f.name: f
    for f in (
        Format("zarr", (".zarr",), _NUMBERS, (1, 2, 3, 4)),
        Format("ome-zarr", (".ome.zarr",), _NUMBERS, (1, 2, 3, 4)),
        Format("ome-tiff", (".ome.tif", ".ome.tiff"), _NUMBERS, (1, 2, 3, 4)),
        Format("cog", (".tif",), _NUMBERS, (1, 2, 3, 4)),
    )
}

_BY_SUFFIX = {suffix: f for f in FORMATS.values() for suffix in f.suffixes}
#: Suffixes of images that are only read, and part by part.
PARTWISE = frozenset({".czi", ".lif", ".nd2", ".npy"})
_STREAMED_BY_SUFFIX = {
    suffix: STREAMED[name] for name in ("ome-zarr", "zarr", "ome-tiff") for suffix in STREAMED[name].suffixes
}
_WRITABLE = [name for name, f in (FORMATS | STREAMED).items() if f.dtypes]

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
)

# What else people take for an image, so that the message can say what the file is.
_STRANGERS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing (render it to PNG first)"),
    (b"<?xml", "XML, perhaps an SVG drawing (render it to PNG first)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"%pdf", "a PDF document (render its pages to PNG first)"),
    (b"%!ps", "a PostScript drawing (render it to PNG first)"),
    (b"8bps", "a Photoshop document (export it to TIFF first)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
    (b"\x89hdf", "HDF5 data"),
)


def sniff(head: bytes, shown: str) -> Format:
    """Tell the format from a file's first bytes.

    Parameters
    ----------
    head : bytes
        The first `SNIFF_BYTES` bytes, fewer if the file is shorter.
    shown : str
        How messages call the file.

    Raises
    ------
    ImageFileError
        The bytes start no format that daskimg reads.

    Examples
    --------
    >>> sniff(b"GIF89a", "a.gif").name
    'gif'
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FORMATS["webp"]
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4))}
        if brands & {b"avif", b"avis"}:
            return FORMATS["avif"]
        if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
            return FORMATS["heic"]
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return FORMATS[name]
    if not head:
        raise ImageFileError(f"{shown} is empty (0 bytes); it is no image.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = next((what for magic, what in _STRANGERS if text.startswith(magic.lower())), None)
    raise ImageFileError(
        f"{shown} is {what or 'no image that daskimg knows'}; its content decides, not its name. "
        f"Formats that can be read: {', '.join(FORMATS)}."
    )


def suffix_of(path: str) -> str:
    """Return the lower-case suffix of the last part of a path or URL, with its dot, or an empty string.

    >>> suffix_of("https://host/a.b/photo.JPG?size=3#x"), suffix_of("s3://bucket/noname")
    ('.jpg', '')
    """
    if path.startswith(("http://", "https://")):
        path = path.split("#")[0].split("?")[0]
    name = path.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def streamed_by_name(path: str) -> Format | None:
    """Return the format that only a streamed image has a name of this kind for, such as `a.ome.zarr`; else None.

    >>> streamed_by_name("s3://bucket/cells.OME.tiff").name, streamed_by_name("cells.tif")
    ('ome-tiff', None)
    """
    name = path.lower().rstrip("/")
    return next((found for suffix, found in _STREAMED_BY_SUFFIX.items() if name.endswith(suffix)), None)


def check_suffix(path: str, found: Format, shown: str) -> None:
    """Refuse a file whose suffix promises another image format than its content has."""
    suffix = suffix_of(path)
    promised = _BY_SUFFIX.get(suffix, found)
    if promised is not found and {promised.name, found.name} != {"heic", "avif"}:
        raise ImageFileError(
            f"{shown} is named {suffix} but its content is {found.name.upper()}: a wrong extension often means a wrong "
            f"file. Rename it to {found.suffixes[0]}, or pass strict=False to go by the content."
        )


def format_named(name: str | None, path: str) -> Format:
    """Return the format to save in: the one named, else the one that the path's suffix stands for.

    Raises
    ------
    UnknownNameError
        Neither says a format that daskimg can write.

    Examples
    --------
    >>> format_named(None, "out/photo.JPG").name, format_named("tif", "x").name
    ('jpeg', 'tiff')
    """
    if name is not None:
        wanted = name.lower().lstrip(".")
        found = FORMATS.get(wanted) or STREAMED.get(wanted) or _BY_SUFFIX.get(f".{wanted}")
        given, key = f"The format {name!r}", wanted
    else:
        suffix = suffix_of(path)
        found = streamed_by_name(path) or _BY_SUFFIX.get(suffix)
        given = f"The suffix {suffix!r}" if suffix else "A name without a suffix"
        key = suffix
    if found is None:
        known = _WRITABLE if name is not None else [s for s, f in _BY_SUFFIX.items() if f.dtypes]
        hint = suggest(key, known) if key else ""
        raise UnknownNameError(
            f"{given} stands for no image format.{hint} Formats that can be written: {', '.join(_WRITABLE)}; "
            "use one of their suffixes, or pass format=."
        )
    if not found.dtypes:
        raise UnknownNameError(
            f"{found.name.upper()} can be read but not written. Formats that can be written: {', '.join(_WRITABLE)}."
        )
    return found
