"""Labelled arrays: operations act on y and x, names and coordinates stay."""

import itertools

import dask.array as da
import numpy as np
import pytest
import xarray

import daskimg as di
from daskimg.errors import ArrayError
from daskimg.testing import no_compute, thin_strips

RANDOM = np.random.default_rng(3)
PLANE = RANDOM.integers(0, 256, (20, 30), np.uint8)
COLORS = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)
PIPELINE = di.gaussian_blur(sigma=0.7, sigma_y=1.3) | di.sobel(dx=1) | di.absolute()


def labelled(array, dims, **options):
    return xarray.DataArray(array, dims=dims, **options)


def test_names_coordinates_and_attributes_stay():
    image = labelled(
        da.from_array(np.stack([PLANE] * 2), chunks=(1, 8, 9)),
        ("t", "y", "x"),
        name="dapi",
        coords={
            "t": np.array(["2026-01-01", "2026-01-02"], "M8[ns]"),
            "y": np.arange(20) * 0.5,
            "lon": (("y", "x"), np.ones((20, 30))),
            "exposure": 3,
        },
        attrs={"units": "K", "pixel_size": 0.5},
    )
    result = PIPELINE(image)
    assert result.name == "dapi"
    assert result.attrs == image.attrs
    assert result.dims == image.dims
    assert set(result.coords) == set(image.coords)
    xarray.testing.assert_equal(result.coords.to_dataset(), image.coords.to_dataset())
    np.testing.assert_array_equal(result.values, np.stack([PIPELINE(PLANE)] * 2))


def test_unnamed_stays_unnamed():
    image = labelled(PLANE, ("y", "x")).chunk(9)
    assert image.name is PIPELINE(image).name is None
    assert di.to_rgb(labelled(PLANE, ("y", "x"))).name is None


def test_how_the_image_was_stored_is_forgotten():
    image = labelled(da.from_array(PLANE, chunks=9), ("y", "x"))
    image.encoding = {"dtype": "uint8", "scale_factor": 0.1}
    assert di.sobel(image).encoding == {}
    assert image.encoding


def test_indexes_of_several_levels_stay():
    pandas = pytest.importorskip("pandas")
    rows = pandas.MultiIndex.from_product([range(4), range(5)], names=("well", "row"))
    image = labelled(PLANE, ("y", "x")).assign_coords(xarray.Coordinates.from_pandas_multiindex(rows, "y"))
    result = di.invert(image)
    assert result.indexes["y"].equals(image.indexes["y"])


def test_tczyx_is_worked_on_plane_by_plane_in_the_chunks_that_there_are():
    stack = RANDOM.integers(0, 256, (2, 3, 4, 20, 30), np.uint8)
    image = labelled(da.from_array(stack, chunks=(1, 2, 4, 13, 11)), tuple("tczyx"))
    with dask_that_must_not_compute():
        result = PIPELINE(image)
    assert result.chunks == image.chunks
    expected = np.stack([PIPELINE(plane) for plane in stack.reshape(-1, 20, 30)]).reshape(stack.shape)
    with thin_strips():
        np.testing.assert_array_equal(result.values, expected)


def dask_that_must_not_compute():
    import dask

    return dask.config.set(scheduler=no_compute)


@pytest.mark.parametrize("order", list(itertools.permutations(("band", "y", "x"))), ids=" ".join)
def test_ten_bands_wherever_they_stand(order):
    bands = RANDOM.integers(0, 256, (10, 20, 30), np.uint8)
    image = labelled(bands, ("band", "y", "x"), coords={"band": list("abcdefghij")}).transpose(*order)
    image = image.chunk({"band": 4, "y": 7, "x": 9})
    result = PIPELINE(image)
    assert result.dims == order
    assert result.chunks == image.chunks
    expected = np.stack([PIPELINE(plane) for plane in bands])
    np.testing.assert_array_equal(result.transpose("band", "y", "x").values, expected)
    assert list(result.band.values) == list("abcdefghij")


@pytest.mark.parametrize("order", list(itertools.permutations("cyx")), ids="".join)
@pytest.mark.parametrize(
    "chunk", [{"c": 1, "y": 7, "x": 9}, {"c": 3, "y": 20, "x": 1}, {"c": 2, "y": 3, "x": 30}], ids=str
)
def test_colors_wherever_they_stand(order, chunk):
    image = labelled(COLORS, ("y", "x", "c"), coords={"c": ["r", "g", "b"], "y": np.arange(20)})
    lazy = image.transpose(*order).chunk(chunk)
    plane_order = [dim for dim in order if dim != "c"]
    for pipeline in (
        di.Pipeline(di.sepia()),
        di.to_gray() | di.gaussian_blur(sigma=0.7, sigma_y=1.3),
        di.gaussian_blur(sigma=0.7, sigma_y=1.3) | di.to_gray() | di.erode(ksize=3, ksize_y=5),
        di.convert_color(to="hsv") | di.median_blur(ksize=3),
        di.to_rgb(alpha=True) | di.invert(),
        di.Pipeline(di.in_range(low=50, high=200)),
    ):
        with thin_strips():
            result = pipeline(lazy).compute(scheduler="synchronous")
        expected = pipeline(COLORS)
        assert result.dims == (order if expected.ndim == 3 else tuple(plane_order))
        back = result.transpose("y", "x", ...).values
        if "alpha" in str(pipeline) and order[-1] != "c":
            # A channel axis that does not stand last is a batch axis for what does not mix colors: see the module.
            expected = np.dstack((expected[:, :, :3], 255 - expected[:, :, 3]))
        np.testing.assert_array_equal(back, expected)
        assert "y" in result.coords
        assert ("c" in result.coords) == (expected.shape == COLORS.shape)


