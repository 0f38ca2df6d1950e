"""Tables of regions: scikit-image's numbers, the very same for any chunks, exact where floats are not."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import ndimage
from skimage.measure import regionprops_table

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.measure.regions import STRIP_PIXELS, _measured, _merged, _whole
from daskimg.testing import no_compute

NAMES = {
    "bbox-0": "min_row", "bbox-1": "min_column", "bbox-2": "max_row", "bbox-3": "max_column",
    "centroid-0": "row", "centroid-1": "column",
}  # fmt: skip
INTENSITY = ["intensity_mean", "intensity_min", "intensity_max", "intensity_std"]
SHAPE = ["area", "bbox", "centroid", "orientation", "axis_major_length", "axis_minor_length", "eccentricity"]


def blobs(shape=(93, 117), seed=0, sigma=2.0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return ndimage.label(noise > 0)[0].astype(np.int32)


def spiral(size=41):
    """One region of one pixel's width that runs through every chunk."""
    labels = np.zeros((size, size), np.int32)
    top, left, bottom, right = 0, 0, size - 1, size - 1
    while right - left > 3:
        labels[top, left : right + 1] = labels[top : bottom + 1, right] = 5
        labels[bottom, left + 1 : right + 1] = labels[top + 2 : bottom + 1, left + 1] = 5
        top, left, bottom, right = top + 2, left + 1, bottom - 2, right - 2
    return labels


def same(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def intensities(labels, dtype, seed=1):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(labels.shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, labels.shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("labels", [blobs(), blobs(sigma=0.3), spiral(), np.eye(9, dtype=np.int32)])
def test_agrees_with_scikit_image(labels, dtype):
    image = intensities(labels, dtype)
    table = di.region_properties(labels, image)
    theirs = pd.DataFrame(regionprops_table(labels, image, properties=["label", *SHAPE, *INTENSITY]))
    theirs = theirs.rename(columns=NAMES).set_index("label")
    assert list(table.index) == list(theirs.index)
    for name in theirs:
        # Where the ellipse is a circle or a line skimage's floats lose half of their digits.
        loose = name in ("orientation", "eccentricity", "axis_minor_length")
        close = np.isclose(table[name], theirs[name], rtol=1e-6, atol=1e-5 if loose else 1e-9)
        if name == "orientation":
            round_ = np.isclose(table["axis_major_length"], table["axis_minor_length"], rtol=1e-6)
            close |= round_ | np.isclose(np.abs(table[name] - theirs[name]), np.pi, atol=1e-6)
        assert close.all(), (name, table[name][~close], theirs[name][~close])


@pytest.mark.parametrize(
    "chunks", [(93, 117), (10, 117), (93, 1), (7, 13), ((50, 0, 43), (1, 1, 115, 0)), ((1,) * 93, (60, 57))]
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "bool"])
def test_the_very_same_table_for_any_chunks(chunks, dtype):
    labels = blobs()
    image = intensities(labels, "uint8") > 99 if dtype == "bool" else intensities(labels, dtype)
    if dtype == "int64":
        image >>= 23
    lazy = da.from_array(labels, chunks=chunks)
    same(di.region_properties(lazy, da.from_array(image, chunks=(20, 50))), di.region_properties(labels, image))
    same(di.region_properties(lazy), di.region_properties(labels))


@pytest.mark.parametrize("chunks", [(1, 1), (5, 41), (41, 5), (9, 8)])
def test_a_region_through_every_chunk(chunks):
    labels = spiral()
    same(di.region_properties(da.from_array(labels, chunks=chunks)), di.region_properties(labels))
    assert di.region_properties(labels).loc[5, "area"] == (labels == 5).sum()


def test_float_intensities_agree_to_the_last_digits():
    labels, image = blobs(), intensities(blobs(), "float64")
    image[labels == 1] = np.nan
    table = di.region_properties(da.from_array(labels, chunks=(9, 50)), image)
    pd.testing.assert_frame_equal(table, di.region_properties(labels, image), rtol=1e-12)
    assert table.loc[1].filter(like="intensity").isna().all()


def test_small_deviations_of_large_floats():
    labels, image = blobs(), 3e5 + intensities(blobs(), "float64")
    table = di.region_properties(da.from_array(labels, chunks=(9, 50)), image, properties=["intensity_std"])
    theirs = regionprops_table(labels, image, properties=["intensity_std"])
    np.testing.assert_allclose(table["intensity_std"], theirs["intensity_std"], rtol=1e-6, atol=1e-9)


def test_labels_at_the_ends_of_their_type():
    labels = np.array([[2**31 - 1, 0, 2**31 - 2], [3, 3, 2**31 - 1]], np.int32)
    table = di.region_properties(da.from_array(labels, chunks=(1, 2)), properties=["area", "bbox"])
    assert table.index.tolist() == [3, 2**31 - 2, 2**31 - 1]
    assert table.to_numpy().tolist() == [[2, 1, 0, 2, 2], [1, 0, 2, 1, 3], [2, 0, 0, 2, 3]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (6, 7)])
