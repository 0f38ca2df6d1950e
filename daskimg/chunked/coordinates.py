"""Coordinates of labelled images follow the pixels: `y` and `x`, the size of a pixel, and geotransforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskimg.kinds import Array, Geometric, Size
from daskimg.pipeline import Step

__all__: list[str] = []

ROWS, COLUMNS = "y", "x"
EVEN = 1e-6  # steps of evenly spaced coordinates differ by no more than this share of one

# Attributes, all in units of the world: the side of a pixel, `(a, b, c, d, e, f)` as rasterio has it (x = a * column +
# b * row + c from the upper left corner of a pixel), and GDAL's order of the same numbers, as text or numbers.
PIXEL_SIZE = "pixel_size"
TRANSFORM = "transform"
GEOTRANSFORM = "GeoTransform"


def moved(image: Any, step: Step, result: Any) -> Any:
    """Return the lazy result of a geometric step as a labelled array, with what was known about the image's places.

    What cannot follow, as coordinates after a perspective warp, is dropped.

    Parameters
    ----------
    image : xarray.DataArray
        What the step was applied to.
    step : Step
        The step, of the geometric kind.
    result : dask.array.Array
        The result, with the image's axes.
    """
    kind = step.operation.declaration.kind
    assert isinstance(kind, Geometric)
    size: Size = (image.sizes[ROWS], image.sizes[COLUMNS])
    after = dict(zip(image.dims, result.shape, strict=True))
    matrix = kind.matrix(size, step.arguments)
    coordinates = {}
    attributes = _attributes(image.attrs, matrix)
    for name, one in image.coords.items():
        along = {ROWS, COLUMNS} & set(one.dims)
        if along:
            kept = _along(one, name, matrix, after)
            if kept is not None:
                coordinates[name] = kept
            continue
        if isinstance(one.attrs.get(GEOTRANSFORM), (str, list, tuple, np.ndarray)):
            one = one.copy()
            one.attrs = _attributes(one.attrs, matrix)
        coordinates[name] = one
    levels = image.coords.xindexes
    labelled = type(image)(result, dims=image.dims, name=image.name, attrs=attributes)
    for name, one in coordinates.items():
        # Indexes of several levels, along other axes, are taken over with all their levels below.
        if len(one.dims) == 1 and type(levels.get(name)).__name__ == "PandasMultiIndex":
            continue
        labelled = labelled.assign_coords({name: one.variable})
    several = {name for name, index in levels.items() if type(index).__name__ == "PandasMultiIndex"} & set(coordinates)
    if several:
        labelled = labelled.assign_coords(image.coords.to_dataset()[sorted(map(str, several))].coords)
    return labelled


def _along(one: Any, name: Any, matrix: Array | None, after: dict[Any, int]) -> Any:
    """Return what becomes of a coordinate along rows or columns; None where it cannot follow."""
    if one.ndim != 1 or matrix is None or matrix[0, 1] or matrix[1, 0]:
        return None
    dim = one.dims[0]
    axis = 1 if dim == ROWS else 0
    at = matrix[axis, axis] * np.arange(after[dim]) + matrix[axis, 2]
    whole = np.rint(at).astype(int)
    if np.array_equal(at, whole) and len(at) and whole.min() >= 0 and whole.max() < one.size:
        return one.isel({dim: whole})
    if one.dtype.kind not in "iuf" or one.size < 2:
        return None
    values = one.values.astype(np.float64)
    spacing = (values[-1] - values[0]) / (one.size - 1)
    if not np.allclose(np.diff(values), spacing, rtol=0, atol=abs(spacing) * EVEN):
        return None
    new = one.isel({dim: np.zeros(after[dim], int)}).copy(data=values[0] + spacing * at)
    return new.drop_vars([other for other in new.coords if other != name])


def _attributes(attributes: Any, matrix: Array | None) -> dict[Any, Any]:
    """Return attributes whose geotransforms and pixel sizes are those of the result."""
    changed = dict(attributes)
    for key, read, write in (
        (TRANSFORM, _read_rasterio, _write_rasterio),
        (GEOTRANSFORM, _read_gdal, _write_gdal),
    ):
        if key in changed:
            before = changed.pop(key)
            world = read(before)
            if matrix is not None and world is not None:
                changed[key] = write(_corners(world, matrix), before)
    if PIXEL_SIZE in changed:
        before = changed.pop(PIXEL_SIZE)
        sizes = None if matrix is None else _pixel_size(before, matrix)
        if sizes is not None:
            changed[PIXEL_SIZE] = sizes
    return changed


def _corners(world: Array, matrix: Array) -> Array:
    """Return the map from corners of the result's pixels to the world; `matrix` is that of their middles."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    middles = np.vstack([matrix, [0, 0, 1]])
    combined: Array = world @ half @ middles @ np.linalg.inv(half)
    return combined


def _pixel_size(before: Any, matrix: Array) -> Any:
    """Return the size of the result's pixels, a number or (rows, columns); None where they are no rectangles."""
    across, down = np.hypot(*matrix[:, 0]), np.hypot(*matrix[:, 1])
    if np.ndim(before) == 0:
        if isinstance(before, (int, float, np.number)) and np.isclose(across, down, rtol=1e-2):
            return float(before) * float(np.sqrt(across * down))
        return None
    if np.shape(before) == (2,) and (not matrix[0, 1] and not matrix[1, 0]):
        return type(before)([before[0] * float(down), before[1] * float(across)])
    return None


def _read_rasterio(value: Any) -> Array | None:
    numbers = _numbers(value)
    return None if numbers is None else np.array([numbers[:3], numbers[3:6], [0, 0, 1]])


def _write_rasterio(world: Array, before: Any) -> Any:
    return tuple(map(float, world[:2].ravel()))


def _read_gdal(value: Any) -> Array | None:
    numbers = _numbers(value)
    if numbers is None:
        return None
    c, a, b, f, d, e = numbers[:6]
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]])


def _write_gdal(world: Array, before: Any) -> Any:
    (a, b, c), (d, e, f) = world[:2].tolist()
    numbers = (c, a, b, f, d, e)
    return " ".join(map(repr, numbers)) if isinstance(before, str) else numbers


def _numbers(value: Any) -> list[float] | None:
    """Return six or nine numbers, or None where it is none such."""
    try:
        numbers = [float(one) for one in (value.split() if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) in (6, 9) else None
