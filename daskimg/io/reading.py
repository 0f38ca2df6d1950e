"""Opening images: lazily as dask arrays, or at once as NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, overload

from numpy.typing import NDArray

from daskimg.errors import ImageFileError, ParameterError, suggest
from daskimg.io.photo import Photo
from daskimg.io.probe import pixel_limit
from daskimg.io.sources import is_photo, open_stored
from daskimg.io.sources.stack import members, open_stack
from daskimg.io.stored import StoredImage
from daskimg.io.urls import locate
from daskimg.io.view import check_level, check_pixels, labelled_array, lazy_view, named_view, plain_view

if TYPE_CHECKING:
    import dask.array
    import xarray

__all__ = ["ColorProfile", "MaxPixels", "Urls", "check_color_profile", "open_image", "open_source", "read_image"]

Url: TypeAlias = str | os.PathLike[str]
Urls: TypeAlias = Url | Sequence[Url]
ColorProfile: TypeAlias = Literal["srgb", "keep", "ignore"]
MaxPixels: TypeAlias = int | Literal["default"] | None
_COLOR_PROFILES = ("srgb", "keep", "ignore")


def check_color_profile(color_profile: str) -> None:
    """Refuse what is no way to treat a colour profile."""
    if color_profile not in _COLOR_PROFILES:
        raise ParameterError(
            f"color_profile must be 'srgb', 'keep' or 'ignore', got {color_profile!r}."
            f"{suggest(str(color_profile), _COLOR_PROFILES)}"
        )


class Source(NamedTuple):
    """Is what reads an image: a `Photo` where it is decoded whole, else a `StoredImage`.

    `shown` is how messages call it, and `frame` the plane that is still to be chosen in it.
    """

    image: Photo | StoredImage
    shown: str
    frame: int | None


def open_source(
    url: Urls,
    *,
    scene: int | str | None = None,
    frame: int | None = None,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Source:
    """Return what reads an image; parameters and errors are those of `open_image`.

    Where it is going to be read `whole`, a TIFF is decoded as photos are.
    """
    check_color_profile(color_profile)
    if frame is not None and (isinstance(frame, bool) or not isinstance(frame, int) or frame < 0):
        raise ParameterError(f"frame must be a whole number from 0, got {frame!r}.")
    limit = pixel_limit(max_pixels)
    places = members(url, storage_options)
    if places is not None:
        photo = Photo(places[0], None, limit, color_profile, strict)
        return Source(open_stack(places, photo), f"the stack from {places[0].shown} on", frame)
    place = locate(url, storage_options)  # type: ignore[arg-type]  # lists are stacks
    photo = Photo(place, frame, limit, color_profile, strict)
    stored: StoredImage | None = None
    if not (strict and is_photo(place, or_tiff=whole)):
        stored, frame = open_stored(place, scene=scene, frame=frame)
    if stored is None and scene not in (None, 0):
        raise ImageFileError(f"{place.shown} has no scene {scene!r}: it holds one image.")
    return Source(stored or photo, place.shown, frame)


def read_image(
    url: Urls,
    *,
    level: int = 0,
    scene: int | str | None = None,
    frame: int | None = None,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Read an image into memory; parameters, result and errors are those of `open_image`.

    Returns
    -------
    ndarray, (rows, columns) or (rows, columns, 3 or 4)

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "grey.png")
    >>> save_image(np.eye(3, dtype="uint8"), path)
    >>> read_image(path)
    array([[1, 0, 0],
           [0, 1, 0],
           [0, 0, 1]], dtype=uint8)
    """
    source, shown, frame = open_source(
        url,
        scene=scene,
        frame=frame,
        color_profile=color_profile,
        max_pixels=max_pixels,
        strict=strict,
        storage_options=storage_options,
        whole=level == 0 and scene is None,
    )
    if isinstance(source, Photo):
        check_level(level, 1, shown)
        return source.pixels()
    check_level(level, len(source.layout.levels), shown)
    view = plain_view(source, level, frame, color_profile == "srgb", shown)
    check_pixels(view.shape, view.dims, pixel_limit(max_pixels), shown)
    return view.read(tuple(slice(0, length) for length in view.shape))


