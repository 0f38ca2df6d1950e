"""Keypoints of a whole image, their descriptors, what matches between two images, and how one lies over the other.

Images are looked at in tiles that lie at the same places whatever the chunks, each with as much of its neighbours as
its keypoints can depend on; a keypoint belongs to the tile that it lies in. What is best in the whole image is
chosen in a tree of tasks.
"""

from __future__ import annotations

import functools
import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cv2
import dask.array as da
import numpy as np

from daskimg.chunked.local import check_array
from daskimg.chunked.reduction import as_delayed, reduce_image
from daskimg.errors import ArrayError, DtypeError, OperationError, ParameterError
from daskimg.kinds import Array, Window
from daskimg.measure.regions import array_of

__all__ = ["Keypoints", "detect_keypoints", "find_homography", "match_keypoints"]

Method = Literal["orb", "sift", "fast"]

TILE = 1024  # px
THRESHOLDS = {"orb": 20.0, "sift": 0.04, "fast": 10.0}  # OpenCV's
FAST_HALO = 4  # px: the circle's radius, and one more to suppress what is not a maximum
SIFT_HALO = 320  # px: of it each octave keeps every other pixel, so a multiple of 2**SIFT_OCTAVES
SIFT_OCTAVES = 3  # the highest octave of which a keypoint's surroundings lie in the halo
ORB_EDGE = 31  # px: OpenCV's default edgeThreshold and patchSize
EMPTY: dict[str, Any] = {"orb": np.zeros((0, 32), np.uint8), "sift": np.zeros((0, 128), np.float32), "fast": None}
BLOCK = 1024  # descriptors that are compared with all others at a time
COLUMNS = ("row", "column", "size", "angle", "response", "octave")


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Holds the keypoints of an image, best first.

    Attributes
    ----------
    table : pandas.DataFrame
        `row`, `column` and `size` in px, `angle` in degrees clockwise (-1: none), `response` and `octave`. The middle
        of the first pixel is at (0, 0).
    descriptors : ndarray or None
        One row per keypoint: 32 bytes of ORB, 128 float32 of SIFT; FAST has none.
    method : str
        What they were found with.
    """

    table: Any
    descriptors: Array | None = field(repr=False)
    method: str

    def __len__(self) -> int:
        return len(self.table)

    def _repr_html_(self) -> str:
        kind = "no descriptors"
        if self.descriptors is not None:
            kind = f"descriptors {self.descriptors.dtype} {self.descriptors.shape}"
        title = f"{len(self)} keypoints of {html.escape(self.method)}, {kind}"
        return f"<p>{title}</p>{self.table.head(10).to_html()}"

    @property
    def points(self) -> Array:
        """The places as `(x, y)`, float64."""
        places: Array = self.table[["column", "row"]].to_numpy(np.float64)
        return places


def detect_keypoints(
    image: Any,
    *,
    method: Method = "orb",
    max_keypoints: int | None = 10_000,
    threshold: float | None = None,
    levels: int = 8,
    scale_factor: float = 1.2,
    compute: bool = True,
) -> Any:
    """Find keypoints in a whole image and describe their surroundings.

    Parameters
    ----------
    image : array
        `(rows, columns)` or RGB(A), uint8.
    method : {"orb", "sift", "fast"}
        What finds and describes them.
    max_keypoints : int
        How many of the best responses are kept, with those that equal the last one. `orb` spreads them over its levels.
        None keeps all.
    threshold : float
        Least contrast: of `orb` and `fast` between a corner and the circle around it (20 and 10 by default), of `sift`
        that of the extremum (0.04).
    levels : int
        Sizes in which `orb` looks at the image.
    scale_factor : float
        By how much `orb` makes each smaller than the one before.
    compute : bool
        False gives a `dask.delayed.Delayed` where the image is lazy.

    Returns
    -------
    Keypoints
        A table with a row per keypoint, best response first, and its descriptors.

    Raises
    ------
    ArrayError
        If the image has other axes.
    DtypeError
        If it is not uint8.
    ParameterError
        If a parameter is none of those allowed.

    Notes
    -----
    The result does not depend on the chunks, and each is read once. `fast` and `orb` give OpenCV's own keypoints and
    descriptors of the whole image: orb's levels, its quota for each level and the Harris responses are those of
    `cv2.ORB_create(max_keypoints, scale_factor, levels)`, and a level is never whole in memory.

    `sift` looks at tiles of 1024 px and 320 px around them. An image of one tile (less than 1536 px) gives what
    `cv2.SIFT_create(max_keypoints, contrastThreshold=threshold)` does. Larger images give those keypoints up to octave
    3, sizes of about 55 px, and not the few larger ones (1 or 2 in a hundred); these agree with OpenCV's on the whole
    image but for the rounding of floats, which may bring a keypoint over a threshold.

    References
    ----------
    E. Rublee et al., "ORB: an efficient alternative to SIFT or SURF", ICCV 2011; D. Lowe, "Distinctive image features
    from scale-invariant keypoints", IJCV 2004; E. Rosten and T. Drummond, "Machine learning for high-speed corner
    detection", ECCV 2006.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.zeros((99, 99), np.uint8)
    >>> image[40, 50], image[70, 20] = 200, 100
    >>> di.detect_keypoints(image, method="fast").table[["row", "column", "response"]]
        row  column  response
    0  40.0    50.0     199.0
    1  70.0    20.0      99.0
    """
    if method not in THRESHOLDS:
        raise ParameterError(f"method is {method!r}; say one of {', '.join(map(repr, THRESHOLDS))}")
    if max_keypoints is not None and max_keypoints < 1:
        raise ParameterError(f"max_keypoints is {max_keypoints}; say 1 or more, or None for all")
    if levels < 1 or not scale_factor > 1:
        raise ParameterError(
            f"levels is {levels} and scale_factor {scale_factor}; they must be at least 1, and above 1"
        )
    lazy, is_lazy = _image_of(image)
    threshold = THRESHOLDS[method] if threshold is None else threshold
    if not 0 <= threshold <= 255:
        raise ParameterError(f"threshold is {threshold}, it must be from 0 to 255; {method} has {THRESHOLDS[method]}")
    tile, halo = TILE, {"fast": FAST_HALO, "sift": SIFT_HALO, "orb": 0}[method]
    pyramid = _Pyramid.of(lazy.shape, levels, scale_factor)
    if method == "orb":
        halo = pyramid.halo(tile)
        while tile < 2 * halo and tile < max(lazy.shape):
            tile *= 2
            halo = pyramid.halo(tile)
    cuts = tuple(_tiles(size, tile) for size in lazy.shape[:2])
    lazy = lazy.rechunk((*cuts, *lazy.shape[2:]))
    if method == "orb":
        find: Any = functools.partial(_orb, pyramid, int(threshold), max_keypoints)
        best: Any = functools.partial(_best_orb, pyramid.quotas(max_keypoints))
    else:
        single = len(cuts[0]) == len(cuts[1]) == 1
        detector = (
            functools.partial(_sift, threshold, single) if method == "sift" else functools.partial(_fast, threshold)
        )
        find, best = functools.partial(_of_tile, detector, max_keypoints), functools.partial(_best, max_keypoints)
    combine = functools.partial(_together, best)
    finish = functools.partial(
        _finish, method, functools.partial(pyramid.final, max_keypoints) if method == "orb" else None
    )
    found = as_delayed(reduce_image(lazy, find, combine, finish, f"keypoints-{method}", halo=halo))
    if is_lazy:
        return found.compute() if compute else found
    return found.compute(scheduler="synchronous")


def _image_of(image: Any) -> tuple[da.Array, bool]:
    """Return an image as a dask array, and whether it was one."""
    image = array_of(image)
    is_lazy = isinstance(image, da.Array)
    lazy = image if is_lazy else da.from_array(np.asarray(image), chunks=-1, name=False)
    check_array(lazy)
    if lazy.ndim not in (2, 3) or (lazy.ndim == 3 and lazy.shape[2] not in (1, 3, 4)):
        raise ArrayError(
            f"the image has the shape {lazy.shape}, it must be (rows, columns) or RGB(A); choose one plane"
        )
    if lazy.dtype != np.uint8:
        raise DtypeError(f"the image is {lazy.dtype}, keypoints are found in uint8; convert it: di.rescale(image, ...)")
    return lazy, is_lazy


def _tiles(size: int, tile: int) -> tuple[int, ...]:
    """Return the sizes of tiles along an axis: all alike, and the last up to half as large again or half as small."""
    count = max(1, (size + tile // 2) // tile)
    return (*[tile] * (count - 1), size - tile * (count - 1))


class _Found(NamedTuple):
    """Holds keypoints: `values` by the names in COLUMNS, then the FAST score of orb; and descriptors."""

    values: Array
    descriptors: Array | None

    def take(self, which: Array) -> _Found:
        """Return some of the keypoints."""
        return _Found(self.values[:, which], None if self.descriptors is None else self.descriptors[which])


def _gray(window: Array) -> Array:
    if window.ndim == 2:
        return np.ascontiguousarray(window)
    window = np.ascontiguousarray(window)
    if window.shape[2] == 1:
        return window[:, :, 0]
    return cv2.cvtColor(window, cv2.COLOR_RGB2GRAY if window.shape[2] == 3 else cv2.COLOR_RGBA2GRAY)


def _values(keypoints: Sequence[cv2.KeyPoint]) -> Array:
    rows = [(k.pt[1], k.pt[0], k.size, k.angle, k.response, k.octave) for k in keypoints]
    return np.array(rows, np.float64).reshape(-1, len(COLUMNS)).T


def _of_tile(
    detect: Any, most: int | None, window: Array, where: Window, own: tuple[slice, slice] | None = None
) -> _Found:
    """Return the keypoints that lie in a tile, in the coordinates of the whole image."""
    rows, columns = own or (slice(0, window.shape[0]), slice(0, window.shape[1]))
    found = detect(_gray(window))
    row, column = found.values[:2]
    inside = (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)
    found = found.take(np.flatnonzero(inside))
    found.values[0] += where.row - rows.start
    found.values[1] += where.column - columns.start
    return _best(most, found)


def _fast(threshold: float, window: Array) -> _Found:
    return _Found(_values(cv2.FastFeatureDetector.create(int(threshold)).detect(window)), None)


def _sift(threshold: float, single: bool, window: Array) -> _Found:
    keypoints, descriptors = cv2.SIFT.create(contrastThreshold=threshold).detectAndCompute(window, None)
    values = _values(keypoints)
    octave = values[5].astype(np.int64) & 255  # with the layer above it, and -1 as 255
    values[5] = np.where(octave < 128, octave, octave - 256)
    found = _Found(values, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)
    return found if single else found.take(np.flatnonzero(values[5] <= SIFT_OCTAVES))


def _best(most: int | None, found: _Found) -> _Found:
    return found.take(_retained(found.values[4], most))


def _retained(responses: Array, most: int | None) -> Array:
    """Return which are the best, with all that equal the last of them, as `cv2.KeyPointsFilter.retainBest` does."""
    if most is None or len(responses) <= most:
        return np.arange(len(responses))
    if most == 0:
        return np.arange(0)
    return np.flatnonzero(responses >= np.partition(responses, -most)[-most])


def _together(best: Any, parts: Sequence[_Found]) -> _Found | None:
    if not parts:
        return None
    values = np.concatenate([part.values for part in parts], axis=1)
    several = [part.descriptors for part in parts if part.descriptors is not None]
    found: _Found = best(_Found(values, np.concatenate(several) if several else None))
    return found


def _finish(method: str, final: Any, found: _Found | None) -> Keypoints:
    import pandas as pd

    if found is None:
        found = _Found(np.zeros((7, 0)), EMPTY[method])
    if final is not None:
        found = final(found)
    row, column, size, angle, response, octave = found.values[:6]
    found = found.take(np.lexsort((size, angle, octave, column, row, -response)))
    table = pd.DataFrame(dict(zip(COLUMNS, found.values, strict=False)))
    table = table.astype({"size": np.float32, "angle": np.float32, "response": np.float32, "octave": np.int32})
    return Keypoints(table, found.descriptors, method)


# ORB


class _Pyramid(NamedTuple):
    """Knows the sizes of orb's levels as OpenCV rounds them, which are made each from the one before."""

    sizes: tuple[tuple[int, int], ...]
    scales: tuple[float, ...]
    factor: float

    @classmethod
    def of(cls, shape: tuple[int, ...], levels: int, scale_factor: float) -> _Pyramid:
        """Return the pyramid of an image."""
        factor = float(np.float32(scale_factor))
        scales = [np.float32(factor**level) for level in range(levels)]
        sizes = []
        for scale in scales:
            rows, columns = (int(np.rint(np.float32(size) * (np.float32(1) / scale))) for size in shape[:2])
            sizes.append((max(rows, 1), max(columns, 1)))
        sizes[0] = shape[0], shape[1]
        return cls(tuple(sizes), tuple(map(float, scales)), factor)

    def quotas(self, most: int | None) -> list[int | None]:
        """Return how many keypoints each level gives, in the float32 numbers of `cv2.ORB`."""
        levels = len(self.sizes)
        if most is None:
            return [None] * levels
        shrink = np.float32(1 / self.factor)
        wanted = np.float32(most) * (1 - shrink) / (1 - np.float32(float(shrink) ** levels))
        quotas: list[int | None] = []
        left = most
        for _ in range(levels - 1):
            quotas.append(int(np.rint(wanted)))
            left -= int(np.rint(wanted))
            wanted *= shrink
        return [*quotas, max(left, 0)]

    def own(self, level: int, axis: int, start: int, stop: int) -> tuple[int, int]:
        """Return the pixels of a level that belong to those from `start` to `stop` of the image."""
        size, whole = self.sizes[level][axis], self.sizes[0][axis]
        return -(-start * size // whole), -(-stop * size // whole)

    def spans(self, axis: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Return which pixels of each level must be there to find the keypoints of a tile."""
        spans: list[tuple[int, int]] = []
        for level in reversed(range(len(self.sizes))):
            size = self.sizes[level][axis]
            low, high = self.own(level, axis, start, stop)
            low, high = max(low - ORB_EDGE - 1, 0), min(high + ORB_EDGE + 1, size)
            if spans and spans[0][1] > spans[0][0]:
                before, _ = _linear(size, self.sizes[level + 1][axis], np.array([spans[0][0], spans[0][1] - 1]))
                low, high = min(low, int(before[0])), max(high, min(int(before[1]) + 2, size))
            spans.insert(0, (low, high))
        return spans

    def halo(self, tile: int) -> int:
        """Return how far around a tile the image must be there."""
        halo = 0
        for axis in (0, 1):
            edges = [0]
            for size in _tiles(self.sizes[0][axis], tile):
                edges.append(edges[-1] + size)
            if len(edges) == 2:
                continue
            for start, stop in itertools.pairwise(edges):
                low, high = self.spans(axis, start, stop)[0]
                halo = max(halo, start - low, high - stop)
        return halo

    def final(self, most: int | None, found: _Found) -> _Found:
        """Return the best of each level by the Harris response, of those that are left of the best by FAST's score."""
        kept = []
        for level, quota in enumerate(self.quotas(most)):
            members = np.flatnonzero(found.values[5] == level)
            kept.append(members[_retained(found.values[4, members].astype(np.float32), quota)])
        return found.take(np.concatenate(kept))


def _best_orb(quotas: list[int | None], found: _Found) -> _Found:
    """Return twice the quota of each level, best by FAST's score."""
    kept = []
    for level, quota in enumerate(quotas):
        members = np.flatnonzero(found.values[5] == level)
        kept.append(members[_retained(found.values[6, members], None if quota is None else 2 * quota)])
    return found.take(np.concatenate(kept))


def _linear(size: int, new: int, places: Array) -> tuple[Array, Array]:
    """Return between which pixels a resized axis lies, and the second one's weight in 1/256: cv2.INTER_LINEAR_EXACT."""
    at = (places + 0.5) * (1 / (new / size)) - 0.5
    first = np.floor(at)
    weight = np.rint((at - first) * 256)
    weight[first < 0] = 0
    weight[first >= size - 1] = 256 if size > 1 else 0
    return np.clip(first, 0, max(size - 2, 0)).astype(np.int64), weight.astype(np.uint32)


def _next_level(image: Array, offset: tuple[int, int], size: Any, new: Any, spans: Any) -> Array:
    """Return a window of the next level from one of this level that lies at `offset`."""
    (row, row_weight), (column, column_weight) = (
        _linear(size[axis], new[axis], np.arange(*spans[axis])) for axis in (0, 1)
    )
    row, column = row - offset[0], column - offset[1]
    right = np.minimum(column + 1, image.shape[1] - 1)
    weight = column_weight.astype(np.uint16)
    lines = image[:, column] * (256 - weight) + image[:, right] * weight
    below = np.minimum(row + 1, len(lines) - 1)
    sums = lines[row] * (256 - row_weight)[:, None] + lines[below] * row_weight[:, None]
    resized: Array = ((sums + (1 << 15)) >> 16).astype(np.uint8)
    return resized


def _orb(
    pyramid: _Pyramid,
    threshold: int,
    most: int | None,
    window: Array,
    where: Window,
    own: tuple[slice, slice] | None = None,
) -> _Found:
    """Return the keypoints of all levels that lie in a tile: the candidates of the whole image's choice."""
    rows, columns = own or (slice(0, window.shape[0]), slice(0, window.shape[1]))
    tile = (where.row, where.row + rows.stop - rows.start), (where.column, where.column + columns.stop - columns.start)
    offset = where.row - rows.start, where.column - columns.start
    spans = list(zip(pyramid.spans(0, *tile[0]), pyramid.spans(1, *tile[1]), strict=True))
    image = _gray(window)
    (top, bottom), (left, right) = spans[0]
    image = image[top - offset[0] : bottom - offset[0], left - offset[1] : right - offset[1]]
    found = []
    for level, quota in enumerate(pyramid.quotas(most)):
        if level:
            offset = spans[level - 1][0][0], spans[level - 1][1][0]
            image = _next_level(image, offset, pyramid.sizes[level - 1], pyramid.sizes[level], spans[level])
        (top, _), (left, _) = spans[level]
        inner = [pyramid.own(level, axis, *tile[axis]) for axis in (0, 1)]
        inner = [(low - first, high - first) for (low, high), first in zip(inner, (top, left), strict=True)]
        part = _orb_level(np.ascontiguousarray(image), threshold, None if quota is None else 2 * quota, inner)
        part.values[0] = (part.values[0] + top) * pyramid.scales[level]
        part.values[1] = (part.values[1] + left) * pyramid.scales[level]
        part.values[2] *= pyramid.scales[level]
        part.values[5] = level
        found.append(part)
    joined = _together(lambda every: every, found)
    assert joined is not None
    return joined


def _orb_level(image: Array, threshold: int, most: int | None, inner: Sequence[tuple[int, int]]) -> _Found:
    """Return the keypoints of one level's window that lie within `inner`, best by FAST's score."""
    nothing = _Found(np.zeros((7, 0)), np.zeros((0, 32), np.uint8))
    if min(image.shape) <= 2 * ORB_EDGE:
        return nothing
    corners = cv2.FastFeatureDetector.create(threshold).detect(image)
    column, row = np.array(cv2.KeyPoint.convert(corners), np.int64).reshape(-1, 2).T
    scores = np.array([corner.response for corner in corners], np.float64)
    chosen = np.arange(len(corners))
    for place, (low, high), size in ((row, inner[0], image.shape[0]), (column, inner[1], image.shape[1])):
        low, high = max(low, ORB_EDGE), min(high, size - ORB_EDGE)
        chosen = chosen[(place[chosen] >= low) & (place[chosen] < high)]
    chosen = chosen[_retained(scores[chosen], most)]
    if len(chosen) == 0:
        return nothing
    mask = np.zeros_like(image)
    mask[row[chosen], column[chosen]] = 255
    orb = cv2.ORB.create(len(chosen), nlevels=1, edgeThreshold=ORB_EDGE, fastThreshold=threshold)
    keypoints, descriptors = orb.detectAndCompute(image, mask)  # just these, in the same order
    return _Found(np.vstack([_values(keypoints), scores[chosen]]), descriptors)


# Two images


def match_keypoints(
    first: Keypoints, second: Keypoints, *, ratio: float | None = 0.75, cross_check: bool = True
) -> Any:
    """Pair the keypoints of two images whose descriptors are nearest.

    Parameters
    ----------
    first, second : Keypoints
        Of the same method, `orb` or `sift`.
    ratio : float
        Keeps a pair only if its distance is below this share of that to the second nearest, as Lowe proposed. None
        keeps all.
    cross_check : bool
        Keeps a pair only if each is the other's nearest.

    Returns
    -------
    pandas.DataFrame
        `first` and `second`, the rows of the keypoints in their tables, and `distance`: differing bits of `orb`,
        Euclidean of `sift`. Nearest pairs come first.

    Raises
    ------
    ParameterError
        If the methods differ, or have no descriptors.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)
    >>> first = di.detect_keypoints(image, max_keypoints=50)
    >>> second = di.detect_keypoints(image[:, 20:], max_keypoints=50)
    >>> pairs = di.match_keypoints(first, second)
    >>> shift = first.points[pairs["first"]] - second.points[pairs["second"]]
    >>> np.median(shift, axis=0).tolist()
    [20.0, 0.0]
    """
    import pandas as pd

    if first.method != second.method:
        raise ParameterError(f"the methods are {first.method} and {second.method}; detect both with the same")
    if first.descriptors is None or second.descriptors is None:
        raise ParameterError(f'{first.method} has no descriptors; detect with method="orb" or method="sift"')
    if ratio is not None and not 0 < ratio <= 1:
        raise ParameterError(f"ratio is {ratio}; say a number above 0 and up to 1, or None")
    here = np.arange(0)
    there, distances = here, np.zeros(0)
    if len(first) and len(second):
        nearest, distance = _nearest(first.descriptors, second.descriptors, min(2, len(second)))
        keep = np.ones(len(first), bool)
        if ratio is not None and len(second) > 1:
            keep &= distance[:, 0] < ratio * distance[:, 1]
        if cross_check:
            back, _ = _nearest(second.descriptors, first.descriptors, 1)
            keep &= back[nearest[:, 0], 0] == np.arange(len(first))
        here = np.flatnonzero(keep)
        there, distances = nearest[here, 0], distance[here, 0]
    order = np.lexsort((here, distances))
    columns = {"first": here[order], "second": there[order].astype(np.int64), "distance": distances[order]}
    return pd.DataFrame(columns).astype({"distance": np.float64})


def _nearest(some: Array, others: Array, count: int) -> tuple[Array, Array]:
    """Return the numbers of the nearest descriptors among others, and how far they are."""
    if some.dtype == np.uint8:
        distances, numbers = cv2.batchDistance(some, others, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=count)
        return numbers, distances
    # Those of SIFT are integers, whose products and sums float32 holds: the distances are exact, by fast products.
    squares = (others * others).sum(axis=1)
    numbers, distances = np.empty((len(some), count), np.int64), np.empty((len(some), count))
    for start in range(0, len(some), BLOCK):
        part = some[start : start + BLOCK]
        apart = (part * part).sum(axis=1)[:, None] + squares - 2 * (part @ others.T)
        rows = np.arange(len(part))
        for rank in range(count):
            least = apart.argmin(axis=1)
            numbers[start : start + BLOCK, rank] = least
            distances[start : start + BLOCK, rank] = np.sqrt(np.maximum(apart[rows, least], 0), dtype=np.float64)
            apart[rows, least] = np.inf
    return numbers, distances


class Homography(NamedTuple):
    """Holds a 3 x 3 matrix that maps `(x, y, 1)` of the first image to the second, and which pairs agree with it."""

    matrix: Array
    inliers: Array


METHODS = {"ransac": cv2.RANSAC, "lmeds": cv2.LMEDS, "rho": cv2.RHO, "magsac": cv2.USAC_MAGSAC, "least_squares": 0}


def find_homography(
    first: Keypoints,
    second: Keypoints,
    matches: Any,
    *,
    threshold: float = 3.0,
    method: Literal["ransac", "lmeds", "rho", "magsac", "least_squares"] = "ransac",
) -> Homography:
    """Find the perspective map that takes one image's keypoints to the other's.

    Parameters
    ----------
    first, second : Keypoints
        Of the two images.
    matches : pandas.DataFrame
        What `match_keypoints` gave for them.
    threshold : float
        How far a pair may be off the map, in px of the second image.
    method : {"ransac", "lmeds", "rho", "magsac", "least_squares"}
        How wrong pairs are told from right ones; `least_squares` takes all for right.

    Returns
    -------
    Homography
        `matrix`, `(3, 3)` float64, and `inliers`, one bool per match.

    Raises
    ------
    ArrayError
        If there are fewer than four matches.
    OperationError
        If no map agrees with them.

    Notes
    -----
    This is `cv2.findHomography`, whose random numbers begin anew with each call: the same matches give the same map.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)
    >>> first, second = di.detect_keypoints(image), di.detect_keypoints(image[:, 20:])
    >>> matrix, inliers = di.find_homography(first, second, di.match_keypoints(first, second))
    >>> np.rint(matrix)[0].tolist()
    [1.0, 0.0, -20.0]
    """
    if method not in METHODS:
        raise ParameterError(f"method is {method!r}; say one of {', '.join(map(repr, METHODS))}")
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ParameterError(f"threshold is {threshold}; say how many pixels a pair may be off, such as 3")
    if len(matches) < 4:
        raise ArrayError(f"there are {len(matches)} matches, a homography needs 4; keep more keypoints or raise ratio")
    source = first.points[matches["first"].to_numpy()]
    target = second.points[matches["second"].to_numpy()]
    cv2.setRNGSeed(0)
    matrix, mask = cv2.findHomography(source, target, METHODS[method], threshold)
    if matrix is None or matrix.size == 0:
        raise OperationError(f"no homography agrees with the {len(matches)} matches; raise the threshold")
    return Homography(matrix, mask.ravel().astype(bool))
