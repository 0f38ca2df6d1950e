"""The watershed is the same for any chunks: OpenCV's own within a square, and near it on larger images."""

import cv2
import dask
import dask.array as da
import numpy as np
import pytest
import skimage.data

import daskimg as di
from daskimg.chunked.again import HELD
from daskimg.errors import ArrayError, DtypeError
from daskimg.testing import no_compute

CHUNKS = [50, (31, 7000), ((1, 0, 100), (64, 1, 0, 1))]


def opencv(image, markers):
    color = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.watershed(color, markers.astype(np.int32))


def cut(chunks, shape):
    """The chunks, with one more at the end of each axis for what is left."""
    if not isinstance(chunks, tuple) or not isinstance(chunks[0], tuple):
        return chunks
    return tuple((*sizes, length - sum(sizes)) for sizes, length in zip(chunks, shape, strict=True))


def chunked(image, markers, chunks, scheduler="synchronous", **parameters):
    chunks = cut(chunks, image.shape) if image.ndim == 2 else (*np.broadcast_to(chunks, 2).tolist(), 3)
    with dask.config.set(scheduler=no_compute):
        lazy = da.from_array(image, chunks=chunks).map_blocks(np.copy)
        result = di.watershed(lazy, markers=markers, **parameters)
    assert result.chunks == lazy.chunks[:2]
    return result.compute(scheduler=scheduler)


def coins():
    """Coins, with what is surely one of them and surely none as markers, as OpenCV's tutorial has it."""
    image = skimage.data.coins()
    kernel = np.ones((5, 5), np.uint8)
    _, binary = cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)
    binary = cv2.morphologyEx(cv2.morphologyEx(binary, cv2.MORPH_CLOSE, kernel), cv2.MORPH_OPEN, kernel)
    distance = cv2.distanceTransform(binary, cv2.DIST_L2, 5)
    inner = distance > 0.36 * distance.max()
    markers = cv2.connectedComponents(inner.astype(np.uint8))[1] + 1
    markers[(cv2.dilate(binary, kernel, iterations=2) > 0) & ~inner] = 0
    return image, markers


def cells():
    """Blobs that touch, by their distance from the background."""
    blobs = skimage.data.binary_blobs(512, 0.06, volume_fraction=0.45, rng=0).astype(np.uint8)
    distance = cv2.distanceTransform(blobs, cv2.DIST_L2, 5)
    markers = cv2.connectedComponents((distance > 0.5 * distance.max()).astype(np.uint8))[1]
    markers += markers > 0
    markers[cv2.dilate(blobs, np.ones((3, 3)), iterations=2) == 0] = 1
    return cv2.normalize(distance, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8), markers


def points(image, count=60):
    markers = np.zeros(image.shape[:2], np.int32)
    for number, (y, x) in enumerate(np.random.default_rng(0).integers(5, min(markers.shape) - 5, (count, 2))):
        markers[y - 2 : y + 3, x - 2 : x + 3] = number + 1
    return markers


def share(result, expected):
    return np.mean(result != expected)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_within_a_square_it_is_opencvs(dtype):
    image = skimage.data.astronaut()[100:300, 50:300]
    markers = points(image).astype(dtype)
    expected = opencv(image, markers)
    result = di.watershed(image, markers=markers)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, expected)
    for chunks in CHUNKS[:2]:
        np.testing.assert_array_equal(chunked(image, markers, chunks), expected)
    gray = image[:, :, 1]
    np.testing.assert_array_equal(di.watershed(gray, markers=markers), opencv(gray, markers))
    np.testing.assert_array_equal(chunked(gray, markers, CHUNKS[2]), opencv(gray, markers))


@pytest.mark.parametrize(("tile", "most"), [(64, 0.007), (128, 0.003), (256, 0.0015)])
def test_coins_are_nearly_opencvs(tile, most):
    image, markers = coins()
    assert 0 < share(di.watershed(image, markers=markers, tile=tile), opencv(image, markers)) < most


@pytest.mark.parametrize(("tile", "most"), [(128, 0.09), (256, 0.02)])
def test_cells_are_rather_opencvs(tile, most):
    image, markers = cells()
    assert 0 < share(di.watershed(image, markers=markers, tile=tile), opencv(image, markers)) < most


@pytest.mark.parametrize("held", ["1 GiB", "0"])
@pytest.mark.parametrize("chunks", CHUNKS)
def test_any_chunks_give_the_same(chunks, held):
    image, markers = coins()
    expected = di.watershed(image, markers=markers, tile=48)
    assert share(expected, opencv(image, markers)) > 0
    with dask.config.set({HELD: held}):
        lazy = da.from_array(markers, chunks=(303, 17)).map_blocks(np.copy)
        np.testing.assert_array_equal(chunked(image, lazy, chunks, "threads", tile=48), expected)


def test_colors_over_many_squares():
    image = skimage.data.astronaut()
    markers = points(image)
    expected = di.watershed(image, markers=markers, tile=30)
    np.testing.assert_array_equal(chunked(image, markers, 200, tile=30), expected)
    assert set(np.unique(expected)) == {-1, *range(1, 61)}


