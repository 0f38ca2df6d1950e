"""Distances, integral images, filters by frequency, templates and shifts; the conformance suite covers the rest."""

import cv2
import dask
import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.testing import no_compute

METRICS = {"l2": cv2.DIST_L2, "l1": cv2.DIST_L1, "c": cv2.DIST_C}
METHODS = {
    "sqdiff": cv2.TM_SQDIFF,
    "sqdiff_normed": cv2.TM_SQDIFF_NORMED,
    "ccorr": cv2.TM_CCORR,
    "ccorr_normed": cv2.TM_CCORR_NORMED,
    "ccoeff": cv2.TM_CCOEFF,
    "ccoeff_normed": cv2.TM_CCOEFF_NORMED,
}


def noise(shape, dtype="uint8", seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def lazily(function, image, chunks, held="0"):
    """The result for a chunked image; nothing may be computed before it is asked for, or held between two passes."""
    image = da.from_array(image, chunks=(*chunks, *image.shape[2:]))
    with dask.config.set({"daskimg.held": held}):
        with dask.config.set(scheduler=no_compute):
            result = function(image)
        return result.compute(scheduler="sync")


def same_bits(one, other):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other, strict=True)


# Distances


def few_zeros(shape):
    return (noise(shape, "float32") > 0.002).astype(np.uint8) * 7


def one_zero(shape):
    image = np.full(shape, 255, np.uint8)
    image[0, 0] = 0
    return image


def slanted_line(shape):
    image = np.full(shape, 255, np.uint8)
    rows = np.arange(shape[0])
    image[rows, rows * (shape[1] - 1) // max(1, shape[0] - 1)] = 0
    return image


def circle(shape):
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2)
    return (np.abs(radius - min(shape) * 0.45) > 0.8).astype(np.uint8)


IMAGES = [few_zeros, one_zero, slanted_line, circle]


def by_brute_force(image, metric):
    zeros = np.argwhere(image == 0)
    rows, columns = np.indices(image.shape)
    down = np.abs(rows[..., np.newaxis] - zeros[:, 0])
    across = np.abs(columns[..., np.newaxis] - zeros[:, 1])
    if metric == "l2":
        return np.sqrt((down**2 + across**2).min(-1)).astype(np.float32)
    return (down + across if metric == "l1" else np.maximum(down, across)).min(-1).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", IMAGES)
def test_distances_are_exact(make, metric):
    image = make((37, 53))
    step = di.distance_transform(metric=metric)
    expected = by_brute_force(image, metric)
    same_bits(step(image), expected)
    for chunks in [(10, 10), (37, 7), (5, 53), ((1, 0, 30, 6), (0, 2, 50, 1)), ((36, 1), (1, 52))]:
        same_bits(lazily(step, image, chunks), expected)


@pytest.mark.parametrize("make", IMAGES)
def test_distances_far_beyond_a_chunk(make):
    image = make((700, 900))
    for metric in METRICS:
        step = di.distance_transform(metric=metric)
        same_bits(lazily(step, image, (128, 200)), step(image))


@pytest.mark.parametrize("metric", METRICS)
def test_distances_in_chunks_of_one_pixel(metric):
    image = few_zeros((9, 11))
    image[4, 8] = 0
    same_bits(lazily(di.distance_transform(metric=metric), image, (1, 1)), by_brute_force(image, metric))


def test_distances_are_those_of_scipy_and_opencv():
    image = few_zeros((300, 400))
    same_bits(di.distance_transform(image), ndimage.distance_transform_edt(image).astype(np.float32))
    near = cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    np.testing.assert_allclose(di.distance_transform(image), near, 0, 1e-3)
    for metric in ("l1", "c"):
        for size in (3, 5):
            same_bits(di.distance_transform(image, metric=metric), cv2.distanceTransform(image, METRICS[metric], size))