def test_gray_becomes_color_with_a_new_last_axis():
    stack = np.stack([PLANE, PLANE[::-1]])
    image = labelled(da.from_array(stack, chunks=(1, 9, 9)), ("t", "y", "x"), coords={"t": [5, 6]})
    result = di.to_rgb(image)
    assert result.dims == ("t", "y", "x", "c")
    np.testing.assert_array_equal(result.values, np.stack([di.to_rgb(plane) for plane in stack]))
    assert list(result.t.values) == [5, 6]
    back = di.to_gray(result)
    assert back.dims == image.dims


def test_columns_before_rows():
    image = labelled(da.from_array(np.ascontiguousarray(PLANE.T), chunks=(9, 7)), ("x", "y"))
    np.testing.assert_array_equal(PIPELINE(image).values, PIPELINE(PLANE).T)


def test_steps_one_after_another_are_one_layer():
    image = labelled(da.from_array(np.stack([PLANE] * 3), chunks=(1, 9, 9)), ("z", "y", "x"))
    result = image
    for step in PIPELINE:
        result = step(result)
    assert result.data.name == PIPELINE(image).data.name
    assert set(result.data.dask.layers) == {*image.data.dask.layers, result.data.name}


def test_in_memory_stays_in_memory():
    image = labelled(COLORS, ("y", "x", "c"))
    with dask_that_must_not_compute():
        result = (PIPELINE | di.to_gray())(image)
    assert isinstance(result.data, np.ndarray)
    np.testing.assert_array_equal(result.values, (PIPELINE | di.to_gray())(COLORS))
    assert isinstance(PIPELINE(image.chunk(9)).data, da.Array)


@pytest.mark.parametrize("dims", [("row", "column"), ("y", "lon"), ("lat", "x")])
def test_missing_y_or_x_is_refused_with_a_remedy(dims):
    with pytest.raises(ArrayError, match=r"must be called y and x: image.rename\(lat='y', lon='x'\)"):
        di.invert(labelled(PLANE, dims))


def test_mixing_of_many_bands_is_refused_with_a_remedy():
    image = labelled(np.zeros((10, 20, 30), np.uint8), ("band", "y", "x"))
    with pytest.raises(
        ArrayError, match=r"axis 'band' has 10 entries; choose up to four: image.isel\(band=\[0, 1, 2\]\)"
    ):
        di.to_gray(image)
    assert di.to_gray(image.isel(band=[0, 1, 2])).dims == ("y", "x")


def test_dataset_is_refused_with_a_remedy_that_works():
    dataset = xarray.Dataset({"red": (("y", "x"), PLANE), "green": (("y", "x"), PLANE)})
    with pytest.raises(ArrayError, match=r"holds several images: red, green; .* dataset.map\(pipeline\)"):
        PIPELINE(dataset)
    result = dataset.map(PIPELINE)
    np.testing.assert_array_equal(result["green"].values, PIPELINE(PLANE))


@pytest.mark.parametrize("order", list(itertools.permutations("tyx")), ids="".join)
def test_second_images_lie_over_y_and_x(order):
    stack = np.stack([PLANE, PLANE[::-1]])
    other = RANDOM.integers(0, 256, PLANE.shape, np.uint8)
    image = labelled(stack, ("t", "y", "x")).transpose(*order).chunk({"t": 1, "y": 7, "x": 9})
    expected = np.stack([di.blend(plane, other=other, weight=0.3) for plane in stack])
    for second in (other, labelled(other, ("y", "x")), labelled(other, ("y", "x")).transpose("x", "y").chunk(11)):
        result = di.blend(image, other=second, weight=0.3)
        assert result.dims == order
        np.testing.assert_array_equal(result.transpose("t", "y", "x").values, expected)


def test_marks_lie_in_every_plane():
    stack = np.stack([PLANE, PLANE[::-1]])
    image = labelled(stack, ("t", "y", "x")).transpose("x", "t", "y").chunk({"t": 2, "y": 7, "x": 9})
    step = di.overlay(mark=PLANE[:5, :4], anchor="center")
    result = step(image).transpose("t", "y", "x").values
    np.testing.assert_array_equal(result, np.stack([step(plane) for plane in stack]))


def test_without_pixels():
    image = labelled(da.zeros((3, 0, 5), dtype=np.uint8, chunks=(1, -1, -1)), ("t", "y", "x"))
    assert di.to_rgb(di.gaussian_blur(image, ksize=3)).compute().shape == (3, 0, 5, 3)
    none = labelled(da.zeros((0, 4, 5), dtype=np.uint8), ("t", "y", "x"))
    assert di.gaussian_blur(none, ksize=3).compute().shape == (0, 4, 5)
