"""Pixels without data: what is valid is computed from valid pixels only, for any chunks, and nodata stays nodata."""

import contextlib
import math
import pickle

import cv2
import dask
import dask.array as da
import hypothesis
import numpy as np
import pytest
import xarray
from hypothesis import strategies as st

import daskimg as di
from daskimg.chunked.missing import nodata_in
from daskimg.errors import ArrayError, OperationError, ParameterError
from daskimg.kinds import TwoPass
from daskimg.measure import histogram, otsu_level, triangle_level
from daskimg.operations.missing import apart, join, masked, rule_in_words, rule_name
from daskimg.testing import no_compute
from daskimg.testing.cases import cases
from daskimg.testing.checks import allowed_deviation, deviation

RANDOM = np.random.default_rng(11)


def scene(shape=(60, 70), dtype=np.uint8, channels=()):
    """An image with a hole, a missing edge, single missing pixels; and which are valid."""
    high = 256 if dtype == np.uint8 else 4000
    image = RANDOM.integers(1, high, (*shape, *channels)).astype(dtype)
    valid = RANDOM.random(shape) > 0.02
    valid[20:33, 10:24] = False
    valid[:, -5:] = False
    return image, valid


def labelled(image, **options):
    return xarray.DataArray(image, dims=("y", "x", "c")[: np.ndim(image)], **options)


def with_nodata(image, valid, nodata=0):
    holed = image.copy()
    holed[~valid] = nodata
    return labelled(holed, attrs={"nodata": nodata})


def near(valid, rows, columns):
    """Where something is missing within reach."""
    padded = np.pad(~valid, ((rows, rows), (columns, columns)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * rows + 1, 2 * columns + 1))
    return windows.any(axis=(2, 3))


def rounded(values, dtype):
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def weighed(image, valid, reach, plain, smooth):
    """The stated formula: smooth(image * valid) / smooth(valid) beside missing pixels, OpenCV's own elsewhere."""
    blank = np.where(valid, image, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = smooth(blank.astype(np.float64)) / smooth(valid.astype(np.float64))
    mean = np.where(valid, mean, 0)
    return np.where(near(valid, *reach), rounded(mean, image.dtype), plain(blank))


# The promise


def test_a_gaussian_of_15_pixels_beside_nodata_0():
    image = RANDOM.integers(80, 200, (400, 400), np.uint8)
    valid = np.ones(image.shape, bool)
    valid[100:300, 120:280] = False
    holed = np.where(valid, image, 0).astype(np.uint8)
    plain = cv2.GaussianBlur(holed, (15, 15), 0)
    darkened = valid & (np.abs(plain.astype(int) - cv2.GaussianBlur(image, (15, 15), 0)) > 1)
    assert darkened.sum() > 2800  # what happens where nobody looks at nodata
    result = di.gaussian_blur(labelled(da.from_array(holed, chunks=57), attrs={"nodata": 0}), ksize=15).values
    beside = near(valid, 7, 7)
    np.testing.assert_array_equal(result[~beside], plain[~beside])
    formula = weighed(image, valid, (7, 7), lambda x: plain, lambda x: cv2.GaussianBlur(x, (15, 15), 0))
    np.testing.assert_array_equal(result[valid], formula[valid])
    assert (result[~valid] == 0).all()
    assert result[valid].min() >= 80  # never darker than all that is there


SMOOTHERS = {
    "box_blur(ksize=4, ksize_y=3)": ((1, 2), lambda x: cv2.blur(x, (4, 3))),
    "box_blur(ksize=5, border='replicate')": (
        (2, 2),
        lambda x: cv2.blur(x, (5, 5), borderType=cv2.BORDER_REPLICATE),
    ),
    "gaussian_blur(ksize=7)": ((3, 3), lambda x: cv2.GaussianBlur(x, (7, 7), 0)),
    "gaussian_blur(ksize=9, sigma=2, sigma_y=1)": ((4, 4), lambda x: cv2.GaussianBlur(x, (9, 9), 2, sigmaY=1)),
    "sep_filter2d(kernel_x=[1, 2, 1], kernel_y=[0.25])": (
        (0, 1),
        lambda x: cv2.sepFilter2D(x, -1, np.array([1.0, 2, 1]), np.array([0.25])),
    ),
    "filter2d(kernel=[[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])": (
        (1, 1),
        lambda x: cv2.filter2D(x, -1, np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])),
    ),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("text", SMOOTHERS)
