"""What the tags and texts of a TIFF file say beside its pixels: sizes of pixels, places on Earth, names."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import numpy as np

from daskimg.io.tiff import resolution_dpi

__all__ = ["OmeImage", "compression_name", "format_name", "geography", "nodata", "ome_images", "pixel_size"]

Size = tuple[tuple[float, float], str]  # height, width and unit of a pixel

_MICROMETERS = {2: 25400.0, 3: 10000.0}  # of TIFF's units, the inch and the centimeter
_UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",
    "\\u00b5m": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "inch": "inch",
    "in": "inch",
    "Å": "angstrom",
    "pm": "picometer",
}
_PLACELESS = ("", "pixel", "pixels", "reference frame")
_GEO_UNITS = {9001: "meter", 9002: "foot", 9003: "US survey foot", 9102: "degree"}


class OmeImage:
    """Holds what OME-XML says of one image.

    Attributes
    ----------
    name : str
        Its name; may be empty.
    size : tuple or None
        Height, width and unit of its pixels.
    channels : tuple of str
        The names of its channels, if all have one.
    """

    def __init__(self, element: Any) -> None:
        self.name = str(element.attrib.get("Name") or "")
        pixels = next(one for one in element if _local(one) == "Pixels")
        self.size = _credible(
            [pixels.attrib.get("PhysicalSizeY"), pixels.attrib.get("PhysicalSizeX")],
            pixels.attrib.get("PhysicalSizeXUnit", "µm"),
            pixels.attrib.get("PhysicalSizeYUnit", "µm"),
        )
        names = [one.attrib.get("Name") for one in pixels if _local(one) == "Channel"]
        self.channels = tuple(map(str, names)) if names and all(names) else ()


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def ome_images(xml: str | None) -> list[OmeImage]:
    """Return what OME-XML says of its images; nothing if it cannot be read."""
    with suppress(ElementTree.ParseError, StopIteration, ValueError, TypeError):
        return [OmeImage(one) for one in ElementTree.fromstring(xml or "") if _local(one) == "Image"]
    return []


def _credible(sizes: Sequence[Any], *units: str) -> Size | None:
    """Return a size of pixels that can be one; None for what is absent, absurd, or in two units."""
    try:
        height, width = (float(size) for size in sizes)
    except (TypeError, ValueError):
        return None
    if not all(math.isfinite(size) and 1e-12 < size < 1e12 for size in (height, width)) or len(set(units)) > 1:
        return None
    unit = units[0].strip()
    return None if unit.lower() in _PLACELESS else ((height, width), _UNITS.get(unit, unit))


def pixel_size(tiff: Any, page: Any, ome: OmeImage | None) -> Size | None:
    """Return height, width and unit of a page's pixels, by what says it best; None where nothing does."""
    if ome is not None:
        return ome.size
    scale = _values(page, 33550)
    if scale is not None and len(scale) >= 2:
        return _credible((scale[1], scale[0]), _geo_unit(page) or "map unit")
    if page.is_svs and (found := re.search(r"MPP\s*=\s*([0-9.]+)", page.description)):
        return _credible((found[1], found[1]), "µm")
    if tiff.is_philips and (found := re.search(r'DICOM_PIXEL_SPACING"[^>]*>([^<]*)<', tiff.philips_metadata or "")):
        return _credible(found[1].replace('"', " ").replace("&quot;", " ").split()[:2], "mm")
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", ""))
        return _credible([_inverse(page, 283), _inverse(page, 282)], unit)
    unit_tag = page.tags.valueof(296, 2)
    if resolution_dpi(page) is None and not (unit_tag in _MICROMETERS and page.is_tiled):
        return None
    per = _MICROMETERS[unit_tag]
    return _credible([per * (_inverse(page, code) or math.nan) for code in (283, 282)], "µm")


def _inverse(page: Any, code: int) -> float | None:
    """Return one over a rational number, such as a resolution."""
    with suppress(TypeError, ZeroDivisionError, IndexError):
        numerator, denominator = page.tags.valueof(code)[:2]
        return float(denominator / numerator)
    return None