@pytest.mark.parametrize("metric", ["l1", "c"])
@pytest.mark.parametrize("shape", [(3, 70_000), (70_000, 3)])
def test_distances_beyond_16_bits(metric, shape):
    image = one_zero(shape)
    expected = cv2.distanceTransform(image, METRICS[metric], 3)
    assert expected.max() > 65_536
    same_bits(lazily(di.distance_transform(metric=metric), image, (30_000, 30_000)), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_without_a_zero_and_with_nothing_else(metric):
    step = di.distance_transform(metric=metric)
    for value, distance in ((3, np.inf), (0, 0)):
        image = np.full((5, 7), value, np.uint8)
        for result in (step(image), lazily(step, image, (2, 3))):
            same_bits(result, np.full((5, 7), distance, np.float32))


def test_distances_of_floats():
    image = np.array([[0.0, np.nan, np.inf, -np.inf, 0.5], [-0.0, 1, 1, 1, 1]])
    expected = np.tile(np.arange(5, dtype=np.float32), (2, 1))
    same_bits(di.distance_transform(image), expected)
    same_bits(lazily(di.distance_transform(), image, (1, 2)), expected)


def test_distances_have_a_limit():
    image = da.ones((1, 1 << 20), np.uint8, chunks=(1, 1 << 19))
    with pytest.raises(ArrayError, match="1048575"):
        di.distance_transform(image)


def test_each_pass_over_the_image_reads_it_once():
    reads = []

    def read(block):
        if block.size:
            reads.append(block.shape)
        return block

    source = da.from_array(few_zeros((60, 60)), chunks=20).map_blocks(
        read, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )
    for held, most in (("0", 3 * 9), ("1 GiB", 9)):
        reads.clear()
        with dask.config.set({"daskimg.held": held}):
            di.distance_transform(source).compute(scheduler="sync")
        assert len(reads) == most


# Integral images


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_integral_images_are_those_of_opencv(dtype, squares, channels):
    image = noise((40, 50, *channels), dtype)
    expected = cv2.integral2(image)[squares]
    result = di.integral_image(image, squares=squares, to="float64")
    np.testing.assert_allclose(result, expected, 1e-12)
    for chunks in [(7, 9), ((1, 39), (0, 25, 0, 25))]:
        chunked = lazily(di.integral_image(squares=squares, to="float64"), image, chunks)
        np.testing.assert_allclose(chunked, expected, 1e-12)
        if np.dtype(dtype).kind in "iu":
            same_bits(chunked, result)
            same_bits(lazily(di.integral_image(squares=squares), image, chunks), result.astype(np.int64))


def test_integral_images_of_bytes_wrap_as_those_of_opencv():
    image = np.full((3000, 3000), 255, np.uint8)
    expected = cv2.integral(image)
    assert expected.min() < 0
    same_bits(di.integral_image(image, to="int32"), expected)
    same_bits(lazily(di.integral_image(to="int32"), image, (1000, 700)), expected)
    assert lazily(di.integral_image(), image, (1000, 700))[-1, -1] == 255 * 3000 * 3000
    high = expected[2900, 2990] - expected[2900, 10] - expected[20, 2990] + expected[20, 10]
    assert high == np.int64(255) * 2880 * 2980 - (1 << 32) * (255 * 2880 * 2980 >= 1 << 31)


def test_integral_images_in_chunks_of_one_pixel_and_of_floats_that_are_none():
    image = noise((4, 5), "float64")
    image[1, 2], image[3, 1] = np.nan, np.inf
    expected = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for result in (di.integral_image(image), lazily(di.integral_image(), image, (1, 1))):
        np.testing.assert_allclose(result, expected, 1e-12)


def test_integral_images_of_floats_are_floats():
    with pytest.raises(DtypeError):
        di.integral_image(noise((4, 5), "float32"), to="int32")


# Filters by frequency


def filtered(image, low, high, shape, order=2):
    spectrum = np.fft.rfft2(image.astype(float))
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, np.newaxis], np.fft.rfftfreq(image.shape[1]))

    def low_pass(cutoff):
        if shape == "ideal":
            return (frequency <= cutoff).astype(float)
        if shape == "gaussian":
            return np.exp(-(frequency**2) / (2 * cutoff**2))
        return 1 / (1 + (frequency / cutoff) ** (2 * order))

    factors = (1 if high is None else low_pass(high)) * (1 if low is None else 1 - low_pass(low))
    return np.fft.irfft2(spectrum * factors, image.shape)


@pytest.mark.parametrize("shape", ["ideal", "gaussian", "butterworth"])
@pytest.mark.parametrize(("low", "high"), [(None, 0.11), (0.07, None), (0.03, 0.21)])
@pytest.mark.parametrize("size", [(60, 81), (61, 80), (1, 30), (30, 1)])
def test_filters_by_frequency_are_those_of_numpy(size, low, high, shape):
    step = di.fft_filter(low=low, high=high, shape=shape, order=3)
    for dtype in ("float32", "float64"):
        image = noise(size, dtype)
        expected = filtered(image, low, high, shape, 3)
        for result in (step(image), lazily(step, image, (17, 23))):
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, 0, 8 * np.finfo(dtype).eps)
    for dtype in ("uint8", "uint16", "int16"):
        image, limits = noise(size, dtype), np.iinfo(dtype)
        expected = np.clip(np.rint(filtered(image, low, high, shape, 3)), limits.min, limits.max)
        for result in (step(image), lazily(step, image, (17, 23))):
            assert result.dtype == dtype
            np.testing.assert_allclose(result.astype(float), expected, 0, 1)


