"""Morphological reconstruction: what a marker image grows to beneath a mask image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ArrayError, DtypeError
from daskimg.kinds import Array, Nested, Region, Size, Window
from daskimg.operation import operation
from daskimg.operations.flooding import (
    Levels,
    Outline,
    decide_levels,
    grid_edges,
    join_outlines,
    side_pixels,
    spanning_tree,
    ways_among,
)
from daskimg.parameters import Image

__all__ = ["morphological_reconstruction"]

TILE = 128  # pixels: the side of what is dilated at a time, so that it stays in the processor's cache
MOST_DILATIONS = 1024  # of a tile, on average; mazes are better left to a spanning tree

Grown = tuple[Array, Array, Array | None]
"""What a marker grew to, the mask, and which pixels are not in the result; for an erosion upside down."""


def _connectivity(p: Any) -> int:
    return int(p.connectivity)


def _turned(values: Array, method: str) -> Array:
    """Return values as OpenCV dilates them, upside down for an erosion; it is undone by turning them again."""
    if values.dtype.kind == "f":
        turned: Array = (-values if method == "erosion" else values) + values.dtype.type(0)  # without -0.0
        return turned
    if method == "erosion":
        return np.invert(values)
    return values


def _grow(image: Array, p: Any, where: Window) -> Grown:
    mask = p.mask[:, :, 0] if p.mask.ndim == 3 and p.mask.shape[2] == 1 else p.mask
    if mask.dtype != image.dtype:
        raise DtypeError(
            f"morphological_reconstruction: the mask is {mask.dtype}, the image {image.dtype}; "
            f'convert one of them: mask.astype("{image.dtype}")'
        )
    if mask.shape != image.shape:
        raise ArrayError(
            f"morphological_reconstruction: the mask has the shape {mask.shape}, the image {image.shape}; "
            "put to_gray before it, or resize one of them"
        )
    marker, mask = _turned(image, p.method), _turned(mask, p.method)
    missing = None
    if image.dtype == bool:
        marker, mask = marker.view(np.uint8), mask.view(np.uint8)
    elif image.dtype.kind == "f":
        missing = np.isnan(mask)
        mask = np.where(missing, -np.inf, mask).astype(mask.dtype, copy=False)
        marker = np.where(np.isnan(marker), -np.inf, marker).astype(mask.dtype, copy=False)
        missing = missing if missing.any() else None
    grown = np.minimum(marker, mask)
    every = np.ones([-(-length // TILE) for length in grown.shape], bool)
    return _flooded(grown, mask, _connectivity(p), every), mask, missing


def _flooded(grown: Array, mask: Array, connectivity: int, dirty: Array) -> Array:
    """Let what has grown so far grow on, in place; `dirty` are the tiles where that may begin."""
    shape = cv2.MORPH_RECT if connectivity == 8 else cv2.MORPH_CROSS
    kernel = cv2.getStructuringElement(shape, (3, 3))
    left = MOST_DILATIONS * dirty.size
    while dirty.any():
        for y, x in np.argwhere(dirty):
            dirty[y, x] = False
            around = tuple(slice(max(0, TILE * one - 1), TILE * (one + 1) + 1) for one in (y, x))
            before = after = grown[around]
            bound = np.ascontiguousarray(mask[around])
            for _ in range(left):
                left -= 1
                # What is outside is less than all numbers only if it is a copy of what is inside.
                higher = cv2.min(cv2.dilate(after, kernel, borderType=cv2.BORDER_REPLICATE), bound)
                if np.array_equal(higher, after):
                    break
                after = higher
            if left <= 0:
                return _grown_by_tree(grown, mask, connectivity)
            if after is before:
                continue
            changed = after != before
            grown[around] = after
            # What changed within two pixels of its sides, a tile's neighbours have not seen.
            for dy, near_y in ((-1, slice(0, 2)), (0, slice(None)), (1, slice(-2, None))):
                for dx, near_x in ((-1, slice(0, 2)), (0, slice(None)), (1, slice(-2, None))):
                    ny, nx = y + dy, x + dx
                    if (dy, dx) != (0, 0) and 0 <= ny < dirty.shape[0] and 0 <= nx < dirty.shape[1]:
                        dirty[ny, nx] |= changed[near_y, near_x].any()
    return grown


def _grown_by_tree(grown: Array, mask: Array, connectivity: int) -> Array:
    """Return the same, in a time that does not depend on how long the ways are."""
    index = np.arange(mask.size, dtype=np.int32).reshape(mask.shape)
    first, second = grid_edges(index, connectivity)
    flat = mask.ravel()
    tree = spanning_tree(mask.size, first, second, _width(flat[first], flat[second]), index.ravel(), grown.ravel())
    return tree.level[:-1].reshape(mask.shape)


def _width(one: Array, other: Array) -> Array:
    """Return how wide the way between neighbours is: as high as the lower of the two lets it be."""
    narrower: Array = np.minimum(one, other)
    return narrower


def _sum_up(state: Grown, p: Any, where: Window) -> Outline:
    grown, mask, _ = state
    rows, columns = mask.shape
    region = Region(where.row, where.column, where.row + rows, where.column + columns)
    y, x = side_pixels(region, (where.rows, where.columns))
    # What is as high as the mask grows no more. The rest lies in plateaus, of which those that reach a side matter.
    _, plateaus = cv2.connectedComponents((grown < mask).view(np.uint8), connectivity=_connectivity(p))
    reaches = np.zeros(plateaus.max() + 1, bool)
    reaches[plateaus[y, x]] = True
    reaches[0] = False
    is_node = reaches[plateaus]
    is_node[y, x] = True
    index = np.full(mask.shape, -1, np.int32)
    index[is_node] = np.arange(np.count_nonzero(is_node))
    ends = index[y, x]
    first, second = grid_edges(np.where(reaches[plateaus], index, -1), _connectivity(p))
    height = mask[is_node]
    tree = spanning_tree(len(height), first, second, _width(height[first], height[second]), ends, grown[y, x])
    _, first, second, width = ways_among(tree, ends)
    at = (y + where.row).astype(np.int64) * where.columns + x + where.column
    return Outline(region, at, mask[y, x], grown[y, x], np.zeros(len(at), np.int8), first, second, width)


def _join(outlines: list[Outline], region: Region, size: Size, p: Any) -> Outline:
    return join_outlines(outlines, region, size, _connectivity(p), _width)


def _decide(outlines: list[Outline], known: Levels | None, region: Region, size: Size, p: Any) -> list[Levels]:
    return decide_levels(outlines, known, region, size, _connectivity(p), _width)


def _finish(state: Grown, known: Levels | None, p: Any, where: Window) -> Array:
    grown, mask, missing = state
    if known is not None:
        rows, columns = mask.shape
        region = Region(where.row, where.column, where.row + rows, where.column + columns)
        y, x = side_pixels(region, (where.rows, where.columns))
        higher = known.level > grown[y, x]
        if higher.any():
            grown = grown.copy()
            grown[y, x] = known.level
            dirty = np.zeros([-(-length // TILE) for length in grown.shape], bool)
            for dy, dx in np.ndindex(3, 3):  # tiles see a pixel of their neighbours
                near_y, near_x = y[higher] + dy - 1, x[higher] + dx - 1
                dirty[near_y.clip(0, rows - 1) // TILE, near_x.clip(0, columns - 1) // TILE] = True
            grown = _flooded(grown, mask, _connectivity(p), dirty)
    if p.mask.dtype == bool:
        grown = grown.view(bool)
    result = _turned(grown, p.method)
    if missing is not None:
        result[missing] = np.nan
    return result


RECONSTRUCTION = Nested(_grow, _sum_up, _join, _decide, _finish, state_bytes=lambda dtype: 2 * dtype.itemsize)


@operation(
    kind=RECONSTRUCTION,
    dtypes="uint8 uint16 int16 float32 float64 bool",
    accepts=(1,),
)
def morphological_reconstruction(
    image: Any,
    *,
    mask: Annotated[Any, Image(aligned=True)],
    method: Literal["dilation", "erosion"] = "dilation",
    connectivity: Literal["4", "8"] = "8",
) -> Any:
    """Grow a marker image beneath a mask image for as long as anything changes.

    Parameters
    ----------
    mask : image
        What limits the growth: an image of the same size and data type.
    method : {"dilation", "erosion"}
        Whether the marker, the image, grows beneath the mask, or shrinks above it.
    connectivity : {"4", "8"}
        Whether growth spreads only side by side, or also across corners.

    Returns
    -------
    ndarray
        Of the image's shape and data type. By dilation, a pixel is as high as the highest marker from which it can be
        reached, as far as the mask along the way lets it be.

    Raises
    ------
    DtypeError, ArrayError
        If the mask has another data type or size than the image.

    Notes
    -----
    By dilation, `max over paths of min(marker at its begin, mask along it)`: `skimage.morphology.reconstruction` with
    the footprint of the connectivity, bit for bit, under any chunking. Where the marker is beyond the mask, which is an
    error there, it counts as the mask. NaN in the marker is no marker; NaN in the mask stops the growth and stays. What
    no marker reaches is -inf by dilation and inf by erosion. L. Vincent, "Morphological grayscale reconstruction in
    image analysis", IEEE Transactions on Image Processing 2, 1993.

    * The h-maxima filter is the reconstruction of `image - h` beneath the image; the domes are the difference.
    * Opening by reconstruction is that of the eroded image beneath the image: what is left keeps its outline.
    * Holes in a gray image are filled by erosion, above the image, of a marker that is the image at its outermost
      pixels and the highest value elsewhere; `fill_holes` is that for binary images.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> mask = np.array([[3, 5, 4, 1, 6]], np.uint8)
    >>> marker = np.array([[0, 4, 0, 0, 0]], np.uint8)
    >>> di.morphological_reconstruction(marker, mask=mask)
    array([[3, 4, 4, 1, 1]], dtype=uint8)
    """
    return RECONSTRUCTION.on_whole(image, {"mask": mask, "method": method, "connectivity": connectivity})
