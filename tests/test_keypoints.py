"""Keypoints of whole images: OpenCV's own, whatever the chunks."""

import cv2
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray
from scipy.spatial import cKDTree
from skimage import data

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, OperationError, ParameterError
from daskimg.measure import keypoints
from daskimg.testing import no_compute

PHOTO = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
METHODS = ["orb", "sift", "fast"]


def large(shape=(1601, 1811)):
    """Several tiles, with structure of all sizes."""
    rng = np.random.default_rng(0)
    image = cv2.resize(PHOTO, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(int) + rng.integers(-12, 13, shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    image[800 : 800 + 512, 900 : 900 + 512] = PHOTO[::-1]  # across the corner of four tiles
    return image


def opencvs(keypoints):
    """All that OpenCV says of keypoints, in an order that both have."""
    rows = [(k.octave, np.float32(k.pt[0]), np.float32(k.pt[1]), k.size, k.angle, k.response) for k in keypoints]
    return sorted(rows)


def ours(found):
    t = found.table
    at = t["column"].astype("f4"), t["row"].astype("f4")
    return sorted(zip(t["octave"], *at, t["size"], t["angle"], t["response"], strict=True))


def same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    np.testing.assert_array_equal(one.descriptors, other.descriptors)


def pairs_of(found, k, descriptors):
    """Rows of our descriptors in the order of OpenCV's keypoints, by place, size and angle."""
    places = found.table[["column", "row", "size", "angle"]].to_numpy()
    distance, at = cKDTree(places).query(np.array([(*p.pt, p.size, p.angle) for p in k]))
    return distance, found.descriptors[at], descriptors


@pytest.mark.parametrize("most", [200, 3000, None])
@pytest.mark.parametrize("image", [PHOTO, large()], ids=["one tile", "four tiles"])
def test_orb_is_that_of_opencv_on_the_whole_image(image, most):
    found = di.detect_keypoints(image, max_keypoints=most)
    theirs, descriptors = cv2.ORB.create(1_000_000 if most is None else most).detectAndCompute(image, None)
    assert ours(found) == opencvs(theirs)
    distance, mine, expected = pairs_of(found, theirs, descriptors)
    assert distance.max() < 1e-3
    np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize(("levels", "factor"), [(1, 1.2), (3, 2.0), (12, 1.1), (5, 1.7)])
def test_orb_with_other_levels(levels, factor):
    image = large()
    found = di.detect_keypoints(image, max_keypoints=700, levels=levels, scale_factor=factor, threshold=9)
    orb = cv2.ORB.create(700, factor, levels, fastThreshold=9)
    assert ours(found) == opencvs(orb.detect(image))


@pytest.mark.parametrize("image", [PHOTO, large()], ids=["one tile", "four tiles"])
@pytest.mark.parametrize("threshold", [None, 30])
def test_fast_is_that_of_opencv_on_the_whole_image(image, threshold):
    found = di.detect_keypoints(image, method="fast", max_keypoints=None, threshold=threshold)
    assert ours(found) == opencvs(cv2.FastFeatureDetector.create(threshold or 10).detect(image))
    assert found.descriptors is None


def test_sift_of_one_tile_is_that_of_opencv():
    found = di.detect_keypoints(PHOTO, method="sift", max_keypoints=None)
    theirs, descriptors = cv2.SIFT.create().detectAndCompute(PHOTO, None)
    assert len(found) == len(theirs)
    distance, mine, expected = pairs_of(found, theirs, descriptors)
    assert distance.max() < 1e-4
    np.testing.assert_array_equal(mine, expected)
    best = di.detect_keypoints(PHOTO, method="sift", max_keypoints=100)
    assert sorted(best.table["response"]) == sorted(k.response for k in cv2.SIFT.create(100).detect(PHOTO))


def test_sift_of_several_tiles_agrees_with_opencv():
    image = large()
    found = di.detect_keypoints(image, method="sift", max_keypoints=None)
    theirs, descriptors = cv2.SIFT.create().detectAndCompute(image, None)
    octaves = np.array([k.octave & 255 for k in theirs]).astype(np.int8)
    wanted = octaves <= 3
    assert wanted.mean() > 0.97
    distance, mine, expected = pairs_of(found, theirs, descriptors)
    assert (distance[wanted] < 0.01).mean() > 0.999
    assert (np.abs(mine - expected).max(axis=1)[wanted] <= 2).mean() > 0.999
    assert abs(len(found) - wanted.sum()) <= 0.001 * len(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [(1601, 1811), (700, 2000), ((5, 0, 1019, 577), (1024, 2, 785)), (333, 97)])
def test_the_same_for_any_chunks(method, chunks):
    image = large()
    lazy = da.from_array(image, chunks=chunks)
    same(di.detect_keypoints(lazy, method=method), di.detect_keypoints(image, method=method))


def test_chunks_of_one_pixel():
    image = PHOTO[100:170, 200:275]
    lazy = da.from_array(image, chunks=(70, 1))
    same(di.detect_keypoints(lazy), di.detect_keypoints(image))


@pytest.mark.parametrize("method", METHODS)
def test_no_keypoint_is_lost_or_doubled_where_tiles_meet(method, monkeypatch):
    """Many small tiles give the keypoints of one large one."""
    image = large()[600:1400, 700:1500]
    whole = di.detect_keypoints(image, method=method, max_keypoints=None)
    monkeypatch.setattr(keypoints, "TILE", 64 if method == "fast" else 320)
    tiled = di.detect_keypoints(image, method=method, max_keypoints=None)
    if method != "sift":
        same(tiled, whole)
        return
    fine = whole.table[whole.table["octave"] <= 3]
    assert abs(len(tiled) - len(fine)) <= 0.002 * len(fine)
    distance, _ = cKDTree(tiled.table[["row", "column", "size", "angle"]]).query(fine.iloc[:, :4])
    assert (distance < 0.01).mean() > 0.998
    assert not tiled.table[["row", "column", "size", "angle"]].duplicated().any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (1, 1), (6, 7), (40, 3000), (100, 100)])
