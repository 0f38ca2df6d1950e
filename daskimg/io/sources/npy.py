"""NPY: of a local file any part is read by a memory map, of a remote one rows, by ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError
from daskimg.io.boundary import translated
from daskimg.io.sources.axes import guess_dims, numeric
from daskimg.io.sources.handles import OpenFiles, SourceFile
from daskimg.io.sources.scenes import choose_scene
from daskimg.io.stored import Layout, Level, StoredImage
from daskimg.io.urls import Location

__all__ = ["NpyImage", "open_npy"]

Pixels = NDArray[Any]

#: The remote files of this process that are open.
FILES: OpenFiles[SourceFile] = OpenFiles(32)


@dataclass(frozen=True, eq=False)
class NpyImage(StoredImage):
    """Reads an array that NumPy saved.

    Attributes
    ----------
    place : Location
        The file.
    offset : int
        Where the pixels begin in it.
    stored : str
        Their data type with the byte order of the file.
    fortran : bool
        Whether the first axis is the one that runs fastest.
    """

    place: Location
    offset: int
    stored: str
    fortran: bool
    layout: Layout
    version: tuple[Any, ...]

    def decode(self, level: int, index: tuple[int, ...]) -> Pixels:
        """Read a part as large as a tile."""
        tile, shape = self.layout.levels[0].tile, self.layout.levels[0].shape
        return self.read(
            level,
            tuple(
                slice(at * size, min(at * size + size, length))
                for at, size, length in zip(index, tile, shape, strict=True)
            ),
        )

    def read(self, level: int, where: tuple[slice, ...]) -> Pixels:
        """Return a part."""
        with translated(self.place.shown, "read"):
            if self.place.local:
                if self.place.version() != self.version[2:]:
                    raise ImageFileError(f"{self.place.shown} changed since it was opened; open it again.")
                shape = self.layout.levels[0].shape
                order: Literal["C", "F"] = "F" if self.fortran else "C"
                pixels = np.memmap(self.place.url, np.dtype(self.stored), "r", self.offset, shape, order)[where]
            else:
                pixels = self._ranged(where)
            return np.array(pixels, self.layout.dtype, order="C")

    def _ranged(self, where: tuple[slice, ...]) -> Pixels:
        """Return a part of a remote file by one range: whole rows, or whole planes where there are several."""
        axes = range(len(where))[::-1] if self.fortran else range(len(where))
        shape = [self.layout.levels[0].shape[axis] for axis in axes]
        parts = [where[axis] for axis in axes]
        first = next((axis for axis, part in enumerate(parts) if part.stop - part.start > 1), len(parts) - 1)
        row = math.prod(shape[first + 1 :])
        before = sum(part.start * math.prod(shape[axis + 1 :]) for axis, part in enumerate(parts[:first]))
        size = np.dtype(self.stored).itemsize
        start = self.offset + (before + parts[first].start * row) * size
        stop = self.offset + (before + parts[first].stop * row) * size
        version = self.version[2:]
        with FILES.use((self.place.url, version), lambda: SourceFile(self.place, version)) as file:
            data = file.read(start, stop - start)
        block = np.frombuffer(data, self.stored).reshape(-1, *shape[first + 1 :])
        block = block[(slice(None), *parts[first + 1 :])].reshape([part.stop - part.start for part in parts])
        return block.T if self.fortran else block


def open_npy(place: Location, *, scene: int | str | None = None) -> NpyImage:
    """Open an array that NumPy saved; its header is read.

    Raises
    ------
    ImageFileError
        The header is broken, the file is truncated, or it holds no numbers.
    """
    choose_scene(scene, (), place.shown)
    with place.open() as file, translated(place.shown, "read"):
        major, _ = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, stored = header(file)
        offset = file.tell()
        size = file.seek(0, 2)
    dtype = numeric(stored, place.shown)
    dims = guess_dims(shape, None, place.shown)
    if not math.prod(shape):
        raise ImageFileError(f"{place.shown} holds an array of shape {shape}, without a pixel.")
    if size < offset + math.prod(shape) * stored.itemsize:
        raise ImageFileError(f"{place.shown} is truncated: {size} bytes are too few for {shape} {dtype}.")
    whole = () if place.local else ("y" if fortran else "x", "channel")  # a range holds whole rows
    tile = [length if name in whole else 1 for name, length in zip(dims, shape, strict=True)]
    layout = Layout("NPY", dims, dtype, (Level(tuple(shape), tuple(tile)),))
    return NpyImage(place, offset, stored.str, fortran, layout, (place.url, "npy", *place.version()))
