"""Contrast-limited adaptive histogram equalisation: each pixel by the histograms of the four tiles around it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import scipy

from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import operation
from daskimg.operations.histogram import Color, counts_of, dtype_of, each_or_joint, on_planes, planes_of
from daskimg.parameters import Range

__all__ = ["clahe"]

PIECE, WIDEST = 1 << 17, 1 << 12  # pixels that are blended together, and columns: what a processor's cache holds

Counts: TypeAlias = dict[tuple[int, int], Array]


class Tiling(NamedTuple):
    """Tells how an axis is cut into equal tiles, for which OpenCV lengthens it by its mirror."""

    size: int
    tiles: int
    tile: int

    def pixels(self, first: int, count: int) -> Iterator[tuple[int, Any]]:
        """Yield the tiles that some pixels of the axis belong to, with an index of those pixels."""
        beyond = np.arange(self.size, self.tile * self.tiles)
        mirrored = np.array([cv2.borderInterpolate(int(one), self.size, cv2.BORDER_REFLECT_101) for one in beyond], int)
        here = (first <= mirrored) & (mirrored < first + count)
        tiles = np.concatenate([np.arange(first, first + count), beyond[here]]) // self.tile
        pixels = np.concatenate([np.arange(count), mirrored[here] - first])
        for tile in np.unique(tiles):
            index = pixels[tiles == tile]
            in_order = len(index) == index[-1] - index[0] + 1 and index[0] <= index[-1]
            yield int(tile), slice(index[0], index[-1] + 1) if in_order else index

    def cells(self, first: int, count: int) -> tuple[list[tuple[slice, int, int]], Array, Array]:
        """Return the stretches of pixels that lie between the same two tiles, and the weights of both.

        The roundings are those of OpenCV's float32.
        """
        places = np.arange(first, first + count).astype(np.float32)
        places = places * (np.float32(1) / np.float32(self.tile)) - np.float32(0.5)
        before = np.floor(places)
        second = places - before
        edges = [0, *(np.flatnonzero(np.diff(before)) + 1).tolist(), count]
        stretches = []
        for start, stop in itertools.pairwise(edges):
            tile = int(before[start])
            stretches.append((slice(start, stop), max(tile, 0), min(tile + 1, self.tiles - 1)))
        return stretches, np.float32(1) - second, second


def tilings(p: Any, rows: int, columns: int) -> tuple[Tiling, Tiling]:
    """Return how rows and columns are cut into tiles."""
    wanted = (rows, p.tiles_y or p.tiles), (columns, p.tiles)
    if any(size % tiles for size, tiles in wanted):  # then both are lengthened, by a pixel for each tile at most
        along_y, along_x = (Tiling(size, tiles, size // tiles + 1) for size, tiles in wanted)
    else:
        along_y, along_x = (Tiling(size, tiles, size // tiles) for size, tiles in wanted)
    return along_y, along_x


def _count_tiles(image: Array, p: Any, where: Window) -> Counts:
    """Return the histograms of the pixels that this block gives to tiles, by their numbers along rows and columns."""
    along_y, along_x = tilings(p, where.rows, where.columns)
    planes = planes_of(image, p.color)
    columns = list(along_x.pixels(where.column, image.shape[1]))
    valid = getattr(p, "valid", None)  # where there are missing pixels, which don't count

    def pick(plane: Array, rows: Any, some: Any) -> Array:
        part: Array = plane[rows][:, some]
        return part if valid is None else part[valid[rows][:, some]][:, np.newaxis]

    return {
        (tile_y, tile_x): np.stack([counts_of(pick(plane, rows, some)) for plane in planes])
        for tile_y, rows in along_y.pixels(where.row, image.shape[0])
        for tile_x, some in columns
    }


def _add(first: Counts, second: Counts) -> Counts:
    return {**first, **{tile: counts + first[tile] if tile in first else counts for tile, counts in second.items()}}


def _tables(counts: Counts, p: Any) -> Array:
    """Return the tables as (tiles along rows, tiles along columns, planes, values).

    A tile without any valid pixel has the table of the nearest one that has some.
    """
    planes, bins = next(iter(counts.values())).shape
    tables = np.empty((p.tiles_y or p.tiles, p.tiles, planes, bins), dtype_of(np.empty(bins)))
    bare = np.ones(tables.shape[:2], bool)
    for tile, several in counts.items():
        bare[tile] = not several.any()
        if not bare[tile]:
            tables[tile] = [_table(one, p.clip_limit) for one in several]
    if bare.any():
        nearest = scipy.ndimage.distance_transform_edt(bare, return_distances=False, return_indices=True)
        tables = tables[tuple(nearest)]
    return tables


def _table(counts: Array, clip_limit: float) -> Array:
    """Return OpenCV's table for a tile: what is above the limit is dealt out to all values, then summed up."""
    bins, total = len(counts), int(counts.sum())
    if clip_limit > 0:
        limit = max(int(clip_limit * total / bins), 1)
        batch, residual = divmod(int(np.maximum(counts - limit, 0).sum()), bins)
        counts = np.minimum(counts, limit) + batch
        if residual:
            counts[:: max(bins // residual, 1)][:residual] += 1
    sums = np.cumsum(counts).astype(np.float32) * (np.float32(bins - 1) / np.float32(total))
    table: Array = np.clip(np.rint(sums), 0, bins - 1).astype(dtype_of(counts))
    return table


def _interpolate(image: Array, tables: Array, p: Any, where: Window) -> Array:
    along_y, along_x = tilings(p, where.rows, where.columns)

    def blended(plane: Array, number: int) -> Array:
        result = np.empty_like(plane)
        y_cells = along_y.cells(where.row, len(plane))
        for left in range(0, plane.shape[1], WIDEST):
            right = min(left + WIDEST, plane.shape[1])
            height = min(max(1, PIECE // (right - left)), len(plane))
            x_cells = _columns(along_x, where.column + left, right - left, height)
            _blend(plane[:, left:right], tables[:, :, number], y_cells, x_cells, result[:, left:right])
        return result

    return on_planes(image, p.color, blended)


@functools.lru_cache(maxsize=64)
def _columns(along_x: Tiling, first: int, count: int, height: int) -> tuple[Any, Array, Array]:
    """Return the cells of some columns, with the weights of their pixels in as many rows as are blended together."""
    columns, left, right = along_x.cells(first, count)
    return columns, np.repeat(left[np.newaxis], height, axis=0), np.repeat(right[np.newaxis], height, axis=0)


def _blend(plane: Array, tables: Array, along_y: Any, along_x: Any, result: Array) -> None:
    """Write the blend of what the four nearest tiles' tables say, in the order of OpenCV's float32 operations.

    The four values of a pixel are looked up at once, as one number of four times the size.
    """
    (rows, above, below), (columns, lefts, rights) = along_y, along_x
    height, width = lefts.shape
    together = np.dtype(np.int32 if plane.itemsize == 1 else np.float64)  # OpenCV has no 64-bit integers
    found = np.empty((height, width), together)
    values = [np.empty((height, width), plane.dtype) for _ in range(4)]
    sums = [np.empty((height, width), np.float32) for _ in range(3)]
    for stretch, up, down in rows:
        joined = [
            np.stack([tables[y, x] for y in (up, down) for x in (before, after)], axis=1).view(together).ravel()
            for _, before, after in columns
        ]
        for start in range(stretch.start, stretch.stop, height):
            stop = min(start + height, stretch.stop)
            count = stop - start
            for (part, _, _), table in zip(columns, joined, strict=True):
                cv2.LUT(plane[start:stop, part], table, found[:count, part])
            four = [one[:count] for one in values]
            cv2.split(found[:count].view(plane.dtype).reshape(count, width, 4), four)
            upper, lower, more = (one[:count] for one in sums)
            for total, one, other, weights in ((upper, *four[:2], above), (lower, *four[2:], below)):
                cv2.multiply(one, lefts[:count], total, 1, cv2.CV_32F)
                cv2.multiply(other, rights[:count], more, 1, cv2.CV_32F)
                cv2.add(total, more, total)
                np.multiply(total, weights[start:stop, np.newaxis], out=total)
            cv2.add(upper, lower, result[start:stop], dtype=cv2.CV_8U if plane.itemsize == 1 else cv2.CV_16U)


@operation(
    kind=TwoPass(_count_tiles, _add, _interpolate, _tables, positional=True),
    dtypes="uint8 uint16",
    channels=each_or_joint,
    alpha="keep",
    missing="point",
)
def clahe(
    image: Any,
    *,
    clip_limit: Annotated[float, Range(0, 256)] = 2.0,
    tiles: Annotated[int, Range(1, 256)] = 8,
    tiles_y: Annotated[int | None, Range(1, 256)] = None,
    color: Color = "luminance",
) -> Any:
    """Spread the values evenly in each neighbourhood, with a limit to how much noise is amplified.

    Parameters
    ----------
    clip_limit : float
        How many times more frequent than on average a value may count in its tile; 0 for no limit. Less keeps flat
        areas flatter.
    tiles : int
        How many tiles the image is cut into along its columns, and along its rows where `tiles_y` is None.
    tiles_y : int
        How many along its rows.
    color : {"luminance", "each"}
        Whether the luminance of a color image is changed and its hues stay, or each channel by itself.

    Returns
    -------
    ndarray
        The equalised image, of the same data type; alpha stays.

    Raises
    ------
    ArrayError
        If the luminance of two channels is asked for.

    Notes
    -----
    `cv2.createCLAHE(clip_limit, (tiles, tiles_y)).apply`. K. Zuiderveld, "Contrast limited adaptive histogram
    equalization", Graphics Gems IV, 1994. The luminance is Y of `COLOR_RGB2YCrCb`. The tiles are those of the whole
    image, whatever its chunks. Their histograms take 2 KiB for each tile on uint8 and 512 KiB on uint16.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.clahe(np.array([[100, 101], [102, 103]], np.uint8), tiles=1, clip_limit=0)
    array([[ 64, 128],
           [191, 255]], dtype=uint8)
    """
    equalizer = cv2.createCLAHE(clip_limit, (tiles, tiles_y or tiles))
    return on_planes(image, color, lambda plane, number: equalizer.apply(plane))
