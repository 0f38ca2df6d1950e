"""Two-pass operations: as OpenCV, scikit-image or plain NumPy on the whole image, which is read twice, never held."""

import collections
import contextlib
import math
import threading
import weakref
from fractions import Fraction

import cv2
import dask
import dask.array as da
import numpy as np
import pytest
import skimage.exposure

import daskimg as di
from daskimg.chunked.layer import LocalLayer
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.measure import histogram, otsu_level, triangle_level
from daskimg.operations.contrast import exact_sum
from daskimg.operations.histogram import MOST_COUNTED, counts_of
from daskimg.operations.quantize import SAMPLE
from daskimg.testing import no_compute

RNG = np.random.default_rng(0)

TWO_PASS = {
    "auto_contrast": {},
    "clahe": {"tiles": 3},
    "equalize_hist": {},
    "normalize": {},
    "otsu_threshold": {},
    "quantize_colors": {"colors": 3},
    "triangle_threshold": {},
}
KINDS = {
    "binary": cv2.THRESH_BINARY,
    "binary_inv": cv2.THRESH_BINARY_INV,
    "trunc": cv2.THRESH_TRUNC,
    "to_zero": cv2.THRESH_TOZERO,
    "to_zero_inv": cv2.THRESH_TOZERO_INV,
}


def photo(shape=(61, 83), dtype=np.uint8, seed=0):
    """Return smooth noise that does not fill its range."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 2) * 3 + rng.normal(size=shape) * 0.3
    top = np.iinfo(dtype).max
    return np.clip(top * (0.45 + 0.1 * noise), 0, top).astype(dtype)


def chunked(image, chunks=((20, 1, 0, 3), (7, 30, 1))):
    """Return a lazy image of ragged chunks, of one pixel and of none too."""
    sizes = []
    for size, given in zip(image.shape, chunks, strict=False):
        sizes.append((*given, size - sum(given)))
    return da.from_array(image, chunks=(*sizes, *((one,) for one in image.shape[2:])))


@contextlib.contextmanager
def without_ipp():
    """Let OpenCV do all by its own code, where Intel's may break ties otherwise."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


# Equalising


def equalized(image):
    """Return the formula of `cv2.equalizeHist` in plain NumPy."""
    bins = 1 << 8 * image.itemsize
    counts = np.bincount(image.ravel(), minlength=bins)
    first = int(image.min())
    if counts[first] == image.size:
        return image.copy()
    counts[first] = 0
    shares = np.cumsum(counts).astype(np.float32) * (np.float32(bins - 1) / np.float32(counts.sum()))
    return np.rint(shares).astype(image.dtype)[image]


def test_equalize_hist_is_opencvs():
    for seed in range(20):
        image = photo(seed=seed)
        np.testing.assert_array_equal(di.equalize_hist(image), cv2.equalizeHist(image))
        np.testing.assert_array_equal(equalized(image), cv2.equalizeHist(image))
        np.testing.assert_array_equal(di.equalize_hist(chunked(image)).compute(), cv2.equalizeHist(image))


def test_equalize_hist_of_uint16_has_its_formula():
    image = photo(dtype=np.uint16)
    np.testing.assert_array_equal(di.equalize_hist(image), equalized(image))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equalize_hist_of_color_changes_luminance_or_each_channel(dtype):
    image = photo((40, 50, 4), dtype)
    rgb = np.ascontiguousarray(image[:, :, :3])
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    luma[:, :, 0] = equalized(luma[:, :, 0])
    result = di.equalize_hist(image)
    np.testing.assert_array_equal(result[:, :, :3], cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB))
    np.testing.assert_array_equal(result[:, :, 3], image[:, :, 3])
    each = di.equalize_hist(image, color="each")
    for channel in range(3):
        np.testing.assert_array_equal(each[:, :, channel], equalized(image[:, :, channel]))
    with pytest.raises(ArrayError, match='color="each"'):
        di.equalize_hist(image[:, :, :2])


