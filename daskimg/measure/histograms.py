"""Histograms of whole images, and the thresholds that they suggest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from daskimg.chunked.local import check_array
from daskimg.chunked.missing import values_and_validity
from daskimg.chunked.reduction import as_delayed, reduce_image
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.kinds import Array, Window
from daskimg.measure.regions import plane_of
from daskimg.operation import check_axes
from daskimg.operations.histogram import counts_of, otsu_of, triangle_of
from daskimg.operations.missing import count_valid

__all__ = ["histogram", "otsu_level", "triangle_level"]

Limits = tuple[float, float]


def histogram(image: Any, *, bins: int | None = None, range: Limits | None = None) -> Any:
    """Count how often values occur.

    Parameters
    ----------
    image : array
        `(rows, columns)` or `(rows, columns, channels)` of integers or floats.
    bins : int
        How many bins of equal width. None: one for each value of uint8, uint16 or int16, else 256.
    range : tuple of float
        Where the first bin begins and the last one ends; other values don't count. None: all values of an integer type
        of 8 or 16 bits. Other types need it.

    Returns
    -------
    ndarray or dask.array.Array of int64
        The counts `(bins,)`, or `(channels, bins)`; lazy where the image is.

    Raises
    ------
    ArrayError
        If the image has other axes.
    DtypeError
        If its values are no real numbers.
    ParameterError
        If there are no bins, or the range is empty or missing.

    Notes
    -----
    As `numpy.histogram`: a value on an edge counts in the bin that begins there, that on the last edge in the last bin.
    NaN never counts, nor does infinity, nor do missing pixels of a labelled image. Counts are whole numbers, the same
    for any chunks.

    Examples
    --------
    >>> import numpy as np
    >>> from daskimg.measure import histogram
    >>> histogram(np.array([[0, 1, 1, 3]], np.uint8))[:4]
    array([1, 2, 0, 1])
    >>> histogram(np.array([[0.1, 0.2, 0.9]]), bins=2, range=(0, 1))
    array([2, 1])
    """
    masked = values_and_validity(image)
    image = _image(image)
    name = np.dtype(image.dtype).name
    values = 1 << 8 * image.dtype.itemsize if name in ("uint8", "uint16", "int16") else None
    if bins is not None and bins < 1:
        raise ParameterError(f"histogram: bins={bins} is not allowed; bins is a whole number, 1 or more")
    if values is None and range is None:
        raise ParameterError(f"histogram: values of {name} need a range, such as range=(0, 1)")
    if range is not None and not range[0] < range[1]:
        raise ParameterError(f"histogram: range={range} is empty; the first value must be below the second")
    each_value = range is None and bins in (None, values)
    if range is None:
        least = int(np.iinfo(image.dtype).min)
        range = (least, least + (values or 0))
    size = bins or (values if each_value else None) or 256
    count: Callable[[Array, Window], Array] = _each_value if each_value else functools.partial(_in_bins, size, range)
    if masked is None and not isinstance(image, da.Array):
        return count(image, Window(0, 0, *image.shape[:2]))
    shape = (size,) if image.ndim == 2 else (image.shape[2], size)
    if 0 in image.shape:
        return da.zeros(shape, dtype=np.int64)
    if masked is not None:
        count = functools.partial(count_valid, count)
    counted = as_delayed(reduce_image(image if masked is None else masked, count, _sum, _as_it_is, "histogram"))
    return da.from_delayed(counted, shape, np.int64) if isinstance(image, da.Array) else counted.compute()


def otsu_level(image: Any, *, compute: bool = True) -> Any:
    """Return the value that parts those of an image best in two: the threshold of `otsu_threshold`.

    Parameters
    ----------
    image : array
        `(rows, columns)` of uint8 or uint16.
    compute : bool
        False gives a `dask.delayed.Delayed` where the image is lazy.

    Returns
    -------
    float
        The greatest value of the darker part.

    Raises
    ------
    ArrayError, DtypeError
        If the image has other axes, no pixels, or another type.

    Examples
    --------
    >>> import numpy as np
    >>> from daskimg.measure import otsu_level
    >>> otsu_level(np.array([[10, 12, 200, 210]], np.uint8))
    12.0
    """
    return _level(image, otsu_of, "otsu_level", compute)


def triangle_level(image: Any, *, compute: bool = True) -> Any:
    """Return the value where the one peak of an image's histogram ends: the threshold of `triangle_threshold`.

    Parameters
    ----------
    image : array
        `(rows, columns)` of uint8 or uint16.
    compute : bool
        False gives a `dask.delayed.Delayed` where the image is lazy.

    Returns
    -------
    float
        The greatest value of the darker part.

    Raises
    ------
    ArrayError, DtypeError
        If the image has other axes, no pixels, or another type.

    Examples
    --------
    >>> import numpy as np
    >>> from daskimg.measure import triangle_level
    >>> triangle_level(np.array([[10, 10, 10, 10, 11, 11, 90, 200]], np.uint8))
    13.0
    """
    return _level(image, triangle_of, "triangle_level", compute)


def _image(image: Any) -> Any:
    """Return an image as a NumPy or dask array whose channels are one chunk."""
    if hasattr(image, "dims"):  # xarray
        image = image.data
    if isinstance(image, da.Array):
        check_array(image)
        check_axes(image.shape)
        image = image if image.ndim == 2 else image.rechunk({2: -1})
    else:
        image = np.asarray(image)
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
        check_axes(image.shape)
    if image.dtype.kind not in "iuf":
        raise DtypeError(f"histogram takes real numbers, not {image.dtype}; convert them: image.astype('uint8')")
    return image


def _each_value(image: Array, where: Window) -> Array:
    if image.dtype == np.int16:
        return np.roll(counts_of(image.view(np.uint16)), 1 << 15, axis=-1)
    return counts_of(image)


def _in_bins(bins: int, limits: Limits, image: Array, where: Window) -> Array:
    planes = [image] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    counts = np.stack([np.histogram(plane, bins, limits)[0] for plane in planes]).astype(np.int64)
    return counts[0] if image.ndim == 2 else counts


def _sum(counts: list[Array]) -> Array:
    total: Array = np.sum(counts, axis=0)
    return total


def _as_it_is(counts: Array) -> Array:
    return counts


def _level(image: Any, level: Callable[[Array], float], name: str, compute: bool) -> Any:
    masked = values_and_validity(image)
    image = plane_of(image, "image")
    if image.dtype.name not in ("uint8", "uint16"):
        raise DtypeError(f'{name} takes uint8 uint16, not {image.dtype}; convert it first, with rescale(to="uint8")')
    if 0 in image.shape:
        raise ArrayError(f"{name} needs at least one pixel, and the image has the shape {image.shape}")
    if masked is not None:
        finish = functools.partial(_level_of_any, level, name)
        measured = reduce_image(masked, functools.partial(count_valid, _each_value), _sum, finish, name)
    elif isinstance(image, da.Array):
        measured = reduce_image(image, _each_value, _sum, level, name)
    else:
        return level(counts_of(image))
    found = as_delayed(measured)
    return found if isinstance(image, da.Array) and not compute else found.compute()


def _level_of_any(level: Callable[[Array], float], name: str, counts: Array) -> float:
    if not counts.any():
        raise ArrayError(f"{name} needs at least one pixel with data, and all are missing")
    return level(counts)
