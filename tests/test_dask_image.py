"""dask-image and daskimg pass lazy arrays to each other, and docs/dask-image.md says which does what."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import tifffile
from dask_image import imread, ndfilters, ndinterp, ndmeasure, ndmorph

import daskimg as di
from daskimg.testing import no_compute

CHUNKS = ((1, 50, 0, 46), (70, 43))
BOX = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def image():
    """Smooth blobs, which are cut by the edges of chunks."""
    noise = np.random.default_rng(3).normal(size=(97, 113))
    smooth = scipy.ndimage.gaussian_filter(noise, 3)
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@pytest.fixture(scope="module")
def mask(image):
    return image > 140


@pytest.fixture
def building():
    """While this is there, nothing may be computed."""
    with dask.config.set(scheduler=no_compute):
        yield


def chunked(image):
    return da.from_array(image, chunks=CHUNKS)


def result(lazy):
    assert type(lazy) is da.Array
    return lazy.compute(scheduler="synchronous")


def test_their_filter_takes_our_result(image, building):
    lazy = ndfilters.gaussian_filter(di.invert(chunked(image)), 2)
    np.testing.assert_array_equal(result(lazy), scipy.ndimage.gaussian_filter(255 - image, 2))


def test_our_operations_take_their_result(image, building):
    pipeline = di.gaussian_blur(sigma=1.5) | di.sobel(dx=1) | di.absolute()
    lazy = pipeline(ndfilters.percentile_filter(chunked(image), 30, 5))
    np.testing.assert_array_equal(result(lazy), pipeline(scipy.ndimage.percentile_filter(image, 30, 5)))


def test_there_and_back_and_there(image, building):
    lazy = ndmorph.binary_opening(di.otsu_threshold(ndfilters.median_filter(chunked(image), 3)), BOX)
    filtered = di.fill_holes(lazy)
    whole = scipy.ndimage.binary_opening(di.otsu_threshold(scipy.ndimage.median_filter(image, 3)), BOX)
    np.testing.assert_array_equal(result(lazy), whole)
    np.testing.assert_array_equal(result(filtered), di.fill_holes(whole))


def test_our_warp_and_theirs_follow_each_other(image, building):
    matrix = np.array([[1.0213, 0.1507], [-0.1711, 0.9637]])
    theirs = ndinterp.affine_transform(chunked(image), matrix, order=1, output_chunks=(40, 50))
    lazy = di.rotate(theirs, angle=17)
    whole = di.rotate(scipy.ndimage.affine_transform(image, matrix, order=1), angle=17)
    np.testing.assert_array_equal(result(lazy), whole)


def test_canny_of_frames_that_they_read(image, tmp_path):
    stack = np.stack([np.roll(image, 10 * number, axis=1) for number in range(3)])
    tifffile.imwrite(tmp_path / "frames.tif", stack, photometric="minisblack")
    frames = imread.imread(str(tmp_path / "frames.tif"))
    edges = da.stack([di.canny(frame) for frame in frames])
    np.testing.assert_array_equal(result(edges), np.stack([di.canny(frame) for frame in stack]))


def test_they_measure_our_labels(image, mask):
    with dask.config.set(scheduler=no_compute):
        labels = di.connected_components(chunked(mask), connectivity="4")
        assert labels.dtype == np.int32
        centers = ndmeasure.center_of_mass(chunked(image), labels, [1, 2, 3])
        greatest = ndmeasure.maximum(chunked(image), labels, [1, 2, 3])
    whole = di.connected_components(mask, connectivity="4")
    np.testing.assert_array_equal(result(centers), scipy.ndimage.center_of_mass(image, whole, [1, 2, 3]))
    np.testing.assert_array_equal(result(greatest), scipy.ndimage.maximum(image, whole, [1, 2, 3]))


def test_we_measure_their_labels(image, mask):
    with dask.config.set(scheduler=no_compute):
        labels, count = ndmeasure.label(chunked(mask), BOX)
        table = di.region_properties(labels, chunked(image), compute=False)
    table = table.compute(scheduler="synchronous")
    whole = di.region_properties(di.connected_components(mask), image)
    assert len(table) == count.compute(scheduler="synchronous") > 5
    order = ["min_row", "min_column", "max_row", "max_column", "area"]  # they number the regions otherwise
    pd.testing.assert_frame_equal(
        *(one.sort_values(order).reset_index(drop=True) for one in (table, whole)), check_exact=True
    )


# What docs/dask-image.md says of dask-image. Where one of these fails, it has become better: tell the page.


def test_their_sobel_of_small_integers_wraps_around_and_ours_does_not(image):
    true = scipy.ndimage.sobel(image.astype(np.int32), axis=1, mode="mirror")
    theirs = result(ndfilters.sobel(chunked(image), axis=1, mode="mirror"))
    assert (true < 0).any()
    assert theirs.dtype == np.uint8, "dask_image's sobel no longer keeps to uint8"
    np.testing.assert_array_equal(theirs, true.astype(np.uint8))
    np.testing.assert_array_equal(result(di.sobel(chunked(image), dx=1)), true)


def test_their_gaussian_with_wrapping_borders_depends_on_the_chunks(image):
    theirs = result(ndfilters.gaussian_filter(chunked(image), 2, mode="wrap"))
    assert (theirs != scipy.ndimage.gaussian_filter(image, 2, mode="wrap")).any()


def test_the_tasks_of_their_labels_grow_faster_than_the_chunks():
    images = [da.zeros((count * 8, count * 8), chunks=8, dtype=np.uint8) for count in (3, 6)]
    few, many = (len(dict(ndmeasure.label(one)[0].dask)) for one in images)
    assert many > 8 * few
    few, many = (len(dict(di.connected_components(one).dask)) for one in images)
    assert many < 5 * few


def test_their_measurements_take_tasks_for_each_label(image, mask):
    labels = di.connected_components(chunked(mask))
    few, many = (
        len(dict(ndmeasure.mean(chunked(image), labels, range(1, count)).dask)) - len(dict(labels.dask))
        for count in (3, 21)
    )
    assert many > 5 * few
