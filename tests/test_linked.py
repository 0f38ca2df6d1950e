"""Linked operations: what belongs together is found however many chunks it crosses."""

import itertools
import subprocess
import sys
import textwrap

import cv2
import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

import daskimg as di
from daskimg.chunked.again import HELD
from daskimg.errors import DtypeError, ParameterError
from daskimg.operations import edges
from daskimg.testing import no_compute


def spiral(size):
    """A line one pixel wide that winds inward through the whole image, with gaps of one pixel."""
    image = np.zeros((size, size), np.uint8)
    row, column, length = 0, 0, size - 1
    for steps, (dy, dx) in enumerate(itertools.cycle([(0, 1), (1, 0), (0, -1), (-1, 0)]), 1):
        for _ in range(length):
            image[row, column] = 255
            row, column = row + dy, column + dx
        if steps >= 3 and steps % 2 == 1:
            length -= 2
        if length <= 0:
            return image


def comb(size):
    """Teeth that are connected by their last row only."""
    image = np.zeros((size, size), np.uint8)
    image[:, ::2] = 255
    image[-1] = 255
    return image


def blobs(seed, shape=(90, 120), share=0.5):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8), (0, 0), 2)
    return np.where(noise > np.quantile(noise, share), 255, 0).astype(np.uint8)


IMAGES = {
    "spiral": spiral(61),
    "comb": comb(64),
    "comb on its side": np.ascontiguousarray(comb(64).T),
    "all": np.full((50, 70), 255, np.uint8),
    "nothing": np.zeros((50, 70), np.uint8),
    "checkers": np.indices((40, 41)).sum(axis=0).astype(np.uint8) % 2,
    "noise": (np.random.default_rng(0).random((70, 60)) < 0.45).astype(np.uint8),
    "blobs": blobs(1),
    "diagonals": np.where(np.indices((60, 60)).sum(axis=0) % 7 == 0, 9, 0).astype(np.uint8),
    "one pixel": np.ones((1, 1), np.uint8),
}
CHUNKS = [(16, 16), (1, 1), (1, -1), (-1, 2), (13, 1000)]


@pytest.fixture(params=["held", "made anew"])
def held(request):
    with dask.config.set({HELD: "1 GiB" if request.param == "held" else "0"}):
        yield request.param


def lazily(step, image, chunks):
    lazy = da.from_array(image, chunks=chunks).map_blocks(np.copy, dtype=image.dtype)
    with dask.config.set(scheduler=no_compute):
        result = step(lazy)
    assert result.chunks[:2] == lazy.chunks[:2]
    return result.compute(scheduler="synchronous")


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(
    "step",
    [
        di.connected_components(connectivity="4"),
        di.connected_components(connectivity="8"),
        di.fill_holes(connectivity="4"),
        di.fill_holes(connectivity="8"),
        di.remove_small_objects(min_size=20, connectivity="4"),
        di.remove_small_objects(min_size=200, connectivity="8"),
        di.flood_fill(row=0, column=0, value=7),
        di.flood_fill(row=0, column=0, value=7, connectivity="8"),
    ],
    ids=str,
)
def test_parts_across_chunks(step, name, chunks):
    image = IMAGES[name]
    if chunks == (1, 1):
        image = np.ascontiguousarray(image[-15:, :15])  # as many chunks as pixels
    np.testing.assert_array_equal(lazily(step, image, chunks), step(image))


@pytest.mark.parametrize("seed", range(8))
def test_components_of_noise_have_opencvs_numbers(seed, held):
    rng = np.random.default_rng(seed)
    image = (rng.random(rng.integers(20, 150, 2)) < rng.uniform(0.2, 0.7)).astype(np.uint8)
    chunks = tuple(int(one) for one in rng.integers(3, 60, 2))
    for connectivity in (4, 8):
        expected = cv2.connectedComponents(image, connectivity=connectivity)[1]
        np.testing.assert_array_equal(
            lazily(di.connected_components(connectivity=str(connectivity)), image, chunks), expected
        )


def test_holes_are_scipys():
    image = blobs(3)
    expected = ndimage.binary_fill_holes(image)
    np.testing.assert_array_equal(di.fill_holes(image, connectivity="8") != 0, expected)
    np.testing.assert_array_equal(lazily(di.fill_holes(connectivity="8"), image, (17, 19)) != 0, expected)


