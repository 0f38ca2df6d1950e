"""What an image is, in words and as a small picture, before anything of it is computed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, DaskimgError
from daskimg.io.photo import Photo
from daskimg.io.reading import Urls, open_image, open_source
from daskimg.io.thumbnail import Picture, png_of, stored_picture
from daskimg.io.view import lazy_view, named_view

__all__ = ["Description", "describe"]

Pixels = NDArray[Any]

_SMALL = 64 << 20  # bytes of a photo, or of an array in memory, that are looked at for a thumbnail
_SMALL_RESULT, _FEW_TASKS = 16 << 20, 256  # of a lazy result


@dataclass(frozen=True)
class Description:
    """Says what an image is; printed as text, shown with a thumbnail in notebooks.

    Attributes
    ----------
    name : str
        Where it is; empty for an array.
    format : str
        In words, such as ``"OME-TIFF"``.
    dims : tuple of str
        The names of its axes.
    shape, dtype
        Of the finest level.
    chunks : tuple of tuples of int
        The chunks that it has, or that `open_image` gives it.
    tile : tuple of int or None
        What is decoded at once; None where that is not known.
    levels : tuple of tuples of int
        The shapes of its resolutions, from the finest on.
    pixel_size : tuple of float or None
        Height and width of a pixel, in `unit`.
    unit : str
        Such as ``"micrometer"``.
    scenes : tuple of str
        The names of the images in the file, where there are several; the first is described unless another was named.
    compression : str
        In words.
    attrs : mapping
        What else is known, such as `nodata` and `crs`.
    """

    name: str
    format: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[tuple[int, ...], ...]
    tile: tuple[int, ...] | None = None
    levels: tuple[tuple[int, ...], ...] = ()
    pixel_size: tuple[float, float] | None = None
    unit: str = ""
    scenes: tuple[str, ...] = ()
    compression: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    _picture: Picture | None = field(default=None, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """The bytes that the finest level takes in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def numblocks(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(map(len, self.chunks))

    def _rows(self) -> list[tuple[str, str]]:
        count = int(np.prod(self.numblocks, dtype=object))
        chunk = _times(max(sizes) for sizes in self.chunks)
        rows = [
            ("image", self.name),
            ("format", ", ".join(filter(None, (self.format, self.compression)))),
            ("shape", ", ".join(f"{name} {length:,}" for name, length in zip(self.dims, self.shape, strict=True))),
            ("dtype", str(self.dtype)),
            ("in memory", _bytes(self.nbytes)),
            ("chunks", f"{count:,} of {chunk}" if count > 1 else f"one of {chunk}"),
            ("stored as", self._stored()),
        ]
        if len(self.levels) > 1:
            rows.append(("levels", ", ".join(f"{at}: {_times(shape)}" for at, shape in enumerate(self.levels))))
        if self.pixel_size is not None:
            size = " × ".join(f"{one:g}" for one in map(float, self.pixel_size))
            rows.append(("pixel", f"{size} {self.unit}".rstrip()))
        if self.scenes:
            few = ", ".join(self.scenes[:8]) + (", ..." if len(self.scenes) > 8 else "")
            rows.append(("scenes", f"{len(self.scenes)}: {few}"))
        rows += [(key, _short(value)) for key, value in self.attrs.items() if key != "icc"]
        return [row for row in rows if row[1]]

    def _stored(self) -> str:
        if self.tile is None:
            return ""
        if all(one == 1 for name, one in zip(self.dims, self.tile, strict=True) if name in ("y", "x")):
            return "rows of pixels, of which any part can be read"
        return "one piece, decoded at once" if self.tile == self.shape else f"tiles of {_times(self.tile)}"

    def __str__(self) -> str:
        return "\n".join(f"{name:<11} {text}" for name, text in self._rows())

    __repr__ = __str__

    @cached_property
    def thumbnail(self) -> bytes | None:
        """A PNG of at most 300 pixels across; None where it would need too much to be read or computed."""
        if self._picture is None:
            return None
        try:
            pixels = self._picture()
        except DaskimgError:
            return None  # a description is of use without it
        return None if pixels is None else png_of(pixels, self.attrs.get("nodata"))

    def _repr_html_(self) -> str:
        import base64

        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        image = ""
        if self.thumbnail is not None:
            data = base64.b64encode(self.thumbnail).decode()
            image = f"<img alt='thumbnail' src='data:image/png;base64,{data}' style='max-width:300px'>"
        return f"<div style='display:flex;gap:1em;align-items:flex-start'><table>{cells}</table>{image}</div>"


def describe(
    image: Any,
    *,
    scene: int | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Description:
    """Say what an image is, wherever it is: axes, data type, chunks, levels, size of a pixel, size in memory.

    Only headers are read. In a notebook the result shows a thumbnail, for which at most about 64 MB are read.

    Parameters
    ----------
    image : str, path, list, dask array, ndarray or DataArray
        What `open_image` opens, or an array; a lazy result is not computed unless it is small.
    scene : int or str, optional
        Which of several images in a file; the first if None.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    ImageFileError
        The file is missing, no image, or its header is broken.
    ArrayError
        `image` is an array without rows and columns.

    Examples
    --------
    >>> import dask.array as da
    >>> print(describe(da.zeros((20000, 30000, 3), chunks=(2000, 3000, 3), dtype="uint8")))
    format      dask array
    shape       y 20,000, x 30,000, channel 3
    dtype       uint8
    in memory   1.7 GiB
    chunks      100 of 2,000 × 3,000 × 3
    """
    if isinstance(image, str | os.PathLike | list | tuple):
        return _of_source(image, scene, storage_options)
    dims = getattr(image, "dims", None)
    data = image.data if dims is not None else image
    if not hasattr(data, "shape") or not hasattr(data, "dtype"):
        raise ArrayError(f"describe takes a path, a URL or an array, not {type(image).__name__}.")
    if len(data.shape) < 2:
        raise ArrayError(f"an array of shape {tuple(data.shape)} is no image; it has rows and columns.")
    return _of_array(data, tuple(map(str, dims)) if dims is not None else _plain_dims(data.shape), image)


def _of_source(url: Urls, scene: int | str | None, storage_options: Mapping[str, Any] | None) -> Description:
    source, shown, _ = open_source(
        url, scene=0 if scene is None else scene, max_pixels=None, storage_options=storage_options, strict=False
    )
    if isinstance(source, Photo):
        return _of_photo(source, shown)
    layout = source.layout
    view = named_view(source, 0, None, False, shown)
    attrs = {key: value for key, value in layout.attrs.items() if value is not None}
    return Description(
        shown.strip("'\""),
        layout.format,
        layout.dims,
        layout.levels[0].shape,
        layout.dtype,
        lazy_view(view, "auto").chunks,
        layout.levels[0].tile,
        tuple(level.shape for level in layout.levels),
        layout.pixel_size,
        layout.unit,
        layout.scenes,
        layout.compression,
        attrs,
        lambda: stored_picture(source),
    )


def _of_photo(photo: Photo, shown: str) -> Description:
    from dataclasses import replace

    first = replace(photo, frame=0)
    header = first.header()
    shape = header.shape
    description = Description(
        shown.strip("'\""),
        header.format.upper(),
        _plain_dims(shape),
        shape,
        header.dtype,
        open_image(photo.place.url, frame=0, max_pixels=None, strict=False, color_profile="keep").chunks,
        shape,
        (shape,),
        attrs={"frames": header.frames} if header.frames > 1 else {},
        _picture=lambda: first.pixels(),
    )
    return description if description.nbytes <= _SMALL else replace(description, _picture=None)


def _plain_dims(shape: Sequence[int]) -> tuple[str, ...]:
    spatial = ("y", "x", "channel") if len(shape) > 2 and shape[-1] <= 4 else ("y", "x")
    return (*(f"axis{at}" for at in range(len(shape) - len(spatial))), *spatial)


def _of_array(data: Any, dims: tuple[str, ...], image: Any) -> Description:
    lazy = isinstance(data, da.Array)
    attrs = dict(getattr(image, "attrs", {}))
    size, unit = attrs.pop("pixel_size", None), attrs.pop("unit", "")
    few = data.nbytes <= (_SMALL_RESULT if lazy else _SMALL) and (not lazy or len(data.dask) <= _FEW_TASKS)
    return Description(
        "",
        "dask array" if lazy else "array in memory",
        dims,
        tuple(data.shape),
        data.dtype,
        data.chunks if lazy else tuple((length,) for length in data.shape),
        pixel_size=size,
        unit=unit,
        attrs=attrs,
        _picture=(lambda: _plane(np.asarray(data), dims)) if few and {"y", "x"} <= set(dims) else None,
    )


def _plane(pixels: Pixels, dims: tuple[str, ...]) -> Pixels:
    """Return the first plane of an array: (rows, columns) or (rows, columns, channels)."""
    keep = [axis for axis, name in enumerate(dims) if name in ("y", "x") or (name == dims[-1] and len(dims) > 2)]
    if pixels.shape[-1] > 4 and dims[-1] not in ("y", "x"):
        keep.remove(len(dims) - 1)
    first = pixels[tuple(slice(None) if axis in keep else 0 for axis in range(pixels.ndim))]
    names = [dims[axis] for axis in keep]
    return np.asarray(first.transpose([names.index("y"), names.index("x"), *range(2, len(names))]))


def _times(sizes: Any) -> str:
    return " × ".join(f"{size:,}" for size in sizes)


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if len(text) <= 100 else text[:97] + "..."
