"""Measures the regions of a label image: a table with one row per label.

Each block is cut into runs, stretches of one row that carry one label. All sums are sums over runs, which closed
formulas give, and they are integers: kept modulo 2**64 beside a rough float, from which the finish restores them in
full. So no sum depends on the order of the blocks, and none overflows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from daskimg.chunked.local import check_array
from daskimg.chunked.reduction import as_delayed, reduce_image
from daskimg.errors import ArrayError, DtypeError, ParameterError, suggest
from daskimg.kinds import Array, Window

__all__ = ["region_properties"]

SHAPE = ("area", "bbox", "centroid", "orientation", "axis_major_length", "axis_minor_length", "eccentricity")
INTENSITY = ("intensity_mean", "intensity_min", "intensity_max", "intensity_sum", "intensity_std")
COLUMNS = {"bbox": ("min_row", "min_column", "max_row", "max_column"), "centroid": ("row", "column")}

STRIP_PIXELS = 1 << 20  # what is looked at together: it fits a processor's cache, and no sum within it overflows

SUMS = ["area", "row", "column", "row_row", "row_column", "column_column", "intensity", "intensity_intensity"]


def region_properties(
    labels: Any, image: Any = None, *, properties: Sequence[str] | None = None, compute: bool = True
) -> Any:
    """Measure each region of a label image.

    Parameters
    ----------
    labels : array
        `(rows, columns)` of integers: 0 is the background, every other value one region, connected or not.
    image : array
        Intensities of the same rows and columns; chunks may be cut otherwise.
    properties : sequence of str
        Which to give: `area`, `bbox`, `centroid`, `orientation`, `axis_major_length`, `axis_minor_length`,
        `eccentricity`, and with an image `intensity_mean`, `intensity_min`, `intensity_max`, `intensity_sum` and
        `intensity_std`. None gives all there are.
    compute : bool
        False gives a `dask.delayed.Delayed` where `labels` is lazy.

    Returns
    -------
    pandas.DataFrame
        One row per label, in ascending order. `bbox` becomes `min_row`, `min_column`, `max_row` and `max_column`, of
        which the last two are beyond the region; `centroid` becomes `row` and `column`. Lengths are in px, the
        orientation in radians: from the rows' axis to the major axis, counter-clockwise.

    Raises
    ------
    ArrayError
        If the images are not two-dimensional or differ in size.
    DtypeError
        If labels are not integers, or intensities no real numbers.
    ParameterError
        If a property is unknown, or needs an image.

    Notes
    -----
    Names and formulas are those of `skimage.measure.regionprops_table`; its perimeter is not offered. Where its float
    moments cancel, in eccentricities near 0 or 1, the last digits here are the better ones.

    Sums are exact integers whatever the chunks, so any two chunkings give the very same table. That holds for
    intensities of up to 32 bits, and for larger integers up to ±2**40. Floats are added as float64: the last bits of
    their mean, sum and standard deviation depend on the chunks.

    Each chunk is read once for all labels and properties. `dask_image.ndmeasure` gives the sums and extremes of labels
    that are listed beforehand, and works over the whole image for each of them: it does for a handful of regions.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> labels = np.array([[1, 1, 0, 0], [1, 1, 0, 7]], np.int32)
    >>> di.region_properties(labels, properties=["area", "centroid"])
           area  row  column
    label
    1         4  0.5     0.5
    7         1  1.0     3.0
    """
    wanted = _chosen(properties, image is not None)
    labels = plane_of(labels, "labels")
    if labels.dtype.kind not in "iub":
        raise DtypeError(f"labels are {labels.dtype}, they must be integers; convert them: labels.astype('int32')")
    images = []
    if image is not None:
        images = [plane_of(image, "image")]
        if images[0].dtype.kind not in "iubf":
            raise DtypeError(f"intensities are {images[0].dtype}, they must be real numbers: image.astype('float32')")
        if images[0].shape != labels.shape:
            raise ArrayError(
                f"the image has {images[0].shape[0]} x {images[0].shape[1]} pixels, the labels {labels.shape[0]} x "
                f"{labels.shape[1]}; resize one of them first"
            )
    dtype = images[0].dtype.newbyteorder("=") if images else None
    finish = functools.partial(_finish, wanted, dtype)
    if not isinstance(labels, da.Array):
        blocks = [np.asarray(one) for one in images]
        return finish(_merged([_measured(labels, Window(0, 0, *labels.shape), *blocks)]))
    others = [one if isinstance(one, da.Array) else da.from_array(one, chunks=labels.chunks) for one in images]
    measured = as_delayed(reduce_image(labels, _measured, _merged, finish, "region-properties", *others))
    return measured.compute() if compute else measured


def array_of(image: Any) -> Any:
    """Return the array of an `xarray.DataArray`, with rows and columns first; anything else as it is."""
    if not hasattr(image, "dims"):
        return image
    if not {"y", "x"} <= set(image.dims):
        raise ArrayError(
            f"the axes are {', '.join(map(str, image.dims))}; rows and columns must be called y and x: "
            "image.rename(lat='y', lon='x')"
        )
    return image.transpose("y", "x", ...).data


def plane_of(image: Any, what: str) -> Any:
    """Return an image that must have rows and columns only as a NumPy or dask array."""
    image = array_of(image)
    if isinstance(image, da.Array):
        check_array(image)
    else:
        image = np.asarray(image)
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.ndim != 2:
        raise ArrayError(f"{what} has the shape {image.shape}, it must be (rows, columns); choose one plane: {what}[0]")
    return image


def _chosen(properties: Sequence[str] | None, has_image: bool) -> tuple[str, ...]:
    known = SHAPE + INTENSITY if has_image else SHAPE
    if properties is None:
        return known
    if isinstance(properties, str):
        raise ParameterError(f"properties is the text {properties!r}, it must be a list: properties=[{properties!r}]")
    for name in properties:
        if name in INTENSITY and not has_image:
            raise ParameterError(f"{name} needs intensities: region_properties(labels, image)")
        if name not in known:
            raise ParameterError(f"no property is called {name!r}; there are {', '.join(known)}.{suggest(name, known)}")
    return tuple(properties)


class _Regions(NamedTuple):
    """Holds what is known of some labels: sums over pixels, and what bounds them.

    `exact` are the sums modulo 2**64 and `rough` the same as floats, by the names in `SUMS`; `least` are the first row
    and column and the last ones negated; `low` and `high` the extreme intensities. Floats have no exact sums, and
    instead of the sum of their squares that of their distances from the mean.
    """

    labels: Array
    exact: Array
    rough: Array
    least: Array
    low: Array | None
    high: Array | None


def _measured(labels: Array, where: Window, image: Array | None = None) -> _Regions:
    """Return the regions of one block."""
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    if image is not None and image.dtype == bool:
        image = image.view(np.uint8)
    parts = []
    for top, left, part in _tiles(labels):
        under = None if image is None else image[top : top + part.shape[0], left : left + part.shape[1]]
        parts.append(_measured_tile(part, under, where.row + top, where.column + left))
    return _merged(parts)


def _tiles(block: Array) -> Iterator[tuple[int, int, Array]]:
    rows, columns = block.shape
    width = min(max(columns, 1), STRIP_PIXELS)
    height = STRIP_PIXELS // width
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            yield top, left, block[top : top + height, left : left + width]


def _measured_tile(labels: Array, image: Array | None, top: int, left: int) -> _Regions:
    """Return the regions of a tile whose first pixel is at (`top`, `left`) of the whole image."""
    columns = labels.shape[1]
    starts_here = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts_here[:, 1:])
    starts = np.flatnonzero(starts_here)
    lengths = np.diff(starts, append=labels.size)
    carried = labels.reshape(-1)[starts]
    inside = np.flatnonzero(carried)
    found, index = _compact(carried[inside].astype(np.int64))
    n = lengths[inside]
    row, column = np.divmod(starts[inside], columns)
    last = column + n - 1
    in_row = n * (column + last) // 2  # the sum of the run's columns
    squares = n * column * last + (n - 1) * n * (2 * n - 1) // 6  # and of their squares: Σ (column + k)²
    per_run = [n, n * row, in_row, n * row * row, in_row * row, squares]
    exact = np.stack([_added(values, index, len(found)) for values in per_run])
    rough = exact.astype(np.float64)
    exact, rough = _moved(exact, np.int64(top), np.int64(left)), _moved(rough, float(top), float(left))
    least = np.full((4, len(found)), np.iinfo(np.int64).max)
    for at, values in enumerate([row + top, column + left, -(row + top), -(last + left)]):
        np.minimum.at(least[at], index, values)
    if image is None:
        return _Regions(found, exact, rough, least, None, None)
    pixels = np.ascontiguousarray(image).reshape(-1)
    low, high = _extremes(pixels, starts, inside, index, len(found))
    if pixels.dtype.kind == "f":
        more = _float_sums(pixels, starts, inside, index, exact[0])
        return _Regions(found, np.pad(exact, ((0, 2), (0, 0))), np.concatenate([rough, more]), least, low, high)
    whole, floating = _integer_sums(pixels, starts)
    exact = np.concatenate([exact, [_added(one[inside], index, len(found)) for one in whole]])
    rough = np.concatenate([rough, [_added(one[inside], index, len(found)) for one in floating]])
    return _Regions(found, exact, rough, least, low, high)


def _moved(sums: Array, top: Any, left: Any) -> Array:
    """Return sums over rows and columns that begin at (`top`, `left`), instead of 0."""
    n, r, c, rr, rc, cc = sums
    return np.stack(
        [
            n,
            r + top * n,
            c + left * n,
            rr + 2 * top * r + top * top * n,
            rc + top * c + left * r + top * left * n,
            cc + 2 * left * c + left * left * n,
        ]
    )


def _integer_sums(pixels: Array, starts: Array) -> tuple[list[Array], list[Array]]:
    """Return the sums over runs of intensities and their squares: modulo 2**64, and as floats."""
    wide = pixels.astype(np.int64)
    whole = [_over_runs(wide, starts), _over_runs(wide * wide, starts)]
    if pixels.dtype.itemsize <= 2:
        return whole, [one.astype(np.float64) for one in whole]
    real = pixels.astype(np.float64)
    return whole, [_over_runs(real, starts), _over_runs(real * real, starts)]


def _float_sums(pixels: Array, starts: Array, inside: Array, index: Array, area: Array) -> list[Array]:
    """Return the sums over regions of intensities, and of the squares of what these are off their region's mean."""
    real = pixels.astype(np.float64)
    with np.errstate(invalid="ignore"):
        total = _added(_over_runs(real, starts)[inside], index, len(area))
        means = np.zeros(len(starts))
        means[inside] = (total / area)[index]
        real -= np.repeat(means, np.diff(starts, append=len(pixels)))
        return [total, _added(_over_runs(real * real, starts)[inside], index, len(area))]


