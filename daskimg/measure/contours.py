"""Outlines of regions as polygons, stitched across chunks.

An outline runs along the edges of pixels. Every directed edge belongs to the one pixel that lies to its right, so
each chunk makes its own pixels' edges, in straight runs, and knows from one pixel of its neighbours where each run
leads. Runs are joined to chains wherever the next one is known, in the chunk first, then in a tree of tasks. What has
closed is a ring.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
import scipy

from daskimg.chunked.reduction import as_delayed, reduce_image
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.kinds import Array, Window
from daskimg.measure.regions import plane_of

__all__ = ["find_contours"]

# Directions east, south, west, north, by number; the region is to the right. So the next number turns towards the
# region, the one before away from it.
AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
OUTSIDE = ((-1, 0), (0, 1), (1, 0), (0, -1))  # from a pixel to what lies beyond its edge
START = ((0, 0), (0, 1), (1, 1), (1, 0))  # from a pixel to the corner where its edge begins

CLOSED = -1

TILE = 1024  # px; runs are joined within squares of this size first, in a processor's cache


def find_contours(
    image: Any,
    *,
    level: float | None = None,
    connectivity: Literal[4, 8] = 4,
    min_points: int = 4,
    to: Literal["table", "geojson"] = "table",
    compute: bool = True,
) -> Any:
    """Return the outlines of regions as polygons with holes.

    Parameters
    ----------
    image : array
        `(rows, columns)`: labels, of which 0 is the background; or anything, with a `level`.
    level : float
        Makes one region of each connected part of the pixels above it. None takes integers as labels and does the
        same for bool.
    connectivity : {4, 8}
        Whether pixels that touch only at a corner belong to one polygon. With 4 they don't, and all polygons are
        valid; with 8 such a polygon's outline touches itself there, which some programs refuse.
    min_points : int
        Leaves out rings of fewer vertices. The smallest, of rectangles, have 4.
    to : {"table", "geojson"}
        What is returned.
    compute : bool
        False gives a `dask.delayed.Delayed` where the image is lazy.

    Returns
    -------
    pandas.DataFrame or dict
        The table has a row per polygon: `label`, `area` and `perimeter` in px, `exterior`, an array of `(x, y)`
        vertices whose last is the first, and `holes`, a list of such arrays. The dict is a GeoJSON FeatureCollection
        with one Feature per label, a Polygon or MultiPolygon with the properties `label` and `area`.

    Raises
    ------
    ArrayError
        If the image is not two-dimensional, or an xarray's coordinates are not evenly spaced.
    DtypeError
        If the image is of floats and has no level.
    ParameterError
        If a parameter is none of those allowed.

    Notes
    -----
    Vertices are corners of pixels: the pixel of row r and column c covers x from c to c + 1 and y from r to r + 1,
    where `cv2.findContours` and `skimage.measure.find_contours` join the middles of pixels. So areas are exact and the
    regions of a label image fit together without gaps, as with `rasterio.features.shapes`. An `xarray.DataArray` with
    coordinates `x` and `y` gives vertices in these, whose values are the middles of pixels.

    Exteriors are counter-clockwise and holes clockwise, as RFC 7946 wants: the signed area over (x, y) is positive for
    exteriors. Each ring begins at its uppermost vertex, of these the leftmost; polygons are in the order of their
    first vertices (GeoJSON: of their labels), and parts above a level are numbered in it. No vertex lies on a straight
    line. The result does not depend on the chunks, each of which is read once.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.zeros((4, 5), np.uint8)
    >>> image[1:3, 1:4] = 7
    >>> di.find_contours(image).loc[0, "exterior"].tolist()
    [[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]
    >>> di.find_contours(image, to="geojson")["features"][0]["properties"]
    {'label': 7, 'area': 6}
    """
    if to not in ("table", "geojson"):
        raise ParameterError(f'to is {to!r}; say to="table" or to="geojson"')
    if connectivity not in (4, 8):
        raise ParameterError(f"connectivity is {connectivity!r}; say connectivity=4 or connectivity=8")
    frame = _frame_of(image)
    plane = plane_of(image, "image")
    if level is None and plane.dtype.kind == "f":
        raise DtypeError(f"the image is {plane.dtype}, labels must be integers; say above which level: level=0.5")
    if plane.dtype.kind not in "iubf":
        raise DtypeError(f"the image is {plane.dtype}, it must be real numbers: image.astype('float32')")
    apart = level is not None or plane.dtype == bool
    on_block = functools.partial(_outlined, level, connectivity == 8)
    finish = functools.partial(_finish, plane.shape[1] + 1, connectivity == 4, apart, min_points, to, frame)
    if not isinstance(plane, da.Array):
        everything = slice(0, plane.shape[0]), slice(0, plane.shape[1])
        return finish(on_block(plane, Window(0, 0, *plane.shape), everything))
    sizes = tuple(tuple(size for size in axis if size) or (0,) for axis in plane.chunks)
    plane = plane.rechunk(sizes)
    measured = as_delayed(reduce_image(plane, on_block, _joined, finish, "find-contours", halo=1))
    return measured.compute() if compute else measured


def _frame_of(image: Any) -> tuple[float, float, float, float] | None:
    """Return where an xarray's first pixel begins along x and y, and its size along them."""
    if not hasattr(image, "dims"):
        return None
    begins, sizes = [], []
    for name in ("x", "y"):
        if name not in image.coords or image.coords[name].ndim != 1 or image.coords[name].dtype.kind not in "iuf":
            return None
        middles = np.asarray(image.coords[name], np.float64)
        if len(middles) < 2:
            return None
        size = (middles[-1] - middles[0]) / (len(middles) - 1)
        if size == 0 or not np.allclose(np.diff(middles), size, rtol=1e-3, atol=0):
            raise ArrayError(f"the coordinates {name} are not evenly spaced; leave them out: image.drop_vars({name!r})")
        begins.append(middles[0] - size / 2)
        sizes.append(size)
    return begins[0], begins[1], sizes[0], sizes[1]


class _Outlines(NamedTuple):
    """Holds chains of straight runs.

    A run is known by its `key`, of the corner where it begins and its direction: no two begin alike. `keys` has those
    of all chains one after another, `lengths` how many each has, `labels` whose they are, and `leads` the key of the
    run that follows on the last one; rings are `CLOSED`.
    """

    labels: Array
    lengths: Array
    keys: Array
    leads: Array


def _outlined(level: float | None, diagonal: bool, window: Array, where: Window, own: tuple[slice, slice]) -> _Outlines:
    """Return the outlines of one block, which lies at `own` in its window."""
    rows, columns = own
    size = rows.stop - rows.start, columns.stop - columns.start
    labels = window if level is None else window > level
    labels = labels.view(np.uint8) if labels.dtype == bool else labels
    # What surrounds the block, with background around the whole image.
    padded = np.zeros((size[0] + 2, size[1] + 2), labels.dtype)
    padded[1 - rows.start : 1 - rows.start + len(labels), 1 - columns.start : 1 - columns.start + labels.shape[1]] = (
        labels
    )
    parts = []
    for first in range(0, size[0], TILE):
        for begin in range(0, size[1], TILE):
            tile = padded[first : first + TILE + 2, begin : begin + TILE + 2]
            place = where._replace(row=where.row + first, column=where.column + begin)
            parts.append(_joined([_runs(tile, direction, diagonal, place) for direction in range(4)]))
    return _joined(parts)


def _runs(padded: Array, direction: int, diagonal: bool, where: Window) -> _Outlines:
    """Return the straight runs of one direction along the edges of a block's pixels, each a chain by itself."""
    (ahead_row, ahead_column), (out_row, out_column) = AHEAD[direction], OUTSIDE[direction]
    rows, columns = padded.shape[0] - 2, padded.shape[1] - 2
    own = padded[1:-1, 1:-1]
    beyond = padded[1 + out_row : 1 + out_row + rows, 1 + out_column : 1 + out_column + columns]
    is_edge = own != beyond
    is_edge &= own != 0
    # Along the runs: by rows, or for vertical edges by columns.
    line, place = np.divmod(*_places(is_edge if direction % 2 == 0 else is_edge.T))
    row, column = (line, place) if direction % 2 == 0 else (place, line)
    labels = own[row, column]
    breaks = np.flatnonzero((np.diff(place) != 1) | (line[1:] != line[:-1]) | (labels[1:] != labels[:-1]))
    first = np.concatenate([np.zeros(min(len(row), 1), np.intp), breaks + 1])
    last = np.concatenate([breaks, np.full(min(len(row), 1), len(row) - 1)])
    if direction >= 2:
        first, last = last, first  # in the order of travel
    labels = labels[last]
    in_row, in_column = row[last] + 1 + ahead_row, column[last] + 1 + ahead_column
    inner = padded[in_row, in_column] == labels
    outer = padded[in_row + out_row, in_column + out_column] == labels
    turn = np.where(outer & (inner | diagonal), -1, np.where(inner, 0, 1))
    keys = _key(row[first], column[first], direction, where)
    corner = START[(direction + 1) % 4]  # where the next edge of the same pixel begins is where this one ends
    end_row, end_column = row[last] + corner[0], column[last] + corner[1]
    leads = _corner_key(end_row, end_column, (direction + turn) % 4, where)
    return _Outlines(labels.astype(np.int64), np.ones(len(labels), np.int64), keys, leads)


def _places(mask: Array) -> tuple[Array, int]:
    return np.flatnonzero(mask), max(mask.shape[1], 1)


def _key(row: Array, column: Array, direction: int, where: Window) -> Array:
    return _corner_key(row + START[direction][0], column + START[direction][1], direction, where)


def _corner_key(row: Array, column: Array, direction: Any, where: Window) -> Array:
    numbers: Array = ((row + where.row).astype(np.int64) * (where.columns + 1) + column + where.column) * 4 + direction
    return numbers


def _joined(parts: Sequence[_Outlines]) -> _Outlines:
    """Return the chains of several parts, joined where one leads to another."""
    if len(parts) == 0:
        return _Outlines(*(np.zeros(0, np.int64) for _ in range(4)))
    labels, lengths, keys, leads = (np.concatenate(field) for field in zip(*parts, strict=True))
    is_open = leads != CLOSED
    if not is_open.all():
        rings = _Outlines(labels, lengths, keys, leads)
        joined = _linked(_chosen(rings, is_open))
        return _Outlines(*map(np.concatenate, zip(_chosen(rings, ~is_open), joined, strict=True)))
    return _linked(_Outlines(labels, lengths, keys, leads))


def _chosen(outlines: _Outlines, which: Array) -> _Outlines:
    labels, lengths, keys, leads = outlines
    return _Outlines(labels[which], lengths[which], keys[np.repeat(which, lengths)], leads[which])


def _linked(outlines: _Outlines) -> _Outlines:
    """Return open chains joined."""
    labels, lengths, keys, leads = outlines
    count = len(labels)
    if count == 0:
        return outlines
    offsets = np.cumsum(lengths) - lengths
    heads = keys[offsets]
    by_head = np.argsort(heads)
    follower = by_head[np.minimum(np.searchsorted(heads, leads, sorter=by_head), count - 1)]
    linked = np.flatnonzero(heads[follower] == leads)
    after = follower[linked]
    graph = scipy.sparse.coo_array((np.ones(len(linked), np.int8), (linked, after)), shape=(count, count))
    number, chain = scipy.sparse.csgraph.connected_components(graph, directed=False)
    before = np.arange(count)
    before[after] = linked
    # A chain begins where nothing leads; a ring at its least key.
    has_before = np.zeros(count, bool)
    has_before[after] = True
    order = np.where(has_before, heads, np.int64(-1))
    least = np.full(number, np.iinfo(np.int64).max)
    np.minimum.at(least, chain, order)
    roots = np.flatnonzero(order == least[chain])
    root_of = np.empty(number, np.intp)
    root_of[chain[roots]] = roots
    closed = has_before[root_of]
    before[roots] = roots
    # How many keys stand before a link in its chain: by doubling the steps taken back.
    steps = np.where(before == np.arange(count), 0, lengths[before])
    moving = np.flatnonzero(before != np.arange(count))
    while len(moving):
        back = before[moving]
        steps[moving] += steps[back]
        before[moving] = before[back]
        moving = moving[before[before[moving]] != before[moving]]
    last = np.ones(count, bool)
    last[linked] = False
    ends = np.full(number, CLOSED, np.int64)
    ends[chain[last]] = leads[last]
    ends[closed] = CLOSED
    sizes = np.zeros(number, np.int64)
    np.add.at(sizes, chain, lengths)
    starts = np.cumsum(sizes) - sizes
    joined = np.empty_like(keys)
    target = np.repeat(starts[chain] + steps - offsets, lengths) + np.arange(len(keys))
    joined[target] = keys
    return _Outlines(labels[root_of], sizes, joined, ends)


def _finish(
    width: int,
    simple: bool,
    apart: bool,
    min_points: int,
    to: str,
    frame: tuple[float, float, float, float] | None,
    found: _Outlines,
) -> Any:
    """Return the polygons of all rings, of corners in rows of `width`."""
    labels, lengths, keys = _canonical(found)
    offsets = np.cumsum(lengths) - lengths
    corners, x, y = keys >> 2, (keys >> 2) % width, (keys >> 2) // width
    following = np.arange(len(keys)) + 1
    following[offsets + lengths - 1] = offsets
    areas = _sums(x * y[following] - x[following] * y, offsets) // 2
    perimeters = _sums(np.abs(x[following] - x) + np.abs(y[following] - y), offsets)
    owner = _exteriors(labels, areas > 0, lengths, corners[offsets], keys, corners[following], width)
    points = np.stack([x, y], axis=1)
    if frame is not None:
        points = points * np.array(frame[2:]) + np.array(frame[:2])
    backwards = frame is not None and frame[2] * frame[3] < 0
    touching = _touching(lengths, corners) if simple else set()

    def rings(number: int) -> list[Array]:
        places = np.arange(offsets[number], offsets[number] + lengths[number])
        parts = _simple(places, corners) if number in touching else [places]
        closed = [points[np.append(part, part[0])] for part in parts]
        return [ring[::-1] for ring in closed] if backwards else closed

    kept = lengths >= min_points
    holes: dict[int, list[int]] = {}
    for number in np.flatnonzero(kept & (areas < 0)).tolist():
        holes.setdefault(int(owner[number]), []).append(number)
    exteriors = np.flatnonzero(kept & (areas > 0)).tolist()
    if apart:
        labels = np.cumsum(areas > 0)
    polygons = [(number, [number, *holes.get(number, [])]) for number in exteriors]
    if to == "geojson":
        return _geojson(labels, areas, polygons, rings)
    return _table(labels, areas, perimeters, polygons, rings)


def _touching(lengths: Array, corners: Array) -> set[int]:
    """Return the numbers of the rings that pass a corner twice."""
    ordered = np.sort(corners)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]  # by one ring or by two
    if len(twice) == 0:
        return set()
    at = np.flatnonzero(twice[np.minimum(np.searchsorted(twice, corners), len(twice) - 1)] == corners)
    ring, corner = np.repeat(np.arange(len(lengths)), lengths)[at], corners[at]
    order = np.lexsort((corner, ring))
    ring, corner = ring[order], corner[order]
    return set(ring[1:][(ring[1:] == ring[:-1]) & (corner[1:] == corner[:-1])].tolist())