@overload
def open_image(
    url: Urls,
    *,
    chunks: Any = "auto",
    level: int = 0,
    scene: int | str | None = None,
    frame: int | None = None,
    labelled: Literal[True],
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> xarray.DataArray: ...


@overload
def open_image(
    url: Urls,
    *,
    chunks: Any = "auto",
    level: int = 0,
    scene: int | str | None = None,
    frame: int | None = None,
    labelled: Literal[False] = False,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> dask.array.Array: ...


def open_image(
    url: Urls,
    *,
    chunks: Any = "auto",
    level: int = 0,
    scene: int | str | None = None,
    frame: int | None = None,
    labelled: bool = False,
    color_profile: ColorProfile = "srgb",
    max_pixels: MaxPixels = "default",
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> dask.array.Array | xarray.DataArray:
    """Open an image lazily, of any size: its header is read now, its pixels when they are computed.

    What is stored in parts is read part by part: TIFF of all kinds (tiles, strips, pyramids, BigTIFF, OME-TIFF, GeoTIFF
    and COG, whole slides), OME-Zarr 0.4 and 0.5, plain Zarr 2 and 3 (folders, .zip files, object stores, shards), NPY,
    and with the extra ``daskimg[microscopes]`` CZI, ND2 and LIF. Photos are decoded once and cut: PNG, JPEG, WebP, BMP,
    AVIF and GIF; HEIC and JPEG XL with the extras ``daskimg[heic]`` and ``daskimg[codecs]``. Colors are RGB(A). The
    pixels stand upright, as Exif or TIFF orientation asks.

    Parameters
    ----------
    url : str, path, or list of them
        A local path, in which every letter stands for itself (also ``*`` and ``#``) if such a file exists, or any
        fsspec URL. A folder, a pattern such as ``"shots/*.png"`` or a list is a stack of equal frames.
    chunks : optional
        Chunks as dask takes them, for rows and columns or for each axis, or a dict by axis; colors stay whole.
        ``"auto"`` is a few MiB of whole tiles, one plane of a stack at a time, and one chunk for a photo.
    level : int
        Which resolution; 0 is the finest.
    scene : int or str, optional
        Which of several images in a file, by its number or name: a series, a field of a plate such as ``"A/1/0"``, the
        label of a slide. `describe` lists them. Of a slide the slide itself if None.
    frame : int, optional
        The frame of an animation, the page of a TIFF, or the plane of a stack, from 0, counted over its axes in their
        order. Where there are several, one must be chosen unless `labelled`.
    labelled : bool
        Return an `xarray.DataArray` with all axes and what is known of them: `y` and `x` at the centers of pixels, in
        the attribute `unit` or on the map, the names of channels, `pixel_size`, `nodata`, `transform`, `crs`.
    color_profile : {"srgb", "keep", "ignore"}
        What to do with an ICC profile: convert the pixels to sRGB; keep them as stored, with the profile in
        `read_metadata`; or drop the profile. CMYK always becomes RGB, by its profile, with ``"ignore"`` by the plain
        formula where it is decoded whole.
    max_pixels : int, None or "default"
        The most pixels (rows x columns) that may be decoded at once: a photo's, or one tile's of what is stored in
        parts. None is no limit. The default is that of the environment variable ``DASKIMG_MAX_PIXELS``, else 2**28.
    strict : bool
        Refuse an image whose suffix is that of another image format; False goes by the content.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Returns
    -------
    dask array, (rows, columns) or (rows, columns, 1 to 4), or DataArray
        uint8, for 16-bit PNG uint16, for what is stored in parts as stored, also where OpenCV lacks the type. One bit
        becomes 0 and 255; a palette RGB(A); grey with alpha RGBA; an animation's frame RGBA. AVIF and HEIC of 10 and 12
        bits become 8. Axes of length 1 are left out, and two to four channels are last, unless `labelled`.

    Raises
    ------
    ImageFileError
        The file is missing, broken, truncated, no image, or of several frames or scenes. When it is computed: it
        changed since it was opened.
    ArrayError
        The image has more axes than rows, columns and channels, or `chunks` do not fit it.
    ImageTooLargeError
        The header declares more pixels at once than `max_pixels`.
    EnvironmentProblem
        The format needs a decoder that is not installed.

    Notes
    -----
    JPEG XL is decoded when it is opened, too, because its decoder knows no header.

    Damage inside a JPEG's compressed data that leaves its end in place cannot be told from content. Zarr is known to
    have changed by its metadata; chunks that are written anew under the same metadata are read as they are.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from daskimg.io import save_image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "photo.png")
    >>> save_image(np.zeros((400, 600, 3), "uint8"), path)
    >>> image = open_image(path, chunks=256)
    >>> image.shape, image.chunks[0], image.numblocks
    ((400, 600, 3), (256, 144), (2, 3, 1))

    A stack of planes keeps its axes:

    >>> np.save(path.with_suffix(".npy"), np.zeros((9, 400, 600), "uint16"))
    >>> open_image(path.with_suffix(".npy"), labelled=True).dims
    ('frame', 'y', 'x')
    >>> open_image(path.with_suffix(".npy"), frame=3).shape
    (400, 600)
    """
    source, shown, frame = open_source(
        url,
        scene=scene,
        frame=frame,
        color_profile=color_profile,
        max_pixels=max_pixels,
        strict=strict,
        storage_options=storage_options,
    )
    if isinstance(source, Photo):
        check_level(level, 1, shown)
        image = source.lazy(chunks)
        return _labelled_photo(image) if labelled else image
    check_level(level, len(source.layout.levels), shown)
    check_pixels(source.layout.levels[level].tile, source.layout.dims, pixel_limit(max_pixels), shown)
    view = (named_view if labelled else plain_view)(source, level, frame, color_profile == "srgb", shown)
    image = lazy_view(view, chunks)
    return labelled_array(image, view) if labelled else image


def _labelled_photo(image: dask.array.Array) -> xarray.DataArray:
    import xarray

    return xarray.DataArray(image, dims=("y", "x", "channel")[: image.ndim])