def _over_runs(values: Array, starts: Array) -> Array:
    sums: Array = np.add.reduceat(values, starts) if len(starts) else values
    return sums


def _extremes(pixels: Array, starts: Array, inside: Array, index: Array, count: int) -> tuple[Array, Array]:
    results = []
    limits = (-np.inf, np.inf) if pixels.dtype.kind == "f" else (np.iinfo(pixels.dtype).min, np.iinfo(pixels.dtype).max)
    for ufunc, beyond in ((np.minimum, limits[1]), (np.maximum, limits[0])):
        result = np.full(count, beyond, pixels.dtype)
        if len(starts):
            with np.errstate(invalid="ignore"):  # NaN wins, as it shall
                ufunc.at(result, index, ufunc.reduceat(pixels, starts)[inside])
        results.append(result)
    return results[0], results[1]


def _compact(labels: Array) -> tuple[Array, Array]:
    """Return the different labels in ascending order, and for each the place of its own among them."""
    if len(labels) == 0:
        return labels, np.zeros(0, np.intp)
    low, high = int(labels.min()), int(labels.max())
    if high - low <= 8 * len(labels) + (1 << 16):
        seen = np.zeros(high - low + 1, bool)
        shifted = labels - low
        seen[shifted] = True
        found = np.flatnonzero(seen)
        places = np.empty(len(seen), np.intp)
        places[found] = np.arange(len(found))
        return found + low, places[shifted]
    found, index = np.unique(labels, return_inverse=True)
    return found, index


