"""What a picture says beside its pixels: Exif, colour profile, resolution; and what of that is private."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from daskimg.errors import ParameterError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ImageMetadata",
    "bare_exif",
    "dpi_of",
    "exif_block",
    "gps_in",
    "orientation_of",
    "tiff_exif",
    "written_exif",
]

_ORIENTATION, _EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0xA005, 0x927C
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128

# Tags of the first directory that speak of the picture. The rest says how one file stored its pixels, which is wrong in
# the next file, or repeats XMP and IPTC, which daskimg does not carry.
_DESCRIPTIVE = frozenset(
    {
        0x010E,  # ImageDescription
        0x010F,  # Make
        0x0110,  # Model
        _X_RESOLUTION,
        _Y_RESOLUTION,
        _RESOLUTION_UNIT,
        0x0131,  # Software
        0x0132,  # DateTime
        0x013B,  # Artist
        0x013C,  # HostComputer
        0x4746,  # Rating
        0x8298,  # Copyright
        *range(0x9C9B, 0x9CA0),  # The title, comment, author, keywords and subject of Windows
        _EXIF_IFD,
        _GPS_IFD,
    }
)
# What `without_private` keeps. A list of what is kept, because nobody knows all that makers may hide.
_PUBLIC = frozenset(
    {0x010F, 0x0110, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, 0x0131, 0x0132, 0x013B, 0x8298, _EXIF_IFD}
)
_PUBLIC_EXIF = frozenset(
    {
        *(0x829A, 0x829D, 0x8822, 0x8827, 0x8830, 0x8831, 0x8832),  # exposure, aperture, program, sensitivity
        *(0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292),  # version, dates, time zones
        *range(0x9201, 0x920B),  # shutter, aperture, brightness, bias, distance, metering, light, flash, focal length
        *(0xA001, 0xA20E, 0xA20F, 0xA210, 0xA215, 0xA217, 0xA300, 0xA301),  # colour space, sensor, scene type
        *range(0xA401, 0xA40D),  # rendering, exposure mode, white balance, zoom, 35 mm focal length, contrast
        *(0xA432, 0xA433, 0xA434, 0xA500),  # lens
    }
)
# The size in pixels, which an operation may change.
_STALE_EXIF = frozenset({0xA002, 0xA003, _INTEROP_IFD})
# Programs keep the layout of their stacks here; it does not hold for what is saved next.
_LAYOUTS = ("ImageJ=", "<?xml", '{"shape"')


@dataclass(frozen=True)
class ImageMetadata:
    """Holds what a picture says beside its pixels, as `save_image` can write it.

    Attributes
    ----------
    exif : bytes or None
        An Exif block. `save_image` writes it with its orientation set to 1, because the pixels are upright already,
        and without its thumbnail, which would show the picture as it was before it was processed.
    icc : bytes or None
        The ICC profile of the pixels; None means sRGB.
    dpi : tuple of float or None
        Dots per inch across and down.

    Notes
    -----
    XMP and IPTC are not carried: they repeat what Exif says (with its own orientation) and hold edit histories.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.exif is not None and _load(self.exif) is None:
            raise ParameterError("exif is no Exif block: expected bytes that start with 'II' or 'MM', or with 'Exif'.")
        if self.dpi is not None and not (len(self.dpi) == 2 and all(0 < d < 1e6 for d in self.dpi)):
            raise ParameterError(f"dpi must be two positive numbers (across, down), got {self.dpi!r}.")

    @property
    def has_gps(self) -> bool:
        """Tell whether the Exif block holds a position."""
        return gps_in(self.exif)

    def without_private(self) -> ImageMetadata:
        """Return a copy without what tells where, with which device or by whom a picture was taken.

        Kept are exposure, lens, camera model, dates, artist and copyright. Everything else goes: position, maker
        notes, serial numbers, owner, comments, unknown tags.

        Examples
        --------
        >>> ImageMetadata(dpi=(300, 300)).without_private()
        ImageMetadata(exif=None, icc=None, dpi=(300, 300))
        """
        return replace(
            self, exif=_rebuilt(_load(self.exif) if self.exif else None, _PUBLIC, lambda tag: tag in _PUBLIC_EXIF)
        )


