"""TIFF files that are read tile by tile, against tifffile, libvips, OpenSlide, GDAL and Pillow."""

import itertools
import os
import pickle
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import dask
import numpy as np
import openslide
import pytest
import pyvips
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from daskimg.chunked.stored import lazy_image
from daskimg.errors import ImageFileError, ParameterError
from daskimg.io.cache import TILES
from daskimg.io.chunks import auto_chunks
from daskimg.io.sources.tiff import FILES, open_tiff
from daskimg.io.stored import LevelReader
from daskimg.io.urls import locate

pytestmark = pytest.mark.timeout(120)


def noise(shape, dtype="uint8", seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, min(np.iinfo(dtype).max, 4000), shape, dtype, endpoint=True)


def opened(path, **which):
    return open_tiff(locate(path), **which)


def whole(image, level=0):
    return image.read(level, tuple(slice(0, length) for length in image.layout.levels[level].shape))


def random_parts(shape, count=6, seed=1):
    random = np.random.default_rng(seed)
    for _ in range(count):
        starts = [int(random.integers(0, length)) for length in shape]
        yield tuple(
            slice(start, int(random.integers(start + 1, length + 1)))
            for start, length in zip(starts, shape, strict=True)
        )


def assert_reads(image, expected, level=0):
    """The level, random parts of it, and what a worker would read, are the pixels that are expected."""
    assert image.layout.levels[level].shape == expected.shape
    assert image.layout.dtype == expected.dtype
    np.testing.assert_array_equal(whole(image, level), expected)
    TILES.clear()
    travelled = pickle.loads(pickle.dumps(image))
    for where in random_parts(expected.shape):
        np.testing.assert_array_equal(travelled.read(level, where), expected[where])


RGB = noise((300, 421, 3))
STACK = noise((3, 2, 4, 61, 83), "uint16")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (64, 128)},
        {"tile": (64, 128), "compression": "zlib", "predictor": True},
        {"tile": (64, 64), "compression": "lzw", "bigtiff": True},
        {"rowsperstrip": 7, "compression": "zstd", "byteorder": ">"},
        {"rowsperstrip": 1},
        {"compression": "lzma"},
        {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb"},
        {"tile": (128, 128), "compression": "jpeg2000"},
        {"tile": (64, 64), "compression": "packbits"},
        {"tile": (64, 64), "compression": "webp", "compressionargs": {"lossless": True}},
        {"tile": (128, 128), "compression": "png"},
    ],
    ids=str,
)
def test_colors_are_tifffiles(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric=options.pop("photometric", "rgb"), **options)
    image = opened(tmp_path / "a.tif")
    assert image.layout.dims == ("y", "x", "channel")
    assert_reads(image, tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_types_are_tifffiles(tmp_path, dtype, byteorder):
    grey = noise((97, 120), dtype)
    predictors = (3, False) if grey.dtype.kind == "f" else (True, False)
    for name, options in {
        "strips": {"rowsperstrip": 10, "compression": "zlib", "predictor": predictors[0]},
        "tiles": {"tile": (32, 48), "compression": "zlib"},
        "plain": {"rowsperstrip": 11},
    }.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, grey, byteorder=byteorder, photometric="minisblack", **options)
        assert_reads(opened(path), grey)