def test_color_each_takes_stacks_of_any_number_of_channels():
    xarray = pytest.importorskip("xarray")
    stack = xarray.DataArray(photo((30, 20, 6)), dims=("y", "x", "c")).chunk(y=11)
    result = di.equalize_hist(stack, color="each").values
    for channel in range(6):
        np.testing.assert_array_equal(result[:, :, channel], equalized(stack.values[:, :, channel]))
    with pytest.raises(ArrayError, match="mixes colors"):
        di.equalize_hist(stack)


def test_counts_are_exact_beyond_what_float32_holds():
    line = np.zeros((1, MOST_COUNTED + 3), np.uint8)
    assert counts_of(line)[0] == MOST_COUNTED + 3
    assert counts_of(line.reshape(-1, 1))[0] == MOST_COUNTED + 3


# Thresholds


@pytest.mark.parametrize("method", ["otsu", "triangle"])
def test_levels_are_opencvs_also_among_equally_good_ones(method):
    flag = cv2.THRESH_OTSU if method == "otsu" else cv2.THRESH_TRIANGLE
    level, operation = (otsu_level, di.otsu_threshold) if method == "otsu" else (triangle_level, di.triangle_threshold)
    rng = np.random.default_rng(1)
    with without_ipp():
        for number in range(600):
            values = rng.choice([0, 1, 2, 128, 253, 254, 255], 4) if number % 3 else rng.integers(0, 256, 5)
            image = rng.choice(values, size=tuple(rng.integers(1, 9, 2))).astype(np.uint8)
            expected, result = cv2.threshold(image, 0, 255, flag)
            assert level(image) == expected
            np.testing.assert_array_equal(operation(image), result)
            if number % 20 == 0:
                np.testing.assert_array_equal(operation(da.from_array(image, chunks=2)).compute(), result)


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_are_opencvs(kind):
    image = photo()
    lazy = chunked(image)
    with without_ipp():
        for operation, flag in ((di.otsu_threshold, cv2.THRESH_OTSU), (di.triangle_threshold, cv2.THRESH_TRIANGLE)):
            expected = cv2.threshold(image, 0, 200, flag | KINDS[kind])[1]
            np.testing.assert_array_equal(operation(image, kind=kind, max_value=200), expected)
            np.testing.assert_array_equal(operation(lazy, kind=kind, max_value=200).compute(), expected)


def test_otsu_of_uint16_is_opencvs():
    for seed in range(5):
        image = photo(dtype=np.uint16, seed=seed)
        level, result = cv2.threshold(image, 0, 65535, cv2.THRESH_OTSU)
        assert otsu_level(image) == otsu_level(chunked(image)) == level
        np.testing.assert_array_equal(di.otsu_threshold(image), result)
        np.testing.assert_array_equal(di.otsu_threshold(chunked(image)).compute(), result)


def triangle(image):
    """Return the formula of `cv2.threshold` with THRESH_TRIANGLE, step by step."""
    counts = np.bincount(image.ravel(), minlength=1 << 8 * image.itemsize).tolist()
    top = len(counts) - 1
    left = next(value for value, count in enumerate(counts) if count)
    left -= left > 0
    right = next((value for value in range(top, 0, -1) if counts[value]), 0)
    right += right < top
    peak = counts.index(max(counts))
    flipped = peak - left < right - peak
    if flipped:
        counts, left, peak = counts[::-1], top - right, top - peak
    best, level = 0, left
    for value in range(left + 1, peak + 1):
        distance = counts[peak] * value + (left - peak) * counts[value]
        if distance > best:
            best, level = distance, value
    level -= 1
    return top - level if flipped else level


def test_triangle_of_uint16_has_its_formula():
    for seed in range(5):
        small = photo(seed=seed)
        assert triangle(small) == cv2.threshold(small, 0, 255, cv2.THRESH_TRIANGLE)[0]
        image = photo(dtype=np.uint16, seed=seed) // (seed * 40 + 1)
        assert triangle_level(image) == triangle(image)
        np.testing.assert_array_equal(di.triangle_threshold(image), np.where(image > triangle(image), 65535, 0))