@pytest.mark.parametrize("lazy", [False, True])
def test_without_keypoints_the_table_is_empty_and_typed(method, shape, lazy):
    image = np.full(shape, 77, np.uint8)
    found = di.detect_keypoints(da.from_array(image, chunks=50) if lazy else image, method=method)
    full = di.detect_keypoints(PHOTO, method=method, max_keypoints=3)
    assert len(found) == 0
    assert found.table.dtypes.to_dict() == full.table.dtypes.to_dict()
    if method == "fast":
        assert found.descriptors is None
    else:
        assert found.descriptors.dtype == full.descriptors.dtype
        assert found.descriptors.shape == (0, full.descriptors.shape[1])
        assert len(di.match_keypoints(found, full)) == len(di.match_keypoints(full, found)) == 0


def test_the_best_come_first_and_ties_are_kept():
    image = np.zeros((200, 200), np.uint8)
    image[20::40, 20:40:30] = 100
    image[30:110:20, 90] = 200
    found = di.detect_keypoints(image, method="fast", max_keypoints=6)
    assert found.table["response"].tolist() == [199] * 4 + [99] * 5
    assert di.detect_keypoints(image, method="fast", max_keypoints=4).table["response"].tolist() == [199] * 4


def test_colors_and_labelled_arrays():
    color = data.astronaut()[:200, :260]
    gray = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
    found = di.detect_keypoints(gray)
    same(di.detect_keypoints(color), found)
    same(di.detect_keypoints(da.from_array(np.dstack([color, gray]), chunks=(99, 99, 1))), found)
    same(di.detect_keypoints(xarray.DataArray(color, dims=("y", "x", "c"))), found)


def test_nothing_is_computed_before_it_is_asked_for():
    lazy = da.from_array(PHOTO, chunks=100)
    with dask.config.set(scheduler=no_compute):
        delayed = di.detect_keypoints(lazy, compute=False)
    same(delayed.compute(), di.detect_keypoints(PHOTO))


def test_each_chunk_is_read_once():
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    image = da.from_array(large(), chunks=400)
    di.detect_keypoints(image.map_blocks(read, dtype=image.dtype, meta=np.empty((0, 0), np.uint8)))
    assert len(reads) == image.npartitions


def test_notebooks_show_a_table():
    text = di.detect_keypoints(PHOTO, max_keypoints=50)._repr_html_()
    assert "keypoints of orb, descriptors uint8" in text
    assert text.count("<tr") == 11


