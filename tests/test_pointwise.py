"""Facts about tone, thresholds, color and composition that the conformance suite cannot know."""

import cv2
import dask.array as da
import numpy as np
import pytest

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ParameterError

DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


def noise(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)


def assert_same_in_chunks(step, image, chunks=(37, 101)):
    lazy = da.from_array(image, chunks=(*chunks, *image.shape[2:]))
    np.testing.assert_array_equal(step(lazy).compute(scheduler="synchronous"), step(image))


@pytest.mark.parametrize(
    ("saturate", "expected", "dtype"), [(True, [255, 255, 5, 255], "uint8"), (False, [32768, 32767, 5, 300], "uint16")]
)
def test_absolute_of_int16(saturate, expected, dtype):
    result = di.absolute(np.array([[-32768, -32767, -5, 300]], np.int16), saturate=saturate)
    assert result.dtype == dtype
    assert result.tolist() == [expected]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rescale_comes_back(dtype):
    image = noise((50, 70, 3), dtype)
    for wider in ("uint16", "float32", "float64"):
        np.testing.assert_array_equal(di.rescale(di.rescale(image, to=wider), to=dtype), image)


def test_rescale_maps_alpha_from_its_full_range():
    image = np.full((2, 2, 4), 100, np.uint8)
    result = di.rescale(image, to="float64", in_low=50, in_high=150)
    assert result[0, 0].tolist() == [0.5, 0.5, 0.5, 100 / 255]


def test_rescale_gives_integers_for_every_float():
    image = np.array([[np.nan, np.inf, -np.inf, -0.1, 0.5, 1.5]], np.float32)
    assert di.rescale(image, to="uint8").tolist() == [[0, 255, 0, 0, 128, 255]]
    assert di.rescale(image, to="int16").tolist() == [[0, 32767, -32768, -3277, 16384, 32767]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_tables_give_what_the_formula_gives(dtype):
    image, top = noise((40, 50), dtype), np.iinfo(dtype).max
    exact = np.rint(top * (np.maximum(image, 0) / top) ** 0.7)
    np.testing.assert_array_equal(di.gamma(image, gamma=0.7), exact.astype(dtype))
    exact = np.clip(np.rint((image - top / 2) * 1.5 + (top / 2 + 0.1 * top)), np.iinfo(dtype).min, top)
    np.testing.assert_array_equal(di.brightness_contrast(image, brightness=0.1, contrast=1.5), exact.astype(dtype))


@pytest.mark.parametrize("value", [-70000, -0.5, 0, 100, 100.99, 40000, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_is_what_it_says(dtype, value):
    image = noise((20, 67), dtype) if dtype[0] != "f" else (noise((20, 67), dtype) - 0.5) * np.dtype(dtype).type(1e5)
    above, top = image > value, 1 if dtype[0] == "f" else np.iinfo(dtype).max
    level = value if dtype[0] == "f" else np.clip(np.floor(value), np.iinfo(dtype).min, top)
    expected = {
        "binary": np.where(above, top, 0),
        "binary_inv": np.where(above, 0, top),
        "trunc": np.where(above, np.array(level).astype(dtype), image)
        if value > image.min()
        else np.full_like(image, level),
        "to_zero": np.where(above, image, 0),
        "to_zero_inv": np.where(above, 0, image),
    }
    for kind, pixels in expected.items():
        np.testing.assert_array_equal(di.threshold(image, value=value, kind=kind), pixels.astype(dtype), err_msg=kind)


@pytest.mark.parametrize("method", ["mean", "gaussian"])
@pytest.mark.parametrize("ksize", [11, 31])
def test_adaptive_threshold_is_exact_on_a_large_image(method, ksize):
    # In this image cv2's own Gaussian mean of one pixel is rounded otherwise where a chunk ends near it.
    image = cv2.GaussianBlur(noise((300, 700), seed=225), (0, 0), 4)
    step = di.adaptive_threshold(ksize=ksize, method=method, offset=0)
    assert_same_in_chunks(step, image, (300, 20))
    assert_same_in_chunks(step, image)
    how = {"mean": cv2.ADAPTIVE_THRESH_MEAN_C, "gaussian": cv2.ADAPTIVE_THRESH_GAUSSIAN_C}[method]
    # cv2 itself may round otherwise in the last pixels of a row.
    plain = cv2.adaptiveThreshold(image, 255, how, cv2.THRESH_BINARY, ksize, 0)
    np.testing.assert_array_equal(step(image)[:, :-16], plain[:, :-16])


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.5), (100.2, 100.9), (-4e9, 4e9), (101, 100), (1e5, 2e5), (-9, -5)])
def test_in_range_compares_as_numbers_do(low, high):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.where((image >= low) & (image <= high), 255, 0)
    np.testing.assert_array_equal(di.in_range(image, low=low, high=high), expected)


def test_in_range_takes_values_for_each_channel_and_leaves_alpha_out():
    image = noise((9, 9, 4))
    expected = ((image[:, :, :3] >= (10, 20, 30)) & (image[:, :, :3] <= (250, 200, 240))).all(axis=2) * 255
    np.testing.assert_array_equal(di.in_range(image, low=(10, 20, 30), high=(250, 200, 240)), expected)
    with pytest.raises(ParameterError, match="2 values, the image 3"):
        di.in_range(image, low=(10, 20), high=200)


