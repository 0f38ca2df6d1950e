"""TIFF files written tile by tile, in any order, and read by others."""

import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import pyvips
import rasterio
import tifffile
import tiffslide
from PIL import ImageCms
from skimage import data

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ImageFileError, ParameterError
from daskimg.io.sink import Target
from daskimg.io.sinks.tiff import TiffSink
from daskimg.io.urls import locate

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
pyvips.cache_set_max(0)  # It would take a file for another of the same name before.

CRS = {"transform": (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), "crs": "EPSG:32633", "nodata": 0}


def pyramid(plane, count):
    """A plane and its coarser levels, each half of the one before, rounded up."""
    levels = [plane]
    for _ in range(count - 1):
        rows, columns = (-(-length // 2) for length in levels[-1].shape[:2])
        smaller = cv2.resize(levels[-1], (columns, rows), interpolation=cv2.INTER_AREA)
        levels.append(smaller.reshape(rows, columns, *plane.shape[2:]))
    return levels


class Source:
    """An image in memory, given tile by tile in any order."""

    def __init__(self, image, dims=None, count=1, attrs=None):
        dims = dims or (("y", "x", "channel") if image.ndim == 3 else ("y", "x"))
        self.planes = {batch: pyramid(image[batch], count) for batch in np.ndindex(image.shape[: dims.index("y")])}
        self.levels = self.planes[next(iter(self.planes))]
        sizes = tuple(level.shape[:2] for level in self.levels)
        self.target = Target(image.shape, dims, image.dtype, sizes, attrs or {})

    def places(self, sink, seed=0):
        """The level, batch and number of each tile, shuffled."""
        places = []
        for level, (rows, columns) in enumerate(self.target.levels):
            grid = range(-(-rows // sink.tile[0])), range(-(-columns // sink.tile[1]))
            places += itertools.product([level], self.planes, itertools.product(*grid))
        random.Random(seed).shuffle(places)
        return places

    def encoded(self, sink, level, batch, at):
        where = tuple(slice(number * size, (number + 1) * size) for number, size in zip(at, sink.tile, strict=True))
        encoder = pickle.loads(pickle.dumps(sink.encoder))
        return encoder.encode(level, batch, at, self.planes[batch][level][where])

    def append(self, sink, places):
        return [sink.append(*place, self.encoded(sink, *place)) for place in places]


def save(path, image, dims=None, count=1, attrs=None, **options):
    """Write an image through the sink and return its levels, those of the first plane of a stack."""
    source = Source(image, dims, count, attrs)
    sink = TiffSink(locate(path), source.target, **options)
    source.append(sink, source.places(sink))
    assert not os.path.exists(path)
    sink.finish()
    assert [name for name in os.listdir(path.parent) if name.startswith(".")] == []
    return source.levels


def seen_by_vips(path, **options):
    pixels = pyvips.Image.new_from_file(str(path), **options).numpy()
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


@pytest.fixture(scope="module")
def photo():
    return cv2.resize(data.astronaut(), (700, 555))


def test_a_pyramid_of_pages_is_read_by_all(tmp_path, photo):
    path = tmp_path / "photo.tif"
    levels = save(path, photo, count=3, tile=128)
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        for level, wanted in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), wanted)
    for page, wanted in enumerate(levels):
        np.testing.assert_array_equal(seen_by_vips(path, page=page), wanted)
    slide = tiffslide.TiffSlide(path)
    assert slide.level_dimensions == tuple(level.shape[1::-1] for level in levels)
    for number, wanted in enumerate(levels):
        found = np.asarray(slide.read_region((0, 0), number, wanted.shape[1::-1]))
        np.testing.assert_array_equal(found[..., :3], wanted)
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), photo)
    np.testing.assert_array_equal(di.read_image(path), photo)


def test_an_ome_pyramid_hangs_below_its_page(tmp_path, photo):
    path = tmp_path / "photo.ome.tif"
    levels = save(
        path, photo, count=3, tile=128, kind="ome-tiff", attrs={"pixel_size": (0.5, 0.25), "unit": "micrometer"}
    )
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        for level, wanted in zip(file.series[0].levels, levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), wanted)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.5, 0.25, "µm")
        assert pixels["SizeC"] == 3
        assert file.pages[0].get_resolution("micrometer") == pytest.approx((4, 2))
    np.testing.assert_array_equal(seen_by_vips(path), photo)
    for number, wanted in enumerate(levels[1:]):
        np.testing.assert_array_equal(seen_by_vips(path, subifd=number), wanted)
    slide = tiffslide.TiffSlide(path)
    assert slide.level_dimensions == tuple(level.shape[1::-1] for level in levels)
    assert slide.properties["tiffslide.mpp-x"] == pytest.approx(0.25)


