"""Images as they are stored: what they hold, at which resolutions, and how their parts are read."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.tokenize import normalize_token
from numpy.typing import NDArray

from daskimg.io.cache import TILES

__all__ = ["Layout", "Level", "LevelReader", "StoredImage"]

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Level:
    """Is one resolution of a stored image.

    `shape` runs along the image's axes, and so does `tile`, which says what is decoded at once: a tile, a strip as
    wide as the image, a chunk of Zarr; ones where any part can be read as such. Where that is the whole level, as
    in a photo, it is as large as `shape`.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Says what a stored image holds, as its header tells.

    Attributes
    ----------
    format : str
        In words, such as ``"OME-TIFF"``.
    dims : tuple of str
        The names of the axes, such as ``("y", "x", "channel")`` or ``("t", "c", "z", "y", "x")``. `channel` means the
        colors of one picture, one to four, last; `c` the channels of a microscope, `band` those of a satellite.
    dtype : dtype
        The type of the samples, in native byte order.
    levels : tuple of Level
        The resolutions, from the finest on.
    pixel_size : tuple of float or None
        Height and width of a pixel of the finest level, in `unit`.
    unit : str
        Such as ``"micrometer"``; empty where it is not known.
    attrs : mapping
        What else is known: `nodata`, `transform` (of the upper left corner of the finest level, as rasterio has it),
        `crs`, `channel_names`, ...
    scenes : tuple of str
        The names of the images in the file, where it can hold several; this is one of them.
    compression : str
        In words; empty where there is none.
    """

    format: str
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    levels: tuple[Level, ...]
    pixel_size: tuple[float, float] | None = None
    unit: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    scenes: tuple[str, ...] = ()
    compression: str = ""


class StoredImage(ABC):
    """Reads an image that is stored. It is picklable and light: files are opened where and when parts are read.

    Attributes
    ----------
    layout : Layout
        What it holds.
    version : tuple
        What tells this content of the file, and this image in it, from any other: place, size, time or entity tag,
        scene.
    """

    layout: Layout
    version: tuple[Any, ...]

    @abstractmethod
    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Decode the tile of these numbers along the axes, clipped to the level's shape.

        Raises
        ------
        ImageFileError
            It is broken, or the file is no longer what it was when it was opened.
        """

    def read(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return a part of a level, put together from tiles; those decoded last are kept."""
        tile = self.layout.levels[level].tile
        ranges = [range(part.start // size, -(-part.stop // size)) for part, size in zip(where, tile, strict=True)]
        result: Pixels | None = None
        for index in itertools.product(*ranges):
            block = TILES.get((self.version, level, index), lambda index=index: self.decode(level, index))  # type: ignore[misc]
            starts = [number * size for number, size in zip(index, tile, strict=True)]
            inside = tuple(
                slice(max(part.start - start, 0), min(part.stop - start, length))
                for part, start, length in zip(where, starts, block.shape, strict=True)
            )
            if result is None:
                shape = tuple(part.stop - part.start for part in where)
                if block.shape == shape and all(part.start == 0 for part in inside):
                    return block.copy()
                result = np.empty(shape, self.layout.dtype)
            into = tuple(
                slice(start + one.start - part.start, start + one.stop - part.start)
                for part, start, one in zip(where, starts, inside, strict=True)
            )
            result[into] = block[inside]
        return np.empty([part.stop - part.start for part in where], self.layout.dtype) if result is None else result

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, StoredImage) and self.version == other.version

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.version))

    def __dask_tokenize__(self) -> Any:
        return normalize_token((type(self).__name__, self.version))


@dataclass(frozen=True)
class LevelReader:
    """Reads one level of a stored image, as chunked images want it."""

    image: StoredImage
    level: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The level's shape."""
        return self.image.layout.levels[self.level].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the samples."""
        return self.image.layout.dtype

    @property
    def tile(self) -> tuple[int, ...]:
        """What is decoded at once, along each axis."""
        return self.image.layout.levels[self.level].tile

    def read(self, where: tuple[slice, ...]) -> Pixels:
        """Return the pixels there."""
        return self.image.read(self.level, where)