# Two images


def moved():
    """A photo, and what a known map makes of it."""
    matrix = np.array([[0.95, -0.2, 60], [0.18, 1.02, -20], [1e-4, -5e-5, 1]])
    return PHOTO, cv2.warpPerspective(PHOTO, matrix, (600, 560)), matrix


@pytest.mark.parametrize("method", ["orb", "sift"])
@pytest.mark.parametrize("estimate", ["ransac", "lmeds", "rho", "magsac"])
def test_a_known_homography_is_found(method, estimate):
    one, other, matrix = moved()
    first, second = (di.detect_keypoints(image, method=method, max_keypoints=1500) for image in (one, other))
    matches = di.match_keypoints(first, second)
    found, inliers = di.find_homography(first, second, matches, method=estimate)
    assert inliers.dtype == bool
    assert len(inliers) == len(matches)
    assert inliers.mean() > 0.8
    corners = np.array([[[0, 0], [511, 0], [511, 511], [0, 511.0]]])
    off = cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(corners, matrix)
    assert np.abs(off).max() < 2
    again = di.find_homography(first, second, matches, method=estimate)
    np.testing.assert_array_equal(again.matrix, found)


@pytest.mark.parametrize("method", ["orb", "sift"])
def test_matches_are_those_of_brute_force(method):
    one, other, _ = moved()
    first, second = (di.detect_keypoints(image, method=method, max_keypoints=300) for image in (one, other))
    if method == "orb":
        distances = np.unpackbits(first.descriptors[:, None] ^ second.descriptors[None], axis=2).sum(2)
    else:
        a, b = first.descriptors.astype(float), second.descriptors.astype(float)
        distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    ordered = np.sort(distances, axis=1)
    lowest = set(np.flatnonzero(ordered[:, 0] < 0.75 * ordered[:, 1]))
    nearest, back = distances.argmin(1), distances.argmin(0)
    mutual = set(np.flatnonzero(back[nearest] == np.arange(len(first))))
    for ratio, cross_check, expected in [(0.75, False, lowest), (None, True, mutual), (0.75, True, lowest & mutual)]:
        matches = di.match_keypoints(first, second, ratio=ratio, cross_check=cross_check)
        assert set(matches["first"]) == expected
        assert (matches["second"] == nearest[matches["first"]]).all()
        np.testing.assert_allclose(matches["distance"], distances[matches["first"], matches["second"]], 1e-5)
        assert matches["distance"].is_monotonic_increasing
    assert len(di.match_keypoints(first, second, ratio=None, cross_check=False)) == len(first)


def test_refusals():
    with pytest.raises(DtypeError, match="uint8"):
        di.detect_keypoints(PHOTO.astype(float))
    with pytest.raises(ArrayError, match="choose one plane"):
        di.detect_keypoints(np.zeros((3, 50, 50), np.uint8))
    with pytest.raises(ParameterError, match="'sift'"):
        di.detect_keypoints(PHOTO, method="surf")
    with pytest.raises(ParameterError, match="None for all"):
        di.detect_keypoints(PHOTO, max_keypoints=0)
    with pytest.raises(ParameterError, match="from 0 to 255"):
        di.detect_keypoints(PHOTO, threshold=-1)
    with pytest.raises(ParameterError, match="above 1"):
        di.detect_keypoints(PHOTO, scale_factor=1)
    first, second = di.detect_keypoints(PHOTO, method="fast"), di.detect_keypoints(PHOTO)
    with pytest.raises(ParameterError, match="detect both"):
        di.match_keypoints(first, second)
    with pytest.raises(ParameterError, match="no descriptors"):
        di.match_keypoints(first, first)
    with pytest.raises(ParameterError, match="ratio"):
        di.match_keypoints(second, second, ratio=2)
    matches = di.match_keypoints(second, second)
    with pytest.raises(ArrayError, match="needs 4"):
        di.find_homography(second, second, matches[:3])
    with pytest.raises(ParameterError, match="'ransac'"):
        di.find_homography(second, second, matches, method="best")
    with pytest.raises(ParameterError, match="pixels"):
        di.find_homography(second, second, matches, threshold=0)
    same_point = matches.iloc[[0] * 5]
    with pytest.raises(OperationError, match="no homography"):
        di.find_homography(second, second, same_point)