def test_small_objects_are_those_of_a_plain_count():
    image = blobs(4, share=0.8)
    labels, count = ndimage.label(image, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    expected = np.where((areas >= 50)[labels], image, 0)
    assert (expected != image).any()
    np.testing.assert_array_equal(lazily(di.remove_small_objects(min_size=50), image, (17, 19)), expected)


def test_flood_is_opencvs_on_colors_and_floats():
    rng = np.random.default_rng(5)
    color = cv2.GaussianBlur(rng.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 4)
    for image in (color, color[:, :, 0].astype(np.float32) * 1.3):
        step = di.flood_fill(row=31, column=41, value=200, low_diff=9.5, high_diff=12)
        count = 1 if image.ndim == 2 else 3
        expected = image.copy()
        cv2.floodFill(expected, None, (41, 31), [200] * 3, [9.5] * 3, [12] * 3, 4 | cv2.FLOODFILL_FIXED_RANGE)
        assert 10 * count < (expected != image).sum() < image.size
        np.testing.assert_array_equal(lazily(step, image, (16, 17, -1)[: image.ndim]), expected)


def test_nan_and_infinity():
    image = np.array([[np.nan, 0, np.inf, np.inf], [0, 0, -np.inf, 0]], np.float32)
    expected = np.array([[1, 0, 2, 2], [0, 0, 2, 0]])
    np.testing.assert_array_equal(lazily(di.connected_components(), image, (1, 2)), expected)
    unchanged = lazily(di.flood_fill(row=0, column=0), image, (1, 2))
    np.testing.assert_array_equal(unchanged, image)
    filled = lazily(di.flood_fill(row=0, column=1, value=5), image, (1, 2))
    np.testing.assert_array_equal(filled, np.where(image == 0, [[5, 5, 5, 0], [5, 5, 5, 0]], image))


def test_a_seed_outside_is_refused_when_the_graph_is_built():
    for image in (IMAGES["blobs"], da.from_array(IMAGES["blobs"], chunks=20)):
        with pytest.raises(ParameterError, match="row 90, column 3 is outside the image of 90 x 120"):
            di.flood_fill(image, row=90, column=3)
    with pytest.raises(DtypeError):
        di.flood_fill(da.zeros((5, 5), dtype="uint16"), row=0, column=0)


def test_images_without_pixels():
    for step in (di.canny(), di.connected_components(), di.fill_holes(), di.remove_small_objects()):
        result = step(da.zeros((0, 5), dtype="uint8", chunks=3))
        assert result.shape == result.compute().shape == (0, 5)


# Canny


def weak_spiral():
    """A ridge too weak to start an edge, all along a spiral through every chunk, and one strong spot at its heart."""
    path = cv2.resize(spiral(21), None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST) // 8
    row, column = np.argwhere(path)[len(np.argwhere(path)) // 2]
    path[row - 2 : row + 3, column - 2 : column + 3] = 255
    return path


CANNY_IMAGES = {
    "weak spiral": weak_spiral(),
    "photo": cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (130, 140), np.uint8), (0, 0), 2),
    "noise": np.random.default_rng(3).integers(0, 256, (75, 66), np.uint8),
    "all equal": np.full((40, 50), 77, np.uint8),
    "steps": np.repeat(np.repeat(np.random.default_rng(4).integers(0, 256, (12, 13), np.uint8), 8, 0), 8, 1),
}


@pytest.mark.parametrize("chunks", [(16, 16), (1, 1), (5, -1), (64, 33)])
@pytest.mark.parametrize("name", CANNY_IMAGES)
@pytest.mark.parametrize("aperture", [3, 5, 7])
def test_canny_is_opencvs(name, chunks, aperture, monkeypatch):
    image = CANNY_IMAGES[name]
    if chunks == (1, 1):
        image = np.ascontiguousarray(image[20:32, 20:32])
    steepest = np.abs(cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=aperture)).max()
    found = 0
    for l2_gradient, high, frame in itertools.product([False, True], [0.3, 0.8], [3, 64]):
        monkeypatch.setattr(edges, "FRAME", frame)
        step = di.canny(low=high * steepest / 6, high=high * steepest, aperture=aperture, l2_gradient=l2_gradient)
        expected = cv2.Canny(
            image, step.params["low"], step.params["high"], apertureSize=aperture, L2gradient=l2_gradient
        )
        np.testing.assert_array_equal(lazily(step, image, chunks), expected)
        found += np.count_nonzero(expected)
    assert (found > 0) == (name != "all equal")


def test_canny_follows_a_weak_line_through_every_chunk(held):
    image = weak_spiral()
    step = di.canny(low=20, high=800)
    expected = cv2.Canny(image, 20, 800)
    without = image.copy()
    without[without > 31] = 31
    assert np.count_nonzero(expected) > 500 > np.count_nonzero(cv2.Canny(without, 20, 800)) == 0
    np.testing.assert_array_equal(lazily(step, image, (10, 10)), expected)


