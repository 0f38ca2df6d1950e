"""Canny's edges: thin lines along the steepest slopes, followed as far as they reach."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np

from daskimg.kinds import Array, Linked, Margins, Parts, Window
from daskimg.operation import operation
from daskimg.parameters import Odd, Range, Unit

__all__ = ["canny"]

FRAME = 64  # pixels: how deep weak lines are followed from a side at first


class Lines(NamedTuple):
    """Holds the edges of a block as far as they are known here, and the weak lines that reach its sides."""

    edges: Array
    rows: Array  # of the pixels of weak lines
    columns: Array
    part: Array  # the number of the line that each of these pixels belongs to


def _find_lines(window: Array, margins: Margins, p: Any, where: Window) -> tuple[Lines, Parts]:
    gx, gy, ring = _gradients(window, margins, p.aperture)
    low, high = sorted((p.low, p.high))
    if p.aperture == 7:  # the derivatives are a sixteenth of what they would be
        low, high = low / 16, high / 16
    edges = np.ascontiguousarray(ring.inner(cv2.Canny(gx, gy, low, high, L2gradient=p.l2_gradient)))
    depth = FRAME
    while True:
        lines, is_whole = _weak_lines(gx, gy, ring, edges, low, p.l2_gradient, depth)
        if is_whole:
            break
        depth *= 4
    count = int(lines.part.max(initial=1)) + 1
    sides = []
    for number, axis in ((0, 0), (-1, 0), (0, 1), (-1, 1)):
        side = (np.take(edges, number, axis=axis) != 0).astype(np.int32)  # all known edges are one part: 1
        across, along = (lines.rows, lines.columns) if axis == 0 else (lines.columns, lines.rows)
        on = across == (number % edges.shape[axis])
        side[along[on]] = lines.part[on]
        sides.append(side)
    values = np.zeros(count, bool)
    values[1] = True
    return lines, Parts((sides[0], sides[1], sides[2], sides[3]), values)


def _gradients(window: Array, margins: Margins, aperture: int) -> tuple[Array, Array, Margins]:
    """Return Sobel's derivatives of a block and of the two pixels around it, prepared so that no line leaves the block.

    The pixels next to a block must count when its own are compared with their neighbours, but lines must not be
    followed through them: not all that they depend on is known here. So in the ring around the block derivatives
    are swapped where they point along the ring, which changes no magnitude, and a second ring is the steepest of
    all: then each pixel of the first has a steeper neighbour across, and none is a candidate.
    """
    ring = Margins(*(2 * (margin > 0) for margin in margins))
    cut = Margins(*(max(margin - 2, 0) for margin in margins))
    scale = 1 / 16 if aperture == 7 else 1  # as cv2.Canny has it, so that 16 bits suffice

    def derivative(dx: int, dy: int) -> Array:
        whole = cv2.Sobel(window, cv2.CV_16S, dx, dy, ksize=aperture, scale=scale, borderType=cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(cut.inner(whole))

    gx, gy = derivative(1, 0), derivative(0, 1)
    for axis, pair in ((0, (gx, gy)), (1, (gy, gx))):
        along, across = (np.moveaxis(one, axis, 0) for one in pair)
        for first, present in ((True, ring[2 * axis]), (False, ring[2 * axis + 1])):
            if present:
                _seal(along[1 if first else -2], across[1 if first else -2], first)
    for axis in (0, 1):
        for one in (np.moveaxis(gx, axis, 0), np.moveaxis(gy, axis, 0)):
            one[: ring[2 * axis] // 2] = np.iinfo(np.int16).max
            one[len(one) - ring[2 * axis + 1] // 2 :] = np.iinfo(np.int16).max
    return gx, gy, ring


def _seal(along: Array, across: Array, first: bool) -> None:
    """Let the derivatives of a line of pixels point across it, with the same magnitudes."""
    swap = np.abs(along) > np.abs(across)
    along[swap], across[swap] = across[swap], along[swap]
    # At a true border, a diagonal comparison must be with the pixel that is there: the one farther inside.
    for end, sign in ((0, -1 if first else 1), (-1, 1 if first else -1)):
        along[end], across[end] = sign * np.abs(along[end]), np.abs(across[end])


def _weak_lines(
    gx: Array, gy: Array, ring: Margins, edges: Array, low: float, l2_gradient: bool, depth: int
) -> tuple[Lines, bool]:
    """Return the weak lines that reach sides which were cut, and whether all of them lie within a depth of these."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = edges.shape
    bands: list[tuple[slice, slice]]
    if 2 * depth >= min(rows, columns):
        bands = [(slice(0, rows), slice(0, columns))] if any(ring) else []
        depth = max(rows, columns)
    else:
        every = slice(0, rows), slice(0, columns)
        top, bottom = slice(0, depth), slice(rows - depth, rows)
        left, right = slice(0, depth), slice(columns - depth, columns)
        along = [(top, every[1]), (bottom, every[1]), (every[0], left), (every[0], right)]
        bands = [band for band, cut in zip(along, ring, strict=True) if cut]
    found, nodes, total = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for y, x in bands:
        # What is missing around a band changes candidates next to it, not in it.
        above, before = min(1, y.start + ring.top), min(1, x.start + ring.left)
        outer = (
            slice(y.start + ring.top - above, y.stop + ring.top + 1),
            slice(x.start + ring.left - before, x.stop + ring.left + 1),
        )
        candidates = cv2.Canny(gx[outer].copy(), gy[outer].copy(), low, low, L2gradient=l2_gradient)
        candidates = candidates[above : above + y.stop - y.start, before : before + x.stop - x.start]
        count, labels = cv2.connectedComponents(candidates ^ edges[y, x], connectivity=8)
        at = np.nonzero(labels)
        found.append((at[0] + y.start) * columns + at[1] + x.start)
        nodes.append(labels[at] + total)
        total += count
    flat, node = np.concatenate(found), np.concatenate(nodes)
    order = np.argsort(flat, kind="stable")
    flat, node = flat[order], node[order]
    again = np.flatnonzero(flat[1:] == flat[:-1])  # where two bands overlap
    pairs = coo_array((np.ones(len(again), bool), (node[again], node[again + 1])), (total + 1, total + 1))
    line = connected_components(pairs, directed=False)[1][node]
    at_y, at_x = np.divmod(flat, columns)
    reaches = np.zeros(total + 1, bool)
    for cut, on in zip(ring, (at_y == 0, at_y == rows - 1, at_x == 0, at_x == columns - 1), strict=True):
        if cut:
            reaches[line[on]] = True
    kept = reaches[line]
    at_y, at_x, line = at_y[kept], at_x[kept], line[kept]
    within = Margins(*(depth * bool(cut) for cut in ring))
    inside = (at_y >= within.top - 1) & (at_y <= rows - within.bottom)
    inside &= (at_x >= within.left - 1) & (at_x <= columns - within.right)
    part = np.unique(line, return_inverse=True)[1].astype(np.int32) + 2
    return Lines(edges, at_y, at_x, part), depth >= max(rows, columns) or not inside.any()


