"""Pixels without data in labelled images: where they are told of, and how they pass through a pipeline.

They are told of by a boolean coordinate `valid` over y and x, or by a nodata value as rioxarray finds it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from daskimg.chunked.local import extend
from daskimg.chunked.strips import Axes
from daskimg.errors import ArrayError, OperationError, ParameterError
from daskimg.kinds import Array
from daskimg.operation import check_axes
from daskimg.operations.missing import (
    differs,
    filled,
    join,
    keeps_validity,
    masked,
    pack,
    packed_dtype,
    rule_name,
    unpack,
)
from daskimg.operations.tone import as_type
from daskimg.pipeline import Step

__all__: list[str] = []

VALID = "valid"
"""The name of the boolean coordinate that says which pixels hold data."""

NAMES = ("_FillValue", "missing_value", "fill_value", "nodata")  # attributes, in rioxarray's order


class Missing(NamedTuple):
    """Tells how an image says which pixels are missing: by `nodata`, or by a coordinate over these axes."""

    nodata: float | None
    dims: tuple[Any, ...] | None


def find_missing(image: Any) -> Missing | None:
    """Return how an `xarray.DataArray` says which pixels are missing; None if it does not."""
    nodata = nodata_of(image)
    valid = image.coords.get(VALID)
    if valid is not None and valid.dtype == bool and {"y", "x"} <= set(valid.dims):
        return Missing(nodata, valid.dims)
    return None if nodata is None or not {"y", "x"} <= set(image.dims) else Missing(nodata, None)


def nodata_of(image: Any) -> float | None:
    """Return the value that stands for no data in an image, None if there is none that its type can hold."""
    value: Any = next((image.attrs[name] for name in NAMES if image.attrs.get(name) is not None), None)
    if image.encoding.get("_FillValue") is not None:
        # What xarray decoded has NaN in place of the stored value.
        value = math.nan if image.dtype.kind == "f" else image.encoding["_FillValue"]
    if value is None or image.dtype.kind not in "iuf":
        return None
    try:
        number = np.asarray(value, np.float64).reshape(())[()]
    except (TypeError, ValueError):
        raise ArrayError(f"nodata is one number, not {value!r}; set image.attrs['nodata']") from None
    if image.dtype.kind == "f":
        return float(image.dtype.type(number))
    limits = np.iinfo(image.dtype)
    return float(number) if number == np.rint(number) and limits.min <= number <= limits.max else None


def nodata_in(nodata: float, before: np.dtype[Any], after: np.dtype[Any]) -> float:
    """Return what stands for no data in a result: another type has NaN, -32768, or the nearest that it can hold."""
    if before == after:
        return nodata
    if after.kind == "f":
        return math.nan
    if after.kind == "i":
        return float(np.iinfo(after).min)
    return float(as_type(np.array(nodata), after))


def apply_masked(image: Any, steps: tuple[Step, ...], missing: Missing, apply_one: Callable[[Any, Step], Any]) -> Any:
    """Return the lazy result of steps on an image with missing pixels.

    Raises
    ------
    OperationError
        If a step does not know what to do with them.
    """
    for step in steps:
        if rule_name(step.operation) == "refuse":
            value = "image.valid" if missing.dims is not None else f"image != {missing.nodata:g}"
            raise OperationError(
                f"{step!r} does not know pixels without data; fill them first, and say so: "
                f"image.where({value}, 0).drop_vars('valid', errors='ignore').drop_attrs()"
            )
    coordinate = image.coords.get(VALID) if missing.dims is not None else None
    packed = _packed(image, missing)
    nodata = missing.nodata
    for step in steps:
        before = packed.dtype["value"]
        packed = _apply(packed, step, apply_one)
        if nodata is not None and rule_name(step.operation) == "background" and packed.dtype["value"] != before:
            nodata = 0.0
        elif nodata is not None:
            nodata = nodata_in(nodata, before, packed.dtype["value"])
    result = packed.copy(data=_unpacked(packed, nodata, lazily_shared=coordinate is not None))
    if nodata is not None:
        _tell(result, image, nodata)
    if coordinate is None:
        return result
    colors = [dim for dim in coordinate.dims if dim not in ("y", "x")]
    if not colors and all(keeps_validity(step.operation) for step in steps):
        return result.assign_coords({VALID: coordinate})
    return result.assign_coords({VALID: _validity(packed, missing.dims or ())})


def _apply(packed: Any, step: Step, apply_one: Callable[[Any, Step], Any]) -> Any:
    """Return the lazy result of one step, with its validity."""
    if rule_name(step.operation) != "background":
        return apply_one(packed, masked(step))
    result = apply_one(packed.copy(data=_unpacked(packed, 0, lazily_shared=False)), step)
    valid = _blocks(_valid_part, packed.data, dtype=np.dtype(bool))
    if valid.shape != result.shape:
        raise OperationError(f"{step!r} changes rows, columns or channels: it cannot take missing pixels for 0")
    dtype = packed_dtype(result.dtype.newbyteorder("="))
    return result.copy(data=_blocks(join, result.data, valid.rechunk(result.chunks), dtype=dtype))


def values_and_validity(image: Any) -> da.Array | None:
    """Return the values of an image together with their validity, lazily; None where all its pixels hold data."""
    missing = find_missing(image) if hasattr(image, "coords") and tuple(image.dims[:2]) == ("y", "x") else None
    packed: da.Array | None = None if missing is None else _packed(image, missing).data
    return packed


def _axes(image: Any) -> Axes:
    return Axes(image.dims.index("y"), image.dims.index("x"))


def _lazy(image: Any) -> da.Array:
    data = image.data
    return data if isinstance(data, da.Array) else da.from_array(np.asarray(data), chunks=-1, name=False)


def _packed(image: Any, missing: Missing) -> Any:
    """Return an image whose entries hold a value and whether it is valid."""
    data = _lazy(image)
    bare = image.drop_vars(VALID) if missing.dims is not None else image
    if missing.dims is None:
        return bare.copy(data=extend(data, (Step(pack, (("nodata", missing.nodata),)),), _axes(image))[0])
    valid = image.coords[VALID].variable.set_dims(dict(zip(image.dims, image.shape, strict=True)))
    lazy = _lazy(valid.transpose(*image.dims)).rechunk(data.chunks)
    dtype = packed_dtype(data.dtype.newbyteorder("="))
    return bare.copy(data=_blocks(join, data, lazy, dtype=dtype))


def _blocks(function: Callable[..., Array], *arrays: da.Array, dtype: Any, **options: Any) -> da.Array:
    meta = np.empty((0,) * arrays[0].ndim, dtype)
    result: da.Array = da.map_blocks(function, *arrays, dtype=dtype, meta=meta, **options)
    return result


def _unpacked(packed: Any, nodata: float | None, lazily_shared: bool) -> da.Array:
    """Return the values; as a layer of its own where validity is taken from the same blocks too."""
    if lazily_shared:
        return _blocks(filled, packed.data, dtype=packed.dtype["value"], nodata=nodata)
    return extend(packed.data, (Step(unpack, (("nodata", nodata),)),), _axes(packed))[0]


def _valid_part(both: Array) -> Array:
    valid: Array = both["valid"] != 0
    return valid


def _validity(packed: Any, dims: tuple[Any, ...]) -> Any:
    """Return the validity over those of the axes that there still are; along the others it is the same."""
    valid = packed.copy(data=_blocks(_valid_part, packed.data, dtype=np.dtype(bool)))
    kept = [dim for dim in packed.dims if dim in dims]
    first = valid.isel({dim: 0 for dim in packed.dims if dim not in kept}, drop=True)
    ordered = first.variable.transpose(*[dim for dim in dims if dim in kept])
    return ordered.dims, ordered.data


def _tell(result: Any, image: Any, nodata: float) -> None:
    """Write into a result what stands for no data there, in the way in which the image tells it."""
    names = [name for name in NAMES if name in image.attrs]
    stored = image.encoding.get("_FillValue")
    if stored is not None and result.dtype.kind == "f" and math.isnan(nodata):
        result.encoding = {"_FillValue": stored}
        return
    if stored is None and result.dtype == image.dtype:
        return
    value = result.dtype.type(nodata).item()
    result.attrs.update(dict.fromkeys(names or ["nodata"], value))


def mask_image(image: Any, *, valid: Any = None, nodata: float | None = None) -> Any:
    """Say which pixels of an image hold data: operations then leave the others alone, and out of what they compute.

    Parameters
    ----------
    image : array or xarray.DataArray
        The image; `(rows, columns)` or `(rows, columns, channels)` where its axes have no names.
    valid : array of bool
        Which pixels hold data, `(rows, columns)`; it becomes the coordinate `valid`, which results carry on.
    nodata : float
        The value of pixels without data, in units of the image; it becomes `attrs["nodata"]`.

    Returns
    -------
    xarray.DataArray
        The same pixels; lazy where the image is.

    Raises
    ------
    ParameterError
        If neither is given.
    ArrayError
        If `valid` is no boolean array over the image.

    Notes
    -----
    With `valid`, missing pixels keep their values, or get that of `nodata` if there is one; pixels that are nodata
    are missing too. Without it, pixels are told by their values: between the steps of a pipeline it is known which
    are valid, between two calls a result that happens to equal nodata counts as missing.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = di.mask_image(np.array([[0, 90, 90, 60]], np.uint8), nodata=0)
    >>> di.box_blur(image, ksize=3).values
    array([[ 0, 90, 80, 80]], dtype=uint8)
    """
    xarray = importlib.import_module("xarray")
    if valid is None and nodata is None:
        raise ParameterError("mask_image needs valid=, a boolean array of the pixels with data, or nodata=, a value")
    if not isinstance(image, xarray.DataArray):
        array = image if isinstance(image, da.Array) else np.asarray(image)
        check_axes(array.shape)
        image = xarray.DataArray(array, dims=("y", "x", "c")[: array.ndim])
    if nodata is not None:
        image = image.assign_attrs(nodata=nodata)
    if valid is None:
        return image
    mask = valid if isinstance(valid, xarray.DataArray) else xarray.DataArray(valid, dims=("y", "x"))
    size = {"y": image.sizes.get("y"), "x": image.sizes.get("x")}
    if mask.dtype != bool or any(mask.sizes.get(dim) != length for dim, length in size.items()):
        raise ArrayError(
            f"valid is {mask.dtype} with the axes {dict(mask.sizes)}, the image {dict(image.sizes)}; give a boolean "
            "array over its y and x, True where there are data"
        )
    mask = mask.variable
    if (value := nodata_of(image)) is not None:
        here = image.variable.copy(data=_blocks(_where_differs, _lazy(image), dtype=np.dtype(bool), nodata=value))
        if image.ndim > 2 and image.dims[-1] not in ("y", "x") and image.shape[-1] <= 4:
            here = here.isel({image.dims[-1]: slice(3)}).any(image.dims[-1])
        mask = (mask & here).transpose(*[dim for dim in image.dims if dim in (*mask.dims, *here.dims)])
    return image.assign_coords({VALID: (mask.dims, mask.data)})


def _where_differs(values: Array, nodata: float) -> Array:
    return differs(values, nodata)