def _added(values: Array, index: Array, count: int) -> Array:
    sums = np.zeros(count, values.dtype)
    np.add.at(sums, index, values)
    return sums


def _merged(parts: Sequence[_Regions]) -> _Regions:
    """Return the regions of several parts of an image as one table."""
    if len(parts) == 0:
        return _Regions(
            np.zeros(0, np.int64), np.zeros((8, 0), np.int64), np.zeros((8, 0)), np.zeros((4, 0)), None, None
        )
    if len(parts) == 1:
        return parts[0]
    found, index = _compact(np.concatenate([part.labels for part in parts]))
    count = len(found)
    exact = np.stack([_added(one, index, count) for one in np.concatenate([part.exact for part in parts], axis=1)])
    rough = np.stack([_added(one, index, count) for one in np.concatenate([part.rough for part in parts], axis=1)])
    least = np.full((4, count), np.iinfo(np.int64).max)
    for into, values in zip(least, np.concatenate([part.least for part in parts], axis=1), strict=True):
        np.minimum.at(into, index, values)
    if parts[0].low is None:
        return _Regions(found, exact, rough, least, None, None)
    if parts[0].low.dtype.kind == "f":
        # What the parts' means are off the common one adds to the squares.
        area, total = (np.concatenate([part.rough[row] for part in parts]) for row in (0, 6))
        with np.errstate(invalid="ignore"):
            off = total / area - (rough[6] / rough[0])[index]
            rough[7] += _added(area * off * off, index, count)
    everywhere = np.arange(len(index))
    lows = np.concatenate([part.low for part in parts])
    highs = np.concatenate([part.high for part in parts])
    low = _extremes(lows, everywhere, everywhere, index, count)[0]
    high = _extremes(highs, everywhere, everywhere, index, count)[1]
    return _Regions(found, exact, rough, least, low, high)