def _keep_lines(lines: Lines, strong: Array, p: Any, where: Window) -> Array:
    kept = strong[lines.part] if len(lines.part) else np.zeros(0, bool)
    edges = lines.edges if lines.edges.flags.writeable else lines.edges.copy()
    edges[lines.rows[kept], lines.columns[kept]] = 255
    return edges


@operation(
    kind=Linked(_find_lines, _keep_lines, reach=lambda p: p.aperture // 2 + 1),
    dtypes="uint8",
    channels="convert",
    accepts=(1, 3),
)
def canny(
    image: Any,
    *,
    low: Annotated[float, Range(0, 1_000_000)] = 100.0,
    high: Annotated[float, Range(0, 1_000_000)] = 200.0,
    aperture: Annotated[int, Odd(3, 7), Unit("px")] = 3,
    l2_gradient: bool = False,
) -> Any:
    """Find edges as thin lines by Canny's method.

    Parameters
    ----------
    low : float
        Slope from which on a pixel belongs to an edge that is connected to a strong one. Of the two thresholds the
        smaller is taken as this one.
    high : float
        Slope from which on a pixel is a strong edge.
    aperture : int
        Size of the Sobel kernel that measures slopes: 3, 5 or 7 pixels.
    l2_gradient : bool
        Whether the slope is the length of the gradient, or the sum of its two absolute components.

    Returns
    -------
    ndarray
        uint8 `(rows, columns)`: 255 on edges, 0 elsewhere. On a color image each pixel's steepest channel counts.

    Notes
    -----
    `cv2.Canny`, bit for bit under any chunking: a weak line may owe its place to a strong pixel any number of chunks
    away. J. Canny, "A computational approach to edge detection", IEEE PAMI 8, 1986.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.zeros((5, 6), np.uint8)
    >>> image[:, 3:] = 200
    >>> di.canny(image)[2]
    array([  0,   0, 255,   0,   0,   0], dtype=uint8)
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    return cv2.Canny(image, low, high, apertureSize=aperture, L2gradient=l2_gradient)
