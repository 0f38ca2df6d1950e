"""What is particular to smoothing, edges and morphology; the conformance suite covers what every operation keeps."""

import math
import zlib
from fractions import Fraction

import cv2
import dask
import dask.array as da
import numpy as np
import pytest

import daskimg as di
from daskimg.errors import DtypeError, ParameterError
from daskimg.operations.kernels import gaussian_ksize

ALL = ["uint8", "uint16", "int16", "float32", "float64"]
FLOATS = ["float32", "float64"]

# Each operation with kernels larger than most of the images below.
LARGE = [
    di.box_blur(ksize=30, ksize_y=31),
    di.gaussian_blur(ksize=31),
    di.gaussian_blur(sigma=7, sigma_y=2, border="replicate"),
    di.median_blur(ksize=31),
    di.bilateral_filter(d=31, sigma_color=50),
    di.non_local_means(search_window_size=9),
    di.filter2d(kernel=np.arange(144).reshape(12, 12) / 10296),
    di.sep_filter2d(kernel_x=np.arange(20) / 190, kernel_y=np.arange(15) / 105, border="reflect"),
    di.sharpen(sigma=5),
    di.sobel(ksize=31),
    di.laplacian(ksize=31, border="constant"),
    di.erode(ksize=31, shape="ellipse"),
    di.opening(ksize=8, iterations=3, border="reflect_101"),
    di.black_hat(ksize=9, ksize_y=4, shape="diamond"),
]


def noise(shape, dtype, seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max + 1, shape).astype(dtype)


def in_chunks(step, image, *sizes):
    with dask.config.set(scheduler="sync"):
        return step(da.from_array(image, chunks=(*sizes, *image.shape[2:]))).compute()


def tolerance(step, image, result):
    declared = step.operation.declaration
    if result.dtype.kind in "iu":
        levels = declared.levels
        return levels(step.arguments, image.dtype) if callable(levels) else levels
    gain = declared.gain(step.arguments, image.dtype) if declared.gain else 0
    return 8 * np.finfo(result.dtype).eps * gain * np.abs(image[np.isfinite(image)].astype(np.float64)).max()


def assert_same(step, image, *sizes):
    whole = step(image)
    np.testing.assert_allclose(
        in_chunks(step, image, *sizes).astype(np.float64), whole.astype(np.float64), 0, tolerance(step, image, whole)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (4, 1), (2, 2), (7, 33)])
@pytest.mark.parametrize("step", LARGE, ids=str)
def test_kernels_larger_than_the_image(step, shape):
    for dtype in sorted(step.operation.allowed_dtypes(step)):
        assert_same(step, noise(shape, dtype), 1, 2)


def test_results_are_those_of_opencv():
    image = noise((40, 50, 3), "uint8")
    weights = np.arange(12.0).reshape(3, 4) / 66
    element = cv2.getStructuringElement(cv2.MORPH_CROSS, (4, 3))
    expected = {
        di.box_blur(ksize=4, ksize_y=3, border="constant"): cv2.blur(image, (4, 3), borderType=cv2.BORDER_CONSTANT),
        di.gaussian_blur(): cv2.GaussianBlur(image, (5, 5), 0),
        di.gaussian_blur(sigma=2, sigma_y=3): cv2.GaussianBlur(image, (0, 0), 2, sigmaY=3),
        di.median_blur(ksize=7): cv2.medianBlur(image, 7),
        di.bilateral_filter(d=4): cv2.bilateralFilter(image, 4, 25, 3),
        di.bilateral_filter(): cv2.bilateralFilter(image, 0, 25, 3),
        di.non_local_means(h=30, norm="l1"): cv2.fastNlMeansDenoising(image, [30], None, 7, 21, cv2.NORM_L1),
        di.filter2d(kernel=weights): cv2.filter2D(image, -1, weights),
        di.sep_filter2d(kernel_x=weights[0], kernel_y=[1, 2]): cv2.sepFilter2D(
            image, -1, weights[0], np.array([1.0, 2])
        ),
        di.sobel(dx=0, dy=1, ksize=5): cv2.Sobel(image, cv2.CV_16S, 0, 1, ksize=5),
        di.scharr(border="reflect"): cv2.Scharr(image, cv2.CV_16S, 1, 0, borderType=cv2.BORDER_REFLECT),
        di.laplacian(ksize=3): cv2.Laplacian(image, cv2.CV_16S, ksize=3),
        di.dilate(ksize=4, ksize_y=3, shape="cross", iterations=2): cv2.dilate(image, element, iterations=2),
        di.closing(ksize=4, ksize_y=3, shape="cross"): cv2.morphologyEx(image, cv2.MORPH_CLOSE, element),
    }
    for step, result in expected.items():
        np.testing.assert_array_equal(step(image), result, str(step))


