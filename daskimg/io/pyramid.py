"""Smaller and smaller copies of a large image, made while it passes by: its pixels are computed once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from daskimg.io.sink import Encoder, Target

__all__ = ["Assembler", "Block", "Downsample", "Halving", "TileMaker", "level_sizes"]

Pixels = NDArray[Any]
Downsample: TypeAlias = Literal["mean", "nearest"]
Position = tuple[int, int]

_BY_CV2 = ("uint8", "uint16", "int16", "float32", "float64")


def level_sizes(rows: int, columns: int, smallest: int) -> tuple[tuple[int, int], ...]:
    """Return the rows and columns of each level, each half of the one before, down to one of `smallest` pixels a side.

    >>> level_sizes(5000, 3001, 1024)
    ((5000, 3001), (2500, 1501), (1250, 751), (625, 376))
    """
    sizes = [(rows, columns)]
    while max(sizes[-1]) > smallest:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return tuple(sizes)


@dataclass(frozen=True)
class Halving:
    """Halves pixels: by the mean of two by two, rounded half up, or by the first of them.

    Where an image has an odd number of rows or columns, the last counts twice. Of pixels without data, `nodata`, the
    mean takes no notice; four of them give one.
    """

    method: Downsample
    nodata: float | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return half of an image, `(rows, columns[, channels])`, of the same type."""
        if self.method == "nearest":
            return np.ascontiguousarray(pixels[::2, ::2])
        rows, columns = pixels.shape[:2]
        if rows % 2 or columns % 2:
            pixels = np.pad(pixels, ((0, rows % 2), (0, columns % 2), *((0, 0),) * (pixels.ndim - 2)), "edge")
        if self.nodata is None and pixels.dtype.name in _BY_CV2 and (pixels.ndim == 2 or pixels.shape[2] <= 4):
            size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
            half = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
            return half.reshape(size[1], size[0], *pixels.shape[2:])
        return self._valid_mean(pixels)

    def _valid_mean(self, pixels: Pixels) -> Pixels:
        rows, columns = pixels.shape[:2]
        fours = pixels.reshape(rows // 2, 2, columns // 2, 2, *pixels.shape[2:]).astype(np.float64)
        if self.nodata is None:
            mean: Pixels = fours.mean(axis=(1, 3))
        else:
            missing = np.isnan(fours) if np.isnan(self.nodata) else fours == self.nodata
            count = (~missing).sum(axis=(1, 3))
            total = np.where(missing, 0, fours).sum(axis=(1, 3))
            mean = np.where(count, total / np.maximum(count, 1), self.nodata)
        return (np.floor(mean + 0.5) if pixels.dtype.kind in "iu" else mean).astype(pixels.dtype)


class Tile(NamedTuple):
    """Is a tile that was encoded: where it belongs, and what the sink needs of it."""

    level: int
    batch: tuple[int, ...]
    at: Position
    payload: Any


class Rest(NamedTuple):
    """Is a part of a level that is no whole tile: `at` is its first row and column there."""

    level: int
    batch: tuple[int, ...]
    at: Position
    pixels: Pixels


class Block(NamedTuple):
    """Is what became of a chunk."""

    tiles: list[Tile]
    rests: list[Rest]


@dataclass(frozen=True)
class TileMaker:
    """Makes the tiles of a chunk, at all levels at which it consists of whole tiles; picklable.

    `starts` are the places of chunks along each axis, for each the first and, at last, the end.
    """

    target: Target
    tile: Position
    encoder: Encoder
    halve: Halving
    starts: tuple[tuple[int, ...], ...]

    def __call__(self, index: tuple[int, ...], pixels: Pixels) -> Block:
        """Encode the tiles of the chunk with this index."""
        count = len(self.target.batch)
        first = [edges[number] for edges, number in zip(self.starts, index, strict=True)]
        block = Block([], [])
        for plane in np.ndindex(pixels.shape[:count]):
            batch = tuple(start + number for start, number in zip(first[:count], plane, strict=True))
            self._add_plane(block, batch, (first[count], first[count + 1]), pixels[plane])
        return block

    def _add_plane(self, block: Block, batch: tuple[int, ...], at: Position, pixels: Pixels) -> None:
        for level, size in enumerate(self.target.levels):
            if not self._is_whole(at, pixels.shape, size):
                block.rests.append(Rest(level, batch, at, pixels))
                return
            for row, column in itertools.product(*(range(0, pixels.shape[axis], self.tile[axis]) for axis in (0, 1))):
                tile = pixels[row : row + self.tile[0], column : column + self.tile[1]]
                place = (at[0] + row) // self.tile[0], (at[1] + column) // self.tile[1]
                block.tiles.append(Tile(level, batch, place, self.encoder.encode(level, batch, place, tile)))
            if level + 1 < len(self.target.levels):
                if at[0] % 2 or at[1] % 2:
                    raise AssertionError("a chunk begins at an odd pixel")
                pixels, at = self.halve(pixels), (at[0] // 2, at[1] // 2)

    def _is_whole(self, at: Position, shape: tuple[int, ...], size: Position) -> bool:
        ends = at[0] + shape[0], at[1] + shape[1]
        return all(at[n] % self.tile[n] == 0 and (ends[n] % self.tile[n] == 0 or ends[n] == size[n]) for n in (0, 1))


class Assembler:
    """Puts tiles of coarse levels together, from parts that chunks leave; used by one thread at a time."""

    def __init__(self, target: Target, tile: Position, encoder: Encoder, halve: Halving) -> None:
        self.target, self.tile, self.encoder, self.halve = target, tile, encoder, halve
        self._open: dict[tuple[int, tuple[int, ...], Position], tuple[Pixels, list[int]]] = {}

    def add(self, rest: Rest) -> Iterator[Tile]:
        """Take in a part, and yield the tiles that are whole now, encoded."""
        level, batch, at, pixels = rest
        rows, columns = self.target.levels[level]
        ends = at[0] + pixels.shape[0], at[1] + pixels.shape[1]
        spans = [range(at[n] // self.tile[n], -(-ends[n] // self.tile[n])) for n in (0, 1)]
        for place in itertools.product(*spans):
            top, left = place[0] * self.tile[0], place[1] * self.tile[1]
            height, width = min(self.tile[0], rows - top), min(self.tile[1], columns - left)
            key = level, batch, (place[0], place[1])
            if key not in self._open:
                empty = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
                self._open[key] = empty, [height * width]
            tile, missing = self._open[key]
            low, high = max(at[0], top), min(ends[0], top + height)
            begin, end = max(at[1], left), min(ends[1], left + width)
            part = pixels[low - at[0] : high - at[0], begin - at[1] : end - at[1]]
            tile[low - top : high - top, begin - left : end - left] = part
            missing[0] -= (high - low) * (end - begin)
            if missing[0] == 0:
                del self._open[key]
                yield Tile(*key, self.encoder.encode(*key, tile))
                if level + 1 < len(self.target.levels):
                    yield from self.add(Rest(level + 1, batch, (top // 2, left // 2), self.halve(tile)))
