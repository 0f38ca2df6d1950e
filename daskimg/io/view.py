"""Which part of a stored image is wanted, and in which form: a level, a plane, colors last, axes with names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskimg.chunked.stored import lazy_image
from daskimg.errors import ArrayError, ImageFileError, ImageTooLargeError, ParameterError
from daskimg.io import color
from daskimg.io.chunks import auto_chunks, wanted_chunks
from daskimg.io.sources.stack import StackImage, StackLayer
from daskimg.io.stored import Layout, LevelReader, StoredImage

if TYPE_CHECKING:
    import dask.array
    import xarray

__all__ = ["View", "check_level", "check_pixels", "labelled_array", "lazy_view", "named_view", "plain_view", "scaled"]

Pixels = NDArray[Any]

#: Axes whose entries, where there are two to four, may be the channels of one picture.
_CHANNELS = ("c", "band")
#: What a layout keeps for reading, or for coordinates.
_INNER = ("channel_names", "icc", "origin")


@dataclass(frozen=True)
class View(LevelReader):
    """Reads a level in another form.

    Attributes
    ----------
    fixed : tuple of int or None
        For each axis of the level the index that is read, where the axis is left out.
    order : tuple of int
        The axes of the level that are kept, as they follow each other in the result.
    icc : bytes or None
        The color profile that the pixels follow, where they are turned to sRGB.
    """

    fixed: tuple[int | None, ...]
    order: tuple[int, ...]
    icc: bytes | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return self._kept(super().shape)

    @property
    def tile(self) -> tuple[int, ...]:
        """What is decoded at once, along each axis of the result."""
        return self._kept(super().tile)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes of the result; the channels of one picture are last."""
        dims = self._kept(self.image.layout.dims)
        return (*dims[:-1], "channel") if self.order != tuple(sorted(self.order)) else dims

    def _kept(self, along: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(along[axis] for axis in self.order)

    def read(self, where: tuple[slice, ...]) -> Pixels:
        """Return the pixels there."""
        full = [slice(0, 1) if at is None else slice(at, at + 1) for at in self.fixed]
        for axis, part in zip(self.order, where, strict=True):
            full[axis] = part
        pixels = self.image.read(self.level, tuple(full))
        left_out = tuple(axis for axis, at in enumerate(self.fixed) if at is not None)
        if left_out:
            pixels = pixels.squeeze(left_out)
        order = np.argsort(np.argsort(self.order))
        if list(order) != sorted(order):
            pixels = np.ascontiguousarray(pixels.transpose(order))
        return pixels if self.icc is None else color.to_srgb(pixels, self.icc)


def check_level(level: int, count: int, shown: str) -> None:
    """Refuse a level that an image does not have."""
    if isinstance(level, bool) or not isinstance(level, int):
        raise ParameterError(f"level must be a whole number from 0, got {level!r}.")
    if not 0 <= level < count:
        has = "one level, level=0" if count == 1 else f"levels 0 (the finest) to {count - 1}"
        raise ParameterError(f"{shown} has {has}; got level={level}.")


def plain_view(image: StoredImage, level: int, frame: int | None, srgb: bool, shown: str) -> View:
    """Return the view of (rows, columns) or (rows, columns, channels).

    Raises
    ------
    ArrayError
        There are more axes than these.
    ImageFileError
        There are several frames, and none is named.
    """
    layout = image.layout
    shape = layout.levels[level].shape
    fixed, others = _chosen(layout, level, frame, shown)
    order = [axis for axis, name in enumerate(layout.dims) if name in ("y", "x", "channel")]
    left = [axis for axis in others if fixed[axis] is None]
    if len(left) == 1 and layout.dims[left[0]] in _CHANNELS and shape[left[0]] <= 4 and "channel" not in layout.dims:
        order += left
        left = []
    if [layout.dims[axis] for axis in left] in (["frame"], ["page"]):
        raise ImageFileError(
            f"{shown} holds {shape[left[0]]} frames; say which: frame=0 for the first, up to "
            f"frame={shape[left[0]] - 1}. Or pass labelled=True to get them all as a stack."
        )
    if left:
        axes = ", ".join(f"{name} {length}" for name, length in zip(layout.dims, shape, strict=True))
        last = layout.dims[left[-1]]
        one = (
            f"frame= for one plane, 0 to {math.prod(shape[axis] for axis in others) - 1}"
            if left[-1] < layout.dims.index("x")
            else f"choose of them, as in .isel({last}=[0, 1, 2])"
        )
        raise ArrayError(
            f"{shown} has the axes {axes}: more than rows, columns and channels. Pass labelled=True to get them all "
            f"with their names, or {one}."
        )
    rows, columns = layout.dims.index("y"), layout.dims.index("x")
    order = [rows, columns, *(axis for axis in order if axis not in (rows, columns))]
    return _in_srgb(View(image, level, tuple(fixed), tuple(order)), srgb, shown)


def named_view(image: StoredImage, level: int, frame: int | None, srgb: bool, shown: str) -> View:
    """Return the view of all axes, colors last, or of one plane where `frame` says which."""
    dims = image.layout.dims
    fixed, _ = _chosen(image.layout, level, frame, shown)
    if frame is None:
        fixed = [None] * len(fixed)
    order = sorted((axis for axis, at in enumerate(fixed) if at is None), key=lambda axis: dims[axis] == "channel")
    return _in_srgb(View(image, level, tuple(fixed), tuple(order)), srgb, shown)


def _chosen(layout: Layout, level: int, frame: int | None, shown: str) -> tuple[list[int | None], list[int]]:
    """Return the index of each axis that is left out, and the axes that `frame` counts along."""
    shape = layout.levels[level].shape
    others = [axis for axis, name in enumerate(layout.dims) if name not in ("y", "x", "channel")]
    fixed: list[int | None] = [0 if axis in others and length == 1 else None for axis, length in enumerate(shape)]
    if frame is not None:
        sizes = [shape[axis] for axis in others]
        if frame >= math.prod(sizes):
            raise ImageFileError(f"{shown} has no frame {frame}: its frames are 0 to {math.prod(sizes) - 1}.")
        for axis, at in zip(others, np.unravel_index(frame, sizes) if sizes else (), strict=True):
            fixed[axis] = int(at)
    return fixed, others


def _in_srgb(view: View, srgb: bool, shown: str) -> View:
    icc = view.image.layout.attrs.get("icc")
    if not srgb or icc is None:
        return view
    grey = view.dims[-1] != "channel" or view.shape[-1] == 1
    color.check_convertible(icc, grey, view.dtype, shown)
    if not color.needs_conversion(icc, grey):
        return view
    return replace(view, icc=icc)


def check_pixels(sizes: Sequence[int], dims: Sequence[str], limit: int | None, shown: str) -> None:
    """Refuse to decode more pixels at once than the limit."""
    pixels = math.prod(size for size, name in zip(sizes, dims, strict=True) if name != "channel")
    if limit is not None and pixels > limit:
        raise ImageTooLargeError(
            f"{shown} is to be decoded {pixels:,} pixels at once, more than the limit of {limit:,}. If you trust the "
            f"file, pass max_pixels={pixels} (or None for no limit) or set DASKIMG_MAX_PIXELS."
        )


def scaled(layout: Layout, level: int) -> tuple[float, float]:
    """Return how many pixels of the finest level one of a level is high and wide."""
    factors = []
    for name in ("y", "x"):
        axis = layout.dims.index(name)
        finest, here = layout.levels[0].shape[axis], layout.levels[level].shape[axis]
        whole = round(finest / here)
        # Sizes are rounded when they are halved; by how much a level is smaller is a whole number nearly always.
        factors.append(float(whole) if abs(finest - whole * here) < whole else finest / here)
    return factors[0], factors[1]


def labelled_array(array: Any, view: View) -> xarray.DataArray:
    """Return a view's array with names, coordinates and what else is known of the image."""
    import xarray

    layout = view.image.layout
    factors = scaled(layout, view.level)
    attrs: dict[str, Any] = {key: value for key, value in layout.attrs.items() if key not in _INNER}
    if layout.pixel_size is not None:
        attrs["pixel_size"] = tuple(a * b for a, b in zip(layout.pixel_size, factors, strict=True))
    if layout.unit:
        attrs["unit"] = layout.unit
    if layout.attrs.get("transform") is not None:
        a, b, c, d, e, f = tuple(layout.attrs["transform"])[:6]
        attrs["transform"] = (a * factors[1], b * factors[0], c, d * factors[1], e * factors[0], f)
    coordinates: dict[str, Any] = {
        name: (name, values) for name, values in _centers(layout, attrs, dict(zip(view.dims, array.shape, strict=True)))
    }
    names = layout.attrs.get("channel_names")
    axis = next((dim for dim in ("c", "band", "channel") if dim in view.dims), None)
    if names is not None and axis is not None and len(names) == array.shape[view.dims.index(axis)]:
        coordinates[axis] = (axis, list(names))
    return xarray.DataArray(array, coordinates, view.dims, attrs=attrs)


def _centers(layout: Layout, attrs: Mapping[str, Any], sizes: Mapping[str, int]) -> list[tuple[str, Pixels]]:
    """Return where the centers of rows and columns are, counted from the upper left corner or on the map."""
    if "transform" in attrs:
        a, b, c, d, e, f = attrs["transform"]
        if b or d:  # turned: rows and columns do not run along the axes of the map
            return []
        steps, origin = (e, a), (f, c)
    elif "pixel_size" in attrs:
        steps, origin = attrs["pixel_size"], layout.attrs.get("origin", (0.0, 0.0))
    else:
        return []
    return [
        (name, start + (np.arange(sizes[name]) + 0.5) * step)
        for name, start, step in zip(("y", "x"), origin, steps, strict=True)
    ]


def lazy_view(view: View, chunks: Any) -> dask.array.Array:
    """Return a view as a dask array; nothing is read."""
    batch = [size for name, size in zip(view.dims, view.tile, strict=True) if name not in ("y", "x", "channel")]
    if isinstance(chunks, str) and chunks == "auto":
        normal = auto_chunks(view.shape, view.dims, view.tile, view.dtype.itemsize)
    else:
        normal = wanted_chunks(chunks, view.shape, view.dims, view.dtype, batch)
    if isinstance(view.image, StackImage):
        at = view.fixed[0]
        if at is None:
            return lazy_image(view, normal, "open-image", StackLayer)
        view = replace(view, image=view.image.part(slice(at, at + 1)), fixed=(0, *view.fixed[1:]))
    return lazy_image(view, normal, "open-image")