@pytest.mark.parametrize(
    "options", [{}, {"tile": (64, 64)}, {"tile": (64, 64), "compression": "zlib"}, {"compression": "lzw"}]
)
def test_colors_in_planes_come_last(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", **options)
    assert_reads(opened(path), RGB)


def test_many_samples_stay_where_they_are(tmp_path):
    many = noise((9, 100, 130))
    tifffile.imwrite(tmp_path / "a.tif", many, photometric="minisblack", planarconfig="separate", tile=(32, 32))
    image = opened(tmp_path / "a.tif")
    assert image.layout.dims == ("c", "y", "x")
    assert image.layout.levels[0].tile[0] == 1
    assert_reads(image, many)
    together = np.ascontiguousarray(np.moveaxis(many, 0, -1))
    tifffile.imwrite(tmp_path / "b.tif", together, photometric="minisblack", planarconfig="contig", tile=(32, 32))
    image = opened(tmp_path / "b.tif")
    assert image.layout.dims == ("y", "x", "c")
    assert_reads(image, together)


def test_what_pillow_writes_is_what_pillow_reads(tmp_path):
    photo = Image.fromarray(RGB)
    for mode, shown, options in (
        ("RGB", "RGB", {"compression": "tiff_lzw"}),
        ("RGBA", "RGBA", {"compression": "tiff_deflate"}),
        ("P", "RGB", {"compression": "packbits"}),
        ("1", "L", {"compression": "group4"}),
        ("LA", "RGBA", {}),
    ):
        path = tmp_path / f"{mode}.tif"
        photo.convert(mode).save(path, **options)
        with Image.open(path) as there:
            assert_reads(opened(path), np.asarray(there.convert(shown)))
    photo.convert("CMYK").save(tmp_path / "ink.tif")
    assert_reads(opened(tmp_path / "ink.tif"), RGB)
    tifffile.imwrite(tmp_path / "white.tif", 255 - RGB[..., 0], photometric="miniswhite", tile=(64, 64))
    assert_reads(opened(tmp_path / "white.tif"), RGB[..., 0])


def test_ome_has_axes_names_and_sizes(tmp_path):
    path = tmp_path / "a.ome.tif"
    told = {"axes": "TZCYX", "PhysicalSizeX": 500.0, "PhysicalSizeY": 250.0}
    told |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    names = {"Channel": {"Name": ["DAPI", "GFP", "RFP", "Cy5"]}}
    tifffile.imwrite(path, STACK, metadata=told | names, tile=(32, 32), compression="zlib")
    image = opened(path)
    assert image.layout.format == "OME-TIFF"
    assert image.layout.dims == ("t", "z", "c", "y", "x")
    assert (image.layout.pixel_size, image.layout.unit) == ((250.0, 500.0), "nanometer")
    assert image.layout.attrs["channel_names"] == ("DAPI", "GFP", "RFP", "Cy5")
    assert_reads(image, STACK)


def test_ome_scenes_and_levels(tmp_path):
    path = tmp_path / "a.ome.tif"
    options = {"tile": (32, 32), "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(STACK[:, 0], subifds=1, metadata={"axes": "TCYX", "Name": "first"}, **options)
        writer.write(STACK[:, 0, :, ::2, ::2], subfiletype=1, **options)
        writer.write(
            RGB, metadata={"axes": "YXS", "Name": "second", "PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0}, **options
        )
    with pytest.raises(ImageFileError, match=r"2 scenes.*scene='first'"):
        opened(path)
    first = opened(path, scene=0)
    assert first.layout.scenes == ("first", "second")
    assert_reads(first, STACK[:, 0])
    assert_reads(first, np.ascontiguousarray(STACK[:, 0, :, ::2, ::2]), level=1)
    second = opened(path, scene="second")
    assert second.layout.pixel_size == (2.0, 2.0)
    assert first.layout.pixel_size is None
    assert_reads(second, RGB)
    assert first.version != second.version
    assert_reads(opened(path, scene="first", frame=5), STACK[:, 0].reshape(-1, 61, 83)[5])
    with pytest.raises(ImageFileError, match="no scene 'third'"):
        opened(path, scene="third")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstacks(tmp_path, compression):
    path = tmp_path / "a.tif"
    told = {"axes": "TZCYX", "unit": "um"}
    tifffile.imwrite(path, STACK, imagej=True, metadata=told, resolution=(4, 2), compression=compression)
    image = opened(path)
    assert image.layout.dims == ("t", "z", "c", "y", "x")
    assert (image.layout.pixel_size, image.layout.unit) == ((0.5, 0.25), "micrometer")
    assert_reads(image, STACK)


@pytest.mark.parametrize("options", [{"truncate": True}, {}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_pages_of_one_kind_are_a_stack_and_each_is_a_frame(tmp_path, options):
    pages = noise((300, 20, 30), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", **options)
    image = opened(tmp_path / "a.tif")
    assert image.layout.dims == ("page", "y", "x")
    assert_reads(image, pages)
    assert len(pickle.dumps(image)) < 5000
    for frame in (0, 1, 157, 299):
        assert_reads(opened(tmp_path / "a.tif", frame=frame), pages[frame])
    assert opened(tmp_path / "a.tif", frame=1).version != opened(tmp_path / "a.tif", frame=2).version
    with pytest.raises(ImageFileError, match="no frame 300: its frames are 0 to 299"):
        opened(tmp_path / "a.tif", frame=300)
    with pytest.raises(ParameterError):
        opened(tmp_path / "a.tif", frame=-1)


def test_pages_of_several_kinds_are_frames(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (RGB, RGB[::2, ::2], RGB[..., 0]):
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None)
    for frame, page in enumerate((RGB, RGB[::2, ::2], RGB[..., 0])):
        image = opened(tmp_path / "a.tif", frame=frame)
        assert len(image.layout.levels) == 1
        assert_reads(image, np.ascontiguousarray(page))
    with pytest.raises(ImageFileError, match="say which"):
        opened(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options", [{"subifd": True}, {"subifd": False}, {"bigtiff": True, "compression": "jpeg"}], ids=str
)
def test_pyramids_of_libvips(tmp_path, options):
    path = str(tmp_path / "a.tif")
    smooth = np.repeat(np.repeat(noise((38, 53, 3)), 16, 0), 16, 1)
    picture = pyvips.Image.new_from_array(smooth)
    picture.tiffsave(path, tile=True, pyramid=True, xres=4000, yres=2000, **{"compression": "deflate"} | options)
    image = opened(path)
    assert len(image.layout.levels) >= 3
    np.testing.assert_allclose(image.layout.pixel_size, (0.5, 0.25), rtol=1e-5)
    assert image.layout.unit == "micrometer"
    for level in range(len(image.layout.levels)):
        which = {"subifd": level - 1} if options.get("subifd") else {"page": level}
        theirs = pyvips.Image.tiffload(path, **which).numpy()
        ours = whole(image, level)
        # Decoders of JPEG round otherwise.
        assert np.abs(ours.astype(int) - theirs).max() <= (3 if "jpeg" in options.values() else 0)
        for where in random_parts(ours.shape):
            np.testing.assert_array_equal(image.read(level, where), ours[where])


def test_pyramids_whose_levels_are_unevenly_spaced(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for at, step in enumerate((1, 4, 8, 20)):
            writer.write(RGB[::step, ::step], tile=(64, 64), photometric="rgb", metadata=None, subfiletype=int(at > 0))
    image = opened(tmp_path / "a.tif")
    assert len(image.layout.levels) == 4
    for level, step in enumerate((1, 4, 8, 20)):
        assert_reads(image, np.ascontiguousarray(RGB[::step, ::step]), level)


BLOCKS = {"blockxsize": 32, "blockysize": 32}
SOMEWHERE = {"transform": rasterio.Affine(1, 0, 500, 0, -1, 900)}

APERIO = "Aperio Image Library v12.0.15\r\n600x500 [0,0 600x500] (240x240) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"


def aperio(path, pixels, compression="jpeg", **more):
    options = {"photometric": "rgb", "metadata": None, "tile": (240, 240), "compression": compression, **more}
    small = {"photometric": "rgb", "metadata": None, "compression": "jpeg"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, description=APERIO, **options)
        writer.write(pixels[::8, ::8], description=APERIO, **small)
        writer.write(pixels[::4, ::4], description=APERIO, **options)
        writer.write(pixels[:90, :80], description="Aperio\r\nlabel 80x90", subfiletype=1, **small)
        writer.write(pixels[:70, :100], description="Aperio\r\nmacro 100x70", subfiletype=9, **small)


def test_slides_of_aperio_as_openslide_reads_them(tmp_path):
    pixels = np.repeat(np.repeat(noise((32, 38, 3)), 16, 0), 16, 1)
    aperio(tmp_path / "a.svs", pixels)
    image = opened(tmp_path / "a.svs")
    assert image.layout.format == "Aperio SVS"
    assert (image.layout.pixel_size, image.layout.unit) == ((0.499, 0.499), "micrometer")
    assert image.layout.scenes == ("Baseline", "Thumbnail", "Label", "Macro")
    with openslide.OpenSlide(str(tmp_path / "a.svs")) as slide:
        assert [level.shape[1::-1] for level in image.layout.levels] == list(slide.level_dimensions)
        for level, (columns, rows) in enumerate(slide.level_dimensions):
            theirs = np.asarray(slide.read_region((0, 0), level, (columns, rows)))[..., :3]
            assert np.abs(whole(image, level).astype(int) - theirs).max() <= 3
        label = opened(tmp_path / "a.svs", scene="Label")
        theirs = np.asarray(slide.associated_images["label"])[..., :3]
        assert np.abs(whole(label).astype(int) - theirs).max() <= 3


def test_jpeg_2000_of_aperio_is_in_other_colors(tmp_path):
    pixels = np.repeat(np.repeat(noise((30, 38, 3)), 16, 0), 16, 1)
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    exactly = {"mct": False, "reversible": True, "codecformat": "J2K"}
    aperio(tmp_path / "a.svs", turned, 33003, compressionargs=exactly)
    image = opened(tmp_path / "a.svs")
    assert image.layout.compression == "jpeg 2000"
    with openslide.OpenSlide(str(tmp_path / "a.svs")) as slide:
        theirs = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    assert np.abs(whole(image).astype(int) - theirs).max() <= 1


PHILIPS = """<?xml version="1.0" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject
 ObjectType="DPScannedImage"><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{}</Array></Attribute>
</DataObject></Array></Attribute></DataObject>"""
PHILIPS_LEVEL = """<DataObject ObjectType="PixelDataRepresentation"><Attribute
 Name="DICOM_PIXEL_SPACING" Group="0x0028">"{0}" "{0}"</Attribute></DataObject>"""


def test_slides_of_philips_whose_levels_are_padded(tmp_path):
    path = tmp_path / "a.tiff"
    spacings = "".join(PHILIPS_LEVEL.format(0.00025 * scale) for scale in (1, 2, 4))
    options = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "compression": "jpeg"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, description=PHILIPS.format(spacings), software="Philips DP v1.0", **options)
        for scale in (2, 4):
            level = RGB[::scale, ::scale]
            padded = np.pad(level, [(0, -side % 64) for side in level.shape[:2]] + [(0, 0)])
            writer.write(padded, software=False, **options)
        writer.write(RGB[:50, :40], description="Label", software=False, photometric="rgb", metadata=None)
    image = opened(path)
    assert image.layout.format == "Philips TIFF"
    assert (image.layout.pixel_size, image.layout.unit) == ((0.00025, 0.00025), "millimeter")
    assert image.layout.scenes == ("Baseline", "Label")
    assert [level.shape[:2] for level in image.layout.levels] == [(300, 421), (150, 210), (75, 105)]
    with tifffile.TiffFile(path) as tiff:
        for level in range(3):
            assert_reads(image, tiff.series[0].levels[level].asarray(), level)
    assert_reads(opened(path, scene="Label"), RGB[:50, :40])


LEICA = """<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection>
<image name="tissue"><pixels><dimension r="0" ifd="0"/><dimension r="1" ifd="1"/></pixels></image>
<image name="overview"><pixels><dimension r="0" ifd="2"/></pixels></image></collection></scn>"""


def test_slides_of_leica(tmp_path):
    options = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "compression": "zlib"}
    with tifffile.TiffWriter(tmp_path / "a.scn", bigtiff=True) as writer:
        writer.write(RGB, description=LEICA, resolution=(40000, 20000), resolutionunit=3, **options)
        writer.write(RGB[::4, ::4], **options)
        writer.write(RGB[:100, :50], **options)
    image = opened(tmp_path / "a.scn")
    assert image.layout.format == "Leica SCN"
    assert image.layout.scenes == ("tissue", "overview")
    assert (image.layout.pixel_size, image.layout.unit) == ((0.5, 0.25), "micrometer")
    assert_reads(image, RGB)
    assert_reads(image, np.ascontiguousarray(RGB[::4, ::4]), level=1)
    assert_reads(opened(tmp_path / "a.scn", scene="overview"), RGB[:100, :50])


def test_slides_of_ventana(tmp_path):
    options = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "compression": "zlib"}
    told = [(700, 1, 18, b"<iScan ScanRes='2'", True)]
    with tifffile.TiffWriter(tmp_path / "a.bif", bigtiff=True) as writer:
        writer.write(RGB[:64, :50], description="Label_Image", extratags=told, **options)
        writer.write(RGB, description="level=0 mag=40 quality=95", **options)
        writer.write(RGB[::2, ::2], description="level=1 mag=20 quality=95", **options)
    image = opened(tmp_path / "a.bif")
    assert image.layout.format == "Ventana BIF"
    assert image.layout.scenes == ("Baseline", "Label")
    assert_reads(image, RGB)
    assert_reads(image, np.ascontiguousarray(RGB[::2, ::2]), level=1)


def as_ndpi(path, target):
    """Write a classic TIFF again with directories as Hamamatsu lays them out: their offsets have 64 bits."""
    data = path.read_bytes()
    at, directories = struct.unpack_from("<I", data, 4)[0], []
    while at:
        tags = struct.unpack_from("<H", data, at)[0]
        directories.append(data[at : at + 2 + 12 * tags])
        (at,) = struct.unpack_from("<I", data, at + 2 + 12 * tags)
    out = bytearray(data + bytes(len(data) % 2))
    pointer = 4
    for directory in directories:
        struct.pack_into("<Q", out, pointer, len(out))
        pointer = len(out) + len(directory)
        out += directory + bytes(8) + bytes(4 * struct.unpack_from("<H", directory)[0])
    target.write_bytes(out)


def test_slides_of_hamamatsu(tmp_path):
    options = {"photometric": "rgb", "metadata": None, "compression": "jpeg", "rowsperstrip": 8}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for scale, lens in ((1, 20.0), (2, 10.0), (4, 5.0), (3, -1.0)):
            tags = [(65420, 4, 1, 1, True), (65421, 11, 1, lens, True), (271, 2, 0, "Hamamatsu", True)]
            pixels = RGB[: 300 // scale, : 416 // scale] if lens > 0 else RGB[:48, :100]
            resolution = (44000 / scale, 44000 / scale)
            writer.write(pixels, extratags=tags, resolution=resolution, resolutionunit=3, **options)
    as_ndpi(tmp_path / "a.tif", tmp_path / "a.ndpi")
    image = opened(tmp_path / "a.ndpi")
    assert image.layout.format == "Hamamatsu NDPI"
    np.testing.assert_allclose(image.layout.pixel_size, 10000 / 44000, rtol=1e-6)
    assert [level.shape[:2] for level in image.layout.levels] == [(300, 416), (150, 208), (75, 104)]
    with tifffile.TiffFile(tmp_path / "a.ndpi") as tiff:
        for level in range(3):
            assert_reads(image, tiff.series[0].levels[level].asarray(), level)
        assert_reads(opened(tmp_path / "a.ndpi", scene="Macro"), tiff.series[1].asarray())


def test_geotiff_keeps_its_place(tmp_path):
    path = tmp_path / "a.tif"
    heights = noise((200, 300), "int16")
    place = rasterio.Affine(10.0, 0.0, 399960.0, 0.0, -20.0, 5000040.0)
    options = {"driver": "COG", "width": 300, "height": 200, "count": 1, "dtype": "int16", "blocksize": 64}
    with rasterio.open(
        path, "w", crs="EPSG:32633", transform=place, nodata=-999, compress="deflate", **options
    ) as there:
        there.write(heights, 1)
    image = opened(path)
    assert image.layout.format == "Cloud-optimized GeoTIFF"
    assert image.layout.dims == ("y", "x")
    assert image.layout.attrs == {"transform": tuple(place)[:6], "crs": "EPSG:32633", "nodata": -999}
    assert (image.layout.pixel_size, image.layout.unit) == ((20.0, 10.0), "meter")
    assert_reads(image, heights)
    with rasterio.open(path) as there:
        assert len(image.layout.levels) == 1 + len(there.overviews(1)) >= 3
    for level in range(1, len(image.layout.levels)):
        with rasterio.open(path, overview_level=level - 1) as there:
            assert_reads(image, there.read(1), level)


@pytest.mark.parametrize("area", ["Area", "Point"])
@pytest.mark.parametrize("place", [(10.0, 0.0, 5.0, 0.0, -20.0, 7.0), (8.0, 3.0, 100.0, -2.0, -9.0, 50.0)])
def test_places_on_earth_are_gdals(tmp_path, area, place):
    path = tmp_path / "a.tif"
    size = {"width": 64, "height": 48, "count": 1, "dtype": "float32", "nodata": float("nan")}
    with rasterio.open(path, "w", crs="EPSG:3857", transform=rasterio.Affine(*place), **size) as there:
        there.update_tags(AREA_OR_POINT=area)
        there.write(noise((48, 64), "float32"), 1)
    image = opened(path)
    with rasterio.open(path) as there:
        assert image.layout.attrs["transform"] == tuple(there.transform)[:6] == place
        assert_reads(image, there.read(1))
    assert np.isnan(image.layout.attrs["nodata"])


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_bands_of_satellites(tmp_path, interleave):
    bands = noise((7, 90, 110), "uint16")
    size = {
        "width": 110,
        "height": 90,
        "count": 7,
        "dtype": "uint16",
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 32,
    }
    place = rasterio.Affine(0.5, 0, 10, 0, -0.5, 50)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", crs="EPSG:4326", transform=place, interleave=interleave, **size
    ) as there:
        there.write(bands)
    image = opened(tmp_path / "a.tif")
    assert image.layout.attrs["crs"] == "EPSG:4326"
    assert image.layout.unit == "degree"
    assert image.layout.dims == (("band", "y", "x") if interleave == "band" else ("y", "x", "band"))
    assert_reads(image, bands if interleave == "band" else np.ascontiguousarray(np.moveaxis(bands, 0, -1)))


@pytest.mark.parametrize("nodata", [None, 7])
def test_tiles_that_are_not_there_are_zeros_or_nodata(tmp_path, nodata):
    size = {
        "width": 200,
        "height": 150,
        "count": 1,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", sparse_ok=True, nodata=nodata, compress="lzw", **size, **SOMEWHERE
    ) as there:
        there.write(np.full((32, 32), 9, np.uint8), 1, window=rasterio.windows.Window(64, 64, 32, 32))
    with rasterio.open(path) as there:
        assert_reads(opened(path), there.read(1))


def test_absurd_tags_are_ignored(tmp_path):
    path = tmp_path / "a.tif"
    tags = [
        (33550, 12, 3, (float("nan"), -1.0, 0.0), False),
        (33922, 12, 6, (0.0, 0.0, 0.0, float("inf"), 0.0, 0.0), False),
        (34735, 3, 8, (1, 1, 0, 9, 3072, 0, 1, 0), False),
        (42113, 2, 0, "no number", False),
    ]
    tifffile.imwrite(path, RGB[..., 0], tile=(64, 64), resolution=(9, 9), resolutionunit=3, extratags=tags)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for code in (282, 283):
            tiff.pages[0].tags[code].overwrite((0, 0))
    image = opened(path)
    assert image.layout.pixel_size is None
    assert dict(image.layout.attrs) == {}
    assert_reads(image, RGB[..., 0])


def test_profiles_are_told_but_do_not_travel(tmp_path):
    profile = bytes(200_000)
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), iccprofile=profile)
    image = opened(tmp_path / "a.tif")
    assert image.layout.attrs["icc"] == profile
    assert len(pickle.dumps(image)) < 5000


def test_what_cannot_be_read_by_tile_is_left_to_others(tmp_path):
    tifffile.imwrite(tmp_path / "turned.tif", RGB, extratags=[(274, 3, 1, 6, False)])
    assert opened(tmp_path / "turned.tif") is None
    tifffile.imwrite(tmp_path / "complex.tif", RGB[..., 0].astype("complex64"))
    assert opened(tmp_path / "complex.tif") is None


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_lazy_images_equal_tifffiles_arrays(tmp_path_factory, data):
    rows, columns = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    channels = data.draw(st.sampled_from([None, 3, 4]))
    options = data.draw(st.sampled_from([{}, {"tile": (16, 48)}, {"rowsperstrip": 5}]))
    compression = data.draw(st.sampled_from([None, "zlib", "lzw"]))
    pixels = noise((rows, columns, channels) if channels else (rows, columns), seed=rows)
    path = tmp_path_factory.mktemp("lazy") / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb" if channels else "minisblack", compression=compression, **options)
    image = opened(path)
    chunks = tuple(ragged(data, length) for length in (rows, columns)) + (((channels,),) if channels else ())
    lazy = lazy_image(LevelReader(image, 0), chunks)
    np.testing.assert_array_equal(lazy.compute(), tifffile.imread(path).reshape(pixels.shape))


def ragged(data, length):
    cuts = data.draw(st.lists(st.integers(1, length), max_size=4, unique=True)) if length > 1 else []
    edges = sorted({0, length, *cuts})
    return tuple(stop - start for start, stop in itertools.pairwise(edges))


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), compression="zlib")
    image = opened(tmp_path / "a.tif")

    def raising(*_, **__):
        raise AssertionError("computed")

    with dask.config.set(scheduler=raising):
        level = image.layout.levels[0]
        lazy = lazy_image(LevelReader(image, 0), auto_chunks(level.shape, image.layout.dims, level.tile, 1))
        part = lazy[:10, :10]
    np.testing.assert_array_equal(part.compute(), RGB[:10, :10])