def _simple(places: Array, corners: Array) -> list[Array]:
    """Return a ring as several that pass no corner twice, the one that holds its first vertex first."""
    along = corners[places]
    _, number, count = np.unique(along, return_inverse=True, return_counts=True)
    passes = np.flatnonzero(count[number] > 1)
    stops = np.unique(np.append(passes, [0, len(along)])).tolist()
    # Stretches between such corners, from the ring's first vertex on, without the loops that have closed.
    stretches: list[Array] = []
    begun: dict[int, int] = {}
    loops = []
    for start, stop in itertools.pairwise(stops):
        corner = int(along[start])
        if (at := begun.get(corner)) is not None:
            for stretch in stretches[at + 1 :]:
                del begun[int(corners[stretch[0]])]
            loop = np.concatenate(stretches[at:])
            del stretches[at:]
            loops.append(np.roll(loop, -int(np.argmin(corners[loop]))))
        begun[corner] = len(stretches)
        stretches.append(places[start:stop])
    return [np.concatenate(stretches), *sorted(loops, key=lambda loop: int(corners[loop[0]]))]


def _canonical(found: _Outlines) -> tuple[Array, Array, Array]:
    """Return labels, lengths and keys of rings, each from its least key on, in the order of these, without joints."""
    labels, lengths, keys, _ = found
    ring = np.repeat(np.arange(len(lengths)), lengths)
    offsets = np.cumsum(lengths) - lengths
    earlier = np.arange(len(keys)) - 1
    earlier[offsets] = offsets + lengths - 1
    turns = (keys & 3) != (keys[earlier] & 3)
    keys, ring = keys[turns], ring[turns]
    lengths = np.bincount(ring, minlength=len(lengths))
    offsets = np.cumsum(lengths) - lengths
    least = np.minimum.reduceat(keys, offsets) if len(keys) else keys
    first = np.flatnonzero(keys == np.repeat(least, lengths))
    order = np.argsort(least)
    labels, lengths, offsets, first = labels[order], lengths[order], offsets[order], first[order]
    begins = np.cumsum(lengths) - lengths
    step = np.arange(len(keys)) - np.repeat(begins, lengths) + np.repeat(first - offsets, lengths)
    return labels, lengths, keys[np.repeat(offsets, lengths) + step % np.repeat(lengths, lengths)]