def test_a_cog_is_laid_out_as_its_rules_want(tmp_path, photo):
    path = tmp_path / "cog.tif"
    photo = photo.copy()
    photo[:300, :300] = 7  # several tiles of one color are written once
    levels = save(path, photo, count=3, tile=128, kind="cog", attrs=CRS)
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32633
        assert file.nodata == 0
        assert file.transform[:6] == CRS["transform"]
        assert file.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), photo)
    for number, wanted in enumerate(levels[1:]):
        with rasterio.open(path, overview_level=number) as file:
            np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), wanted)
    with tifffile.TiffFile(path) as file:
        assert [page.is_reduced for page in file.pages] == [False, True, True]
        assert [page.offset for page in file.pages] == sorted(page.offset for page in file.pages)
        first = [offset for page in reversed(file.pages) for offset in sorted(set(page.dataoffsets))]
        assert first == sorted(first)
        assert file.pages[-1].offset < first[0]
        # Along rows, with the tiles that come again left out.
        order = [
            offset for n, offset in enumerate(file.pages[0].dataoffsets) if offset not in file.pages[0].dataoffsets[:n]
        ]
        assert order == sorted(order)
        assert len(order) < len(file.pages[0].dataoffsets)
        end = max(
            offset + count
            for page in file.pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
    assert end == path.stat().st_size


def test_levels_go_down_to_one_pixel_and_the_color_profile_comes_along(tmp_path, photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("tiff", "ome-tiff", "cog"):
        path = tmp_path / f"{kind}.tif"
        levels = save(path, photo, count=11, tile=64, kind=kind, attrs={"icc": profile})
        assert levels[-1].shape == (1, 1, 3)
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].iccprofile == profile
            for level, wanted in zip(file.series[0].levels, levels, strict=True):
                np.testing.assert_array_equal(level.asarray(), wanted)


@pytest.mark.parametrize(
    ("crs", "transform", "is_geographic"),
    [
        ("EPSG:4326", (0.001, 0, 10.5, 0, -0.001, 50.25), True),
        ("EPSG:4647", (10, 0, 32500000, 0, -10, 5600000), False),
        (7844, (0.001, 0, 140.5, 0.0002, -0.001, -30.25), True),
        ("EPSG:3857", (0.5, 0, 0, 0, -0.5, 0), False),
        ("EPSG:4326", None, True),
    ],
)
def test_where_an_image_lies_on_earth(tmp_path, crs, transform, is_geographic):
    path = tmp_path / "earth.tif"
    save(path, np.ones((40, 30), np.int16), attrs={"crs": crs, "transform": transform, "nodata": -9999})
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == int(str(crs).removeprefix("EPSG:"))
        assert file.nodata == -9999
        assert transform is None or file.transform[:6] == pytest.approx(transform)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].geotiff_tags["GTModelTypeGeoKey"] == (2 if is_geographic else 1)


def test_a_coordinate_system_without_a_code_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="crs=None"):
        save(tmp_path / "a.tif", np.ones((40, 30)), attrs={"crs": 'PROJCS["mine"]'})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd", "lzma"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]
)
def test_types_and_compressions(tmp_path, dtype, compression):
    path = tmp_path / "a.tif"
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    noise = np.random.default_rng(1)
    image = (
        noise.integers(info.min, info.max, (90, 75), dtype, endpoint=True)
        if info
        else noise.normal(size=(90, 75)).astype(dtype)
    )
    for predictor in (None,) if compression == "none" else (None, False, True):
        save(path, image, tile=32, compression=compression, predictor=predictor)
        np.testing.assert_array_equal(tifffile.imread(path), image, strict=True)
        if dtype != "float16" and compression != "lzma":
            with rasterio.open(path) as file:
                np.testing.assert_array_equal(file.read(1), image)
        if dtype not in ("float16", "float64") and compression not in ("lzma", "zstd"):  # libvips has none of these
            np.testing.assert_array_equal(seen_by_vips(path), image)
        path.unlink()


