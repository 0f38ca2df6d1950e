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


# Geometry: places follow the pixels

PLACED = xarray.DataArray(
    da.from_array(np.stack([PLANE] * 2), chunks=(1, 8, 9)),
    dims=("t", "y", "x"),
    name="map",
    coords={
        "t": [5, 7],
        "y": 100 - 0.5 * np.arange(20),
        "x": 10 + 0.5 * np.arange(30),
        "lon": (("y", "x"), np.ones((20, 30))),
        "spatial_ref": ((), 0, {"crs_wkt": "EPSG:4326", "GeoTransform": "9.75 0.5 0.0 100.25 0.0 -0.5"}),
    },
    attrs={"pixel_size": 0.5, "transform": (0.5, 0.0, 9.75, 0.0, -0.5, 100.25), "unit": "counts"},
)


def corner_and_far_corner(transform, rows, columns):
    a, b, c, d, e, f = transform
    return (c, f), (a * columns + b * rows + c, d * columns + e * rows + f)


@pytest.mark.parametrize(
    ("step", "first", "last"),
    [
        (di.resize(scale=0.5), (99.75, 10.25), (90.75, 24.25)),
        (di.resize(scale=2.0, interpolation="nearest"), (100.125, 9.875), (90.375, 24.625)),
        (di.crop(left=3, top=2, width=10), (99.0, 11.5), (90.5, 16.0)),
        (di.flip(axis="both"), (90.5, 24.5), (100.0, 10.0)),
        (di.pad(top=1, left=2), (100.5, 9.0), (90.5, 24.5)),
        (di.pyramid_down(), (100.0, 10.0), (91.0, 24.0)),
        (di.pyramid_up(), (100.0, 10.0), (90.25, 24.75)),
        (di.rotate(angle=180), (90.5, 24.5), (100.0, 10.0)),
        (di.warp_affine(matrix=[[1, 0, 2.5], [0, 1, 0]]), (100.0, 8.75), (90.5, 23.25)),
    ],
    ids=repr,
)
def test_coordinates_follow(step, first, last):
    with dask_that_must_not_compute():
        result = step(PLACED)
    for end, expected in ((0, first), (-1, last)):
        assert (float(result.y[end]), float(result.x[end])) == pytest.approx(expected)
    assert list(result.t.values) == [5, 7]
    assert (result.name, result.dims, result.attrs["unit"]) == ("map", ("t", "y", "x"), "counts")
    # The transforms and the coordinates say the same: coordinates are those of the middles of pixels.
    a, b, c, d, e, f = result.attrs["transform"]
    assert c + a * 0.5 + b * 0.5 == pytest.approx(float(result.x[0]))
    assert f + d * 0.5 + e * 0.5 == pytest.approx(float(result.y[0]))
    assert [float(one) for one in result.spatial_ref.attrs["GeoTransform"].split()] == pytest.approx([c, a, b, f, d, e])
    assert result.spatial_ref.attrs["crs_wkt"] == "EPSG:4326"
    assert result.attrs["pixel_size"] == pytest.approx(abs(a))
    np.testing.assert_array_equal(result.values, np.stack([step(PLANE)] * 2))


def test_the_corners_of_a_turned_image_stay_where_they_are():
    for step in (di.transpose(), di.rotate(angle=90), di.rotate(angle=-90), di.rotate(angle=30)):
        result = step(PLACED)
        assert "y" not in result.coords
        assert "x" not in result.coords
        assert "lon" not in result.coords
        before = corner_and_far_corner(PLACED.attrs["transform"], 20, 30)
        after = corner_and_far_corner(result.attrs["transform"], result.sizes["y"], result.sizes["x"])
        assert np.add(*after) == pytest.approx(np.add(*before)), "the middle"
        assert result.attrs["pixel_size"] == pytest.approx(0.5)


def test_what_cannot_follow_is_dropped():
    result = di.warp_perspective(PLACED, matrix=[[1, 0, 0], [0, 1, 0], [1e-3, 0, 1]])
    assert set(result.coords) == {"t", "spatial_ref"}
    assert result.attrs == {"unit": "counts"}
    assert result.spatial_ref.attrs == {"crs_wkt": "EPSG:4326"}
    uneven = PLACED.assign_coords(y=np.arange(20) ** 2)
    assert "y" not in di.resize(uneven, scale=0.5).coords
    assert list(di.crop(uneven, top=3, height=2).y.values) == [9, 16]
    named = PLACED.assign_coords(x=[f"c{number}" for number in range(30)])
    assert list(di.flip(named).x.values[:2]) == ["c29", "c28"]
    assert "x" not in di.pyramid_up(named).coords
    distorted = di.resize(PLACED, width=10, height=20)
    assert "pixel_size" not in distorted.attrs


def test_ten_bands_are_resized_one_by_one():
    bands = RANDOM.integers(0, 256, (20, 30, 10), np.uint8)
    image = labelled(da.from_array(bands, chunks=(7, 9, 4)), ("y", "x", "band"), coords={"band": list("abcdefghij")})
    result = di.resize(image, width=17, height=11, interpolation="cubic")
    assert result.dims == ("y", "x", "band")
    assert list(result.band.values) == list("abcdefghij")
    expected = np.dstack([di.resize(bands[:, :, one], width=17, height=11, interpolation="cubic") for one in range(10)])
    np.testing.assert_array_equal(result.values, expected)


def test_pyramids_of_labelled_images():
    levels = di.build_pyramid(PLACED, 2)
    assert [dict(level.sizes) for level in levels] == [
        {"t": 2, "y": 20, "x": 30},
        {"t": 2, "y": 10, "x": 15},
        {"t": 2, "y": 5, "x": 8},
    ]
    assert [level.attrs["pixel_size"] for level in levels] == [0.5, 1.0, 2.0]
