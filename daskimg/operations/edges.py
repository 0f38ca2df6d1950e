"""Edges: derivatives of the image, signed, in a type that holds them, and Canny's thin lines."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np

from daskimg.errors import ParameterError
from daskimg.kinds import Array, Linked, Margins, Parts, Window
from daskimg.operation import operation
from daskimg.operations.borders import BORDERS, Border
from daskimg.operations.kernels import LANES, absolute_sum, half, has_infinite, keep_missing
from daskimg.parameters import Odd, Range, Unit

__all__ = ["canny", "laplacian", "scharr", "sobel"]

Order = Annotated[int, Range(0, 30)]
Aperture = Annotated[int, Odd(1, 31), Unit("px")]

SCHARR = -1  # OpenCV's sign for its kernels


@functools.lru_cache(maxsize=256)
def kernels(dx: int, dy: int, ksize: int) -> tuple[Array, Array]:
    """Return OpenCV's kernels along a row and along a column for a derivative.

    Raises
    ------
    ParameterError
        If there is no such derivative in that size.
    """
    if dx + dy == 0:
        raise ParameterError("sobel: dx=0 dy=0 is no derivative; set dx, dy or both to 1 or more")
    size = 3 if ksize in (1, SCHARR) else ksize
    if ksize == SCHARR and dx + dy != 1:
        raise ParameterError(f"scharr: dx={dx} dy={dy} is not allowed; one of them is 1, the other 0; see sobel")
    if max(dx, dy) >= size:
        raise ParameterError(
            f"sobel: ksize={ksize} is too small for dx={dx} dy={dy}; set ksize to {(max(dx, dy) + 1) | 1} or more"
        )
    along_x, along_y = cv2.getDerivKernels(dx, dy, ksize, ktype=cv2.CV_64F)
    return along_x.ravel(), along_y.ravel()


def kernels_reach(dx: int, dy: int, ksize: int) -> tuple[int, int]:
    """Return how far a derivative looks, in rows and columns."""
    along_x, along_y = kernels(dx, dy, ksize)
    return half(len(along_y), len(along_x))


def kernels_gain(dx: int, dy: int, ksize: int) -> float:
    """Return the sum of the absolute values of a derivative's two-dimensional kernel."""
    along_x, along_y = kernels(dx, dy, ksize)
    return absolute_sum(along_x) * absolute_sum(along_y)


def depth(dtype: np.dtype[Any], ksize: int) -> int:
    """Return the OpenCV type that holds a derivative: the least that neither wraps nor saturates."""
    if dtype == np.uint8 and ksize <= 5:
        return cv2.CV_16S
    return cv2.CV_64F if dtype == np.float64 else cv2.CV_32F


def edge_lanes(p: Any, dtype: np.dtype[Any]) -> int:
    """Return the alignment of a derivative's sums: in whole numbers on uint8, else in floats."""
    return 1 if depth(dtype, getattr(p, "ksize", SCHARR)) == cv2.CV_16S else LANES


def derivative(image: Array, dx: int, dy: int, ksize: int, border: int) -> Array:
    """Return a derivative, with NaN where it would take one or an infinity into account."""
    along_x, along_y = kernels(dx, dy, ksize)
    ddepth = depth(image.dtype, ksize)
    sobel = functools.partial(cv2.Sobel, ddepth=ddepth, dx=dx, dy=dy, ksize=ksize, borderType=border)
    if has_infinite(image):
        # OpenCV skips weights of 0, but not where vectors of pixels end, and 0 * NaN is NaN.
        element = np.outer(along_y != 0, along_x != 0).astype(np.uint8)
        return keep_missing(image, ~np.isfinite(image), [element], border, sobel)
    return sobel(image)


@operation(
    reach=lambda p, dtype: kernels_reach(p.dx, p.dy, p.ksize),
    gain=lambda p, dtype: kernels_gain(p.dx, p.dy, p.ksize),
    lanes=edge_lanes,
    alpha="keep",
)
def sobel(image: Array, *, dx: Order = 1, dy: Order = 0, ksize: Aperture = 3, border: Border = "reflect_101") -> Array:
    """Derive with Sobel kernels: a derivative one way, a smoothing the other.

    Parameters
    ----------
    dx : int
        Order of the derivative along the columns.
    dy : int
        Order of the derivative along the rows.
    ksize : int
        Width and height of the kernel; larger than `dx` and `dy`. With 1, it is 3 pixels long and does not smooth.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8 up to `ksize` 5, float64 from float64, else float32. An alpha channel
        comes back unchanged.

    Raises
    ------
    ParameterError
        If `dx` and `dy` are both 0, or not below `ksize`.

    Notes
    -----
    Values are not divided by the kernel's sum: a step by 1 gives 4 with `ksize` 3.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.sobel(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[  0, -16, -16,   0,   0]], dtype=int16)
    """
    return derivative(image, dx, dy, ksize, BORDERS[border])