# Normalising


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("limits", [(None, None), (20.5, 99.25), (100, 3)])
def test_normalize_is_opencvs(dtype, limits):
    image = photo((40, 47, 3), np.uint16).astype(dtype)
    if dtype == "int16":
        image = image - np.int16(20000)
    white = np.iinfo(dtype).max if image.dtype.kind != "f" else 1
    low, high = (0, white) if limits == (None, None) else limits
    expected = cv2.normalize(image, None, low, high, cv2.NORM_MINMAX)
    for one in (image, chunked(image)):
        np.testing.assert_array_equal(np.asarray(di.normalize(one, low=limits[0], high=limits[1])), expected)
    each = di.normalize(image, low=limits[0], high=limits[1], channels="each")
    plane = np.ascontiguousarray(image[:, :, 1])
    np.testing.assert_array_equal(each[:, :, 1], cv2.normalize(plane, None, low, high, cv2.NORM_MINMAX))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_normalize_to_mean_and_deviation(dtype):
    image = (photo(dtype=np.uint16) / 7).astype(dtype)
    result = di.normalize(image, method="mean_std")
    wide = image.astype(np.longdouble)
    assert result.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_allclose(
        result, (wide - wide.mean()) / wide.std(), rtol=1e-6 if dtype != "float64" else 1e-12, atol=1e-14
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_bit_of_mean_and_deviation_depends_on_the_chunks(dtype):
    rng = np.random.default_rng(3)
    image = (rng.normal(size=(60, 50)) * 10.0 ** rng.integers(-30, 15, (60, 50)) + 1e6).astype(dtype)
    expected = di.normalize(image, method="mean_std").tobytes()
    for chunks in (7, (1, 50), (60, 1), (33, 49)):
        lazy = da.from_array(image, chunks=chunks)
        assert di.normalize(lazy, method="mean_std").compute().tobytes() == expected


def test_deviation_is_right_where_squares_cancel():
    image = 1e9 + np.array([[0.0, 1.0, 2.0, 3.0]])
    np.testing.assert_allclose(di.normalize(image, method="mean_std"), (np.arange(4) - 1.5) / math.sqrt(1.25) + [[0]])


def test_sums_are_exact():
    rng = np.random.default_rng(4)
    for spread in (0, 5, 100, 290):
        values = rng.normal(size=70_000) * 10.0 ** rng.integers(-spread, spread // 2 + 1, 70_000)
        exact = sum(map(Fraction, values.tolist()))
        assert Fraction(exact_sum(values), 1 << 1074) == exact
    assert exact_sum(np.array([5e-324, -5e-324, 5e-324])) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["min_max", "mean_std"])
def test_nan_and_infinity_stay_and_do_not_count(dtype, method):
    image = photo().astype(dtype)
    spoiled = image.copy()
    spoiled[3, 4], spoiled[5, 6], spoiled[60, 82] = np.nan, np.inf, -np.inf
    good = np.isfinite(spoiled)
    expected = spoiled.copy()
    kept = image.copy()
    kept[~good] = image[good][0]
    if method == "min_max":
        expected[good] = cv2.normalize(kept, None, 0, 1, cv2.NORM_MINMAX)[good]
    else:
        mean, std = spoiled[good].astype(float).mean(), spoiled[good].astype(float).std()
        expected[good] = (image[good] - mean) / std
    for one in (spoiled, chunked(spoiled)):
        result = np.asarray(di.normalize(one, method=method))
        np.testing.assert_array_equal(np.isfinite(result), good)
        np.testing.assert_allclose(result, expected, rtol=0 if method == "min_max" else 1e-5)
    nothing = np.full((3, 4), np.nan, dtype)
    np.testing.assert_array_equal(di.normalize(nothing, method=method), nothing)


# Contrast, white balance, matching


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("limits", [(0, 100), (1, 99), (12.5, 50)])
def test_auto_contrast_stretches_between_percentiles(dtype, limits):
    image = photo((40, 47, 3), dtype)
    white = np.iinfo(dtype).max
    for channels in ("joint", "each"):
        low, high = np.percentile(image, limits, axis=(0, 1) if channels == "each" else None)
        expected = np.clip(np.rint((image - low) / (high - low) * white), 0, white)
        for one in (image, chunked(image)):
            result = di.auto_contrast(one, low=limits[0], high=limits[1], channels=channels)
            np.testing.assert_array_equal(np.asarray(result), expected)
    with pytest.raises(ParameterError, match="swap"):
        di.auto_contrast(image, low=5, high=5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_balance_makes_the_means_equal(dtype):
    image = photo((40, 47, 4), dtype)
    image[:, :, 1] //= 2
    means = image[:, :, :3].reshape(-1, 3).mean(axis=0)
    expected = np.clip(np.rint(image[:, :, :3] * (means.mean() / means)), 0, np.iinfo(dtype).max)
    for one in (image, chunked(image)):
        result = np.asarray(di.white_balance(one))
        np.testing.assert_array_equal(result[:, :, :3], expected)
        np.testing.assert_array_equal(result[:, :, 3], image[:, :, 3])
    image[:, :, 2] = 0
    assert di.white_balance(image)[:, :, 2].max() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_match_histograms_is_scikit_images(dtype):
    image, reference = photo(dtype=dtype), photo((37, 29), dtype, seed=5) // 2
    expected = np.rint(skimage.exposure.match_histograms(image, reference))
    lazy = da.from_array(reference, chunks=10)
    for one, other in ((image, reference), (chunked(image), reference), (chunked(image), lazy), (image, lazy)):
        np.testing.assert_array_equal(np.asarray(di.match_histograms(one, reference=other)), expected)


def test_match_histograms_takes_a_url_and_ignores_alpha(tmp_path):
    image, reference = photo((30, 40, 3)), photo((20, 25, 4), seed=7)
    expected = np.dstack(
        [np.rint(skimage.exposure.match_histograms(image[..., c], reference[..., c])) for c in range(3)]
    )
    path = tmp_path / "reference.png"
    cv2.imwrite(str(path), cv2.cvtColor(reference, cv2.COLOR_RGBA2BGRA))
    for one, other in ((image, str(path)), (chunked(image), str(path)), (chunked(image), reference)):
        np.testing.assert_array_equal(np.asarray(di.match_histograms(one, reference=other)), expected)


def test_match_histograms_refuses_another_kind_of_reference_when_it_is_built():
    with dask.config.set(scheduler=no_compute):
        for reference in (photo((9, 9, 3)), photo((9, 9), np.uint16)):
            with pytest.raises(ArrayError, match="convert one of them"):
                di.match_histograms(chunked(photo()), reference=reference)


def test_the_pixels_of_a_reference_are_in_no_task():
    reference = photo((300, 300), np.uint16)
    lazy = di.match_histograms(chunked(photo(dtype=np.uint16)), reference=da.from_array(reference, chunks=100))
    layer = lazy.dask.layers[lazy.name]
    assert isinstance(layer, LocalLayer)
    assert max(len(dask.base.tokenize.__module__) + len(repr(task)) for task in layer.values()) < 5000
    assert not layer.run.steps[-1].params["reference"].__class__.__name__.startswith("Bound")


# Few colors


def test_quantize_colors_paints_each_pixel_in_the_nearest_color():
    image = photo((50, 60, 3))
    result = di.quantize_colors(image, colors=5)
    palette = np.unique(result.reshape(-1, 3), axis=0).astype(int)
    assert len(palette) == 5
    distances = ((image.reshape(-1, 1, 3).astype(int) - palette) ** 2).sum(axis=2)
    chosen = ((image.astype(int) - result) ** 2).sum(axis=2).ravel()
    np.testing.assert_array_equal(chosen, distances.min(axis=1))
    one_color = ((image - image.reshape(-1, 3).mean(axis=0)) ** 2).sum()
    assert chosen.sum() < 0.5 * one_color


def test_the_sample_of_colors_does_not_depend_on_the_chunks():
    image = photo((700, 611, 3))
    assert image.shape[0] * image.shape[1] > 4 * SAMPLE
    expected = di.quantize_colors(image, colors=6)
    for chunks in ((300, 611), (123, 77), (700, 10)):
        lazy = da.from_array(image, chunks=(*chunks, 3))
        np.testing.assert_array_equal(di.quantize_colors(lazy, colors=6).compute(), expected)


def test_few_colors_stay_as_they_are():
    image = RNG.choice(np.array([[1, 2, 3], [200, 0, 9], [7, 7, 7]], np.uint8), size=(20, 30))
    np.testing.assert_array_equal(di.quantize_colors(image, colors=3), image)


# CLAHE


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_clahe_is_opencvs_for_any_size_and_chunks(dtype):
    rng = np.random.default_rng(6)
    for _ in range(25):
        shape, tiles = tuple(rng.integers(1, 120, 2)), rng.integers(1, 15, 2).tolist()
        clip = float(rng.choice([0, 0.5, 2, 40]))
        image = photo(shape, dtype, seed=int(rng.integers(99)))
        expected = cv2.createCLAHE(clip, (tiles[1], tiles[0])).apply(image)
        lazy = da.from_array(image, chunks=tuple(rng.integers(7, 60, 2).tolist()))
        for one in (image, lazy):
            result = di.clahe(one, clip_limit=clip, tiles=tiles[1], tiles_y=tiles[0])
            np.testing.assert_array_equal(np.asarray(result), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_clahe_of_large_tiles_and_wide_blocks(dtype):
    image = photo((90, 9001), dtype)
    expected = cv2.createCLAHE(2, (4, 3)).apply(image)
    for chunks in ((90, 9001), (50, 5000)):
        lazy = da.from_array(image, chunks=chunks)
        np.testing.assert_array_equal(di.clahe(lazy, tiles=4, tiles_y=3).compute(), expected)


def test_clahe_of_color_changes_luminance_or_each_channel():
    image = photo((40, 50, 3))
    equalizer = cv2.createCLAHE(2, (8, 8))
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    luma[:, :, 0] = equalizer.apply(luma[:, :, 0])
    expected = {
        "luminance": cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB),
        "each": np.dstack([equalizer.apply(image[:, :, channel]) for channel in range(3)]),
    }
    for color, one in expected.items():
        np.testing.assert_array_equal(di.clahe(image, color=color), one)
        np.testing.assert_array_equal(di.clahe(chunked(image), color=color).compute(), one)


# Histograms


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_histogram_counts_each_value(dtype):
    image = photo((40, 47, 3), np.uint16).view("int16" if dtype == "int16" else "uint16").astype(dtype)
    least = np.iinfo(dtype).min
    expected = [
        np.bincount(image[..., c].ravel().astype(int) - least, minlength=1 << 8 * image.itemsize) for c in (0, 1, 2)
    ]
    with dask.config.set(scheduler=no_compute):
        lazy = histogram(chunked(image))
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (3, 1 << 8 * image.itemsize)
    for result in (histogram(image), lazy.compute()):
        assert result.dtype == np.int64
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int64"])
def test_histogram_with_bins_is_numpys(dtype):
    image = (photo(dtype=np.uint16) / 256).astype(dtype)
    for bins, limits in ((10, (0, 256)), (7, (50, 140.5)), (256, (0.5, 99))):
        expected = np.histogram(image, bins, limits)[0]
        for one in (image, chunked(image)):
            np.testing.assert_array_equal(np.asarray(histogram(one, bins=bins, range=limits)), expected)


def test_histogram_leaves_nan_and_infinity_out():
    image = np.array([[0.5, np.nan, np.inf, -np.inf, 1.0]])
    np.testing.assert_array_equal(histogram(image, bins=2, range=(0, 1)), [0, 2])


def test_histogram_refuses_what_it_cannot_count():
    image = np.zeros((2, 2), np.float32)
    with pytest.raises(ParameterError, match=r"need a range, such as range=\(0, 1\)"):
        histogram(image)
    with pytest.raises(ParameterError, match="bins"):
        histogram(image, bins=0, range=(0, 1))
    with pytest.raises(ParameterError, match="empty"):
        histogram(image, range=(1, 1))
    with pytest.raises(DtypeError, match="astype"):
        histogram(image > 0)
    with pytest.raises(DtypeError, match="rescale"):
        otsu_level(image)
    with pytest.raises(ArrayError, match="at least one pixel"):
        otsu_level(np.zeros((0, 3), np.uint8))


def test_levels_can_wait():
    with dask.config.set(scheduler=no_compute):
        lazy = otsu_level(chunked(photo()), compute=False)
    assert lazy.compute() == otsu_level(photo())


# Borders of what there is


@pytest.mark.parametrize("name", TWO_PASS)
@pytest.mark.parametrize("value", [0, 7, 255])
def test_single_pixels_and_equal_ones(name, value):
    operation = di.get_operation(name)
    for shape in ((1, 1), (1, 9), (8, 5)):
        image = np.full(shape, value, np.uint8)
        result = operation(image, **TWO_PASS[name])
        assert result.min() == result.max()
        lazy = operation(da.from_array(image, chunks=(1, 2)), **TWO_PASS[name])
        np.testing.assert_array_equal(lazy.compute(), result)


@pytest.mark.parametrize("name", TWO_PASS)
def test_images_of_no_pixels_stay(name):
    operation = di.get_operation(name)
    for shape in ((0, 5), (5, 0)):
        lazy = operation(da.zeros(shape, dtype=np.uint8, chunks=2), **TWO_PASS[name])
        assert lazy.compute().shape == operation(np.zeros(shape, np.uint8), **TWO_PASS[name]).shape == shape


# How often, and how much at a time


class Source:
    """Is a lazy image that is made chunk by chunk, and counts its chunks: those made, and those alive at a time."""

    def __init__(self, chunks, side):
        self.lock = threading.Lock()
        self.made, self.alive, self.most = collections.Counter(), 0, 0
        sizes = (side,) * chunks
        self.image = da.map_blocks(self.make, dtype=np.uint8, chunks=(sizes, sizes), meta=np.empty((0, 0), np.uint8))

    def make(self, block_info=None):
        info = block_info[None]
        chunk = np.random.default_rng(sum(info["chunk-location"])).integers(0, 200, info["chunk-shape"], np.uint8)
        weakref.finalize(chunk, self.count, -1)
        self.made[info["chunk-location"]] += 1
        self.count(1)
        return chunk

    def count(self, one):
        with self.lock:
            self.alive += one
            self.most = max(self.most, self.alive)


@pytest.mark.parametrize("name", TWO_PASS)
def test_a_large_image_is_read_twice_and_never_held(name):
    source = Source(chunks=8, side=1800 if name in ("clahe", "equalize_hist") else 300)
    with dask.config.set({"daskimg.held": 0, "scheduler": "threads", "num_workers": 2}):
        lazy = di.invert(di.get_operation(name)(source.image, **TWO_PASS[name]))
        assert isinstance(lazy.dask.layers[lazy.name], LocalLayer)
        assert [step.operation.name for step in lazy.dask.layers[lazy.name].steps] == [name, "invert"]
        assert not source.made
        lazy.max().compute()
    assert len(source.made) == 64
    assert set(source.made.values()) == {2}
    assert source.most <= 12, "of 64 chunks"