@pytest.mark.parametrize(("compression", "level"), [("jpeg", None), ("jpeg", 60), ("webp", None), ("jpeg2000", 40)])
def test_lossy_compressions(tmp_path, photo, compression, level):
    path = tmp_path / "a.tif"
    for image in (photo, photo[..., 0]) if compression != "webp" else (photo,):
        save(path, image, count=2, tile=128, compression=compression, level=level)
        readers = [tifffile.imread] if compression == "jpeg2000" else [tifffile.imread, seen_by_vips]
        for found in (read(path) for read in readers):
            assert found.shape == image.shape
            assert cv2.PSNR(found, image) > 30
        path.unlink()


def test_jpeg2000_is_lossless_by_default(tmp_path, photo):
    path = tmp_path / "a.tif"
    save(path, photo, tile=128, compression="jpeg2000")
    np.testing.assert_array_equal(tifffile.imread(path), photo)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_channels(tmp_path, channels):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(2).integers(0, 255, (70, 90, channels), np.uint8)
    save(path, image, tile=32)
    np.testing.assert_array_equal(tifffile.imread(path).reshape(image.shape), image)
    np.testing.assert_array_equal(seen_by_vips(path), image.squeeze())
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), image)
    if channels in (3, 4):
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
            assert file.pages[0].extrasamples == ((2,) if channels == 4 else ())


def test_an_axis_before_the_last_becomes_pages(tmp_path, photo):
    path = tmp_path / "stack.tif"
    stack = np.stack([photo, 255 - photo, photo[::-1]])
    save(path, stack, ("t", "y", "x", "channel"), count=2, tile=128)
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), stack)
        assert [level.shape[1:3] for level in file.series[0].levels] == [(555, 700), (278, 350)]
    for page, plane in enumerate(stack):
        np.testing.assert_array_equal(seen_by_vips(path, page=page), plane)
        np.testing.assert_array_equal(seen_by_vips(path, page=page, subifd=0), pyramid(plane, 2)[1])


def test_bands_are_stored_plane_by_plane(tmp_path):
    stack = np.random.default_rng(3).integers(0, 60000, (5, 90, 70), np.uint16)
    for kind, dims in (("tiff", ("band", "y", "x")), ("cog", ("c", "y", "x"))):
        path = tmp_path / f"{kind}.tif"
        levels = save(path, stack, dims, kind=kind, tile=32, count=2, attrs=CRS)
        with rasterio.open(path) as file:
            assert file.count == 5
            assert file.overviews(3) == [2]
            np.testing.assert_array_equal(file.read(), stack)
        with rasterio.open(path, overview_level=0) as file:
            np.testing.assert_array_equal(file.read(1), levels[1])
        np.testing.assert_array_equal(tifffile.imread(path), stack)


@pytest.mark.parametrize("dims", ["tcz", "zct", "c", "tz"])
def test_ome_stacks(tmp_path, dims):
    path = tmp_path / "stack.ome.tif"
    shape = tuple({"t": 2, "c": 3, "z": 4}[name] for name in dims)
    stack = np.random.default_rng(4).integers(0, 60000, (*shape, 60, 50), np.uint16)
    names = ["DAPI", "GFP & more", "Cy5"]
    save(path, stack, (*dims, "y", "x"), kind="ome-tiff", tile=32, count=2, attrs={"channel_names": names})
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        assert series.axes == f"{dims}yx".upper()
        np.testing.assert_array_equal(series.asarray(), stack)
        assert len(series.levels) == 2
        found = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
        if "c" in dims:
            assert [channel["Name"] for channel in found] == names