def test_smoothing_is_the_weighted_mean_of_valid_pixels(text, dtype):
    step = eval(f"di.{text}")
    reach, smooth = SMOOTHERS[text]
    image, valid = scene(dtype=dtype)
    result = step(with_nodata(image, valid, -1 if dtype != np.uint8 and dtype != np.uint16 else 0))
    formula = weighed(image, valid, reach, step, smooth)
    known = valid & (smooth(valid.astype(np.float64)) > 0)
    difference = np.abs(result.values.astype(np.float64) - formula)[known]
    # Halves are rounded to even, which the quotient of two rounded means misses; floats differ in their last bits.
    assert difference.max() <= (1 if np.dtype(dtype).kind in "iu" else 1e-6 * 4000)
    assert (difference > 1e-3).mean() < 0.02
    assert (result.values[~known] == result.attrs["nodata"]).all()


def test_kernels_that_do_not_sum_to_one_keep_their_sum():
    image = labelled(np.array([[10, 10, 0, 10, 10]], np.uint8), attrs={"nodata": 0})
    np.testing.assert_array_equal(di.sep_filter2d(image, kernel_x=[1, 1, 1], kernel_y=[1]), [[30, 30, 0, 30, 30]])


def test_zeros_beyond_the_border_count_as_without_missing_pixels():
    image = labelled(np.array([[90, 90, 0, 90]], np.uint8), attrs={"nodata": 0})
    np.testing.assert_array_equal(di.box_blur(image, ksize=3, ksize_y=1, border="constant"), [[60, 90, 0, 60]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("ksize", [3, 5, 7, 21])
def test_median_of_valid_pixels(ksize, dtype):
    if ksize > 5:
        dtype = np.uint8
    image, valid = scene(dtype=dtype)
    result = di.median_blur(with_nodata(image, valid, 0), ksize=ksize).values
    half = ksize // 2
    holed = np.pad(np.where(valid, image, np.nan).astype(np.float64), half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(holed, (ksize, ksize)).reshape(*image.shape, -1)
    formula = rounded(np.nanmedian(windows[valid], axis=1), dtype)
    np.testing.assert_array_equal(result[valid], formula)
    assert (result[~valid] == 0).all()


def over(image, valid, element, function, neutral):
    """Minima or maxima of valid pixels under a structuring element, without OpenCV."""
    rows, columns = (size // 2 for size in element.shape)
    height, width = element.shape
    padded = np.pad(
        np.where(valid, image.astype(np.float64), neutral),
        ((rows, height - 1 - rows), (columns, width - 1 - columns)),
        constant_values=neutral,
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, element.shape)
    return function(windows[:, :, element > 0], axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize(("shape", "size"), [("rect", (3, 5)), ("ellipse", (7, 7)), ("cross", (4, 3))])
def test_morphology_of_valid_pixels(shape, size, dtype):
    image, valid = scene(dtype=dtype)
    nodata = 0 if dtype == np.uint8 else -7
    holed = with_nodata(image, valid, nodata)
    columns, rows = size
    element = cv2.getStructuringElement(getattr(cv2, f"MORPH_{shape.upper()}"), size)

    def erode(x):
        return over(x, valid, element, np.min, np.inf)

    def dilate(x):
        return over(x, valid, element, np.max, -np.inf)

    formulas = {
        di.erode: erode(image),
        di.dilate: dilate(image),
        di.opening: dilate(erode(image)),
        di.closing: erode(dilate(image)),
        di.morphological_gradient: dilate(image) - erode(image),
        di.top_hat: np.maximum(image - dilate(erode(image)), 0 if dtype == np.uint8 else -np.inf),
        di.black_hat: np.maximum(erode(dilate(image)) - image, 0 if dtype == np.uint8 else -np.inf),
    }
    for operation, formula in formulas.items():
        result = operation(holed, ksize=columns, ksize_y=rows, shape=shape).values
        np.testing.assert_array_equal(result[valid], formula[valid].astype(dtype), err_msg=operation.name)
        assert (result[~valid] == nodata).all(), operation.name


@pytest.mark.parametrize(
    ("step", "reach"),
    [
        (di.sobel(dx=1), (1, 1)),
        (di.sobel(dx=0, dy=1, ksize=5), (2, 2)),
        (di.scharr(dy=1, dx=0), (1, 1)),
        (di.laplacian(ksize=3), (1, 1)),
        (di.bilateral_filter(d=5), (2, 2)),
        (di.filter2d(), (1, 1)),
    ],
    ids=repr,
)
def test_derivatives_are_missing_within_reach_of_missing_pixels(step, reach):
    image, valid = scene()
    result = step(with_nodata(image, valid))
    plain = step(np.where(valid, image, 0).astype(np.uint8))
    complete = ~near(valid, *reach)
    np.testing.assert_array_equal(result.values[complete], plain[complete])
    assert (result.values[~complete] == result.attrs["nodata"]).all()
    assert 0 < complete.sum() < valid.sum()


def test_sharpening_takes_the_mean_of_valid_pixels():
    image, valid = scene()
    result = di.sharpen(with_nodata(image, valid), sigma=1.5, amount=0.7).values
    blur = lambda x: cv2.GaussianBlur(x, (11, 11), 1.5)  # noqa: E731
    size = round(1.5 * 6 + 1) | 1
    assert size == 11
    smooth = weighed(image, valid, (5, 5), blur, blur)
    formula = rounded((image - smooth.astype(np.float32)) * np.float32(0.7) + image, np.uint8)
    np.testing.assert_array_equal(result[valid], formula[valid])


@pytest.mark.parametrize("method", ["mean", "gaussian"])
@pytest.mark.parametrize("kind", ["binary", "binary_inv"])
def test_adaptive_threshold_takes_the_mean_of_valid_pixels(method, kind):
    image, valid = scene()
    step = di.adaptive_threshold(ksize=9, offset=2.5, method=method, kind=kind)
    packed = di.mask_image(image, valid=valid)
    result = step(packed).values

    def smooth(x):
        if method == "gaussian":
            return cv2.GaussianBlur(x, (9, 9), 0, borderType=cv2.BORDER_REPLICATE)
        return cv2.boxFilter(x, cv2.CV_64F, (9, 9), normalize=False, borderType=cv2.BORDER_REPLICATE)

    mean = np.rint(smooth(np.where(valid, image, 0.0)) / smooth(valid.astype(np.float64)))
    passes = image - mean > (-3 if kind == "binary" else -2)
    beside = near(valid, 4, 4) & valid
    np.testing.assert_array_equal(result[beside], np.where(passes == (kind == "binary"), 255, 0)[beside])
    np.testing.assert_array_equal(result[~beside & valid], step(image)[~beside & valid])


def test_histograms_are_those_of_valid_pixels():
    image, valid = scene()
    for missing in (with_nodata(image, valid), di.mask_image(image, valid=valid)):
        for chunked in (missing, missing.chunk({"y": 7, "x": 11})):
            result = di.equalize_hist(chunked).values
            np.testing.assert_array_equal(result[valid], di.equalize_hist(image[valid][:, np.newaxis])[:, 0])
    np.testing.assert_array_equal(result[~valid], image[~valid])  # the last one has a mask and no nodata


def test_the_tiles_of_clahe_count_valid_pixels():
    image = RANDOM.integers(1, 256, (64, 96), np.uint8)
    valid = np.ones(image.shape, bool)
    valid[:32, :24] = False  # two tiles of 16 x 24 pixels
    valid[40:45, 30:70] = False
    step = di.clahe(tiles=4, clip_limit=3)
    result = step(with_nodata(image, valid)).values
    assert (result[~valid] == 0).all()
    chunked = step(with_nodata(image, valid).chunk({"y": 13, "x": 31})).values
    np.testing.assert_array_equal(chunked, result)
    inner = np.s_[8:24, 60:84]  # whose four tiles miss nothing
    np.testing.assert_array_equal(result[inner], step(image)[inner])
    # A tile that misses all is as its neighbours; one that misses some is the more stretched for it.
    assert not np.array_equal(result[valid], step(image)[valid])
    uniform = np.where(valid, 100 + np.arange(96, dtype=np.uint8) // 24, 0).astype(np.uint8)
    spread = step(with_nodata(uniform, valid)).values
    np.testing.assert_array_equal(spread[0, 24:36], spread[63, 24:36])


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}], ids=str)
def test_measures_count_valid_pixels(chunks):
    image, valid = scene()
    column = np.ascontiguousarray(image[valid][:, np.newaxis])
    for missing in (with_nodata(image, valid), di.mask_image(image, valid=valid)):
        masked_image = missing if chunks is None else missing.chunk(chunks)
        with dask.config.set(scheduler=no_compute) if chunks else contextlib.nullcontext():
            counts = histogram(masked_image)
            halves = histogram(masked_image, bins=2, range=(0, 256))
        np.testing.assert_array_equal(counts, np.bincount(image[valid], minlength=256))
        np.testing.assert_array_equal(halves, [(image[valid] < 128).sum(), (image[valid] >= 128).sum()])
        assert otsu_level(masked_image) == otsu_level(column)
        assert triangle_level(masked_image) == triangle_level(column)
    colors = np.dstack([image, image // 2, image // 3])
    counts = histogram(di.mask_image(colors, valid=valid))
    np.testing.assert_array_equal(counts, [np.bincount(one, minlength=256) for one in colors[valid].T])
    assert not np.any(histogram(di.mask_image(colors, valid=np.zeros_like(valid))))
    with pytest.raises(ArrayError, match="all are missing"):
        otsu_level(di.mask_image(image, valid=np.zeros_like(valid)))


def test_missing_pixels_are_background_to_what_links_pixels():
    image = np.zeros((9, 20), np.uint8)
    image[1:8, 1:8] = 255
    image[3:6, 3:6] = 0
    image[2:5, 10:19] = 255
    valid = np.ones(image.shape, bool)
    valid[:, 14] = False
    masked_image = di.mask_image(image, valid=valid)
    for chunked in (masked_image, masked_image.chunk({"y": 4, "x": 3})):
        labels = di.connected_components(chunked)
        assert labels.values[valid].max() == 3
        assert (labels.values[:, 14] == 0).all()
        np.testing.assert_array_equal(labels.valid, valid)
        np.testing.assert_array_equal(di.fill_holes(chunked).values[valid], di.fill_holes(image)[valid])
        kept = (di.remove_small_objects(min_size=13) | di.fill_holes())(chunked).values
        assert not kept[:, 9:].any()  # one part of 27 pixels without the gap, two of 12 with it
    with pytest.raises(OperationError, match="canny"):
        di.canny(masked_image)
    nodata = di.connected_components(labelled(image, attrs={"nodata": 0}))
    assert nodata.attrs == {"nodata": 0}
    np.testing.assert_array_equal(nodata, di.connected_components(image))


def test_an_image_without_any_data_stays_as_it_is():
    image = labelled(da.zeros((20, 30), chunks=7, dtype=np.uint8), attrs={"nodata": 0})
    pipeline = di.gaussian_blur(ksize=5) | di.equalize_hist() | di.median_blur(ksize=7) | di.opening() | di.sobel()
    assert (pipeline(image).values == -32768).all()


# Any chunks

OPERATIONS = [
    operation
    for operation in di.list_operations().values()
    if operation.is_own and rule_name(operation) not in ("refuse", "background") and not operation.images
    and (operation.declaration.kind is None or isinstance(operation.declaration.kind, TwoPass))
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_every_operation_is_exact_for_any_chunks_and_does_not_see_missing_pixels(operation, data):
    case = data.draw(cases(operation))
    image, seed = case.image, data.draw(st.integers(0, 1 << 16))
    random = np.random.default_rng(seed)
    valid = random.random(image.shape[:2]) < data.draw(st.sampled_from([0.0, 0.3, 0.9, 0.99]))
    whole = di.mask_image(image, valid=valid)
    with dask.config.set(scheduler=no_compute):
        chunked = di.mask_image(case.lazy(), valid=da.from_array(valid, chunks=9))
        lazy = case.step(chunked)
    eager = case.step(whole)
    computed = lazy.compute(scheduler="synchronous")
    np.testing.assert_array_equal(computed.valid.values, eager.valid.values)
    allowed = 4 * allowed_deviation(case.step, image, eager.dtype) if eager.dtype.kind == "f" else None
    allowed = allowed_deviation(case.step, image, eager.dtype) if allowed is None else allowed
    kept = eager.valid.values
    assert deviation(computed.values[kept], eager.values[kept]) <= allowed, case
    # What stands in missing pixels is nobody's business.
    other = image.copy()
    other[~valid] = random.permutation(image.ravel())[: (~valid).sum() * math.prod(image.shape[2:])].reshape(
        other[~valid].shape
    )
    changed = case.step(di.mask_image(other, valid=valid))
    np.testing.assert_array_equal(changed.valid.values, eager.valid.values)
    assert deviation(changed.values[kept], eager.values[kept]) <= allowed, case


@pytest.mark.parametrize("chunks", [(1, 1), ((1, 29, 30), (69, 1)), (60, 70), (7, 70)], ids=str)
@pytest.mark.parametrize("afresh", [False, True])
def test_pipelines_are_exact_for_any_chunks(chunks, afresh):
    image, valid = scene()
    holed = with_nodata(image, valid)
    pipeline = (
        di.gaussian_blur(sigma=1.2) | di.median_blur(ksize=3) | di.opening(ksize=3) | di.equalize_hist()
        | di.sobel(dx=1) | di.absolute() | di.threshold(value=60) | di.dilate(ksize=3)
    )  # fmt: skip
    lazy = holed.copy(data=da.from_array(holed.values, chunks=chunks).map_blocks(np.copy))
    with dask.config.set({"daskimg.held": "0" if afresh else "1 GiB"}):
        result = pipeline(lazy).values
    np.testing.assert_array_equal(result, pipeline(holed).values)


def test_steps_of_a_pipeline_see_the_missing_pixels_of_the_step_before():
    image, valid = scene()
    pipeline = di.gaussian_blur(ksize=5) | di.sobel(dx=1) | di.absolute() | di.erode(ksize=3)
    result = pipeline(with_nodata(image, valid)).values
    blurred = weighed(image, valid, (2, 2), *[lambda x: cv2.GaussianBlur(x, (5, 5), 0)] * 2)
    complete = ~near(valid, 1, 1)
    edges = np.where(complete, cv2.convertScaleAbs(cv2.Sobel(blurred, cv2.CV_16S, 1, 0)), 255)
    formula = cv2.erode(edges.astype(np.uint8), np.ones((3, 3)))
    np.testing.assert_array_equal(result[complete], formula[complete])


def test_a_result_that_equals_nodata_stays_valid_within_a_pipeline():
    image, valid = scene()
    result = (di.threshold(value=128) | di.dilate(ksize=3) | di.erode(ksize=3))(with_nodata(image, valid)).values
    binary = np.where(image > 128, 255, 0)
    grown = over(binary, valid, np.ones((3, 3)), np.max, -np.inf)
    np.testing.assert_array_equal(result[valid], over(grown, valid, np.ones((3, 3)), np.min, np.inf)[valid])


def test_a_mask_is_carried_from_call_to_call():
    image, valid = scene()
    masked_image = di.mask_image(image, valid=valid, nodata=0)
    steps = [di.threshold(value=128), di.dilate(ksize=3), di.sobel(dx=1), di.absolute(), di.erode(ksize=3)]
    for chunked in (masked_image, masked_image.chunk({"y": 13, "x": 70})):
        result = chunked
        for step in steps:
            result = step(result)
        whole = di.Pipeline(*steps)(chunked)
        np.testing.assert_array_equal(result.valid.values, ~near(valid, 1, 1))
        np.testing.assert_array_equal(whole.valid.values, ~near(valid, 1, 1))
        np.testing.assert_array_equal(result.values, whole.values)


def test_what_a_mask_hides_keeps_its_value():
    image, valid = scene(dtype=np.uint16)
    result = di.gaussian_blur(di.mask_image(image, valid=valid), ksize=5)
    np.testing.assert_array_equal(result.values[~valid], image[~valid])
    assert "nodata" not in result.attrs
    np.testing.assert_array_equal(result.valid, valid)
    by_value = di.mask_image(image, valid=valid, nodata=9)
    np.testing.assert_array_equal(di.gaussian_blur(by_value, ksize=5).values[~valid], 9)


# Where images say so


@pytest.mark.parametrize("name", ["nodata", "_FillValue", "missing_value", "fill_value"])
def test_the_attributes_that_rioxarray_knows(name):
    image = labelled(np.array([[0, 90, 90, 60]], np.uint8), attrs={name: np.float64(0), "units": "K"})
    result = di.box_blur(image, ksize=3)
    np.testing.assert_array_equal(result, [[0, 90, 80, 80]])
    assert result.attrs == image.attrs
    assert di.sobel(image).attrs == {name: -32768, "units": "K"}


def test_what_xarray_decoded_is_nan_and_is_stored_as_before():
    image = labelled(np.array([[np.nan, 90, 90, 60]], np.float32))
    image.encoding = {"_FillValue": -9999.0, "dtype": "int16"}
    result = di.box_blur(image, ksize=3)
    np.testing.assert_array_equal(result, [[np.nan, 90, 80, 80]])
    assert result.encoding == {"_FillValue": -9999.0}
    assert di.rescale(image, to="uint8", in_high=255).attrs == {"nodata": 0}


def test_nan_is_missing_only_where_nodata_is_nan():
    image = labelled(np.array([[np.nan, 90, 90, 60]], np.float32))
    assert np.isnan(di.box_blur(image, ksize=3).values[0, 1])
    assert np.isnan(di.box_blur(image.assign_attrs(nodata=-9999.0), ksize=3).values[0, 1])
    assert di.box_blur(image.assign_attrs(nodata=math.nan), ksize=3).values[0, 1] == 90


def test_a_nodata_that_float32_rounds_is_found():
    image = labelled(np.array([[-3.4028234663852886e38, 90, 90, 60]], np.float32), attrs={"nodata": -3.402823466e38})
    np.testing.assert_array_equal(di.box_blur(image, ksize=3).values[0, 1:], [90, 80, 80])


@pytest.mark.parametrize("nodata", [-9999, 256, math.nan, 0.5, None])
def test_a_nodata_that_no_pixel_can_have_costs_nothing(nodata):
    array = da.from_array(RANDOM.integers(0, 256, (20, 30), np.uint8), chunks=7)
    image = labelled(array, attrs={"nodata": nodata})
    result = di.gaussian_blur(image, ksize=5)
    assert result.data.name == di.gaussian_blur(array, ksize=5).name
    assert result.attrs == image.attrs


def test_a_nodata_that_is_no_number_is_refused():
    with pytest.raises(ArrayError, match="nodata is one number, not 'none'"):
        di.invert(labelled(np.zeros((2, 2), np.uint8), attrs={"nodata": "none"}))


def test_nodata_of_other_types():
    uint8, int16, uint16, float32 = map(np.dtype, ("uint8", "int16", "uint16", "float32"))
    assert nodata_in(255, uint8, uint8) == 255
    assert nodata_in(0, uint8, int16) == -32768
    assert math.isnan(nodata_in(0, uint8, float32))
    assert nodata_in(255, uint8, uint16) == 255
    assert nodata_in(-9999, float32, uint8) == 0
    assert nodata_in(65535, uint16, uint8) == 255
    assert nodata_in(math.nan, float32, uint8) == 0


def test_building_computes_nothing_and_fuses():
    image, valid = scene()
    lazy = labelled(da.from_array(image, chunks=20), attrs={"nodata": 0})
    pipeline = di.gaussian_blur(ksize=5) | di.sobel(dx=1) | di.absolute()
    with dask.config.set(scheduler=no_compute):
        result = pipeline(lazy)
        di.mask_image(lazy, valid=da.from_array(valid, chunks=9))
        carried = pipeline(di.mask_image(lazy, valid=da.from_array(valid, chunks=9)))
        assert isinstance(carried.valid.data, da.Array)
    assert len(result.data.dask.layers) == 2
    chunks = math.prod(result.data.numblocks)
    assert len(result.data.dask.layers[result.data.name]) <= 2 * chunks
    kept = di.gaussian_blur(di.mask_image(lazy, valid=valid), ksize=5)
    assert kept.valid.variable._data is not None
    np.testing.assert_array_equal(kept.valid, valid & (image != 0))


def test_datasets_of_images_with_other_nodata():
    image, valid = scene()
    bands = {"red": with_nodata(image, valid, 0), "green": with_nodata(image[::-1], valid, 7)}
    result = xarray.Dataset(bands).map(di.sobel(dx=1) | di.absolute(), keep_attrs=True)
    for name, band in bands.items():
        np.testing.assert_array_equal(result[name], (di.sobel(dx=1) | di.absolute())(band))


# Geometry: on values together with their validity

MOVES = {
    di.pyramid_down(): lambda x: cv2.pyrDown(x),
    di.pyramid_up(): lambda x: cv2.pyrUp(x),
    di.resize(scale=0.5, interpolation="area"): lambda x: cv2.resize(x, (35, 30), interpolation=cv2.INTER_AREA),
    di.resize(width=35, height=15, interpolation="area"): lambda x: cv2.resize(x, (35, 15), None, 0, 0, cv2.INTER_AREA),
    di.resize(width=140, height=120, interpolation="nearest"): lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1),
    di.flip(): lambda x: x[:, ::-1],
    di.transpose(): lambda x: x.T,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("step", MOVES, ids=repr)
def test_pixels_are_moved_and_mixed_by_the_weight_of_valid_ones(step, dtype):
    image, valid = scene(dtype=dtype)
    both = join(image, valid)
    lazy = masked(step)(da.from_array(both, chunks=((11, 1, 30, 18), (29, 1, 40))))
    values, kept = apart(lazy.compute())
    move = MOVES[step]
    weights = move(valid.astype(np.float64))
    sums = move(np.where(valid, image, 0).astype(np.float64))
    np.testing.assert_array_equal(kept, weights > 0)
    known = weights > 0
    difference = np.abs(values[known] - sums[known] / weights[known])
    assert difference.max() <= (0.5 if dtype == np.uint8 else 2e-3)
    complete = np.abs(weights - 1) < 1e-9
    plain = step(np.where(valid, image, 0).astype(dtype))
    np.testing.assert_array_equal(values[complete], plain[complete])
    whole, _ = apart(masked(step)(da.from_array(both, chunks=-1)).compute())
    np.testing.assert_array_equal(values[known], whole[known])


@pytest.mark.parametrize("interpolation", ["cubic", "lanczos"])
def test_negative_weights_do_not_blow_up(interpolation):
    image, valid = scene(dtype=np.float32)
    step = di.resize(width=33, height=41, interpolation=interpolation)
    values, kept = apart(masked(step)(da.from_array(join(image, valid), chunks=25)).compute())
    assert np.abs(values[kept]).max() < 3 * image.max()
    assert 0 < kept.sum() < kept.size


def test_what_lies_outside_is_missing():
    _, kept = apart(masked(di.pad(left=2))(da.from_array(join(*scene()), chunks=25)).compute())
    assert not kept[:, :2].any()
    assert kept[:, 2:].any()


# Stacks and colors


def test_bands_of_a_stack_each_have_their_own():
    stack = np.stack([np.where(scene()[1], scene()[0], 0) for _ in range(6)]).astype(np.uint8)
    image = xarray.DataArray(stack, dims=("band", "y", "x"), attrs={"nodata": 0}).chunk({"band": 2, "y": 17, "x": 9})
    pipeline = di.gaussian_blur(ksize=5) | di.equalize_hist(color="each") | di.erode(ksize=3)
    expected = [pipeline(labelled(plane, attrs={"nodata": 0})).values for plane in stack]
    np.testing.assert_array_equal(pipeline(image), expected)
    np.testing.assert_array_equal(pipeline(image.transpose("y", "x", "band")).transpose("band", "y", "x"), expected)


def test_a_mask_lies_over_every_plane_of_a_stack():
    stack = np.stack([scene()[0] for _ in range(5)])
    valid = scene()[1]
    image = xarray.DataArray(stack, dims=("t", "y", "x"), coords={"valid": (("y", "x"), valid)})
    result = di.sobel(dx=1)(image.chunk({"t": 2, "y": 17, "x": 9}))
    expected = [di.sobel(di.mask_image(plane, valid=valid), dx=1).values for plane in stack]
    np.testing.assert_array_equal(result, expected)
    assert result.valid.dims == ("y", "x")
    np.testing.assert_array_equal(result.valid, ~near(valid, 1, 1))


def test_a_pixel_of_a_picture_is_missing_where_all_its_colors_are():
    image = np.array([[[0, 0, 0], [200, 0, 0], [200, 100, 0], [200, 100, 60]]], np.uint8)
    picture = labelled(image, attrs={"nodata": 0})
    gray = di.to_gray(picture)
    np.testing.assert_array_equal(gray[0, 1:], di.to_gray(image)[0, 1:])
    assert gray.values[0, 0] == 0
    np.testing.assert_array_equal(
        di.box_blur(picture, ksize=3)[0], [[0] * 3, [200, 50, 0], [200, 67, 20], [200, 100, 20]]
    )
    with_alpha = di.to_rgb(picture, alpha=True)
    np.testing.assert_array_equal(with_alpha[0, :, 3], [0, 255, 255, 255])
    np.testing.assert_array_equal(di.box_blur(with_alpha, ksize=3)[0, 1:, 1], [50, 67, 100])


def test_a_new_channel_axis_has_the_mask_of_its_pixels():
    image, valid = scene()
    result = (di.to_rgb() | di.gaussian_blur(ksize=3) | di.to_gray())(di.mask_image(image, valid=valid, nodata=0))
    assert (result.values[~valid] == 0).all()
    np.testing.assert_array_equal(result.valid, valid)


# What is refused, and the rest


def test_masks_of_another_size_or_type_are_refused():
    image = scene()[0]
    with pytest.raises(ArrayError, match="give a boolean array over its y and x"):
        di.mask_image(image, valid=np.ones((3, 3), bool))
    with pytest.raises(ArrayError, match="valid is uint8"):
        di.mask_image(image, valid=np.ones(image.shape, np.uint8))
    with pytest.raises(ParameterError, match="needs valid="):
        di.mask_image(image)


def test_what_does_not_know_missing_pixels_says_so():
    image, valid = scene()
    step = di.sobel.changed(missing="refuse")(dx=1)
    with pytest.raises(OperationError, match=r"does not know pixels without data; .* image.where\(image != 0, 0\)"):
        step(with_nodata(image, valid))
    filled = with_nodata(image, valid)
    filled = filled.where(filled != 0, 0).drop_vars("valid", errors="ignore").drop_attrs()
    np.testing.assert_array_equal(step(filled), di.sobel(filled.values, dx=1))


def test_steps_with_validity_travel():
    for step in (di.gaussian_blur(ksize=5), di.equalize_hist(), di.erode()):
        arrived = pickle.loads(pickle.dumps(masked(step)))
        assert arrived == masked(step)
        assert arrived.operation is masked(step).operation


def test_every_operation_says_what_becomes_of_missing_pixels():
    for operation in di.list_operations().values():
        assert rule_in_words(operation).endswith((".", "`.")), operation.name


@pytest.mark.parametrize("step", [di.pyramid_down(), di.resize(scale=0.5, interpolation="area")], ids=str)
def test_smaller_images_are_made_of_valid_pixels_only(step):
    """What is hidden changes nothing, and where all that a pixel is made of is valid, it is OpenCV's."""
    hidden = np.zeros((60, 80), bool)
    hidden[20:30, 30:45] = True
    plain = np.random.default_rng(4).integers(1, 255, hidden.shape, np.uint8)

    def small(fill):
        values = np.where(hidden, fill, plain).astype(np.uint8)
        image = xarray.DataArray(da.from_array(values, chunks=17), dims=("y", "x"), attrs={"nodata": fill})
        return step(image.assign_coords(valid=(("y", "x"), ~hidden)))

    first, second = small(0), small(255)
    assert first.shape == (30, 40)
    np.testing.assert_array_equal(first.valid, second.valid)
    valid = first.valid.values
    assert 0 < (~valid).sum() < 150
    np.testing.assert_array_equal(first.values[valid], second.values[valid])
    far = np.ones_like(valid)
    far[8:17, 13:25] = False
    np.testing.assert_array_equal(first.values[far], step(plain)[far])