def exif_block(blob: bytes | None) -> bytes | None:
    """Return an Exif block without the prefix that some formats put before it, or None for none or a broken one."""
    blob = _bare(blob) if blob else None
    return blob if blob and _load(blob) is not None else None


def _bare(blob: bytes) -> bytes:
    while blob.startswith(b"Exif\0\0"):
        blob = blob[6:]
    return blob


def _load(blob: bytes) -> Image.Exif | None:
    """Parse an Exif block; broken ones are as good as none, because the pixels do not depend on them."""
    return _load_file(io.BytesIO(_bare(blob)))


def _load_file(file: IO[bytes]) -> Image.Exif | None:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load_from_fp(file)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, OSError, struct.error):
        return None
    return exif


def orientation_of(blob: bytes | None) -> int:
    """Return the orientation from 1 to 8 that an Exif block asks for; 1 if it says none."""
    exif = _load(blob) if blob else None
    value = exif.get(_ORIENTATION, 1) if exif else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def gps_in(blob: bytes | None) -> bool:
    """Tell whether an Exif block holds a position."""
    exif = _load(blob) if blob else None
    return exif is not None and _GPS_IFD in exif


def dpi_of(blob: bytes | None) -> tuple[float, float] | None:
    """Return the dots per inch that an Exif block states, or None."""
    exif = _load(blob) if blob else None
    if not exif or _X_RESOLUTION not in exif or exif.get(_RESOLUTION_UNIT, 2) not in (2, 3):
        return None
    per_inch = 2.54 if exif.get(_RESOLUTION_UNIT) == 3 else 1.0
    x = exif[_X_RESOLUTION]
    try:
        dpi = (round(float(x) * per_inch, 4), round(float(exif.get(_Y_RESOLUTION, x)) * per_inch, 4))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return dpi if all(0 < d < 1e6 for d in dpi) else None


def written_exif(metadata: ImageMetadata) -> bytes | None:
    """Return the Exif block to write: upright, without thumbnail, sizes and storage tags, with the given resolution."""
    resolution: dict[int, Any] = {}
    if metadata.dpi is not None and metadata.exif is not None:
        resolution = {_X_RESOLUTION: metadata.dpi[0], _Y_RESOLUTION: metadata.dpi[1], _RESOLUTION_UNIT: 2}
    old = _load(metadata.exif) if metadata.exif else None
    return _rebuilt(old, _DESCRIPTIVE, lambda tag: tag not in _STALE_EXIF, {_ORIENTATION: 1, **resolution})


def bare_exif(dpi: tuple[float, float]) -> bytes:
    """Return an Exif block that states the resolution only, for formats that have no other place for it."""
    from PIL import Image

    exif = Image.Exif()
    exif.update({_X_RESOLUTION: dpi[0], _Y_RESOLUTION: dpi[1], _RESOLUTION_UNIT: 2})
    return exif.tobytes()[6:]


def _rebuilt(
    old: Image.Exif | None,
    kept: frozenset[int],
    keeps: Callable[[int], bool],
    added: Mapping[int, Any] | None = None,
) -> bytes | None:
    """Return a new block of the tags in `kept` and of those of its Exif directory that `keeps` accepts."""
    from PIL import Image

    if old is None:
        return None
    new = Image.Exif()
    for tag in kept & set(old):
        value = old.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else old[tag]
        if tag == _EXIF_IFD:
            value = {t: v for t, v in value.items() if keeps(t)}
        if not (isinstance(value, str) and value.startswith(_LAYOUTS)):
            new[tag] = value
    new.update(added or {})
    return new.tobytes()[6:] if len(new) else None


def tiff_exif(file: IO[bytes]) -> bytes | None:
    """Return what the first page of a TIFF says of the picture, as an Exif block, or None."""
    file.seek(0)
    return _rebuilt(_load_file(file), _DESCRIPTIVE - {_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT}, lambda tag: True)
