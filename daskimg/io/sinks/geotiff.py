"""The tags of GeoTIFF: where an image lies on Earth."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskimg.errors import ParameterError
from daskimg.io.sink import Target

__all__ = ["geo_tags", "nodata_tag"]

Tag = tuple[int, int, int, Any, bool]
_SHORT, _DOUBLE, _ASCII = 3, 12, 2
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072


def geo_tags(target: Target) -> list[Tag]:
    """Return the tags of the geotransform and of the coordinate system, as tifffile takes them.

    `target.attrs["transform"]` is (a, b, c, d, e, f), as rasterio has it: x = a · column + b · row + c and
    y = d · column + e · row + f, from the upper left corner on. `target.attrs["crs"]` is a code of EPSG.

    Raises
    ------
    ParameterError
        The transform is not of six numbers, or the coordinate system is no code of EPSG.
    """
    transform = target.attrs.get("transform")
    code = epsg_code(target.attrs.get("crs"))
    return [*_transform_tags(transform), *_system_tags(code, transform, target.levels[0])]


def nodata_tag(target: Target) -> list[Tag]:
    """Return GDAL's tag for the value that stands for missing pixels."""
    nodata = target.attrs.get("nodata")
    if nodata is None:
        return []
    value = np.asarray(nodata).item()
    text = "nan" if value != value else repr(int(value) if value == int(value) else value)
    return [(42113, _ASCII, 0, text, False)]


def epsg_code(crs: Any) -> int | None:
    """Return the code of a coordinate system.

    Examples
    --------
    >>> epsg_code("EPSG:32633"), epsg_code(4326), epsg_code(None)
    (32633, 4326, None)
    """
    if crs is None or crs == "":
        return None
    if hasattr(crs, "to_epsg"):
        crs = crs.to_epsg()
    text = str(crs).upper().removeprefix("EPSG:")
    if not text.isdigit() or not 1024 <= int(text) <= 32766:
        raise ParameterError(
            f"GeoTIFF names a coordinate system by its EPSG code, such as 'EPSG:32633'; got {crs!r}. Pass crs=None to "
            "write none."
        )
    return int(text)


def _transform_tags(transform: Any) -> list[Tag]:
    if transform is None:
        return []
    values = [float(value) for value in transform][:6]
    if len(values) != 6:
        raise ParameterError(f"transform has six numbers (a, b, c, d, e, f); got {transform!r}.")
    a, b, c, d, e, f = values
    if b == d == 0 and a > 0 > e:
        return [(33550, _DOUBLE, 3, (a, -e, 0.0), True), (33922, _DOUBLE, 6, (0.0, 0.0, 0.0, c, f, 0.0), True)]
    matrix = (a, b, 0.0, c, d, e, 0.0, f, *(0.0,) * 4, 0.0, 0.0, 0.0, 1.0)
    return [(34264, _DOUBLE, 16, matrix, True)]


def _system_tags(code: int | None, transform: Any, size: tuple[int, int]) -> list[Tag]:
    if code is None and transform is None:
        return []
    keys = [_RASTER_TYPE, 0, 1, 1]  # pixels are areas
    if code is not None:
        geographic = _is_geographic(code, transform, size)
        keys = [_MODEL_TYPE, 0, 1, 2 if geographic else 1, *keys, _GEOGRAPHIC if geographic else _PROJECTED, 0, 1, code]
    keys = [1, 1, 0, len(keys) // 4, *keys]
    return [(34735, _SHORT, len(keys), keys, True)]


def _is_geographic(code: int, transform: Any, size: tuple[int, int]) -> bool:
    """Tell degrees from meters: by the range of EPSG's codes, and by whether all corners lie on a globe of degrees."""
    if not 4000 <= code < 20000:
        return False
    if transform is None:
        return code < 5000
    a, b, c, d, e, f = (float(value) for value in list(transform)[:6])
    corners = [(column, row) for column in (0, size[1]) for row in (0, size[0])]
    return all(
        abs(a * column + b * row + c) <= 360.001 and abs(d * column + e * row + f) <= 90.001 for column, row in corners
    )