@pytest.mark.parametrize(
    ("error", "image", "dims", "options", "says"),
    [
        (DtypeError, np.zeros((9, 9), bool), None, {}, "astype"),
        (DtypeError, np.zeros((9, 9), np.int64), None, {}, "write Zarr"),
        (DtypeError, np.zeros((9, 9), np.float16), None, {"kind": "ome-tiff"}, "float32"),
        (DtypeError, np.zeros((9, 9), np.uint16), None, {"compression": "jpeg"}, "deflate"),
        (ArrayError, np.zeros((9, 9, 2), np.uint8), None, {"compression": "webp"}, "channels"),
        (ArrayError, np.zeros((2, 2, 9, 9), np.uint8), ("t", "c", "y", "x"), {"kind": "cog"}, "bands"),
        (ArrayError, np.zeros((2, 9, 9), np.uint8), ("band", "y", "x"), {"kind": "ome-tiff"}, "OME-Zarr"),
        (ArrayError, np.zeros((0, 9), np.uint8), None, {}, "without pixels"),
        (ParameterError, np.zeros((9, 9), np.uint8), None, {"compression": "deflat"}, "'deflate'"),
        (ParameterError, np.zeros((9, 9), np.uint8), None, {"compression": "zstd", "level": 23}, "1 to 22"),
        (ParameterError, np.zeros((9, 9), np.uint8), None, {"compression": "jpeg", "predictor": True}, "predictor"),
        (ParameterError, np.zeros((9, 9), np.uint8), None, {"kind": "geotiff"}, "cog"),
        (ParameterError, np.zeros((9, 9), np.uint8), None, {"tile": 100}, "multiple of 16"),
    ],
)
def test_what_is_refused_at_the_start(tmp_path, error, image, dims, options, says):
    dims = dims or ("y", "x", "channel")[: image.ndim]
    target = Target(image.shape, dims, image.dtype, (image.shape[dims.index("y") :][:2],))
    with pytest.raises(error, match=says):
        TiffSink(locate(tmp_path / "a.tif"), target, **options)
    assert os.listdir(tmp_path) == []


PLAIN = """
import sys
sys.modules["imagecodecs"] = None
import numpy as np
from daskimg.errors import EnvironmentProblem
from daskimg.io.sink import Target
from daskimg.io.sinks.tiff import TiffSink
from daskimg.io.urls import locate

image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
target = Target(image.shape, ("y", "x"), image.dtype, (image.shape,))
for compression in ("lzw", "zstd"):
    try:
        TiffSink(locate(sys.argv[1]), target, compression=compression)
    except EnvironmentProblem as error:
        print(error)
for compression in ("deflate", "lzma", "none"):
    sink = TiffSink(locate(sys.argv[1] + compression), target, compression=compression)
    sink.append(0, (), (0, 0), sink.encoder.encode(0, (), (0, 0), image))
    sink.finish()
"""


def test_without_codecs_deflate_is_zlib_and_others_are_refused(tmp_path):
    done = subprocess.run([sys.executable, "-c", PLAIN, tmp_path / "a"], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("daskimg[codecs]") == 2, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["adeflate", "alzma", "anone"]
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(tifffile.imread(path), np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))


def test_files_above_4_gib(tmp_path, photo):
    path = tmp_path / "large.tif"
    source = Source(photo, count=2)
    first = TiffSink(locate(path), source.target, tile=128, bigtiff=True)
    places = source.places(first)
    entries = source.append(first, places[:5])
    first.keep()
    (hidden,) = tmp_path.iterdir()
    os.truncate(hidden, 5 * 2**30)  # a hole, as if other tiles had come
    second = TiffSink(locate(path), source.target, tile=128, bigtiff=True, resume=True)
    for place, entry in zip(places[:5], entries, strict=True):
        second.restore(*place, entry)
    assert min(source.append(second, places[5:]))[0] >= 5 * 2**30
    second.finish()
    assert path.stat().st_size > 5 * 2**30
    np.testing.assert_array_equal(tifffile.imread(path), photo)
    np.testing.assert_array_equal(seen_by_vips(path), photo)


def test_bigtiff_is_chosen_by_size(tmp_path):
    def is_big(side, **options):
        target = Target((side, side, 3), ("y", "x", "channel"), np.dtype("uint8"), ((side, side),))
        sink = TiffSink(locate(tmp_path / "a.tif"), target, **options)
        sink.keep()
        (hidden,) = tmp_path.iterdir()
        with open(hidden, "rb") as stream:
            return stream.read(4) == b"II+\0"

    assert not is_big(26000)  # just below 2 GiB
    assert is_big(27000)
    assert is_big(100, bigtiff=True)
    assert not is_big(27000, bigtiff=False)


def test_a_classic_file_that_grows_too_large_is_refused(tmp_path, photo):
    source = Source(photo)
    sink = TiffSink(locate(tmp_path / "a.tif"), source.target, tile=128)
    sink.keep()
    (hidden,) = tmp_path.iterdir()
    os.truncate(hidden, 2**32 - 100)
    sink = TiffSink(locate(tmp_path / "a.tif"), source.target, tile=128, resume=True)
    with pytest.raises(ImageFileError, match="bigtiff=True"):
        source.append(sink, source.places(sink))
    sink.discard()
    assert os.listdir(tmp_path) == []