def test_workers_read_by_themselves(tmp_path, client):
    pages = noise((40, 64, 96), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pages, tile=(32, 32), compression="zlib", photometric="minisblack")
    image = opened(tmp_path / "a.tif")
    lazy = lazy_image(LevelReader(image, 0), ((7,) * 5 + (5,), (40, 24), (33, 63)))
    np.testing.assert_array_equal(client.compute(lazy).result(timeout=60), pages)


def test_many_threads_share_a_file(tmp_path):
    pages = noise((60, 64, 96), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pages, tile=(32, 32), compression="zlib", photometric="minisblack")
    image = opened(tmp_path / "a.tif")
    lazy = lazy_image(LevelReader(image, 0), ((1,) * 60, (20,) * 3 + (4,), (96,)))
    np.testing.assert_array_equal(lazy.compute(scheduler="threads", num_workers=12), pages)


class Ranges(BaseHTTPRequestHandler):
    """Serves one file, by ranges, and writes down what is asked for."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        data = self.server.data
        asked = self.headers.get("Range") if self.server.ranges else None
        start, stop = 0, len(data)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
        if not head:
            self.server.asked.append((start, stop))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{self.server.tag}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if not head:
            self.wfile.write(data[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        server.data, server.asked, server.tag, server.ranges = b"", [], "one", True
        server.url = f"http://127.0.0.1:{server.server_port}/a.tif"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_remote_files_are_read_by_ranges(tmp_path, server):
    pixels = noise((3, 2000, 2000))
    size = {"width": 2000, "height": 2000, "count": 3, "dtype": "uint8", "blocksize": 256, **SOMEWHERE}
    with rasterio.open(tmp_path / "a.tif", "w", driver="COG", compress="deflate", **size) as there:
        there.write(pixels)
    server.data = (tmp_path / "a.tif").read_bytes()
    image = opened(server.url)
    headers = sum(stop - start for start, stop in server.asked)
    assert len(server.asked) <= 3
    assert headers < 500_000 < len(server.data) / 10
    server.asked.clear()
    part = image.read(0, (slice(300, 500), slice(600, 700), slice(0, 3)))
    np.testing.assert_array_equal(part, np.moveaxis(pixels, 0, -1)[300:500, 600:700])
    assert len(server.asked) <= 2
    assert sum(stop - start for start, stop in server.asked) < 2 * 256 * 256 * 3
    server.asked.clear()
    np.testing.assert_array_equal(whole(image), np.moveaxis(pixels, 0, -1))
    assert len(server.asked) <= 4  # its 64 tiles lie one behind the other
    with dask.config.set(scheduler="threads", num_workers=8):
        TILES.clear()
        lazy = lazy_image(LevelReader(image, 0), ((600, 600, 800), (500,) * 4, (3,)))
        np.testing.assert_array_equal(lazy.compute(), np.moveaxis(pixels, 0, -1))


@pytest.mark.parametrize("options", [{}, {"tile": (64, 64)}, {"rowsperstrip": 3}])
def test_remote_files_without_compression(tmp_path, server, options):
    tifffile.imwrite(tmp_path / "a.tif", RGB, **options)
    server.data = (tmp_path / "a.tif").read_bytes()
    assert_reads(opened(server.url), RGB)


def test_servers_that_send_no_parts_are_named(tmp_path, server):
    tifffile.imwrite(tmp_path / "a.tif", noise((600, 600, 3)), tile=(64, 64), compression="zlib")
    server.data, server.ranges = (tmp_path / "a.tif").read_bytes(), False
    with pytest.raises(ImageFileError, match=r"a\.tif' cannot be read: .*range requests"):
        opened(server.url)


def test_remote_files_that_change_are_noticed(tmp_path, server):
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), compression="zlib")
    server.data = (tmp_path / "a.tif").read_bytes()
    image = opened(server.url)
    FILES.close()
    server.tag = "two"
    with pytest.raises(ImageFileError, match="changed since it was opened"):
        image.decode(0, (0, 0, 0))


def test_objects_of_s3(tmp_path, s3):
    bucket = s3.bucket()
    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), compression="zlib")
    s3.client.put_object(Bucket=bucket, Key="in/a b.tif", Body=(tmp_path / "a.tif").read_bytes())
    image = opened(f"s3://{bucket}/in/a b.tif")
    with s3.fault("503", times=2, path=bucket) as fault:
        assert_reads(image, RGB)
    assert fault.hits == 2
    tifffile.imwrite(tmp_path / "a.tif", RGB[::-1], tile=(64, 64), compression="zlib")
    s3.client.put_object(Bucket=bucket, Key="in/a b.tif", Body=(tmp_path / "a.tif").read_bytes())
    TILES.clear()
    FILES.close()
    with pytest.raises(ImageFileError, match="changed since it was opened"):
        whole(image)


def test_files_in_memory_and_archives(tmp_path):
    import zipfile

    import fsspec

    tifffile.imwrite(tmp_path / "a.tif", RGB, tile=(64, 64), compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    fsspec.filesystem("memory").pipe_file("/sources/a.tif", data)
    assert_reads(opened("memory://sources/a.tif"), RGB)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.tif", data)
    assert_reads(opened(f"zip://in/a.tif::file://{tmp_path}/a.zip"), RGB)


@pytest.mark.parametrize("replaced", [True, False])
def test_files_that_change_are_noticed(tmp_path, replaced):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, tile=(64, 64), compression="zlib")
    image = opened(path)
    image.decode(0, (0, 0, 0))
    if replaced:
        path.unlink()
        FILES.close()
    tifffile.imwrite(path, RGB[::-1], tile=(64, 64), compression="zlib")
    with pytest.raises(ImageFileError, match="changed since it was opened"):
        image.decode(0, (1, 1, 0))


def test_files_are_closed_again(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("only Linux lists the files that are open")
    FILES.close()
    before = len(os.listdir("/proc/self/fd"))
    images = []
    for number in range(FILES.limit + 20):
        tifffile.imwrite(tmp_path / f"{number}.tif", RGB[:40, :40])
        images.append(opened(tmp_path / f"{number}.tif"))
    for image in images:
        whole(image)
    assert len(os.listdir("/proc/self/fd")) <= before + FILES.limit + 2
    FILES.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def patched(path, code, count_or_value, field="value"):
    """Overwrite a field of a tag in the first directory of a classic little-endian TIFF."""
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * tags, 12):
        if struct.unpack_from("<H", data, at)[0] == code:
            struct.pack_into("<I", data, at + (8 if field == "value" else 4), count_or_value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("options", [{"tile": (64, 64), "compression": "zlib"}, {"rowsperstrip": 16}, {}], ids=str)
def test_a_header_that_declares_a_million_squared_is_refused(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB[..., 0], metadata=None, **options)
    for code in (256, 257):
        patched(path, code, 10**6)
    with pytest.raises(ImageFileError):
        opened(path)


def test_truncated_files_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, tile=(64, 64), compression="zlib")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageFileError, match="truncated"):
        opened(path)


@pytest.mark.parametrize("length", [1, 3, 150])
def test_pages_in_a_circle_end(tmp_path, length):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(length):
            writer.write(RGB[:16, :16, 0], metadata=None)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    at = start
    while True:
        end = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]
        (at,) = struct.unpack_from("<I", data, end)
        if not at:
            break
    struct.pack_into("<I", data, end, start)
    path.write_bytes(data)
    with pytest.raises(ImageFileError, match="no end"):
        opened(path)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg", "jpeg2000", "zstd", "png"])
def test_damaged_tiles_are_named(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, tile=(64, 64), compression=compression, photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        start, count = (values[8] for values in (tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(np.random.default_rng(3).integers(0, 256, count, np.uint8))
    path.write_bytes(data)
    image = opened(path)
    with pytest.raises(ImageFileError, match=r"a\.tif': .*at row 64, column 64 is damaged.*again"):
        image.decode(0, (1, 1, 0))
    image.decode(0, (0, 0, 0))


def with_tile(path, tile, side, compression):
    """Write a TIFF of one tile of that side, whose bytes are others."""
    black = np.zeros((side, side, 3), np.uint8)
    tifffile.imwrite(path, black, photometric="rgb", tile=(side, side), compression=compression, metadata=None)
    data = path.read_bytes()
    start = len(data) + len(data) % 2
    path.write_bytes(data + bytes(start - len(data)) + tile)
    patched(path, 324, start)
    patched(path, 325, len(tile))


@pytest.mark.parametrize("compression", ["zlib", "zstd", "jpeg", "jpeg2000", "png", "webp"])
def test_tiles_that_inflate_are_refused(tmp_path, compression):
    import imagecodecs

    image = np.zeros((4096, 4096, 3), np.uint8)
    encode = {
        "zlib": lambda: imagecodecs.zlib_encode(image.tobytes()),
        "zstd": lambda: imagecodecs.zstd_encode(image.tobytes()),
        "jpeg": lambda: imagecodecs.jpeg8_encode(image),
        "jpeg2000": lambda: imagecodecs.jpeg2k_encode(image, codecformat="J2K"),
        "png": lambda: imagecodecs.png_encode(image),
        "webp": lambda: imagecodecs.webp_encode(image),
    }[compression]
    with_tile(tmp_path / "a.tif", encode(), 64, compression)
    with pytest.raises(ImageFileError):
        opened(tmp_path / "a.tif").decode(0, (0, 0, 0))


WITHOUT = """
import sys
sys.modules["imagecodecs"] = None
import numpy as np
from daskimg.errors import EnvironmentProblem, ImageTooLargeError
from daskimg.io.sources.tiff import open_tiff
from daskimg.io.urls import locate