def test_color_is_rgb_and_alpha_stays():
    image = noise((20, 24, 4), "uint8")
    bgr = np.ascontiguousarray(image[:, :, 2::-1])
    result = di.non_local_means_color(image, h=30, h_color=40, search_window_size=9)
    np.testing.assert_array_equal(result[:, :, 2::-1], cv2.fastNlMeansDenoisingColored(bgr, None, 30, 40, 7, 9))
    np.testing.assert_array_equal(result[:, :, 3], image[:, :, 3])
    np.testing.assert_array_equal(di.sobel(image)[:, :, 3], image[:, :, 3])


# Gaussian


@pytest.mark.parametrize("dtype", ALL)
def test_automatic_size_of_a_gaussian(dtype):
    # Multiples of 1/16 meet the halves, which round to even.
    image = noise((3, 150), dtype)
    for sigma in np.concatenate([np.arange(1, 80) / 16, np.random.default_rng(0).uniform(0.05, 12, 60)]):
        size = gaussian_ksize(None, sigma, np.dtype(dtype))
        automatic = cv2.GaussianBlur(image, (0, 1), sigma)
        np.testing.assert_array_equal(automatic, cv2.GaussianBlur(image, (size, 1), sigma))
        if dtype == "float64" and sigma > 0.3:  # below, the outer taps vanish
            for other in {size - 2, size + 2} - {-1}:
                assert not np.array_equal(automatic, cv2.GaussianBlur(image, (other, 1), sigma))


def test_gaussian_of_int16_is_exact_and_opencvs():
    image = np.where(noise((300, 350), "float64") > 1.3, 32767, -32768).astype(np.int16)
    for parameters in ({"ksize": 7, "sigma": 4.74}, {"ksize": 17, "sigma": 1.96}, {"sigma": 3}, {"sigma": 20}):
        step = di.gaussian_blur(**parameters)
        np.testing.assert_array_equal(in_chunks(step, image, 97, 101), step(image))
        size, sigma = parameters.get("ksize", 0), parameters["sigma"]
        deviation = np.abs(step(image).astype(int) - cv2.GaussianBlur(image, (size, size), sigma))
        assert deviation.max() <= 1
        assert np.mean(deviation > 0) < 0.002


def test_a_gaussian_of_a_constant_image_changes_nothing():
    for value in (-32768, -1, 32767):
        image = np.full((9, 9), value, np.int16)
        np.testing.assert_array_equal(di.gaussian_blur(image, sigma=6), image)