def _values(page: Any, code: int) -> list[float] | None:
    """Return the numbers of a tag; None where it is absent or holds some that are none."""
    with suppress(TypeError, ValueError):
        values = [float(value) for value in page.tags.valueof(code)]
        if all(map(math.isfinite, values)):
            return values
    return None


def _geo_keys(page: Any) -> dict[int, int]:
    """Return the GeoKeys that are whole numbers."""
    directory = page.tags.valueof(34735)
    with suppress(TypeError, ValueError, IndexError):
        entries = np.asarray(directory[4 : 4 + 4 * int(directory[3])], int).reshape(-1, 4)
        return {int(key): int(value) for key, where, _, value in entries if where == 0}
    return {}


def _geo_unit(page: Any) -> str:
    keys = _geo_keys(page)
    if keys.get(1024) == 2:
        return _GEO_UNITS.get(keys.get(2054, 9102), "")
    return _GEO_UNITS.get(keys.get(3076, 9001), "")


def geography(page: Any) -> dict[str, Any]:
    """Return where a page lies on Earth: `transform` as rasterio has it, and `crs`, as far as its tags say.

    The transform leads from columns and rows, counted from the upper left corner of the first pixel, to the world.
    """
    found: dict[str, Any] = {}
    keys = _geo_keys(page)
    numbers = _affine(page)
    if numbers is not None:
        a, b, c, d, e, f = numbers
        if keys.get(1025) == 2:  # The tie points are the middles of pixels.
            c, f = c - (a + b) / 2, f - (d + e) / 2
        found["transform"] = (a, b, c, d, e, f)
    code = keys.get(3072) or keys.get(2048)
    if code is not None and 1024 <= code < 32767:
        found["crs"] = f"EPSG:{code}"
    return found


def _affine(page: Any) -> tuple[float, ...] | None:
    matrix = _values(page, 34264)
    if matrix is not None and len(matrix) == 16:
        return (*matrix[:2], matrix[3], *matrix[4:6], matrix[7])
    scale, tie = _values(page, 33550), _values(page, 33922)
    if scale is None or tie is None or len(scale) < 2 or len(tie) < 6 or not scale[0] or not scale[1]:
        return None
    column, row, _, x, y, _ = tie[:6]
    return (scale[0], 0.0, x - column * scale[0], 0.0, -scale[1], y + row * scale[1])


def nodata(page: Any) -> int | float | None:
    """Return the value of pixels without data that GDAL's tag names, if the pixels can hold it."""
    text = page.tags.valueof(42113)
    if not isinstance(text, str) or page.dtype is None:
        return None
    with suppress(ValueError, OverflowError):
        value = float(text.strip("\0 ").replace(",", "."))
        if page.dtype.kind == "f":
            return value
        limits = np.iinfo(page.dtype)
        if value.is_integer() and limits.min <= value <= limits.max:
            return int(text) if text.strip().lstrip("-").isdigit() else int(value)
    return None


def format_name(tiff: Any, page: Any) -> str:
    """Return what kind of TIFF a file is, in words."""
    vendors = {
        "ome": "OME-TIFF",
        "imagej": "ImageJ TIFF",
        "svs": "Aperio SVS",
        "ndpi": "Hamamatsu NDPI",
        "philips": "Philips TIFF",
        "scn": "Leica SCN",
        "bif": "Ventana BIF",
        "qpi": "PerkinElmer QPTIFF",
        "lsm": "Zeiss LSM",
    }
    for flag, name in vendors.items():
        if getattr(tiff, f"is_{flag}", False):
            return name
    if page.is_geotiff:
        layout = (tiff.gdal_structural_metadata or {}).get("LAYOUT", "") if page.is_tiled else ""
        return "Cloud-optimized GeoTIFF" if layout == "IFDS_BEFORE_DATA" else "GeoTIFF"
    return "BigTIFF" if tiff.is_bigtiff else "TIFF"


def compression_name(page: Any) -> str:
    """Return how a page is compressed, in words; empty where it is not."""
    name = getattr(page.compression, "name", str(page.compression)).lower()
    known = {"none": "", "1": "", "adobe_deflate": "deflate"}
    return "jpeg 2000" if "jp2000" in name or "jpeg2000" in name else known.get(name, name.replace("_", " "))