folder = sys.argv[1]
image = open_tiff(locate(folder + "/plain.tif"))
assert (image.read(0, (slice(0, 300), slice(0, 421), slice(0, 3))) == np.load(folder + "/rgb.npy")).all()
assert open_tiff(locate(folder + "/small.tif")) is None
try:
    open_tiff(locate(folder + "/pyramid.tif"))
except EnvironmentProblem as error:
    assert "pip install 'daskimg[codecs]'" in str(error)
else:
    raise AssertionError("not refused")
try:
    open_tiff(locate(folder + "/bomb.tif")).decode(0, (0, 0, 0))
except ImageTooLargeError:
    print("done")
"""


def test_without_imagecodecs_the_extra_is_named(tmp_path):
    import imagecodecs

    np.save(tmp_path / "rgb.npy", RGB)
    tifffile.imwrite(tmp_path / "plain.tif", RGB, tile=(64, 64), compression="zlib")
    tifffile.imwrite(tmp_path / "small.tif", RGB, tile=(64, 64), compression="lzw")
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(RGB, tile=(64, 64), compression="jpeg", subifds=1, photometric="rgb")
        writer.write(RGB[::2, ::2], tile=(64, 64), compression="jpeg", subfiletype=1, photometric="rgb")
    with_tile(tmp_path / "bomb.tif", imagecodecs.zlib_encode(bytes(2**24)), 64, "zlib")
    done = subprocess.run([sys.executable, "-c", WITHOUT, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "done", done.stderr
