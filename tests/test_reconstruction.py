"""Morphological reconstruction is scikit-image's on the whole image, whatever the chunks."""

import dask
import dask.array as da
import numpy as np
import pytest
import skimage.data
from skimage.morphology import reconstruction

import daskimg as di
from daskimg.chunked.again import HELD
from daskimg.errors import ArrayError, DtypeError
from daskimg.operations import reconstruction as module
from daskimg.testing import no_compute

DTYPES = ["uint8", "uint16", "int16", "float32", "float64", "bool"]
FOOTPRINT = {"4": np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool), "8": np.ones((3, 3), bool)}
CHUNKS = [16, (7, 11), (1, 64), ((0, 5, 1, 1, 0, 40, 17, 0), (30, 0, 1, 33))]


def chunked(marker, mask, chunks, scheduler="synchronous", **parameters):
    lazy = da.from_array(marker, chunks=chunks)
    with dask.config.set(scheduler=no_compute):
        result = di.morphological_reconstruction(lazy, mask=mask, **parameters)
    assert result.chunks == lazy.chunks
    return result.compute(scheduler=scheduler)


def noise(dtype, seed=0, shape=(64, 64)):
    values = np.random.default_rng(seed).integers(0, 200, shape)
    return (
        values > 60
        if dtype == "bool"
        else (values - (100 if dtype != "uint8" and dtype[0] != "u" else 0)).astype(dtype)
    )


def few_markers(mask, method, count=5):
    low = np.full(mask.shape, mask.min() if method == "dilation" else mask.max(), mask.dtype)
    at = np.random.default_rng(1).integers(0, mask.size, count)
    low.flat[at] = mask.flat[at]
    return low


@pytest.mark.parametrize("connectivity", ["4", "8"])
@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_skimages(dtype, method, connectivity):
    mask = noise(dtype)
    marker = few_markers(mask, method)
    expected = reconstruction(marker, mask, method, FOOTPRINT[connectivity]).astype(dtype)
    options = {"method": method, "connectivity": connectivity}
    result = di.morphological_reconstruction(marker, mask=mask, **options)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)
    for chunks in CHUNKS:
        np.testing.assert_array_equal(chunked(marker, mask, chunks, **options), expected)


@pytest.mark.parametrize("held", ["1 GiB", "0"])
def test_photo_in_threads(held):
    image = skimage.data.camera()
    marker = np.clip(image.astype(int) - 40, 0, 255).astype(np.uint8)
    expected = reconstruction(marker, image)
    with dask.config.set({HELD: held}):
        # Both images are read anew, rather than held, where nothing may be.
        lazy_mask = da.from_array(image, chunks=(200, 512)).map_blocks(np.copy)
        result = chunked(marker, lazy_mask, (97, 130), scheduler="threads")
    np.testing.assert_array_equal(result, expected)


def spiral(size):
    """A corridor of one pixel that winds from the corner to the middle, as 1 among 0."""
    way = np.zeros((size, size), np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    way[0, 0] = 1
    for _ in range(2 * size):
        while True:
            ny, nx, fy, fx = y + dy, x + dx, y + 2 * dy, x + 2 * dx
            inside = 0 <= ny < size and 0 <= nx < size
            if not inside or (0 <= fy < size and 0 <= fx < size and way[fy, fx]):
                break
            y, x = ny, nx
            way[y, x] = 1
        dy, dx = dx, -dy
    return way


@pytest.mark.parametrize("chunks", [8, 3, (5, 61)])
def test_a_spiral_corridor_through_all_chunks(chunks):
    mask = 200 * spiral(61)
    marker = np.zeros_like(mask)
    marker[0, 0] = 200
    expected = mask.copy()
    np.testing.assert_array_equal(chunked(marker, mask, chunks, connectivity="4"), expected)
    assert np.count_nonzero(expected) > 61 * 61 // 3
    mask[0, 40] = 77  # the corridor's narrow place, near where it begins
    expected = np.minimum(mask, 77)
    expected[0, :40] = 200
    np.testing.assert_array_equal(chunked(marker, mask, chunks, connectivity="4"), expected)


def test_markers_in_one_corner_only():
    mask = noise("uint16", 3)
    marker = np.zeros_like(mask)
    marker[-1, -1] = 199
    expected = reconstruction(np.minimum(marker, mask), mask)
    assert 0 < expected[0, 0] < 199
    for chunks in CHUNKS:
        np.testing.assert_array_equal(chunked(marker, mask, chunks), expected)


@pytest.mark.parametrize("method", ["dilation", "erosion"])
def test_without_markers_nothing_grows(method):
    mask = noise("float32")
    none = np.full_like(mask, np.nan)
    lowest = -np.inf if method == "dilation" else np.inf
    np.testing.assert_array_equal(chunked(none, mask, 9, method=method), np.full_like(mask, lowest))


def test_equal_images():
    same = np.full((20, 30), 7, np.int16)
    np.testing.assert_array_equal(chunked(same, same, (3, 7)), same)
    np.testing.assert_array_equal(chunked(same - 9, same, (3, 7)), same - 9)


@pytest.mark.parametrize("chunks", [1, ((0, 1, 0, 2, 1), (1, 0, 1, 1, 2))])
def test_chunks_of_a_pixel_and_of_none(chunks):
    mask = noise("uint8", 5, (4, 5))
    marker = few_markers(mask, "dilation", 2)
    np.testing.assert_array_equal(chunked(marker, mask, chunks), reconstruction(marker, mask))


def test_no_pixels():
    assert chunked(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8), 2).shape == (0, 4)
    assert di.morphological_reconstruction(np.zeros((0, 4), bool), mask=np.zeros((0, 4), bool)).dtype == bool