SPACES = {"hsv": "HSV", "hls": "HLS", "lab": "LAB", "luv": "LUV", "ycrcb": "YCrCb", "yuv": "YUV", "xyz": "XYZ"}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("space", SPACES)
def test_colors_are_those_of_cv2_and_do_not_depend_on_the_place(space, dtype):
    image = noise((30, 1024, 3), dtype)
    forth = di.convert_color(image, to=space)
    np.testing.assert_array_equal(forth, cv2.cvtColor(image, getattr(cv2, f"COLOR_RGB2{SPACES[space]}")))
    back = di.convert_color(forth, source=space, to="rgb")
    np.testing.assert_array_equal(back, cv2.cvtColor(forth, getattr(cv2, f"COLOR_{SPACES[space]}2RGB")))
    # cv2's own differ by a level or some ulps near the end of a row; these may not.
    assert_same_in_chunks(di.convert_color(to=space), image, (7, 33))
    assert_same_in_chunks(di.convert_color(source=space, to="rgb"), forth, (7, 33))


def test_convert_color_minds_channels():
    gray, rgba = noise((5, 6)), noise((5, 6, 4))
    assert di.convert_color(gray, source="gray", to="lab").shape == (5, 6, 3)
    assert di.convert_color(rgba, to="gray").shape == (5, 6)
    np.testing.assert_array_equal(di.convert_color(rgba, to="bgr"), rgba[:, :, [2, 1, 0, 3]])
    with pytest.raises(ArrayError, match="one channel"):
        di.convert_color(gray, source="hsv", to="rgb")
    with pytest.raises(ArrayError, match="4 channels"):
        di.convert_color(da.from_array(rgba), source="gray", to="rgb")
    with pytest.raises(DtypeError, match="uint8 float32"):
        di.convert_color(noise((5, 6, 3), "uint16"), to="hsv")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_hue_saturation_by_nothing_changes_nothing(dtype):
    image = noise((60, 70, 4), dtype)
    np.testing.assert_array_equal(di.hue_saturation(image), image)
    np.testing.assert_array_equal(di.hue_saturation(image, hue=360), image)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sepia_is_cv2s_transform(dtype):
    image = noise((40, 64, 3), dtype)
    matrix = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    difference = np.abs(di.sepia(image).astype(float) - cv2.transform(image, matrix))
    assert difference.max() <= (8 * np.finfo(dtype).eps * 1.4 if dtype[0] == "f" else dtype != "uint8")


def test_colormap_is_rgb():
    assert di.colormap(np.array([[0, 255]], np.uint8), name="autumn").tolist() == [[[255, 0, 0], [255, 255, 0]]]


def test_blend_wants_images_alike():
    image = noise((5, 6, 3))
    for other in (noise((5, 6)), noise((5, 6, 3), "uint16"), noise((5, 7, 3))):
        with pytest.raises(ArrayError, match="second image"):
            di.blend(image, other=other)
        with pytest.raises(ArrayError, match="second image"):
            di.blend(da.from_array(image, chunks=(2, 6, 3)), other=other)
    assert di.blend(image[:, :, :1], other=image[:, :, 1:2]).shape == (5, 6, 1)


def test_blend_takes_big_endian_images():
    image = noise((5, 6), "uint16")
    np.testing.assert_array_equal(di.blend(image, other=image.astype(">u2"), weight=1), image)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("mark_channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize(
    "place",
    [
        {"anchor": "center"},
        {"row": -9, "column": 50, "scale": 0.6},
        {"scale": 5, "anchor": "top_left", "margin": -20},
        {"row": 999},
    ],
    ids=["inside", "across the border", "larger than the image", "outside"],
)
def test_overlay_is_the_same_in_chunks(channels, mark_channels, place):
    mark = noise((31, 23, *mark_channels), "uint16")
    for dtype in DTYPES:
        assert_same_in_chunks(di.overlay(mark=mark, opacity=0.7, **place), noise((64, 71, *channels), dtype), (13, 17))


def test_overlay_covers_by_alpha_and_keeps_the_images_own():
    image, mark = np.full((1, 3, 4), 100, np.uint8), np.full((1, 3, 4), 65535, np.uint16)
    mark[0, :, 3] = 0, 32768, 65535
    result = di.overlay(image, mark=mark, row=0, column=0)
    assert result.tolist() == [[[100, 100, 100, 100], [178, 178, 178, 100], [255, 255, 255, 100]]]


def test_overlay_refuses_a_mark_that_it_cannot_lay():
    for mark in (np.zeros((3, 3), bool), np.zeros((3, 3, 2), np.uint8)):
        with pytest.raises(ArrayError, match="a mark is gray, RGB or RGBA"):
            di.overlay(da.zeros((9, 9), dtype="uint8"), mark=mark)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draw_text_is_the_same_in_chunks(dtype):
    for channels in ((), (1,), (3,), (4,)):
        for place in ({"anchor": "center"}, {"row": -8, "column": -5}, {"anchor": "bottom_right", "margin": -10}):
            step = di.draw_text(text="Zürich Ω\n漢字", size=21, opacity=0.8, **place)
            assert_same_in_chunks(step, noise((64, 97, *channels), dtype), (11, 13))


def test_draw_text_has_letters_beyond_ascii_and_white_by_default():
    blank = np.zeros((40, 60), np.uint16)
    written = {text: di.draw_text(blank, text=text).tobytes() for text in "?üΩ漢"}
    assert len(set(written.values())) == 4
    assert di.draw_text(blank, text="M", size=30).max() == 65535
    assert di.draw_text(blank, text="M", size=30, color=(1000, 1000, 1000)).max() == 1000
    assert not di.draw_text(blank, text=" \n").any()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (di.lut(table=[1, 2, 3]), "256 numbers, not 3"),
        (di.clip(low=5, high=4), "swap them"),
        (di.rescale(in_low=300), "not below in_high"),
        (di.draw_text(text="x", color=(1, 2)), "red, green and blue"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_runs(step, message):
    for image in (np.zeros((4, 4), np.uint8), da.zeros((4, 4), dtype="uint8")):
        with pytest.raises(ParameterError, match=message):
            step(image)