def test_canny_of_colors_takes_the_steepest_channel():
    image = np.random.default_rng(6).integers(0, 256, (50, 60, 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 1.5)
    np.testing.assert_array_equal(lazily(di.canny(low=60, high=150), image, (13, 17, -1)), cv2.Canny(image, 60, 150))


NEARLY_DIAGONAL = np.array(
    [
        [189, 196, 155, 179, 155, 136, 90, 116, 145],
        [194, 173, 129, 155, 150, 159, 124, 156, 159],
        [155, 132, 144, 131, 125, 164, 140, 156, 133],
        [150, 110, 130, 108, 132, 171, 168, 118, 102],
        [118, 116, 103, 83, 89, 114, 131, 98, 116],
        [131, 125, 135, 125, 140, 153, 117, 84, 89],
        [140, 122, 149, 177, 186, 168, 150, 133, 108],
        [156, 183, 162, 161, 168, 144, 138, 160, 172],
        [140, 196, 172, 140, 166, 127, 116, 130, 140],
    ],
    np.uint8,
)


def test_canny_does_not_depend_on_opencvs_threads():
    """Of one thread, OpenCV uses Intel's Canny, which takes this pixel's slope for a diagonal one."""
    image = NEARLY_DIAGONAL
    step = di.canny(low=628, high=1599, aperture=5)
    results, before = [], cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            results += [step(image), lazily(step, image, (5, 6))]
    finally:
        cv2.setNumThreads(before)
    assert results[0][4, 4] == 255
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def test_canny_needs_its_reach():
    from dataclasses import replace

    kind = di.canny.declaration.kind
    short = di.canny.changed(kind=replace(kind, reach=lambda p: p.aperture // 2))
    image = CANNY_IMAGES["photo"]
    with pytest.raises((AssertionError, ValueError)):
        np.testing.assert_array_equal(
            lazily(short.step({"aperture": 5}), image, (16, 16)), cv2.Canny(image, 100, 200, apertureSize=5)
        )


def test_edges_then_components(held):
    image = CANNY_IMAGES["photo"]
    pipeline = (
        di.gaussian_blur(ksize=5)
        | di.canny(low=20, high=60)
        | di.connected_components()
        | di.remove_small_objects(min_size=9)
    )
    np.testing.assert_array_equal(lazily(pipeline, image, (31, 37)), pipeline(image))


def test_each_pass_reads_the_image_once(held):
    reads = []

    def read(block_info=None):
        place = block_info[None]["chunk-location"]
        reads.append(place)
        rng = np.random.default_rng(place)
        return cv2.GaussianBlur(rng.integers(0, 256, (50, 50)).astype(np.uint8), (0, 0), 2)

    image = da.map_blocks(read, chunks=((50,) * 4, (50,) * 4), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    result = (di.canny(low=20, high=60) | di.connected_components())(image)
    result.compute(scheduler="synchronous")
    passes = {"held": 1, "made anew": 3}[held]  # Canny looks twice, and the components once more at its result
    assert len(reads) == 16 * passes


def test_only_sides_travel():
    """What one block tells the others is a small part of it."""
    import pickle

    image = blobs(7, (600, 600))
    for step in (di.canny(low=20, high=60), di.connected_components(), di.fill_holes()):
        lazy = step(da.from_array(image, chunks=300))
        links = next(name for name in lazy.dask.layers if "-links-" in name)
        keys = [key for key in lazy.dask.layers[links] if key[0].endswith(("-sides", "-of"))]
        for told in dask.get(dict(lazy.dask), keys):
            assert len(pickle.dumps(told)) < 40 * 4 * 300


def test_to_numpy_makes_labels_where_they_belong(held):
    image = blobs(8)
    lazy = di.connected_components(da.from_array(image, chunks=33))
    np.testing.assert_array_equal(di.to_numpy(lazy), di.connected_components(image))
    np.testing.assert_array_equal(lazy.compute(), di.connected_components(image))


def test_workers_in_other_processes_agree(client, held):
    image = blobs(9, (300, 400))
    pipeline = di.canny(low=20, high=60) | di.connected_components() | di.remove_small_objects(min_size=5)
    lazy = da.from_array(image, chunks=70).map_blocks(np.copy, dtype=image.dtype)
    np.testing.assert_array_equal(client.compute(pipeline(lazy)).result(), pipeline(image))
    equalized = (di.gaussian_blur(ksize=3) | di.equalize_hist())(lazy)
    np.testing.assert_array_equal(
        client.compute(equalized).result(), di.equalize_hist(di.gaussian_blur(image, ksize=3))
    )


@pytest.mark.soak
def test_edges_and_components_of_65536_pixels_a_side_in_two_gigabytes(tmp_path):
    script = textwrap.dedent("""
        import resource, sys, cv2, dask.array as da, numpy as np, daskimg as di

        def block(block_info=None):
            y, x = block_info[None]["chunk-location"]
            noise = np.random.default_rng((y, x)).integers(0, 256, (512, 512), np.uint8)
            return cv2.resize(noise, (4096, 4096), interpolation=cv2.INTER_CUBIC)

        side = int(sys.argv[2])
        chunks = ((4096,) * (side // 4096),) * 2
        image = da.map_blocks(block, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
        labels = (di.canny(low=100, high=200) | di.connected_components())(image)
        labels.to_zarr(sys.argv[1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """)
    arguments = [sys.executable, "-c", script, str(tmp_path / "labels.zarr"), "65536"]
    peak = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) / 1e6
    print(f"peak {peak:.2f} GB")
    assert peak < 2