@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinite_pixels(dtype, method):
    mask = noise(dtype, 2)
    rng = np.random.default_rng(4)
    marker = few_markers(mask, method, 40)
    for image in (mask, marker):
        for value in (np.nan, np.inf, -np.inf):
            image[tuple(rng.integers(0, 64, (2, 60)))] = value
    sign = 1 if method == "dilation" else -1
    lower, bound = (np.where(np.isnan(one), -np.inf, sign * one) for one in (marker, mask))
    expected = sign * reconstruction(np.minimum(lower, bound), bound)
    expected[np.isnan(mask)] = np.nan
    result = di.morphological_reconstruction(marker, mask=mask, method=method)
    np.testing.assert_array_equal(result, expected.astype(dtype))
    for chunks in CHUNKS:
        assert chunked(marker, mask, chunks, method=method).tobytes() == result.tobytes()


@pytest.mark.parametrize("connectivity", ["4", "8"])
def test_mazes_go_by_a_tree(connectivity, monkeypatch):
    mask = noise("float64", 6, (150, 140))
    marker = few_markers(mask, "dilation")
    expected = di.morphological_reconstruction(marker, mask=mask, connectivity=connectivity)
    monkeypatch.setattr(module, "MOST_DILATIONS", 3)
    result = di.morphological_reconstruction(marker, mask=mask, connectivity=connectivity)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(chunked(marker, mask, 40, connectivity=connectivity), expected)


def test_gray_holes_are_filled_as_fill_holes_does():
    image = 255 * (skimage.data.binary_blobs(96, rng=1)).astype(np.uint8)
    marker = np.pad(np.full((94, 94), 255, np.uint8), 1)
    marker = np.maximum(marker, image)
    expected = di.fill_holes(image, connectivity="8")
    assert (expected != image).any()
    result = chunked(marker, image, 33, method="erosion", connectivity="4")
    np.testing.assert_array_equal(result, expected)


def test_a_channel_axis_of_one_and_lazy_masks():
    mask = noise("uint8")
    marker = few_markers(mask, "dilation")
    expected = reconstruction(marker, mask)[:, :, np.newaxis]
    result = di.morphological_reconstruction(marker[:, :, np.newaxis], mask=mask)
    np.testing.assert_array_equal(result, expected)
    lazy = da.from_array(marker[:, :, np.newaxis], chunks=(20, 20, 1))
    result = di.morphological_reconstruction(lazy, mask=da.from_array(mask[:, :, np.newaxis], chunks=(64, 5, 1)))
    np.testing.assert_array_equal(result.compute(), expected)


def test_what_does_not_go_together_is_refused():
    image = np.zeros((4, 4), np.uint8)
    with pytest.raises(DtypeError, match=r'mask.astype\("uint8"\)'):
        di.morphological_reconstruction(da.from_array(image), mask=image.astype(float))
    for lazy in (image, da.from_array(image)):
        with pytest.raises(ArrayError, match="resize one"):
            di.morphological_reconstruction(lazy, mask=image[:3])
        with pytest.raises(ArrayError, match="to_gray"):
            di.morphological_reconstruction(lazy, mask=np.dstack([image] * 3))


def test_what_travels_is_small():
    mask = noise("uint8", 7, (128, 128))
    marker = np.zeros_like(mask)
    kind = di.morphological_reconstruction.declaration.kind
    p = di.morphological_reconstruction(mask=mask).arguments
    where = di.kinds.Window(128, 128, 384, 384)
    outline = kind.sum_up((marker, mask, None), p, where)
    assert len(outline.at) == 4 * 127
    assert len(outline.first) < 2 * len(outline.at)
