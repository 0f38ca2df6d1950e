"""Outlines as polygons: every pixel is inside its own label's, the same for any chunks."""

import itertools
import json

import cv2
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import ndimage

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.measure import contours
from daskimg.testing import no_compute


def blobs(shape=(29, 34), seed=0, sigma=1.5):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma) > 0


def nested(size=20):
    """Rings within rings: holes within holes, through every chunk."""
    image = np.zeros((size, size), np.uint8)
    for inset in range(size // 2):
        image[inset : size - inset, inset : size - inset] = inset % 2 == 0
    return image


def noise(kinds, shape=(17, 20), seed=0):
    return np.random.default_rng(seed).integers(0, kinds, shape).astype(np.int32)


def painted(ring, shape):
    """The pixels inside a ring, by the even-odd rule along each row: nothing of how rings are made."""
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(ring.astype(int)):
        if x0 == x1:
            inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def signed_area(ring):
    x, y = ring[:-1].T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def same(one, other):
    pd.testing.assert_frame_equal(one.drop(columns=["exterior", "holes"]), other.drop(columns=["exterior", "holes"]))
    for name in ("exterior", "holes"):
        for mine, theirs in zip(one[name], other[name], strict=True):
            for ring, expected in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(ring, expected)


IMAGES = {
    "blobs": blobs(),
    "nested": nested(),
    "noise": noise(2),
    "labels": noise(4),
    "labelled": ndimage.label(blobs())[0],
    "full": np.ones((5, 7), np.uint8),
    "one": np.ones((1, 1), bool),
    "line": np.ones((1, 9), bool),
    "checks": np.indices((9, 9)).sum(0) % 2,
}
CHUNKS = [(1, 1), (7, 100), (100, 1), (10, 13), ((0, 3, 0), (2, 1, 0))]


def cut(image, chunks):
    if isinstance(chunks[0], int):
        return da.from_array(image, chunks=chunks)
    ragged = [(*sizes, size - sum(sizes)) for sizes, size in zip(chunks, image.shape, strict=True)]
    return da.from_array(image, chunks=tuple(ragged))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_polygons_cover_just_their_pixels(image, connectivity):
    table = di.find_contours(image, connectivity=connectivity)
    parts = np.zeros(image.shape, int)
    for row in table.itertuples():
        if connectivity == 4:
            assert all(len(np.unique(ring, axis=0)) == len(ring) - 1 for ring in [row.exterior, *row.holes])
        region = painted(row.exterior, image.shape)
        assert signed_area(row.exterior) > 0
        for hole in row.holes:
            hollow = painted(hole, image.shape)
            assert signed_area(hole) < 0
            assert (region | ~hollow).all(), "a hole lies outside its polygon"
            region &= ~hollow
        assert row.area == region.sum()
        assert not parts[region].any()
        parts[region] = row.Index + 1
        if image.dtype != bool:
            assert (image[region] == row.label).all()
        structure = ndimage.generate_binary_structure(2, connectivity // 4)
        assert ndimage.label(region, structure)[1] == 1
    assert (image != 0).sum() == (parts > 0).sum()
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    count = sum(ndimage.label(image == label, structure)[1] for label in np.unique(image[image != 0]))
    assert len(table) == count


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_the_same_for_any_chunks(image, connectivity, chunks):
    if not isinstance(chunks[0], int) and min(image.shape) < 4:
        chunks = (1, 2)
    same(
        di.find_contours(cut(image, chunks), connectivity=connectivity),
        di.find_contours(image, connectivity=connectivity),
    )


@pytest.mark.parametrize("seed", range(3))
def test_areas_and_holes_agree_with_opencv(seed):
    """cv2 joins the middles of pixels: filled, its contours are the same regions."""
    image = blobs((150, 170), seed).astype(np.uint8)
    table = di.find_contours(image, connectivity=8)
    contours, hierarchy = cv2.findContours(image, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = np.flatnonzero(hierarchy[0][:, 3] < 0)
    assert len(table) == len(outer)
    assert sum(map(len, table["holes"])) == len(contours) - len(outer)
    filled = sorted(cv2.drawContours(np.zeros_like(image), contours, n, 1, cv2.FILLED).sum() for n in outer)
    assert sorted(int(signed_area(ring)) for ring in table["exterior"]) == filled
    stats = cv2.connectedComponentsWithStats(image, connectivity=8)[2]
    assert sorted(table["area"]) == sorted(stats[1:, cv2.CC_STAT_AREA])


def test_rings_are_canonical():
    table = di.find_contours(noise(3))
    for ring in [*table["exterior"], *itertools.chain(*table["holes"])]:
        assert (ring[0] == ring[-1]).all()
        rows = ring[:, ::-1].tolist()
        assert rows[0] == min(rows)
        steps = np.diff(ring, axis=0)
        assert ((steps != 0).sum(1) == 1).all(), "every edge is straight"
        turns = (steps[:, 0] == 0).astype(int)
        assert (turns != np.roll(turns, 1)).all(), "no vertex is on a straight line"
    firsts = [ring[0, ::-1].tolist() for ring in table["exterior"]]
    assert firsts == sorted(firsts)


def test_connectivity_at_corners():
    image = np.array([[1, 0], [0, 1]], np.uint8)
    assert len(di.find_contours(image)) == 2
    joined = di.find_contours(image, connectivity=8)
    assert joined["area"].tolist() == [2]
    assert joined.loc[0, "exterior"].tolist() == [
        [0, 0],
        [1, 0],
        [1, 1],
        [2, 1],
        [2, 2],
        [1, 2],
        [1, 1],
        [0, 1],
        [0, 0],
    ]


def test_what_touches_itself_is_a_hole():
    """A gap that opens at a corner only is a hole that touches the exterior, and two such holes are two."""
    image = np.ones((5, 5), np.uint8)
    image[2, 2] = image[3, 3] = image[4, 4] = 0
    table = di.find_contours(image)
    assert table.loc[0, "exterior"].tolist() == [[0, 0], [5, 0], [5, 4], [4, 4], [4, 5], [0, 5], [0, 0]]
    assert [hole[0].tolist() for hole in table.loc[0, "holes"]] == [[2, 2], [3, 3]]
    assert table.loc[0, "area"] == 22


def test_a_level_and_labels():
    image = np.array([[0.1, 0.9, 0.2, 0.8]])
    table = di.find_contours(image, level=0.5)
    assert table["label"].tolist() == [1, 2]
    labels = np.array([[2**31 - 1, 0, 5, 2**31 - 1]], np.int32)
    features = di.find_contours(da.from_array(labels, chunks=1), to="geojson")["features"]
    assert [one["properties"] for one in features] == [{"label": 5, "area": 1}, {"label": 2**31 - 1, "area": 2}]
    assert [one["geometry"]["type"] for one in features] == ["Polygon", "MultiPolygon"]
    assert features[0]["geometry"]["coordinates"] == [[[2, 0], [3, 0], [3, 1], [2, 1], [2, 0]]]
    parts = di.find_contours(np.array([[1, 0, 1]], bool), to="geojson")["features"]
    assert [one["properties"]["label"] for one in parts] == [1, 2]


def test_geojson_is_json_and_the_same_for_any_chunks():
    image = noise(4)
    text = json.dumps(di.find_contours(image, to="geojson"))
    assert text == json.dumps(di.find_contours(da.from_array(image, chunks=(6, 7)), to="geojson"))


def test_min_points_leaves_out_small_rings():
    image = np.zeros((9, 9), np.uint8)
    image[:7, :7] = image[8, 8] = 1
    image[0, 0] = image[3, 3] = 0
    assert di.find_contours(image)["area"].tolist() == [47, 1]
    larger = di.find_contours(image, min_points=5)
    assert larger["area"].tolist() == [48]
    assert larger["holes"].tolist() == [[]]


def test_coordinates_of_labelled_arrays():
    image = np.zeros((4, 5), np.uint8)
    image[1:3, 1:4] = 1
    north_up = xarray.DataArray(
        image, dims=("y", "x"), coords={"y": [75.0, 65, 55, 45], "x": [102.5, 107.5, 112.5, 117.5, 122.5]}
    )
    ring = di.find_contours(north_up).loc[0, "exterior"]
    assert ring.tolist() == [[105, 70], [105, 50], [120, 50], [120, 70], [105, 70]]
    assert signed_area(ring) > 0
    plain = di.find_contours(xarray.DataArray(image, dims=("y", "x")))
    same(plain, di.find_contours(image))
    with pytest.raises(ArrayError, match="drop_vars"):
        di.find_contours(north_up.assign_coords(x=[1.0, 2, 3, 5, 9]))


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 5)])
@pytest.mark.parametrize("lazy", [False, True])
def test_without_regions(shape, lazy):
    image = np.zeros(shape, np.int32)
    image = da.from_array(image, chunks=2) if lazy else image
    table = di.find_contours(image)
    assert len(table) == 0
    assert table.dtypes.to_dict() == di.find_contours(np.ones((2, 2), np.int32)).dtypes.to_dict()
    assert di.find_contours(image, to="geojson") == {"type": "FeatureCollection", "features": []}


def test_blocks_larger_than_a_tile(monkeypatch):
    whole = di.find_contours(noise(3))
    monkeypatch.setattr(contours, "TILE", 5)
    same(di.find_contours(noise(3)), whole)


def test_nothing_is_computed_before_it_is_asked_for():
    image = da.from_array(noise(3), chunks=9)
    with dask.config.set(scheduler=no_compute):
        lazy = di.find_contours(image, compute=False)
    same(lazy.compute(), di.find_contours(noise(3)))


def test_refusals():
    with pytest.raises(DtypeError, match="level="):
        di.find_contours(np.zeros((3, 3)))
    with pytest.raises(ParameterError, match="geojson"):
        di.find_contours(noise(2), to="shapes")
    with pytest.raises(ParameterError, match="connectivity=8"):
        di.find_contours(noise(2), connectivity=6)
    with pytest.raises(ArrayError, match="choose one plane"):
        di.find_contours(noise(2)[None])