def test_filters_by_frequency_in_chunks_of_the_size_that_dask_is_set_to():
    image = noise((50, 64), "float64")
    with dask.config.set({"array.chunk-size": "4 KiB"}):
        result = lazily(di.fft_filter(), image, (20, 30))
    np.testing.assert_allclose(result, di.fft_filter(image), 0, 1e-14)


def test_filters_by_frequency_spread_what_is_not_finite():
    for value in (np.nan, np.inf):
        image = noise((9, 11), "float32")
        image[3, 4] = value
        assert np.isnan(di.fft_filter(image)).all()
        assert np.isnan(lazily(di.fft_filter(), image, (2, 3))).all()


def test_filters_by_frequency_need_a_cutoff():
    for low, high in ((None, None), (0.2, 0.1)):
        with pytest.raises(ParameterError, match="low"):
            di.fft_filter(noise((4, 5)), low=low, high=high)


# Templates


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_scores_are_those_of_opencv(method, dtype, channels):
    image = noise((120, 150, *channels), dtype)
    for size in ((2, 3), (6, 9), (40, 31), (120, 150)):
        template = image[: size[0], : size[1]].copy()
        expected = cv2.matchTemplate(image, template, METHODS[method])
        result = di.match_template(image, template=template, method=method)
        assert result.dtype == np.float32
        assert result.shape == expected.shape
        most = 255.0**2 if dtype == "uint8" else 1.0
        bound = 1e-5 if method.endswith("normed") else 1e-6 * most * template.size
        np.testing.assert_allclose(result, expected, 0, bound)


def test_scores_of_a_single_pixel():
    image = np.array([[0, 1, 5, 255]], np.uint8)
    expected = {
        "sqdiff": (image.astype(float) - 5) ** 2,
        "ccorr": image * 5.0,
        "ccorr_normed": [[0, 1, 1, 1]],
        "ccoeff": [[0, 0, 0, 0]],
        "ccoeff_normed": [[1, 1, 1, 1]],
    }
    for method, scores in expected.items():
        result = di.match_template(image, template=image[:, 2:3].copy(), method=method)
        np.testing.assert_array_equal(result, scores)