@pytest.mark.parametrize("lazy", [False, True])
def test_without_regions_the_table_is_empty_and_typed(shape, lazy):
    labels, image = np.zeros(shape, np.int32), np.zeros(shape, np.uint16)
    filled = di.region_properties(np.ones((2, 2), np.int32), np.ones((2, 2), np.uint16))
    if lazy:
        labels = da.from_array(labels, chunks=3)
    table = di.region_properties(labels, image)
    assert len(table) == 0
    assert table.dtypes.to_dict() == filled.dtypes.to_dict()
    assert table.index.name == "label"
    assert table.index.dtype == np.int64


def test_sums_beyond_64_bits_are_exact():
    """A region of 2 x 10^6 pixels at the far corner of an image of 4 million by 4 million pixels, a thousand times."""
    from daskimg.kinds import Window

    block = np.ones((1000, 2000), np.int32)
    image = np.full(block.shape, 2**32 - 1, np.uint32)
    far = 4_000_000
    parts = [_measured(block, Window(far, far, far, far), image)] * 1000
    merged = _merged([_merged(parts[:300]), _merged(parts[300:])])
    rows, columns = range(far, far + 1000), range(far, far + 2000)
    expected = [
        2_000_000, 2000 * sum(rows), 1000 * sum(columns), 2000 * sum(r * r for r in rows), sum(rows) * sum(columns),
        1000 * sum(c * c for c in columns), 2_000_000 * (2**32 - 1), 2_000_000 * (2**32 - 1) ** 2,
    ]  # fmt: skip
    found = [int(_whole(*pair)[0]) for pair in zip(merged.exact, merged.rough, strict=True)]
    assert found == [1000 * one for one in expected]
    assert expected[-1] > 2**64


def test_blocks_larger_than_a_tile():
    labels = np.zeros((3, STRIP_PIXELS + 5), np.int32)
    labels[1, 3:] = 7
    table = di.region_properties(labels)
    assert table.loc[7, "area"] == STRIP_PIXELS + 2
    assert table.loc[7, "column"] == (3 + STRIP_PIXELS + 4) / 2
    np.testing.assert_allclose(table.loc[7, "axis_major_length"], 4 * np.sqrt(((STRIP_PIXELS + 2) ** 2 - 1) / 12))
    assert table.loc[7, "axis_minor_length"] == 0


def test_many_regions():
    labels = np.arange(200_000, dtype=np.int32).reshape(400, 500).repeat(2, axis=0).repeat(2, axis=1)
    table = di.region_properties(da.from_array(labels, chunks=(150, 333)))
    same(table, di.region_properties(labels))
    assert len(table) == 199_999
    assert (table["area"] == 4).all()


def test_nothing_is_computed_before_it_is_asked_for():
    labels = da.from_array(blobs(), chunks=30)
    with dask.config.set(scheduler=no_compute):
        lazy = di.region_properties(labels, labels.astype("uint8"), compute=False)
    same(lazy.compute(), di.region_properties(labels, labels.astype("uint8")))


def test_each_chunk_is_read_once():
    reads = []

    def read(block, block_id=None):
        reads.append(block_id)
        return block

    labels = da.from_array(blobs(), chunks=30)
    labels = labels.map_blocks(read, dtype=labels.dtype, meta=np.empty((0, 0), np.int32))
    di.region_properties(labels, labels)
    assert len(reads) == labels.npartitions


def test_labelled_arrays_and_big_endian_ones():
    labels = blobs()
    same(di.region_properties(xarray.DataArray(labels, dims=("y", "x"))), di.region_properties(labels))
    turned = xarray.DataArray(labels.T, dims=("x", "y"))
    same(di.region_properties(turned), di.region_properties(labels))
    with pytest.raises(ArrayError, match="called y and x"):
        di.region_properties(turned.rename(x="lon"))
    same(
        di.region_properties(labels.astype(">i4"), labels.astype(">u2")),
        di.region_properties(labels, labels.astype("u2")),
    )


def test_refusals():
    labels = blobs()
    with pytest.raises(ArrayError, match="choose one plane"):
        di.region_properties(labels[None])
    with pytest.raises(DtypeError, match="astype"):
        di.region_properties(labels.astype(float))
    with pytest.raises(DtypeError, match="real numbers"):
        di.region_properties(labels, labels.astype(complex))
    with pytest.raises(ArrayError, match="resize"):
        di.region_properties(labels, labels[:5])
    with pytest.raises(ParameterError, match="needs intensities"):
        di.region_properties(labels, properties=["intensity_mean"])
    with pytest.raises(ParameterError, match="mean 'area'"):
        di.region_properties(labels, properties=["arae"])
    with pytest.raises(ParameterError, match="list"):
        di.region_properties(labels, properties="area")
