"""TIFF files that are read tile by tile: large, pyramidal, of many pages, from microscopes, scanners and satellites."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import EnvironmentProblem, ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.cache import TILES
from daskimg.io.probe import pixel_limit
from daskimg.io.sources import tiff_tags
from daskimg.io.sources.handles import OpenFiles
from daskimg.io.sources.scenes import choose_scene
from daskimg.io.sources.tiff_pages import Content, Page, Planes, opened
from daskimg.io.sources.tiff_series import Axes, Picture, decodable, pictures, plane_of_frame, planes_of
from daskimg.io.stored import Layout, Level, StoredImage
from daskimg.io.tiff import has_imagecodecs
from daskimg.io.urls import Location

__all__ = ["TiffImage", "open_tiff"]

Pixels = NDArray[Any]

#: The TIFF files of this process that are open.
FILES: OpenFiles[Content] = OpenFiles(32)

_ANCHORS = 128  # directories whose places travel with an image; others are found from the one before
_AHEAD_BYTES = 2**25  # of compressed tiles that are fetched at once
_STRIPS_BYTES = 2**19  # that strips are put together to
_ROWS_BYTES = 2**20  # of uncompressed rows that are fetched at once
# What tifffile changes in the pages after it read them, so that it must be asked for them.
_MENDED = ("lsm", "ndpi", "philips", "scanimage")


@dataclass(frozen=True)
class _Source:
    """Says where the planes of one level are, and what they have in common, for those who read them."""

    planes: Planes
    kind: tuple[Any, ...]
    anywhere: bool  # any part can be read as such


class TiffImage(StoredImage):
    """Reads an image in a TIFF file, part by part.

    What travels to workers is small: they look up the offsets of the tiles that they need. It describes less than the
    image that was opened: of the layout's attributes only `nodata` travels.

    Parameters
    ----------
    place : Location
        Where the file is.
    content : tuple
        The version of the file.
    layout : Layout
        What the image holds.
    sources : tuple
        Where its levels are, one for each.
    axes : Axes
        How planes and samples become axes.
    """

    def __init__(
        self,
        place: Location,
        content: tuple[Any, ...],
        layout: Layout,
        sources: tuple[_Source, ...],
        axes: Axes,
        *,
        scene: int,
        mended: bool,
        anchors: tuple[int, ...],
        stride: int,
    ) -> None:
        self.place, self.content, self.layout, self.sources, self.axes = place, content, layout, sources, axes
        self.scene, self.mended, self.anchors, self.stride = scene, mended, anchors, stride
        self.version = (place.url, content, "tiff", scene, axes.plane)

    def __getstate__(self) -> dict[str, Any]:
        attrs = {name: value for name, value in self.layout.attrs.items() if name == "nodata"}
        return self.__dict__ | {"layout": replace(self.layout, attrs=attrs, scenes=())}

    def _opened(self) -> AbstractContextManager[Content]:
        return FILES.use((self.place.url, self.content), lambda: Content(self.place, self.content))

    def _ranges(self, content: Content, level: int, where: tuple[slice, ...]) -> Iterator[tuple[int, int]]:
        """Yield where the tiles lie in the file that are not in memory, up to some bytes."""
        tile = self.layout.levels[level].tile
        tiles = (range(part.start // size, -(-part.stop // size)) for part, size in zip(where, tile, strict=True))
        total = 0
        for index in itertools.product(*tiles):
            if (self.version, level, index) in TILES or total > _AHEAD_BYTES:
                continue
            *leading, rows, columns = self._tile(level, index)[: len(index) - self.axes.spatial + 2]
            plane, sample = self.axes.locate([part.start for part in leading])
            page = self._page(content, level, plane)
            if page is None or page.final:
                continue
            for one in page.which(sample):
                for number, _, _ in page.numbers(rows, columns, one):
                    total += int(page.lengths[number])
                    yield int(page.offsets[number]), int(page.lengths[number])

    def _page(self, content: Content, level: int, plane: int) -> Page | None:
        """Return the page of a plane; None where the file lacks it."""
        planes = self.sources[level].planes
        number = planes.numbers[0 if planes.stacked else plane]
        if number < 0:
            return None

        def find() -> Any:
            if self.mended:
                return pictures(content.tiff)[self.scene].levels[level][plane]
            return content.parsed(content.directory(number, self.anchors, self.stride), number, planes.sub)

        page = content.page((self.scene, level, plane) if self.mended else (number, planes.sub), find)
        if page.kind != self.sources[level].kind:
            raise ImageFileError(f"{self.place.shown} is damaged: plane {plane} is stored otherwise than the first.")
        return page

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Decode the tile of these numbers along the axes, clipped to the level's shape.

        Raises
        ------
        ImageFileError
            It is broken, or the file is no longer what it was when it was opened.
        """
        return self._part(level, self._tile(level, index))

    def _tile(self, level: int, index: tuple[int, ...]) -> tuple[slice, ...]:
        one = self.layout.levels[level]
        return tuple(
            slice(number * size, min((number + 1) * size, length))
            for number, size, length in zip(index, one.tile, one.shape, strict=True)
        )

    def read(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return a part of a level, put together from tiles; those decoded last are kept."""
        if not self.sources[level].anywhere:
            if self.place.local:
                return super().read(level, where)
            with self._opened() as content, content.file.fetched(self._ranges(content, level, where)):
                return super().read(level, where)
        count = len(where) - self.axes.spatial
        result = np.empty([part.stop - part.start for part in where], self.layout.dtype)
        for at in itertools.product(*(range(part.start, part.stop) for part in where[:count])):
            one = tuple(slice(number, number + 1) for number in at)
            into = tuple(
                slice(number - part.start, number - part.start + 1) for number, part in zip(at, where, strict=False)
            )
            result[into] = self._part(level, one + where[count:])
        return result

    def _part(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return the pixels of one plane there: a tile, strips one below the other, or any part where that is one."""
        axes = self.axes
        leading = where[: len(where) - axes.spatial]
        rows, columns = where[len(leading) : len(leading) + 2]
        plane, sample = axes.locate([part.start for part in leading])
        with self._opened() as content, translated(self.place.shown, "read"):
            page = self._page(content, level, plane)
            if page is None:
                return np.zeros([part.stop - part.start for part in where], self.layout.dtype)
            stacked = plane if self.sources[level].planes.stacked else 0
            parts = [self._samples(page, rows, columns, one, stacked) for one in page.which(sample)]
            pixels = page.colored(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1))
        if axes.spatial == 2:
            pixels = pixels[..., 0]
        else:
            pixels = pixels[..., where[-1]]
        return pixels.astype(self.layout.dtype, copy=False).reshape((1,) * len(leading) + pixels.shape)

    @staticmethod
    def _samples(page: Page, rows: slice, columns: slice, sample: int, stacked: int) -> Pixels:
        if page.final:
            return page.region(rows, columns, sample, stacked)
        parts = [page.segment(*one) for one in page.numbers(rows, columns, sample)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_tiff(place: Location, *, scene: int | str | None = None, frame: int | None = None) -> TiffImage | None:
    """Open an image in a TIFF file; only headers are read.

    Tiles and strips of whatever tifffile decodes, pyramids, OME-TIFF, ImageJ's stacks, whole slides (Aperio,
    Hamamatsu, Philips, Leica, Ventana) and GeoTIFF. Pages of one kind are one image with an axis more.

    Parameters
    ----------
    place : Location
        A local file, or a URL that can be read in parts.
    scene : int or str, optional
        Which of several images in the file, by its number or name. The label and the overview of a slide are scenes
        beside it.
    frame : int, optional
        One page, from 0, of what would else be a stack.

    Returns
    -------
    TiffImage or None
        None where the file can only be decoded whole, if at all: it is to be turned upright, is a camera's raw file,
        or has samples that tifffile does not decode. In `layout.attrs` are `icc`, `nodata`, `transform`, `crs` and
        `channel_names`, those that are known.

    Raises
    ------
    ImageFileError
        The file is missing, damaged or truncated, or there is no such scene or frame.
    EnvironmentProblem
        Its compression needs imagecodecs.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, tifffile
    >>> from daskimg.io.urls import locate
    >>> path = pathlib.Path(tempfile.mkdtemp(), "slide.tif")
    >>> tifffile.imwrite(path, np.zeros((600, 800, 3), "uint8"), tile=(256, 256), compression="zlib")
    >>> image = open_tiff(locate(path))
    >>> image.layout.dims, image.layout.levels[0]
    (('y', 'x', 'channel'), Level(shape=(600, 800, 3), tile=(256, 256, 3)))
    >>> image.read(0, (slice(0, 2), slice(500, 520), slice(0, 3))).shape
    (2, 20, 3)
    """
    version = place.version()
    shown = place.shown
    with (
        FILES.use((place.url, version), lambda: Content(place, version)) as content,
        content.lock,
        translated(shown, "read"),
    ):
        directories = content.all_directories()
        tiff = opened(content.file.stream, content.name)
        if not directories or tiff.pages.first.is_dng:
            return None
        found = pictures(tiff)
        if not found:
            return None
        number, plane = _chosen(found, scene, frame, shown)
        return _image(content, tiff, found, number, plane, directories)


def _chosen(found: list[Picture], scene: int | str | None, frame: int | None, shown: str) -> tuple[int, int | None]:
    """Return which picture is meant, and which plane of it if it is one."""
    if frame is not None and scene is None:
        return plane_of_frame(found, frame, shown)
    names = tuple(picture.name for picture in found)
    slide = scene is None and found[0].slide
    number = 0 if slide else choose_scene(scene, names if len(names) > 1 else (), shown)
    return number, None if frame is None else plane_of_frame(found[number : number + 1], frame, shown)[1]


def _image(
    content: Content, tiff: Any, found: list[Picture], number: int, plane: int | None, directories: list[int]
) -> TiffImage | None:
    """Return the image of one picture in a file; None where it cannot be read by tile."""
    shown = content.file.place.shown
    picture = found[number]
    base = picture.levels[0].keyframe
    axes = Axes.of(picture.levels[0], plane)
    if axes is None or base.tags.valueof(274, 1) not in (0, 1) or base.imagedepth > 1:
        return None
    if not decodable(base):
        if has_imagecodecs() or (axes.planes == 1 and len(picture.levels) == 1 and _small(base)):
            return None
        raise EnvironmentProblem(
            f"{shown} is compressed with {tiff_tags.compression_name(base)}, whose decoder is not installed: "
            "pip install 'daskimg[codecs]'"
        )
    mended = any(getattr(tiff, f"is_{kind}", False) for kind in _MENDED)
    levels, sources = _levels(content, picture, axes)
    if not levels:
        return None
    ome = tiff_tags.ome_images(tiff.ome_metadata if tiff.is_ome else None)
    named = next((one for one in ome if one.name == picture.name), None) if len(ome) != len(found) else ome[number]
    size = tiff_tags.pixel_size(tiff, base, named)
    stride = -(-len(directories) // _ANCHORS)
    layout = Layout(
        tiff_tags.format_name(tiff, base),
        axes.dims,
        axes.dtype,
        tuple(levels),
        pixel_size=size and size[0],
        unit=size[1] if size else "",
        attrs=_attrs(base, named, axes),
        scenes=tuple(one.name for one in found) if len(found) > 1 else (),
        compression=tiff_tags.compression_name(base),
    )
    return TiffImage(
        content.file.place,
        content.file.version,
        layout,
        tuple(sources),
        axes,
        scene=number,
        mended=mended,
        anchors=tuple(directories[::stride]),
        stride=stride,
    )


def _levels(content: Content, picture: Picture, axes: Axes) -> tuple[list[Level], list[_Source]]:
    """Return the levels of a picture that its first one is like; none where that one's planes cannot be told."""
    levels: list[Level] = []
    sources: list[_Source] = []
    local = content.file.place.local
    for series in picture.levels:
        same = Axes.of(series, axes.plane) == axes
        planes = planes_of(series, axes.planes) if same else None
        if planes is None:
            if not levels:
                break
            continue
        page = Page(series.keyframe, content.file)
        page.check(axes.planes if planes.stacked else 1)
        anywhere = page.final and local
        levels.append(axes.level((page.rows, page.columns), (1, 1) if anywhere else _tile(page)))
        sources.append(_Source(planes, page.kind, anywhere))
    return levels, sources


def _attrs(base: Any, ome: tiff_tags.OmeImage | None, axes: Axes) -> Mapping[str, Any]:
    attrs = tiff_tags.geography(base)
    nodata = tiff_tags.nodata(base)
    if nodata is not None:
        attrs["nodata"] = nodata
    if base.iccprofile and base.photometric != 5:  # that of ink is used when it is turned to light
        attrs["icc"] = bytes(base.iccprofile)
    if ome is not None and "c" in axes.dims and len(ome.channels) == axes.length("c"):
        attrs["channel_names"] = ome.channels
    return attrs


def _small(page: Any) -> bool:
    limit = pixel_limit("default")
    return limit is None or page.imagelength * page.imagewidth <= limit


def _tile(page: Page) -> tuple[int, int]:
    """Return the rows and columns that are decoded at once: a tile, or strips that make up some work together."""
    high, wide = page.tile
    line = wide * page.samples * page.stored.itemsize
    if page.final:
        high, most = 1, _ROWS_BYTES
    elif page.page.is_tiled:
        return high, wide
    else:
        most = _STRIPS_BYTES
    return min(high * max(1, most // max(1, high * line)), max(high, page.rows)), wide