def test_memory_holds_nothing_but_offsets(tmp_path):
    side, tile = 32768, 512
    levels = tuple((side >> level, side >> level) for level in range(7))
    target = Target((side, side, 3), ("y", "x", "channel"), np.dtype("uint8"), levels)
    tracemalloc.start()
    try:
        sink = TiffSink(locate(tmp_path / "a.tif"), target, tile=tile)
        payload, count = bytes(5000), 0
        for level, (rows, _) in enumerate(levels):
            grid = -(-rows // tile)
            for at in itertools.product(range(grid), range(grid)):
                sink.append(level, (), at, payload)
                count += 1
        sink.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5461
    assert (
        peak < 100 * count + 2**20
    )  # of each tile: what is in the tables, in the header, and for a moment on the way there


def test_tiles_that_are_missing_are_told(tmp_path, photo):
    source = Source(photo)
    sink = TiffSink(locate(tmp_path / "a.tif"), source.target, tile=128)
    source.append(sink, source.places(sink)[2:])
    with pytest.raises(ImageFileError, match="2 tiles"):
        sink.finish()
    sink.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["tiff", "ome-tiff", "cog"])
def test_an_interrupted_run_is_gone_on_with(tmp_path, photo, kind):
    path = tmp_path / "a.tif"
    source = Source(photo, count=2)
    options = {"tile": 128, "kind": kind}
    first = TiffSink(locate(path), source.target, **options, resume=True)
    assert not first.resumed
    places = source.places(first)
    entries = json.loads(json.dumps(source.append(first, places[:7])))
    first.flush()
    source.append(first, places[7:9])  # not noted before the end
    first.keep()
    second = TiffSink(locate(path), source.target, **options, resume=True)
    assert second.resumed
    for place, entry in zip(places[:7], entries, strict=True):
        second.restore(*place, entry)
    source.append(second, places[7:])
    second.finish()
    assert os.listdir(tmp_path) == ["a.tif"]
    np.testing.assert_array_equal(tifffile.imread(path), photo)
    np.testing.assert_array_equal(tifffile.imread(path, level=1), source.levels[1])


@pytest.mark.parametrize("kind", ["tiff", "cog"])
def test_an_end_that_fails_can_be_done_again(tmp_path, photo, kind):
    path = tmp_path / "a.tif"
    source = Source(photo, count=2)
    sink = TiffSink(locate(path), source.target, tile=128, kind=kind)
    places = source.places(sink)
    entries = source.append(sink, places)
    path.mkdir()
    with pytest.raises(ImageFileError):
        sink.finish()
    sink.keep()
    path.rmdir()
    again = TiffSink(locate(path), source.target, tile=128, kind=kind, resume=True)
    for place, entry in zip(places, entries, strict=True):
        again.restore(*place, entry)
    again.finish()
    np.testing.assert_array_equal(tifffile.imread(path), photo)
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("change", [{"compression": "zstd"}, {"tile": 64}, {"kind": "ome-tiff"}, {"bigtiff": True}])
def test_what_was_left_of_other_options_is_replaced(tmp_path, photo, change):
    path = tmp_path / "a.tif"
    source = Source(photo, count=2)
    first = TiffSink(locate(path), source.target, tile=128)
    (place, *_), (entry, *_) = source.places(first), source.append(first, source.places(first))
    first.keep()
    sink = TiffSink(locate(path), source.target, **{"tile": 128, **change}, resume=True)
    assert not sink.resumed
    with pytest.raises(ImageFileError, match="start anew"):
        sink.restore(*place, entry)
    source.append(sink, source.places(sink))
    sink.finish()
    np.testing.assert_array_equal(tifffile.imread(path), photo)
    assert os.listdir(tmp_path) == ["a.tif"]