@pytest.mark.parametrize("method", ["sqdiff", "ccorr", "ccorr_normed", "ccoeff", "ccoeff_normed"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_scores_with_a_mask_are_those_of_opencv(method, channels):
    image = noise((60, 70, *channels))
    template = image[20:33, 30:41].copy()
    mask = (noise((13, 11), seed=1) > 90).astype(np.uint8)
    # OpenCV wants a mask of the template's channels.
    masks = mask if not channels else np.dstack([mask] * 3)
    expected = cv2.matchTemplate(image, template, METHODS[method], mask=masks)
    bound = 1e-5 if method.endswith("normed") else 1e-6 * 255**2 * template.size
    step = di.match_template(template=template, method=method, mask=mask)
    np.testing.assert_allclose(step(image), expected, 0, bound)
    same_bits(lazily(step, image, (20, 30)), step(image))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("chunks", [(512, 512), (100, 333), (1100, 64), ((1, 1099), (1250,))])
def test_scores_are_the_same_bits_for_any_chunks(dtype, chunks):
    image = cv2.GaussianBlur(noise((1100, 1250), dtype), (0, 0), 3)
    template = image[600:640, 900:925].copy()
    for method in ("ccoeff_normed", "sqdiff"):
        step = di.match_template(template=template, method=method)
        same_bits(lazily(step, image, chunks), step(image))


def test_templates_larger_than_chunks():
    image = noise((40, 50))
    for template in (image[3:33, 5:45].copy(), image, image[:, :1].copy()):
        step = di.match_template(template=template)
        for chunks in ((7, 6), (1, 1)):
            same_bits(lazily(step, image, chunks), step(image))


def test_scores_of_uniform_windows_follow_the_rules_of_opencv():
    image = np.full((30, 40), 77, np.uint8)
    image[:12, :12] = noise((12, 12))
    template = image[3:8, 3:8].copy()
    expected = {"ccoeff_normed": 0.0, "ccoeff": 0.0}
    for method, score in expected.items():
        assert (di.match_template(image, template=template, method=method)[15:, 15:] == score).all()
    flat = np.full((5, 5), 77, np.uint8)
    assert (di.match_template(image, template=flat) == cv2.matchTemplate(image, flat, cv2.TM_CCOEFF_NORMED)).all()
    assert (di.match_template(image, template=flat, method="sqdiff")[15:, 15:] == 0).all()
    black = np.zeros((9, 9), np.uint8)
    for method, score in {"sqdiff_normed": 1, "ccorr_normed": 0}.items():
        assert (di.match_template(black, template=flat, method=method) == score).all()
        assert (cv2.matchTemplate(black, flat, METHODS[method]) == score).all()


def test_scores_under_which_a_number_is_missing():
    image = noise((600, 30), "float32")
    image[10, 12], image[550, 20] = np.nan, np.inf
    step = di.match_template(template=image[100:104, 3:9].copy(), method="ccorr")
    clean = np.where(np.isfinite(image), image, 0)
    missing = np.zeros((597, 25), bool)
    missing[7:11, 7:13] = missing[547:551, 15:21] = True
    result = step(image)
    np.testing.assert_array_equal(np.isnan(result), missing)
    same_bits(result[~missing], step(clean)[~missing])
    same_bits(lazily(step, image, (50, 30)), result)


def test_templates_that_do_not_go_with_the_image():
    image = noise((20, 30))
    wrong = [
        ({"template": noise((21, 3))}, ArrayError),
        ({"template": noise((3, 3, 3))}, ArrayError),
        ({"template": noise((3, 3), "float32")}, DtypeError),
        ({"template": noise((3, 3)), "mask": noise((3, 4))}, ArrayError),
    ]
    for parameters, error in wrong:
        with pytest.raises(error):
            di.match_template(image, **parameters)
        with pytest.raises(error):
            di.match_template(da.from_array(image, chunks=8), **parameters)


def test_labelled_images_keep_the_coordinates_of_first_pixels():
    import xarray

    image = xarray.DataArray(noise((2, 9, 8)), dims=list("tyx"), coords={"t": [4, 5], "y": range(10, 19)}, name="n")
    scores = di.match_template(image, template=noise((3, 2)))
    assert scores.sizes == {"t": 2, "y": 7, "x": 7}
    assert scores.y.values.tolist() == [*range(10, 17)]
    sums = di.integral_image(image.chunk(3)).compute(scheduler="sync")
    assert sums.sizes == {"t": 2, "y": 10, "x": 9}
    assert list(sums.coords) == ["t"]
    same_bits(sums.values[1], di.integral_image(image.values[1]))


# Matches


def local_best(scores, threshold, distance, sign):
    """Where no other score within the distance is better, nor any before it as good, by looking at each."""
    scores = sign * scores
    found = []
    for row, column in np.argwhere(scores >= np.float32(sign * threshold)):
        top, left = max(0, row - distance), max(0, column - distance)
        around = scores[top : row + distance + 1, left : column + distance + 1]
        first = np.argwhere(around == around.max())[0] + (top, left)
        if tuple(first) == (row, column):
            found.append((row, column, sign * scores[row, column]))
    return sorted(found, key=lambda one: (-sign * one[2], one[0], one[1]))


@pytest.mark.parametrize("method", ["ccoeff_normed", "sqdiff_normed", "ccorr_normed"])
@pytest.mark.parametrize("distance", [0, 1, 2, 5, 60])
def test_matches_are_the_best_around(method, distance):
    image = (noise((40, 47)) // 90) * 90
    template = image[20:23, 30:34].copy()
    scores = di.match_template(image, template=template, method=method)
    sign = -1 if method.startswith("sqdiff") else 1
    expected = local_best(scores, 0.4, distance, sign)
    options = {"method": method, "threshold": 0.4, "min_distance": distance}
    table = di.find_matches(image, template, **options)
    assert list(zip(table.row, table.column, table.score, strict=True)) == expected
    assert len(table) > 0
    for chunks in ((9, 11), (1, 1), ((40,), (1, 46))):
        assert table.equals(di.find_matches(da.from_array(image, chunks=chunks), template, **options))


def test_matches_across_squares_and_chunks():
    image = noise((1200, 1300))
    template = noise((20, 30), seed=1)
    places = [(0, 0), (505, 500), (512, 900), (1180, 1270)]
    for row, column in places:
        image[row : row + 20, column : column + 30] = template
    for given in (image, da.from_array(image, chunks=(333, 401))):
        table = di.find_matches(given, template)
        assert list(zip(table.row, table.column, strict=True)) == places
        assert (table.score == 1).all()
    delayed = di.find_matches(da.from_array(image, chunks=400), template, compute=False)
    assert delayed.compute(scheduler="sync").equals(table)


def test_matches_of_uniform_images_and_none_at_all():
    image = np.full((30, 40), 7, np.uint8)
    for given in (image, da.from_array(image, chunks=(8, 9))):
        table = di.find_matches(given, image[:5, :5].copy())
        assert table.to_dict("list") == {"row": [0], "column": [0], "score": [1.0]}
        none = di.find_matches(given, noise((5, 5)))
        assert len(none) == 0
        assert list(none.dtypes.astype(str)) == ["int64", "int64", "float32"]


def test_methods_that_are_not_normed_need_a_threshold():
    with pytest.raises(ParameterError, match="threshold"):
        di.find_matches(noise((9, 9)), noise((3, 3)), method="ccorr")
    with pytest.raises(ParameterError, match="min_distance"):
        di.find_matches(noise((9, 9)), noise((3, 3)), min_distance=-1)


# Shifts


@pytest.mark.parametrize("window", [None, "hann"])
@pytest.mark.parametrize("size", [(128, 160), (101, 97), (60, 200)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shifts_are_those_of_opencv(size, window, dtype):
    assert not cv2.getOptimalDFTSize(size[0]) % 2
    assert not cv2.getOptimalDFTSize(size[1]) % 2
    scene = cv2.GaussianBlur(noise((300, 400), dtype), (0, 0), 0.7)
    reference = scene[50 : 50 + size[0], 60 : 60 + size[1]].copy()
    image = scene[57 : 57 + size[0], 49 : 49 + size[1]].copy()
    weights = () if window is None else (cv2.createHanningWindow(size[::-1], cv2.CV_32F).astype(dtype),)
    # OpenCV writes into images that it need not pad.
    (column, row), response = cv2.phaseCorrelate(reference.copy(), image.copy(), *weights)
    whole = di.phase_correlate(reference, image, window=window)
    np.testing.assert_allclose(whole, (row, column, response), 0, 1e-3)
    assert abs(whole.row + 7) < 0.3
    assert abs(whole.column - 11) < 0.3
    for chunks in ((30, 40), ((1, size[0] - 1), (size[1] - 1, 1))):
        lazy = [da.from_array(one, chunks=chunks) for one in (reference, image)]
        with dask.config.set(scheduler=no_compute):
            delayed = di.phase_correlate(*lazy, window=window, compute=False)
        np.testing.assert_allclose(delayed.compute(scheduler="sync"), whole, 0, 1e-5)


def test_shifts_along_odd_lengths_are_right_where_those_of_opencv_are_not():
    reference = noise((75, 90), "float32")
    image = np.roll(reference, (4, -7), (0, 1))
    (column, row), _ = cv2.phaseCorrelate(reference.copy(), image.copy())
    np.testing.assert_allclose((row, column), (4.5, -7), 0, 1e-3)
    np.testing.assert_allclose(di.phase_correlate(reference, image), (4, -7, 1), 0, 1e-3)


def test_shifts_of_integers_and_of_large_steps():
    reference = noise((64, 80))
    for shift in ((0, 0), (-31, 39), (30, -38)):
        result = di.phase_correlate(reference, np.roll(reference, shift, (0, 1)))
        np.testing.assert_allclose(result, (*shift, 1), 0, 1e-2)


def test_images_that_tell_no_shift():
    flat = np.full((16, 18), 3, np.float32)
    for image in (flat, flat * 0):
        result = di.phase_correlate(image, image)
        assert np.isnan(result.row)
        assert np.isnan(result.column)
    assert np.isnan(di.phase_correlate(flat * np.nan, flat)).all()
    with pytest.raises(ArrayError, match="crop"):
        di.phase_correlate(flat, flat[1:])
    with pytest.raises(DtypeError):
        di.phase_correlate(flat > 1, flat > 1)
    with pytest.raises(ParameterError, match="hann"):
        di.phase_correlate(flat, flat, window="boxcar")