def _sums(values: Array, offsets: Array) -> Array:
    sums: Array = np.add.reduceat(values, offsets) if len(offsets) else values
    return sums


def _exteriors(
    labels: Array, exterior: Array, lengths: Array, firsts: Array, keys: Array, ends: Array, width: int
) -> Array:
    """Return for each ring the number of the exterior that it belongs to.

    Above a hole's first vertex lies a pixel of its region. From there straight up to where the region ends is the
    nearest edge that goes east: of the exterior, or of another hole of the same region that begins further up.
    """
    owner = np.arange(len(labels))
    holes = np.flatnonzero(~exterior)
    if len(holes) == 0:
        return owner
    with_holes, label_of_hole = np.unique(labels[holes], return_inverse=True)
    wanted = label_of_hole * width + firsts[holes] % width
    columns, column_of_hole = np.unique(wanted, return_inverse=True)
    ring = np.repeat(np.arange(len(labels)), lengths)
    label = np.minimum(np.searchsorted(with_holes, labels[ring]), len(with_holes) - 1)
    runs = np.flatnonzero(((keys & 3) == 0) & (with_holes[label] == labels[ring]))
    left = np.searchsorted(columns, label[runs] * width + (keys[runs] >> 2) % width)
    right = np.searchsorted(columns, label[runs] * width + ends[runs] % width)
    counts = right - left
    edge = np.repeat(runs, counts)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - left, counts)
    order = np.lexsort(((keys[edge] >> 2) // width, column))
    height = int(keys.max() >> 2) // width + 1
    edges = column[order] * height + (keys[edge[order]] >> 2) // width
    above = np.searchsorted(edges, column_of_hole * height + firsts[holes] // width) - 1
    owner[holes] = ring[edge[order[above]]]
    while not exterior[owner].all():
        owner = owner[owner]
    return owner


def _table(labels: Array, areas: Array, perimeters: Array, polygons: list[tuple[int, list[int]]], rings: Any) -> Any:
    import pandas as pd

    rows = [number for number, _ in polygons]
    outlines = [[ring for number in members for ring in rings(number)] for _, members in polygons]
    return pd.DataFrame(
        {
            "label": labels[rows].astype(np.int64),
            "area": np.array([areas[members].sum() for _, members in polygons], np.int64),
            "perimeter": np.array([perimeters[members].sum() for _, members in polygons], np.int64),
            "exterior": pd.Series([outline[0] for outline in outlines], dtype=object),
            "holes": pd.Series([outline[1:] for outline in outlines], dtype=object),
        }
    )


def _geojson(labels: Array, areas: Array, polygons: list[tuple[int, list[int]]], rings: Any) -> dict[str, Any]:
    """Return a FeatureCollection as RFC 7946 describes it."""
    by_label: dict[int, list[list[int]]] = {}
    for number, members in polygons:
        by_label.setdefault(int(labels[number]), []).append(members)
    features = []
    for label in sorted(by_label):
        parts = by_label[label]
        coordinates = [[ring.tolist() for number in members for ring in rings(number)] for members in parts]
        geometry = {"type": "MultiPolygon", "coordinates": coordinates}
        if len(parts) == 1:
            geometry = {"type": "Polygon", "coordinates": coordinates[0]}
        properties = {"label": label, "area": sum(int(areas[members].sum()) for members in parts)}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}