KILLED = """
import os, sys, numpy as np
from daskimg.io.sink import Target
from daskimg.io.sinks.tiff import TiffSink
from daskimg.io.urls import locate

target = Target((256, 256), ("y", "x"), np.dtype("uint8"), ((256, 256),))
sink = TiffSink(locate(sys.argv[1]), target, tile=64)
for number in range(16):
    at = divmod(number, 4)
    entry = sink.append(0, (), at, sink.encoder.encode(0, (), at, np.full((64, 64), number, np.uint8)))
    print(*entry, flush=True)
    if number == 9:
        os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_a_hidden_file_that_is_taken_over(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"older")
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    entries = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert path.read_bytes() == b"older"
    assert len(list(tmp_path.glob("[!.]*"))) == 1
    wanted = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((64, 64), np.uint8))
    source = Source(wanted)
    sink = TiffSink(locate(path), source.target, tile=64, resume=True)
    for number, entry in enumerate(entries):
        sink.restore(0, (), divmod(number, 4), entry)
    source.append(sink, [(0, (), divmod(number, 4)) for number in range(len(entries), 16)])
    sink.finish()
    np.testing.assert_array_equal(tifffile.imread(path), wanted)
    assert os.listdir(tmp_path) == ["a.tif"]


def test_two_writers_of_one_file_are_kept_apart(tmp_path, photo):
    source = Source(photo)
    path = tmp_path / "a.tif"
    one = TiffSink(locate(path), source.target, tile=128)
    with pytest.raises(ImageFileError, match="another process"):
        TiffSink(locate(path), source.target, tile=128)
    source.append(one, source.places(one))
    one.finish()
    np.testing.assert_array_equal(tifffile.imread(path), photo)
    again = TiffSink(locate(path), source.target, tile=128)
    again.discard()
    assert os.listdir(tmp_path) == ["a.tif"]


FULL = """
import resource, sys, numpy as np
from daskimg.errors import ImageFileError
from daskimg.io.sink import Target
from daskimg.io.sinks.tiff import TiffSink
from daskimg.io.urls import locate

resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
target = Target((1024, 1024), ("y", "x"), np.dtype("uint8"), ((1024, 1024),))
sink = TiffSink(locate(sys.argv[1]), target, tile=256, compression="none")
try:
    for number in range(16):
        sink.append(0, (), divmod(number, 4), bytes(256 * 256 - 1) + bytes([number]))
except ImageFileError as error:
    print(error)
    sink.discard()
"""


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "a.tif"], capture_output=True, text=True, timeout=60)
    assert "a.tif" in done.stdout, done.stderr
    assert "cannot be written" in done.stdout
    assert os.listdir(tmp_path) == []


def test_an_older_file_keeps_its_mode_and_a_link_its_file(tmp_path, photo):
    older = tmp_path / "older.tif"
    older.write_bytes(b"older")
    older.chmod(0o640)
    link = tmp_path / "link.tif"
    link.symlink_to(older)
    source = Source(photo)
    sink = TiffSink(locate(link), source.target, tile=128)
    source.append(sink, source.places(sink))
    sink.finish()
    assert link.is_symlink()
    assert older.stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(tifffile.imread(older), photo)


def test_a_url_gets_the_file_when_it_is_whole(tmp_path, s3, photo):
    import dask

    source = Source(photo, count=2)
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        place = locate(f"s3://{s3.bucket()}/deep/a.tif")
        sink = TiffSink(place, source.target, tile=128, kind="cog")
        source.append(sink, source.places(sink))
        fs, path = place.filesystem()
        assert not fs.exists(path)
        sink.finish()
        assert [name for _, _, names in os.walk(tmp_path) for name in names] == []
    with place.open() as stream, tifffile.TiffFile(stream) as file:
        np.testing.assert_array_equal(file.asarray(), photo)


def test_an_upload_that_fails_can_be_done_again(tmp_path, s3):
    import dask

    # Noise that fills several parts.
    image = np.random.default_rng(6).integers(0, 2**16, (4096, 5120), np.uint16)
    source = Source(image)
    bucket = s3.bucket()
    options = {"compression": "none", "kind": "cog"}
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        place = locate(f"s3://{bucket}/a.tif", {"config_kwargs": {"retries": {"max_attempts": 1}}})
        sink = TiffSink(place, source.target, **options)
        places = source.places(sink)
        entries = source.append(sink, places)
        with s3.fault("403", path="a.tif", method="PUT"), pytest.raises(ImageFileError, match="AccessDenied"):
            sink.finish()
        sink.keep()
        assert s3.keys(bucket) == []
        assert not s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads")
        again = TiffSink(place, source.target, **options, resume=True)
        for where, entry in zip(places, entries, strict=True):
            again.restore(*where, entry)
        again.finish()
        assert [name for _, _, names in os.walk(tmp_path) for name in names] == []
    with place.open() as stream:
        np.testing.assert_array_equal(tifffile.imread(stream), image)
