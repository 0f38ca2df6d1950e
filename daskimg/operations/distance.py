"""The distance of each pixel to the nearest zero, as exact integers (squared where Euclidean) until the very end.

A pixel's nearest zero within a column is known from the rows of the nearest zeros above and below a block. Along a row
the distance is then the least of `metric(x - x', g(x'))` over all columns x', where g is the distance within a column.
Of two columns on the same side of a block, the farther one never wins inside it unless it wins at the side itself, so
that few columns of other blocks matter: the `Seeds`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from daskimg.kinds import Array, Carried, Separable, Sweep, Window
from daskimg.operation import operation

__all__ = ["distance_transform"]

NOWHERE = 1 << 30  # the row of a zero that is not there, or its negative
FAR = 1 << 29  # the distance to it, at least
NEVER = 1 << 62  # more than the metric of any two pixels
BITS = 20  # that number the columns of a row
BAND = 1 << 20  # how many pixels and seeds are worked on at once, beside a row
KEY_BITS = 21  # that number the seeds of a band
HULL_PASSES = 8


class Seeds(NamedTuple):
    """Are the columns of other blocks, on one side of a block, that may be nearest to its pixels.

    Attributes
    ----------
    rows, columns : ndarray
        Where, in order: rows within the block, columns in the whole image.
    heights : ndarray
        The distance to the nearest zero within the column.
    side : int
        The first column beyond the blocks they come from.
    """

    rows: Array
    columns: Array
    heights: Array
    side: int


def metric_of(across: Array, along: Array, metric: str) -> Array:
    """Return the distance, squared where it is Euclidean."""
    result: Array
    if metric == "l2":
        result = across * across + along * along
    else:
        result = across + along if metric == "l1" else np.maximum(across, along)
    return result


# Down the columns


def _rows_of_zeros(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> tuple[Array, Array]:
    """Return the rows of the last and of the first zero of each column, in the whole image."""
    zero = block == 0
    there = zero.any(axis=0)
    first = where.row + zero.argmax(axis=0)
    last = where.row + len(zero) - 1 - zero[::-1].argmax(axis=0)
    return np.where(there, last, -NOWHERE), np.where(there, first, NOWHERE)


def _nearer(carried: Array, handed: Array, p: Any) -> Array:
    return np.where(np.abs(handed) < NOWHERE, handed, carried)


def _heights(zero: Array, vertical: Carried, top: int) -> Array:
    """Return the distance of each pixel to the nearest zero in its column of the whole image, FAR without one."""
    rows = np.arange(len(zero), dtype=np.int32)[:, np.newaxis]
    last = np.where(zero, rows, np.int32(-NOWHERE))
    following = np.where(zero, rows, np.int32(NOWHERE))
    if vertical.before is not None:
        np.maximum(last[0], np.maximum(vertical.before - top, -NOWHERE), out=last[0], casting="unsafe")
    if vertical.after is not None:
        np.minimum(following[-1], np.minimum(vertical.after - top, NOWHERE), out=following[-1], casting="unsafe")
    np.maximum.accumulate(last, axis=0, out=last)
    np.minimum.accumulate(following[::-1], axis=0, out=following[::-1])
    np.subtract(rows, last, out=last)
    np.subtract(following, rows, out=following)
    return np.minimum(np.minimum(last, following, out=last), FAR, out=last)


# Along the rows


def _seeds(heights: Array, left: int, metric: str, onward: bool) -> Seeds:
    """Return the columns that may be nearest to pixels beyond the right side of a block, or the left one."""
    width = heights.shape[1]
    side = left + width if onward else left - 1
    near = heights[:, ::-1] if onward else heights  # from the side inwards
    near = near[:, : min(width, max(1, int(near[:, 0].max())))]  # what is farther than that loses against the first
    away = np.arange(1, near.shape[1] + 1, dtype=np.int64)
    cost = np.where(near < FAR, metric_of(away, near.astype(np.int64), metric), NEVER)
    least = np.minimum.accumulate(cost, axis=1)
    wins = np.empty(cost.shape, bool)
    wins[:, 0] = cost[:, 0] < NEVER
    np.less(cost[:, 1:], least[:, :-1], out=wins[:, 1:])
    if onward:
        wins = wins[:, ::-1]
    rows, columns = np.nonzero(wins)
    if onward:
        columns += width - near.shape[1]
    return Seeds(rows.astype(np.int32), (left + columns).astype(np.int32), heights[rows, columns], side)


def _columns_of_zeros(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> tuple[Seeds, Seeds]:
    heights = _heights(block == 0, carried[0], where.row)
    return _seeds(heights, where.column, p.metric, True), _seeds(heights, where.column, p.metric, False)


def _join(carried: Seeds, handed: Seeds, p: Any) -> Seeds:
    """Return which of the seeds behind a block still matter beyond it, beside its own."""
    onward = bool(carried.side < handed.side)
    order = (carried, handed) if onward else (handed, carried)
    rows = np.concatenate([one.rows for one in order])
    sort = np.argsort(rows, kind="stable")
    rows = rows[sort]
    columns = np.concatenate([one.columns for one in order])[sort]
    heights = np.concatenate([one.heights for one in order])[sort]
    if not len(rows):
        return Seeds(rows, columns, heights, handed.side)
    cost = metric_of(np.abs(columns.astype(np.int64) - handed.side), heights.astype(np.int64), p.metric)
    # The least cost of those nearer in the same row: going through the rows, each is put below all before it.
    step = -1 if onward else 1
    below = np.abs(rows - rows[::step][0]).astype(np.int64) << (2 * BITS + 1)
    seen = np.minimum.accumulate((cost - below)[::step])[::step] + below
    wins = np.ones(len(rows), bool)
    if onward:
        wins[:-1] = (rows[:-1] != rows[1:]) | (cost[:-1] < seen[1:])
    else:
        wins[1:] = (rows[1:] != rows[:-1]) | (cost[1:] < seen[:-1])
    return Seeds(rows[wins], columns[wins], heights[wins], handed.side)


def _nearest(seeds: Seeds, into: Array, left: int, metric: str) -> None:
    """Lower `into`, whose first column is `left` of the whole image, to the least metric from seeds of its rows.

    The nearest seeds of a row's pixels follow one another as the pixels do. So once those of every second pixel are
    known, few can be the nearest of one between: the columns are halved, on all rows at once.
    """
    counts = np.bincount(seeds.rows, minlength=len(into))
    stops = np.cumsum(counts)
    rows = np.flatnonzero(counts)
    work = np.cumsum(counts[rows] + into.shape[1])
    for band in np.split(rows, np.searchsorted(work, np.arange(BAND, work[-1], BAND))) if len(rows) else ():
        if len(band):
            part = slice(stops[band[0]] - counts[band[0]], stops[band[-1]])
            found = _nearest_in_band(
                seeds.columns[part].astype(np.int64) - left,
                seeds.heights[part].astype(np.int64),
                counts[band],
                into.shape[1],
                metric,
            )
            into[band] = np.minimum(into[band], found)


def _nearest_in_band(columns: Array, heights: Array, counts: Array, width: int, metric: str) -> Array:
    columns, heights, counts = _hull(columns, heights, counts) if metric == "l2" else (columns, heights, counts)
    stops = np.cumsum(counts)
    starts = stops - counts
    least = np.empty((len(counts), width), np.int64)
    nearest = np.empty((len(counts), width + 2), np.int64)  # with one more column on either side
    nearest[:, 0], nearest[:, -1] = starts, stops - 1
    step = 1 << width.bit_length()
    while step > 1:
        targets = np.arange(step // 2, width + 1, step)
        low = nearest[:, targets - step // 2]
        high = nearest[:, np.minimum(targets + step // 2, width + 1)]
        lengths = (high - low + 1).ravel()
        ends = np.cumsum(lengths)
        begins = ends - lengths
        tried = np.arange(ends[-1]) + np.repeat(low.ravel() - begins, lengths)
        across = np.abs(columns[tried] - np.repeat(np.broadcast_to(targets - 1, low.shape).ravel(), lengths))
        cost = metric_of(across, heights[tried], metric)
        # Of equal ones the last wins, in every column alike, or they would not follow one another.
        key = (cost << KEY_BITS) + (len(columns) - tried)
        best = np.minimum.reduceat(key, begins).reshape(low.shape)
        least[:, targets - 1] = best >> KEY_BITS
        nearest[:, targets] = len(columns) - (best & ((1 << KEY_BITS) - 1))
        step //= 2
    return least


def _hull(columns: Array, heights: Array, counts: Array) -> tuple[Array, Array, Array]:
    """Return the seeds without most of those that are nearest to no pixel: those above the chord of their neighbours.

    The square of a distance along the row, less x^2, is linear in the pixel's column x, so the seeds that are nearest
    to some are the lower convex hull of height^2 + column^2.
    """
    row = np.repeat(np.arange(len(counts)), counts)
    for _ in range(HULL_PASSES):
        lifted = heights * heights + columns * columns
        before, after = np.diff(columns[:-1]), np.diff(columns[1:])
        rise = np.diff(lifted)
        above = (rise[:-1] * after >= rise[1:] * before) & (row[:-2] == row[2:])
        if 16 * np.count_nonzero(above) < len(columns):
            break
        kept = np.ones(len(columns), bool)
        kept[1:-1] = ~above
        columns, heights, row = columns[kept], heights[kept], row[kept]
    return columns, heights, np.bincount(row, minlength=len(counts))


# One block


def _inside(zero: Array, metric: str) -> Array:
    """Return the metric to the nearest zero of the block itself."""
    if not zero.any():
        return np.full(zero.shape, NEVER, np.int64)
    if metric != "l2":
        kind = cv2.DIST_L1 if metric == "l1" else cv2.DIST_C
        return cv2.distanceTransform((~zero).view(np.uint8), kind, 3).astype(np.int64)
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~zero, return_distances=False, return_indices=True)
    down = (nearest[0] - np.arange(zero.shape[0], dtype=np.int32)[:, np.newaxis]).astype(np.int64)
    across = (nearest[1] - np.arange(zero.shape[1], dtype=np.int32)).astype(np.int64)
    return metric_of(across, down, metric)


def _squares(least: Array, metric: str) -> Array:
    return least * least if metric == "l2" else least


def _distances(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> Array:
    zero = block == 0
    least = _inside(zero, p.metric)
    vertical, sideways = carried
    above = -NOWHERE if vertical.before is None else int(vertical.before.max())
    below = NOWHERE if vertical.after is None else int(vertical.after.min())
    rows = np.arange(where.row, where.row + len(zero), dtype=np.int64)
    # Rows whose pixels may be nearer to a zero above or below the block.
    bound = np.minimum(rows - above, below - rows)
    unsure = np.flatnonzero((bound < FAR) & (least.max(axis=1) > _squares(bound, p.metric)))
    if len(unsure):
        heights = _heights(zero, vertical, where.row)[unsure]
        at, columns = np.nonzero(heights < FAR)
        part = least[unsure]
        _nearest(Seeds(at, columns, heights[at, columns], 0), part, 0, p.metric)
        least[unsure] = part
    for seeds, onward in ((sideways.before, True), (sideways.after, False)):
        if seeds is not None and len(seeds.rows):
            _lower_beside(least, seeds, onward, where.column, p.metric)
    result = (np.sqrt(least) if p.metric == "l2" else least).astype(np.float32)
    result[least == NEVER] = np.inf
    return result


def _lower_beside(least: Array, seeds: Seeds, onward: bool, left: int, metric: str) -> None:
    """Lower the metric of those pixels, on the seeds' side of the block, that a seed may be nearest to."""
    rows, width = least.shape
    columns = np.arange(left, left + width, dtype=np.int64)
    closest = np.full(rows, -NOWHERE if onward else NOWHERE, np.int64)
    if onward:
        np.maximum.at(closest, seeds.rows, seeds.columns)
    else:
        np.minimum.at(closest, seeds.rows, seeds.columns)
    bound = np.abs(columns - closest[:, np.newaxis])
    unsure = (bound < FAR) & (least > _squares(bound, metric))
    wanted = np.flatnonzero(unsure.any(axis=0))
    if len(wanted):
        part = slice(0, wanted[-1] + 1) if onward else slice(wanted[0], width)
        asked = unsure.any(axis=1)[seeds.rows]
        some = Seeds(seeds.rows[asked], seeds.columns[asked], seeds.heights[asked], seeds.side)
        _nearest(some, least[:, part], left + int(part.start), metric)