def test_where_borders_are_clear_regions_are_opencvs():
    """Fields that differ much, each with one marker and hardly a step within: only lines may lie one pixel aside."""
    steps = np.random.default_rng(0).integers(0, 3, (140, 140))
    fields = np.kron(np.arange(25).reshape(5, 5) % 2, np.ones((28, 28), int))
    image = (200 * fields + steps).astype(np.uint8)
    markers = np.zeros(image.shape, np.int32)
    markers[14::28, 14::28] = np.arange(1, 26).reshape(5, 5)
    regions = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((28, 28), int))
    result = di.watershed(image, markers=markers, tile=40)
    for one in (result, opencv(image, markers)):
        assert np.count_nonzero((one != regions) & (one != -1)) <= 5  # where corners of fields touch
        assert np.mean(one == -1) < 0.1


def test_lines_part_regions_across_squares():
    """Beside each other are pixels of two regions no more often than in OpenCV's own result."""
    image, markers = cells()
    expected, result = opencv(image, markers), di.watershed(image, markers=markers, tile=64)

    def touching(labels):
        beside = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
        return sum(np.count_nonzero((one != other) & (one > 0) & (other > 0)) for one, other in beside)

    assert touching(result) <= touching(expected) + 0.002 * result.size


def test_a_winding_corridor_through_all_squares():
    way = np.zeros((31, 31), np.uint8)
    way[::2] = way[1::4, -1] = way[3::4, 0] = 1  # to and fro
    image = np.pad(200 * way.repeat(5, axis=0).repeat(5, axis=1), 3)
    markers = np.zeros(image.shape, np.int32)
    markers[5, 5] = 7  # where the corridor begins
    markers[1, 80] = 9  # its walls
    result = di.watershed(image, markers=markers, tile=32)
    for one in (result, opencv(image, markers)):
        corridor, walls = one[image == 200], one[image == 0]
        assert np.mean(corridor == 7) > 0.6
        assert np.mean(walls == 9) > 0.8
        assert np.mean(corridor == 9) < 0.004  # at its corners, in OpenCV's result too
        assert np.mean(walls == 7) < 0.001
    for chunks in CHUNKS[:2]:
        np.testing.assert_array_equal(chunked(image, markers, chunks, tile=32), result)


def test_a_marker_in_one_corner_floods_all():
    image = skimage.data.camera()[:100, :100]
    markers = np.zeros(image.shape, np.int32)
    markers[97, 98] = 5
    expected = np.pad(np.full((98, 98), 5), 1, constant_values=-1)
    np.testing.assert_array_equal(chunked(image, markers, 30, tile=16), expected)
    markers[97, 98], markers[99, 99] = 0, 5  # OpenCV does not look at the outermost pixels
    np.testing.assert_array_equal(chunked(image, markers, 30, tile=16), opencv(image, markers))


def test_without_markers_there_are_no_regions():
    image = skimage.data.camera()[:60, :70]
    none = np.full(image.shape, -3)
    expected = np.pad(np.zeros((58, 68)), 1, constant_values=-1)
    np.testing.assert_array_equal(opencv(image, none), expected)
    np.testing.assert_array_equal(chunked(image, none, 9, tile=16), expected)


def test_a_flat_image_is_divided_between_its_markers():
    image = np.full((90, 90), 33, np.uint8)
    markers = np.zeros(image.shape, np.int32)
    markers[20, 20], markers[70, 70] = 1, 2
    result = chunked(image, markers, (90, 7), tile=30)
    np.testing.assert_array_equal(result, di.watershed(image, markers=markers, tile=30))
    assert set(np.unique(result)) == {-1, 1, 2}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 2), (3, 33), (17, 18)])
def test_small_images_and_chunks(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, shape).astype(np.uint8)
    markers = rng.integers(0, 12, shape) * (rng.random(shape) < 0.2)
    expected = di.watershed(image, markers=markers, tile=16)
    np.testing.assert_array_equal(chunked(image, markers, 1, tile=16), expected)
    outside = np.pad(np.zeros([max(0, side - 2) for side in shape]), 1, constant_values=1)[: shape[0], : shape[1]]
    assert (expected[outside == 1] == -1).all()


def test_markers_stay_where_they_touch_across_squares():
    image = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    markers = np.zeros(image.shape, np.int32)
    markers[10:30, 15], markers[10:30, 16] = 1, 2  # the side of the squares is between them
    result = di.watershed(image, markers=markers, tile=16)
    for labels in (result, opencv(image, markers)):
        np.testing.assert_array_equal(labels[markers > 0], markers[markers > 0])


def test_no_pixels():
    empty = np.zeros((0, 5), np.uint8)
    assert di.watershed(empty, markers=empty).dtype == np.int32
    assert chunked(empty, empty, 2).shape == (0, 5)


def test_what_does_not_go_together_is_refused():
    image = np.zeros((4, 4), np.uint8)
    for given in (image, da.from_array(image)):
        with pytest.raises(DtypeError, match="whole numbers"):
            di.watershed(given, markers=image.astype(float))
        with pytest.raises(ArrayError, match="one number per pixel"):
            di.watershed(given, markers=np.dstack([image] * 3))