def _whole(exact: Array, rough: Array) -> Array:
    """Return integers in full, as Python's own, from what they are modulo 2**64 and about what they are."""
    turns = np.rint((rough - exact) / 2.0**64)
    numbers: Array = exact.astype(object)
    return numbers if not turns.any() else numbers + (np.frompyfunc(int, 1, 1)(turns) << 64)


def _finish(wanted: tuple[str, ...], dtype: np.dtype[Any] | None, regions: _Regions) -> Any:
    """Return the table of all regions."""
    import pandas as pd

    whole = {
        name: functools.partial(_whole, *pair) for name, *pair in zip(SUMS, regions.exact, regions.rough, strict=False)
    }
    area = regions.exact[0]
    made: dict[str, Any] = {"area": area}
    made |= zip(
        COLUMNS["bbox"], [regions.least[0], regions.least[1], 1 - regions.least[2], 1 - regions.least[3]], strict=True
    )
    if {"centroid", *SHAPE[3:]} & set(wanted):
        n, r, c = area.astype(object), whole["row"](), whole["column"]()
        made |= {"row": r / n, "column": c / n}
    if set(SHAPE[3:]) & set(wanted):
        made |= _ellipse(n, r, c, whole["row_row"](), whole["row_column"](), whole["column_column"]())
    if dtype is not None:
        made["intensity_min"] = np.zeros(0, dtype) if regions.low is None else regions.low
        made["intensity_max"] = np.zeros(0, dtype) if regions.high is None else regions.high
        if dtype.kind == "f":
            total, squares = regions.rough[6:8]
            mean = total / area
            made |= {"intensity_mean": mean, "intensity_sum": total}
            made["intensity_std"] = np.sqrt(squares / area)
        else:
            n, total, squares = area.astype(object), whole["intensity"](), whole["intensity_intensity"]()
            made |= {"intensity_mean": total / n, "intensity_sum": total}
            made["intensity_std"] = np.sqrt(((n * squares - total * total) / (n * n)).astype(np.float64))
            if all(-(1 << 63) <= one < 1 << 63 for one in total):
                made["intensity_sum"] = total.astype(np.int64)
    columns = [column for name in wanted for column in COLUMNS.get(name, (name,))]
    types: dict[str, Any] = dict.fromkeys(("area", *COLUMNS["bbox"]), np.int64)
    types |= dict.fromkeys((*COLUMNS["centroid"], *SHAPE[3:], "intensity_mean"), np.float64)
    table = {column: np.asarray(made[column], types.get(column)) for column in columns}
    return pd.DataFrame(table, index=pd.Index(regions.labels, name="label"), columns=columns)


def _ellipse(n: Array, r: Array, c: Array, rr: Array, rc: Array, cc: Array) -> dict[str, Array]:
    """Return the ellipse of the same second moments; all that could cancel is done in integers."""
    along_rows, along_columns, mixed = n * rr - r * r, n * cc - c * c, n * rc - r * c  # n² times the central moments
    square = n * n
    trace = ((along_rows + along_columns) / square).astype(np.float64)
    difference = ((along_rows - along_columns) / square).astype(np.float64)
    twice = (2 * mixed / square).astype(np.float64)
    determinant = ((along_rows * along_columns - mixed * mixed) / (square * square)).astype(np.float64)
    major = (trace + np.hypot(difference, twice)) / 2
    minor = np.divide(determinant, major, out=np.zeros_like(major), where=major > 0)
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    orientation = np.where(
        difference == 0, np.where(twice > 0, math.pi / 4, -math.pi / 4), 0.5 * np.arctan2(twice, difference)
    )
    return {
        "orientation": orientation,
        "axis_major_length": 4 * np.sqrt(major),
        "axis_minor_length": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(np.maximum(1 - ratio, 0)),
    }