DISTANCE = Separable(
    sweeps=(
        Sweep(0, _rows_of_zeros, _nearer, backward=True),
        Sweep(1, _columns_of_zeros, _join, backward=True),
    ),
    apply=_distances,
    most=(1 << BITS) - 1,
)


@operation(kind=DISTANCE, accepts=(1,))
def distance_transform(image: Array, *, metric: Literal["l2", "l1", "c"] = "l2") -> Array:
    """Measure the distance of each pixel that is not zero to the nearest zero.

    Parameters
    ----------
    metric : {"l2", "l1", "c"}
        Euclidean distance, steps along rows and columns, or steps that may also be diagonal.

    Returns
    -------
    array
        float32, in pixels: 0 where the image is 0, infinite everywhere where it has no zero at all. NaN is not zero.

    Notes
    -----
    As in OpenCV, but exact: the squared Euclidean distance is an integer, whose root is rounded once, as that of
    ``scipy.ndimage.distance_transform_edt`` is. OpenCV's own is an approximation, off by 2 % with its mask of 5 x 5
    and by 6e-4 with its precise one, and 3.4e38 rather than infinite without a zero. "l1" and "c" are OpenCV's bit for
    bit. Chunked images may have up to 1,048,575 rows and columns.

    Chunks are finished by themselves once they know the nearest zeros of each column above and below them, and those
    columns beside them that may matter (A. Meijster, J. Roerdink and W. Hesselink, "A general algorithm for computing
    distance transforms in linear time", 2000). So a distance may be as large as the image, and no chunk larger than
    it was; but the chunk is looked at three times.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.distance_transform(np.array([[0, 9, 9, 9, 9]], np.uint8))
    array([[0., 1., 2., 3., 4.]], dtype=float32)
    """
    return DISTANCE.on_whole(image, {"metric": metric})