@operation(
    reach=lambda p, dtype: kernels_reach(p.dx, p.dy, SCHARR),
    gain=lambda p, dtype: kernels_gain(p.dx, p.dy, SCHARR),
    lanes=edge_lanes,
    alpha="keep",
)
def scharr(
    image: Array,
    *,
    dx: Annotated[int, Range(0, 1)] = 1,
    dy: Annotated[int, Range(0, 1)] = 0,
    border: Border = "reflect_101",
) -> Array:
    """Derive with the Scharr kernel of 3 x 3 pixels, which turns better with the image than Sobel's.

    Parameters
    ----------
    dx : int
        1 for the derivative along the columns.
    dy : int
        1 for the derivative along the rows; then `dx` is 0.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8, float64 from float64, else float32. An alpha channel comes back
        unchanged.

    Raises
    ------
    ParameterError
        If `dx` and `dy` are both 0 or both 1.

    Notes
    -----
    H. Scharr, "Optimale Operatoren in der Digitalen Bildverarbeitung", dissertation, Heidelberg 2000. Values are not
    divided by the kernel's sum: a step by 1 gives 16.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.scharr(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[  0, -64, -64,   0,   0]], dtype=int16)
    """
    return derivative(image, dx, dy, SCHARR, BORDERS[border])


def laplacian_gain(ksize: int) -> float:
    """Return the sum of the absolute values of OpenCV's Laplacian kernel."""
    if ksize <= 3:
        return 8.0 if ksize == 1 else 16.0
    return 2 * kernels_gain(2, 0, ksize)


@operation(
    reach=lambda p, dtype: max(1, p.ksize // 2),
    gain=lambda p, dtype: laplacian_gain(p.ksize),
    lanes=edge_lanes,
    alpha="keep",
)
def laplacian(image: Array, *, ksize: Aperture = 1, border: Border = "reflect_101") -> Array:
    """Add the second derivatives along columns and rows.

    Parameters
    ----------
    ksize : int
        Width and height of the Sobel kernels. 1 takes the direct neighbours, 3 the diagonal ones, in 3 x 3 pixels.
    border : {"reflect_101", "reflect", "replicate", "constant"}
        What lies beyond the image: its mirror without or with the edge pixels, the edge pixels repeated, or zeros.

    Returns
    -------
    array
        Of the image's shape: int16 from uint8 up to `ksize` 5, float64 from float64, else float32. An alpha channel
        comes back unchanged.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.laplacian(np.array([[9, 9, 5, 5, 5]], np.uint8))
    array([[ 0, -4,  4,  0,  0]], dtype=int16)
    """
    ddepth, rule = depth(image.dtype, ksize), BORDERS[border]
    function = functools.partial(cv2.Laplacian, ddepth=ddepth, ksize=ksize, borderType=rule)
    if ksize >= 5 and has_infinite(image):
        along_x, along_y = kernels(2, 0, ksize)
        element = np.outer(along_y != 0, along_x != 0)
        return keep_missing(image, ~np.isfinite(image), [(element | element.T).astype(np.uint8)], rule, function)
    return function(image)


# Canny's edges are linked: a weak line may owe its place to a strong pixel any number of chunks away.


@contextlib.contextmanager
def _opencvs_own() -> Iterator[None]:
    """Keep Intel's Canny out, which OpenCV calls on one thread only: it takes some slopes for other directions.

    The setting is the thread's own.
    """
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


FRAME = 64  # pixels: how deep weak lines are followed from a side at first


class Lines(NamedTuple):
    """Holds the edges of a block as far as they are known here, and the weak lines that reach its sides."""

    edges: Array
    rows: Array  # of the pixels of weak lines
    columns: Array
    part: Array  # the number of the line that each of these pixels belongs to


def _find_lines(window: Array, margins: Margins, p: Any, where: Window) -> tuple[Lines, Parts]:
    with _opencvs_own():
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
    away. Where OpenCV is kept to one thread it hands images over to Intel's library, which with an aperture of 5 takes
    some slopes for other directions (in 979 of 50 million pixels of noise); here OpenCV's own code runs always.

    J. Canny, "A computational approach to edge detection", IEEE PAMI 8, 1986.

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
    with _opencvs_own():
        return cv2.Canny(image, low, high, apertureSize=aperture, L2gradient=l2_gradient)