# Box


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_box_blur_is_the_true_mean(dtype):
    image = noise((30, 45), dtype)
    for rows, columns in ((1, 2), (3, 3), (5, 18), (20, 20)):
        padded = np.pad(image.astype(np.int64), ((rows // 2, rows), (columns // 2, columns)), "reflect")
        sums = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns))[:30, :45].sum((2, 3))
        result = di.box_blur(image, ksize=columns, ksize_y=rows)
        assert np.abs(result - sums / (rows * columns)).max() < 0.51  # OpenCV multiplies in float32


def test_box_blur_of_two_white_pixels_is_white():
    # cv2.blur(np.full((1, 3), 255, np.uint8), (2, 1)) is 0 in OpenCV 5.0.
    for columns, rows in ((2, 1), (1, 2)):
        for value in (0, 1, 255):
            image = np.full((5, 40), value, np.uint8)
            np.testing.assert_array_equal(di.box_blur(image, ksize=columns, ksize_y=rows), image)


def test_box_blur_does_not_drift():
    image = noise((20_000, 3), "float64")
    step = di.box_blur(ksize=3)
    np.testing.assert_array_equal(in_chunks(step, image, 999, 2), step(image))
    lowest = np.pad(image[-4:], ((0, 0), (1, 1)), "reflect")[-3:]
    expected = math.fsum(lowest[:, :3].ravel()) / 9
    assert step(image)[-2, 0] == pytest.approx(expected, rel=0, abs=1e-15)


# Float kernels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("gain", [1, 30, 3000, 300_000])
def test_strong_kernels_deviate_by_one_level_at_most(dtype, gain):
    image = noise((90, 100), dtype) // 2
    random = np.random.default_rng(1)
    for size in (3, 8, 13):
        kernel = random.standard_normal((size, size))
        kernel = (kernel - kernel.mean()) * (gain / np.abs(kernel).sum())
        assert_same(di.filter2d(kernel=kernel), image, 31, 33)
        assert_same(di.sep_filter2d(kernel_x=kernel[0], kernel_y=kernel[1]), image, 31, 33)


def test_transformed_kernels_in_float64():
    kernel = np.zeros((121, 121))
    kernel[40, 40] = 1
    assert_same(di.filter2d(kernel=kernel), np.full((700, 900), 200.1), 300, 257)


def test_filter2d_does_not_mirror_the_kernel():
    image = np.zeros((1, 5), np.uint8)
    image[0, 2] = 1
    assert di.filter2d(image, kernel=[[1, 2, 3]]).tolist() == [[0, 3, 2, 1, 0]]


def test_sharpen_is_exact():
    image = noise((12, 30), "uint8")
    smooth = di.gaussian_blur(image, sigma=1.5)
    result = di.sharpen(image, amount=0.75, sigma=1.5, threshold=2)
    for pixel, mean, sharp in zip(
        image.ravel().tolist(), smooth.ravel().tolist(), result.ravel().tolist(), strict=True
    ):
        difference = pixel - mean
        rest = max(abs(difference) - 2, 0) * (1 if difference > 0 else -1)
        assert sharp == min(max(round(pixel + Fraction(3, 4) * rest), 0), 255)


# Edges


@pytest.mark.parametrize("ksize", [1, 3, 5, 7, 31])
def test_derivatives_neither_wrap_nor_saturate(ksize):
    for order in range(1, min(5, max(3, ksize))):
        along_x, along_y = cv2.getDerivKernels(order, 0, ksize, ktype=cv2.CV_64F)
        # The image whose derivative is largest: white where the kernel is positive, black where it is negative.
        image = np.repeat(np.where(along_x.T > 0, 255, 0).astype(np.uint8), max(len(along_y), 3), axis=0)
        expected = 255 * along_x[along_x > 0].sum() * along_y.sum()
        middle = tuple(size // 2 for size in image.shape)
        for one, at in ((image, expected), (255 - image, -expected)):
            result = di.sobel(one, dx=order, dy=0, ksize=ksize)
            assert result[middle] == pytest.approx(at, rel=1e-6)
            assert result.dtype == ("int16" if ksize <= 5 else "float32")


@pytest.mark.parametrize("ksize", [1, 3, 5, 7])
def test_laplacian_neither_wraps_nor_saturates(ksize):
    impulse = np.zeros((41, 41), np.float64)
    impulse[20, 20] = 1
    kernel = di.laplacian(impulse, ksize=ksize)
    image = np.where(kernel > 0, 255, 0).astype(np.uint8)
    assert di.laplacian(image, ksize=ksize)[20, 20] == 255 * kernel[kernel > 0].sum()
    assert di.laplacian(255 - image, ksize=ksize)[20, 20] == 255 * kernel[kernel < 0].sum()
    assert di.laplacian.declaration.gain(di.laplacian(ksize=ksize).arguments, image.dtype) >= np.abs(kernel).sum()


def test_refusals_come_before_anything_is_computed():
    def computed(*args, **kwargs):
        raise AssertionError("something was computed")

    image = da.zeros((9, 9), np.uint8, chunks=4)
    with dask.config.set(scheduler=computed):
        for make, message in (
            (lambda: di.sobel(image, dx=0), "dx=0 dy=0"),
            (lambda: di.sobel(image, dx=3), "set ksize to 5"),
            (lambda: di.scharr(image, dy=1), "one of them is 1"),
        ):
            with pytest.raises(ParameterError, match=message):
                make()
        for operation in (di.laplacian, di.sobel, di.gaussian_blur, di.erode):
            with pytest.raises(DtypeError, match="float16"):
                operation(image.astype(np.float16))
        with pytest.raises(DtypeError, match="uint8, not uint16"):
            di.median_blur(image.astype(np.uint16), ksize=7)
        with pytest.raises(DtypeError, match="uint8, not float32"):
            di.bilateral_filter(image.astype(np.float32))


def test_two_channels_have_a_median():
    image = noise((30, 20, 2), "uint8")
    result = di.median_blur(image, ksize=9)
    for channel in range(2):
        np.testing.assert_array_equal(result[:, :, channel], di.median_blur(image[:, :, channel], ksize=9))


# NaN


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "step",
    [
        di.box_blur(ksize=5),
        di.gaussian_blur(sigma=2),
        di.median_blur(ksize=5),
        di.filter2d(kernel=np.ones((12, 12)) / 144),
        di.sep_filter2d(),
        di.sharpen(),
        di.sobel(ksize=5),
        di.scharr(border="constant"),
        di.laplacian(ksize=5),
        di.erode(ksize=3, shape="cross", iterations=2),
        di.closing(ksize=3),
        di.morphological_gradient(ksize=4),
        di.top_hat(ksize=3, border="reflect"),
    ],
    ids=str,
)
def test_nan_stays_where_it_is(step, dtype):
    if dtype not in step.operation.allowed_dtypes(step):
        pytest.skip(f"{dtype} is refused")
    image = noise((120, 130), dtype, seed=zlib.crc32(str(step).encode()))
    image[noise((120, 130), "float64", seed=2) > 2.8] = np.nan
    assert_same(step, image, 17, 13)
    rows, columns = step.operation.reach(step, image.dtype)
    near = cv2.dilate(np.isnan(image).astype(np.uint8), np.ones((2 * rows + 1, 2 * columns + 1), np.uint8))
    assert not np.isnan(step(image)[near == 0]).any()
