"""Colour profiles: pixels in another colour space become sRGB.

8-bit pixels go through Little CMS. It has no 16-bit RGB in Pillow, so 16-bit pixels follow the profile's own formula,
curves and a matrix, which camera and display profiles consist of.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError

__all__ = ["check_convertible", "cmyk_to_rgb", "needs_conversion", "profile_fits", "to_srgb"]

Pixels = NDArray[Any]

# Rows are converted in bands of about this many pixels, so that memory stays near that of the image itself.
_BAND_PIXELS = 2**20
# XYZ under D50, where profiles meet, to linear sRGB.
_XYZ_TO_SRGB = np.array(
    [
        [3.1341359569958707, -1.6173863321612538, -0.4906619460083532],
        [-0.978795502912089, 1.916254567259524, 0.03344273116131949],
        [0.07195537988411677, -0.2289768264158322, 1.405386058324125],
    ]
)


@lru_cache(maxsize=8)
def _transform(icc: bytes, mode: str) -> Any:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)


def _apply(pixels: Pixels, icc: bytes, mode: str) -> Pixels:
    """Convert uint8 pixels of a Pillow mode to RGB."""
    from PIL import Image, ImageCms

    transform = _transform(icc, mode)
    rows, columns = pixels.shape[:2]
    out = np.empty((rows, columns, 3), np.uint8)
    step = max(1, _BAND_PIXELS // max(columns, 1))
    for start in range(0, rows, step):
        band = Image.fromarray(np.ascontiguousarray(pixels[start : start + step]), mode)
        out[start : start + step] = np.asarray(ImageCms.applyTransform(band, transform))
    return out


def profile_fits(icc: bytes | None, grey: bool) -> bool:
    """Tell whether a profile speaks of pixels with one channel, or of RGB."""
    return icc is not None and icc[16:20] == (b"GRAY" if grey else b"RGB ")


@lru_cache(maxsize=32)
def needs_conversion(icc: bytes | None, grey: bool) -> bool:
    """Tell whether a profile fits the pixels and means something else than sRGB.

    A profile that is broken, or that binds another number of channels than the image has, is ignored, as browsers do.
    """
    if not icc or not profile_fits(icc, grey):
        return False
    if grey:
        samples = np.arange(256, dtype=np.uint8)[None]
    else:
        # Names lie ("sRGB" profiles come in dozens); what the profile does to a grid of colours does not.
        levels = np.linspace(0, 255, 9).astype(np.uint8)
        samples = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    try:
        converted = _grey_table(icc)[samples] if grey else _apply(samples, icc, "RGB")
    except _broken_profile():
        return False
    return bool((np.abs(converted.astype(int) - samples) > 1).any())


def _grey_table(icc: bytes) -> Pixels:
    """Return what 8-bit sRGB each of 256 greys becomes."""
    ramp = np.arange(256)
    if _has_curves(icc, grey=True):  # Little CMS interpolates greys, and is 9 levels off for a linear profile.
        exact = _convert16((ramp * 257).astype(np.uint16)[None], icc)[0]
        return np.asarray(np.rint(exact / 257), np.uint8)
    return np.asarray(_apply(ramp.astype(np.uint8)[None], icc, "L")[0, :, 1])


def _broken_profile() -> tuple[type[Exception], ...]:
    from PIL.ImageCms import PyCMSError

    return PyCMSError, OSError, ValueError, struct.error, IndexError, ArithmeticError


def check_convertible(icc: bytes | None, grey: bool, dtype: np.dtype[Any], shown: str) -> None:
    """Refuse pixels that cannot be turned to sRGB though their profile asks for it.

    Raises
    ------
    ImageFileError
        The pixels are neither uint8 nor uint16, or they are uint16 and the profile has tables in place of curves.
    """
    if dtype == np.uint8 or not icc or not needs_conversion(icc, grey):
        return
    if dtype != np.uint16 or not _has_curves(icc, grey):
        what = f"{dtype} pixels" if dtype != np.uint16 else "uint16 pixels with a profile made of tables"
        raise ImageFileError(
            f"{shown} has a colour profile, and {what} cannot be turned to sRGB. Pass color_profile='keep' to get the "
            "pixels as they are."
        )


def to_srgb(image: Pixels, icc: bytes) -> Pixels:
    """Convert an image from the colours of a profile to sRGB; alpha stays.

    Parameters
    ----------
    image : ndarray, (rows, columns) or (rows, columns, 3 or 4), uint8 or uint16
        The pixels, RGB(A) or grey, that `check_convertible` let pass.
    icc : bytes
        The profile that the pixels follow.
    """
    if image.dtype == np.uint16:
        converted = _convert16(image if image.ndim == 2 else image[..., :3], icc)
    elif image.ndim == 2:
        converted = _grey_table(icc)[image]
    else:
        converted = _apply(image[..., :3], icc, "RGB")
    if image.shape != converted.shape:
        converted = np.concatenate([converted, image[..., 3:]], axis=2)
    return converted


def _has_curves(icc: bytes, grey: bool) -> bool:
    """Tell whether a profile is made of curves and a matrix; tables win where it has both."""
    tags = _tags(icc)
    return b"A2B0" not in tags and all(n in tags for n in _curve_names(grey)) and (grey or b"rXYZ" in tags)


def _curve_names(grey: bool) -> tuple[bytes, ...]:
    return (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC")


def _convert16(color: Pixels, icc: bytes) -> Pixels:
    tags = _tags(icc)
    grey = color.ndim == 2
    curves = [_curve(tags[n]) for n in _curve_names(grey)]
    encode = np.rint(_srgb_encoded(np.linspace(0, 1, 65536)) * 65535).astype(np.uint16)
    if grey:
        return np.asarray(encode[np.rint(curves[0] * 65535).astype(np.uint16)][color])
    columns = [struct.unpack(">3i", tags[n][8:20]) for n in (b"rXYZ", b"gXYZ", b"bXYZ")]
    matrix = (_XYZ_TO_SRGB @ (np.array(columns).T / 65536)).astype(np.float32)
    out = np.empty_like(color)
    step = max(1, _BAND_PIXELS // max(color.shape[1], 1))
    for start in range(0, len(color), step):
        band = color[start : start + step]
        linear = np.stack([curve[band[..., i]] for i, curve in enumerate(curves)], -1) @ matrix.T
        out[start : start + step] = np.rint(_srgb_encoded(linear) * 65535)
    return out


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack(">I", icc[128:132])
    entries = (struct.unpack(">4sII", icc[132 + 12 * i : 144 + 12 * i]) for i in range(min(count, 100)))
    return {name: icc[offset : offset + length] for name, offset, length in entries}


def _curve(tag: bytes) -> NDArray[np.float32]:
    """Return what each of the 65536 levels means in linear light (ICC.1:2010, 10.5 and 10.15)."""
    x = np.linspace(0, 1, 65536)
    if tag[:4] == b"curv":
        (count,) = struct.unpack(">I", tag[8:12])
        points = np.frombuffer(tag, ">u2", count, 12)
        if count == 0:
            return x.astype(np.float32)
        if count == 1:
            return np.asarray(x ** (points[0] / 256), np.float32)
        return np.interp(x, np.linspace(0, 1, count), points / 65535).astype(np.float32)
    if tag[:4] != b"para":
        raise ValueError("the colour profile has a curve of an unknown type")
    (kind,) = struct.unpack(">H", tag[8:10])
    count = (1, 3, 4, 5, 7)[kind]
    given = [v / 65536 for v in struct.unpack(f">{count}i", tag[12 : 12 + 4 * count])]
    g, a, b, c, d, e, f = given + [0.0] * (7 - count)
    if kind == 0:
        a = 1.0
    elif kind in (1, 2):  # Their c lifts the whole curve, which is flat below -b/a.
        c, d, e, f = 0.0, -b / a, c, c
    above = np.maximum(a * x + b, 0) ** g + e
    return np.asarray(np.clip(np.where(x >= d, above, c * x + f), 0, 1), np.float32)


def _srgb_encoded(linear: NDArray[Any]) -> NDArray[Any]:
    """Return linear light from 0 to 1 in the curve of sRGB (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def cmyk_to_rgb(cmyk: Pixels, icc: bytes | None) -> Pixels:
    """Convert ink to light: by the profile where there is one, else by the plain formula ``(255 - c)(255 - k) / 255``.

    Parameters
    ----------
    cmyk : ndarray, (rows, columns, 4), uint8
        The inks; 255 is full ink.
    icc : bytes or None
        The profile of the inks.
    """
    if icc and icc[16:20] == b"CMYK":
        with suppress(*_broken_profile()):
            return _apply(cmyk, icc, "CMYK")
    light = 255 - cmyk
    out = np.empty((*cmyk.shape[:2], 3), np.uint8)
    for i in range(3):  # One channel at a time keeps the 16-bit products small.
        out[..., i] = (light[..., i].astype(np.uint16) * light[..., 3] + 127) // 255
    return out
