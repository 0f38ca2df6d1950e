"""Morphological reconstruction is scikit-image's on the whole image, whatever the chunks."""

import dask
import dask.array as da
import numpy as np
import pytest
import skimage.data
from skimage.morphology import reconstruction

import daskimg as di
from daskimg.chunked.again import HELD
from daskimg.errors import ArrayError, DtypeError
from daskimg.operations import reconstruction as module
from daskimg.testing import no_compute

DTYPES = ["uint8", "uint16", "int16", "float32", "float64", "bool"]
FOOTPRINT = {"4": np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool), "8": np.ones((3, 3), bool)}
CHUNKS = [16, (7, 11), (1, 64), ((0, 5, 1, 1, 0, 40, 17, 0), (30, 0, 1, 33))]


def chunked(marker, mask, chunks, scheduler="synchronous", **parameters):
    lazy = da.from_array(marker, chunks=chunks)
    with dask.config.set(scheduler=no_compute):
        result = di.morphological_reconstruction(lazy, mask=mask, **parameters)
    assert result.chunks == lazy.chunks
    return result.compute(scheduler=scheduler)


def noise(dtype, seed=0, shape=(64, 64)):
    values = np.random.default_rng(seed).integers(0, 200, shape)
    return values > 60 if dtype == "bool" else (values - (100 if dtype != "uint8" and dtype[0] != "u" else 0)).astype(dtype)


def few_markers(mask, method, count=5):
    low = np.full(mask.shape, mask.min() if method == "dilation" else mask.max(), mask.dtype)
    at = np.random.default_rng(1).integers(0, mask.size, count)
    low.flat[at] = mask.flat[at]
    return low


@pytest.mark.parametrize("connectivity", ["4", "8"])
@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_skimages(dtype, method, connectivity):
    mask = noise(dtype)
    marker = few_markers(mask, method)
    expected = reconstruction(marker, mask, method, FOOTPRINT[connectivity]).astype(dtype)
    options = {"method": method, "connectivity": connectivity}
    result = di.morphological_reconstruction(marker, mask=mask, **options)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)
    for chunks in CHUNKS:
        np.testing.assert_array_equal(chunked(marker, mask, chunks, **options), expected)
