"""Images that are stored in parts: tasks read their chunks with what lies around them, and the pixels are OpenCV's."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskimg as di
from daskimg.chunked.layer import LocalLayer
from daskimg.chunked.stored import lazy_image
from daskimg.io.cache import TileCache
from daskimg.io.chunks import auto_chunks


class Tiles:
    """Reads an array as if it were stored in tiles, and notes what is read."""

    def __init__(self, array, tile):
        self.array, self.tile = array, tile
        self.reads = []

    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return self.array.dtype

    def read(self, where):
        assert all(0 <= part.start <= part.stop <= size for part, size in zip(where, self.shape, strict=True))
        self.reads.append(where)
        return self.array[where].copy()

    def __dask_tokenize__(self):
        return ("Tiles", self.array.tobytes(), self.tile)


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(dtype)


def stored(array, chunks, tile=None):
    cut = da.core.normalize_chunks(chunks, array.shape)
    return lazy_image(Tiles(array, tile or (1,) * array.ndim), cut)


PIPELINES = [
    "gaussian_blur ksize=5 | sobel dx=1 | absolute | threshold value=50",
    "median_blur ksize=7 | invert",
    "opening ksize=9 | gaussian_blur sigma=2",
    "equalize_hist | median_blur ksize=3",
    "canny low=50 high=120 | connected_components",
    "clahe | box_blur ksize=9",
    "resize scale=0.4 | gaussian_blur ksize=3",
]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 90),
    columns=st.integers(1, 90),
    chunk=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    text=st.sampled_from(PIPELINES),
    held=st.sampled_from([0, 2**30]),
)
def test_the_pixels_are_those_of_the_whole_image(rows, columns, chunk, text, held):
    image, pipeline = noise(rows, columns), di.Pipeline.from_text(text)
    with dask.config.set({"daskimg.held": held}):
        lazy = pipeline(stored(image, chunk))
        expected = pipeline(image)
        assert np.array_equal(lazy.compute(scheduler="synchronous"), expected)
        assert np.array_equal(di.to_numpy(lazy), expected)


@pytest.mark.parametrize("shape", [(3, 50, 70), (50, 70, 3), (2, 3, 40, 40)])
def test_axes_beside_rows_and_columns(shape):
    import xarray

    dims = {(3, 50, 70): "tyx", (50, 70, 3): ("y", "x", "channel"), (2, 3, 40, 40): "tcyx"}[shape]
    image = noise(*shape)
    chunks = tuple(
        17 if name in "yx" else size if name == "channel" else 1 for name, size in zip(dims, shape, strict=True)
    )
    lazy = xarray.DataArray(stored(image, chunks), dims=tuple(dims))
    plain = xarray.DataArray(image, dims=tuple(dims))
    assert np.array_equal(di.gaussian_blur(lazy, ksize=5).values, di.gaussian_blur(plain, ksize=5).values)


def test_a_chunk_takes_one_task_and_its_window_only():
    image = stored(noise(400, 400), 100)
    reader = image.dask.layers[image.name].reader
    result = (di.gaussian_blur(ksize=5) | di.median_blur(ksize=3))(image)
    assert len(result.dask.cull([(result.name, 1, 1), (result.name, 0, 0)]).to_dict()) == 2
    result[100:200, 100:200].compute(scheduler="synchronous")
    assert [tuple((part.start, part.stop) for part in where) for where in reader.reads] == [((97, 203), (97, 203))]


def test_steps_fuse_one_after_another_too():
    image = stored(noise(100, 100), 40)
    one_by_one = di.invert(di.gaussian_blur(image, ksize=5))
    at_once = (di.gaussian_blur(ksize=5) | di.invert())(image)
    assert one_by_one.name == at_once.name
    assert isinstance(at_once.dask.layers[at_once.name], LocalLayer)


def test_neighbours_lend_where_tiles_are_large():
    image = stored(noise(1200, 1200), 300, tile=(300, 300))
    reader = image.dask.layers[image.name].reader
    result = di.gaussian_blur(image, ksize=5)
    assert np.array_equal(result.compute(scheduler="synchronous"), di.gaussian_blur(reader.array, ksize=5))
    assert len(reader.reads) == 16  # each stored chunk once


def test_building_reads_nothing_and_layers_travel_light():
    image = stored(np.zeros((20000, 100), "uint8"), 100)
    reader = image.dask.layers[image.name].reader

    def raising(*args, **kwargs):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=raising):
        result = di.equalize_hist(di.gaussian_blur(image, ksize=5))
        (image[:10] + 1)[::2]
    assert not reader.reads
    layer = di.gaussian_blur(image, ksize=5).dask.layers[di.gaussian_blur(image, ksize=5).name]
    assert not layer.is_materialized()
    assert len(pickle.dumps(layer)) < reader.array.nbytes + 10_000
    assert result.shape == (20000, 100)


def test_the_cache_of_tiles_is_bounded_and_decodes_once():
    cache, decoded = TileCache(1000), []

    def decode(number):
        decoded.append(number)
        return np.full(100, number, np.uint8)

    for number in [*range(30), *range(25, 30)]:
        assert cache.get(number, lambda number=number: decode(number))[0] == number
    assert decoded == list(range(30))
    with pytest.raises(ZeroDivisionError):
        cache.get("bad", lambda: 1 // 0)
    assert cache.get("bad", lambda: np.zeros(1))[0] == 0  # a failure is not remembered


@pytest.mark.parametrize("tile", [(1, 1), (1, 5000), (64, 64), (512, 512), (3000, 5000), (256, 1024)])
@pytest.mark.parametrize("shape", [(3000, 5000), (300, 40), (1, 1)])
def test_chunks_are_whole_tiles_of_a_bounded_size(shape, tile):
    tile = tuple(min(size, length) for size, length in zip(tile, shape, strict=True))
    chunks = auto_chunks(shape, ("y", "x"), tile, 2)
    assert tuple(map(sum, chunks)) == shape
    for sizes, size in zip(chunks, tile, strict=True):
        assert all(length % size == 0 for length in sizes[:-1])
    assert 2 * chunks[0][0] * chunks[1][0] <= max(16 << 20, 2 * tile[0] * tile[1])
