"""Round trips: what goes into a file comes out of it, and what would not is refused."""

import io
import struct
import sys
import zlib

import cv2
import dask.array as da
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from daskimg.errors import (
    ArrayError,
    DaskimgError,
    DtypeError,
    EnvironmentProblem,
    ImageFileError,
    ImageTooLargeError,
    ParameterError,
    UnknownNameError,
)
from daskimg.io import ImageMetadata, image_info, open_image, read_image, save_image
from daskimg.io.formats import FORMATS

LOSSLESS = ["png", "tiff", "bmp", "webp"]


def noise(shape, dtype):
    """Return random values over the whole range of an integer dtype, or normal ones."""
    rng = np.random.default_rng(7)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)


def lossless_cases():
    for name in LOSSLESS:
        for dtype in FORMATS[name].dtypes:
            for channels in FORMATS[name].channels:
                yield name, dtype, channels


@pytest.mark.parametrize(("name", "dtype", "channels"), list(lossless_cases()))
def test_lossless_formats_return_every_bit(tmp_path, name, dtype, channels):
    image = noise((37, 53) if channels == 1 else (37, 53, channels), dtype)
    path = tmp_path / f"image.{name}"
    save_image(image, path, **({"lossless": True} if name == "webp" else {}))
    back = read_image(path)
    if name == "webp" and channels == 1:  # WebP knows no grey.
        back = back[..., 0]
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)
    info = image_info(path)
    assert (info.format, info.dtype, info.frames, info.orientation) == (name, image.dtype, 1, 1)
    assert info.shape == read_image(path).shape


@pytest.mark.parametrize(("name", "worst"), [("jpeg", 6.0), ("webp", 6.0), ("avif", 8.0)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossy_formats_stay_close_and_keep_the_order_of_colours(tmp_path, name, worst, channels):
    if channels not in FORMATS[name].channels:
        pytest.skip("not held")
    photo = skimage.data.astronaut()
    image = {1: photo[..., 1], 3: photo, 4: np.dstack([photo, photo[..., 0]])}[channels]
    save_image(image, tmp_path / f"x.{name}")
    back = read_image(tmp_path / f"x.{name}")
    if name == "webp" and channels == 1:
        back = back[..., 1]
    assert back.shape == image.shape
    assert np.abs(back.astype(float) - image).mean() < worst
    if channels == 3:  # Swapped colours would be far worse than the loss.
        assert np.abs(back[..., ::-1].astype(float) - image).mean() > 2 * worst


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_quality_trades_bytes_for_likeness(tmp_path, name):
    photo = skimage.data.astronaut()
    sizes = {}
    for quality in (20, 95):
        save_image(photo, tmp_path / f"{quality}.{name}", quality=quality)
        sizes[quality] = (tmp_path / f"{quality}.{name}").stat().st_size
    assert sizes[20] * 2 < sizes[95]


@pytest.mark.parametrize(
    ("name", "fast", "small"), [("png", 0, 9), ("tiff", "none", "deflate"), ("tiff", "none", "lzma")]
)
def test_compression_changes_bytes_and_not_pixels(tmp_path, name, fast, small):
    image = skimage.data.camera()
    for compression in (fast, small):
        save_image(image, tmp_path / f"{compression}.{name}", compression=compression)
        np.testing.assert_array_equal(read_image(tmp_path / f"{compression}.{name}"), image)
    assert (tmp_path / f"{small}.{name}").stat().st_size < (tmp_path / f"{fast}.{name}").stat().st_size


@pytest.mark.parametrize("name", [f for f in FORMATS if FORMATS[f].dtypes])
@pytest.mark.parametrize("dtype", ["bool", "uint16", "int16", "int32", "int64", "float16", "float32", "complex64"])
def test_a_dtype_that_a_format_cannot_hold_is_refused_and_not_rounded(tmp_path, name, dtype):
    if dtype in FORMATS[name].dtypes:
        pytest.skip("held")
    image = da.from_delayed(_never(), (20, 30), dtype=dtype)
    with pytest.raises(DtypeError, match=r"(rescale|astype|TIFF)"):
        save_image(image, tmp_path / f"x.{name}")
    assert list(tmp_path.iterdir()) == []


def _never():
    import dask

    @dask.delayed
    def never():
        raise AssertionError("computed, though the save had to be refused before")

    return never()


@pytest.mark.parametrize(
    ("shape", "name", "message"),
    [
        ((9, 9, 4), "jpeg", "alpha"),
        ((9, 9, 2), "png", "channels"),
        ((9, 9, 5), "tiff", "channels"),
        ((9,), "png", "rows, columns"),
        ((9, 9, 3, 3), "png", "rows, columns"),
        ((0, 9), "png", "without pixels"),
        ((1, 20000), "webp", "16383"),
        ((70000, 1), "jpeg", "65535"),
    ],
)
def test_a_shape_that_a_format_cannot_hold_is_refused_before_computing(tmp_path, shape, name, message):
    image = da.zeros(shape, dtype="uint8", chunks=-1)
    with pytest.raises(ArrayError, match=message):
        save_image(image, tmp_path / f"x.{name}")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("png", {"quality": 90}),
        ("jpeg", {"quality": 0}),
        ("jpeg", {"quality": 101}),
        ("jpeg", {"quality": 9.5}),
        ("jpeg", {"lossless": True}),
        ("avif", {"lossless": True}),
        ("webp", {"lossless": True, "quality": 3}),
        ("webp", {"compression": 3}),
        ("png", {"compression": 10}),
        ("png", {"compression": "deflate"}),
        ("tiff", {"compression": "zip"}),
        ("tiff", {"compression": 3}),
    ],
)
def test_an_option_that_a_format_has_not_is_refused(tmp_path, name, options):
    with pytest.raises(ParameterError):
        save_image(np.zeros((9, 9), "uint8"), tmp_path / f"x.{name}", **options)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_suggest_the_right_one(tmp_path):
    image = np.zeros((9, 9), "uint8")
    with pytest.raises(UnknownNameError, match=r"Did you mean '\.jpeg'"):
        save_image(image, tmp_path / "x.jpegg")
    with pytest.raises(UnknownNameError, match="Did you mean 'webp'"):
        save_image(image, tmp_path / "x", format="wepb")
    with pytest.raises(UnknownNameError, match="without a suffix"):
        save_image(image, tmp_path / "x")
    with pytest.raises(UnknownNameError, match="not written"):
        save_image(image, tmp_path / "x.gif")
    save_image(image, tmp_path / "x", format="PNG")
    assert image_info(tmp_path / "x").format == "png"


def test_big_endian_and_strided_arrays_are_saved_as_their_values(tmp_path):
    image = noise((30, 40), "uint16").astype(">u2")
    for name in ("png", "tiff"):
        save_image(image[::-2, 1:], tmp_path / f"x.{name}")
        back = read_image(tmp_path / f"x.{name}")
        assert back.dtype.isnative
        np.testing.assert_array_equal(back, image[::-2, 1:])


def test_dask_and_xarray_images_are_saved(tmp_path):
    xarray = pytest.importorskip("xarray")
    image = noise((30, 40, 3), "uint8")
    save_image(da.from_array(image, chunks=16), tmp_path / "dask.png")
    np.testing.assert_array_equal(read_image(tmp_path / "dask.png"), image)
    array = xarray.DataArray(np.moveaxis(image, 2, 0), dims=("c", "y", "x"))
    save_image(array, tmp_path / "xarray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "xarray.png"), image)
    save_image(image[..., :1], tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png"), image[..., 0])
    with pytest.raises(ArrayError, match="dims y, x"):
        save_image(array.rename(y="rows"), tmp_path / "no.png")
    with pytest.raises(ArrayError, match="list"):
        save_image([[1]], tmp_path / "no.png")


# ---- reading what other programs write


def pillow_file(tmp_path, image, suffix, **options):
    path = tmp_path / f"pillow{suffix}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif", ".webp", ".avif"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_mode_of_pillow_reads_as_pillow_shows_it(tmp_path, suffix, mode):
    photo = np.dstack([skimage.data.astronaut()[:64, :80], noise((64, 80), "uint8")])
    image = Image.fromarray(photo).convert("RGB" if mode == "P" else mode).convert(mode)
    try:
        path = pillow_file(tmp_path, image, suffix, **({"lossless": True} if suffix == ".webp" else {}))
    except OSError:
        pytest.skip("Pillow does not write this")
    with Image.open(path) as shown:
        alpha = shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info
        target = "RGBA" if alpha else "L" if shown.mode in ("1", "L") else "RGB"
        expected = np.asarray(shown.convert(target))
    found = read_image(path)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    assert image_info(path).shape == found.shape


def raw_png(columns, rows, depth, color_type, lines, extra=b""):
    """Return a PNG built by hand from packed lines."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", columns, rows, depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("color_type", [2, 4, 6])
def test_sixteen_bit_png_keeps_sixteen_bits(tmp_path, color_type):
    samples = {2: 3, 4: 2, 6: 4}[color_type]
    values = noise((5, 7, samples), "uint16")
    (tmp_path / "x.png").write_bytes(raw_png(7, 5, 16, color_type, [row.astype(">u2").tobytes() for row in values]))
    expected = values[..., [0, 0, 0, 1]] if color_type == 4 else values
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


@pytest.mark.parametrize(("depth", "color_type"), [(2, 0), (16, 0), (16, 2)])
def test_a_transparent_colour_of_other_depths(tmp_path, depth, color_type):
    values = np.array([[0, 1, 2, 3]]) if color_type == 0 else np.array([[[0, 1, 2], [3, 4, 5], [0, 1, 2], [7, 7, 7]]])
    line = bytes([0b00011011]) if depth == 2 else values.astype(">u2").tobytes()
    key = struct.pack(">H", 2) if color_type == 0 else struct.pack(">HHH", 3, 4, 5)
    transparent = struct.pack(">I", len(key)) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    (tmp_path / "x.png").write_bytes(raw_png(4, 1, depth, color_type, [line], transparent))
    alpha = read_image(tmp_path / "x.png")[0, :, 3]
    full = np.iinfo(alpha.dtype).max
    assert alpha.tolist() == ([full, full, 0, full] if color_type == 0 else [full, 0, full, full])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_spread_over_the_whole_range(tmp_path, depth):
    levels = 2**depth
    line = int("".join(f"{v % levels:0{depth}b}" for v in range(8)), 2).to_bytes(depth, "big")
    (tmp_path / "x.png").write_bytes(raw_png(8, 1, depth, 0, [line]))
    expected = [v % levels * 255 // (levels - 1) for v in range(8)]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[0], expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_becomes_alpha(tmp_path, mode):
    image = Image.fromarray(noise((40, 50, 3), "uint8")).convert(mode)
    key = image.getpixel((3, 4))
    path = pillow_file(tmp_path, image, ".png", transparency=key)
    found = read_image(path)
    assert found.shape == (40, 50, 4) == image_info(path).shape
    assert found[4, 3, 3] == 0
    np.testing.assert_array_equal(found, np.asarray(Image.open(path).convert("RGBA")))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_deflate", "raw", "zstd", "lzma"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_compressed_tiff_reads_as_pillow_reads_it(tmp_path, compression, mode):
    image = Image.fromarray(skimage.data.astronaut()[:64, :80]).convert(mode)
    try:
        path = pillow_file(tmp_path, image, ".tif", compression=compression)
    except OSError:
        pytest.skip("Pillow does not write this")
    expected = np.asarray(Image.open(path).convert("L" if mode == "L" else "RGB"))
    difference = np.abs(read_image(path).astype(int) - expected)
    assert difference.max() <= (1 if mode == "CMYK" else 0)  # The plain formula rounds in two ways.


@pytest.mark.parametrize("compression", ["group4", "raw"])
def test_bilevel_tiff_is_0_and_255(tmp_path, compression):
    image = Image.fromarray(skimage.data.camera()[:64, :80]).convert("1")
    path = pillow_file(tmp_path, image, ".tif", compression=compression)
    np.testing.assert_array_equal(read_image(path), np.asarray(image) * np.uint8(255))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lzw_tiff_beyond_eight_bits(tmp_path, dtype, channels):
    image = noise((31, 45) if channels == 1 else (31, 45, channels), dtype)
    bgr = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    (tmp_path / "x.tif").write_bytes(cv2.imencode(".tif", bgr, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), image)


def test_tiff_layouts(tmp_path):
    image = noise((48, 64, 3), "uint16")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(image, 2, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "tiles.tif", image, photometric="rgb", tile=(16, 32), byteorder=">", compression="zlib")
    tifffile.imwrite(tmp_path / "big.tif", image, photometric="rgb", bigtiff=True)
    for name in ("planes", "tiles", "big"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif"), image)
    white = 255 - noise((20, 30), "uint8")
    tifffile.imwrite(tmp_path / "white.tif", 255 - white, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif"), white)
    tifffile.imwrite(tmp_path / "bands.tif", noise((20, 30, 5), "uint8"), planarconfig="contig")
    with pytest.raises(ImageFileError, match="5 samples"):
        read_image(tmp_path / "bands.tif")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif", ".avif"])
def test_several_frames_ask_which(tmp_path, suffix):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (250, 120, 10)]
    path = pillow_file(tmp_path, frames[0], suffix, save_all=True, append_images=frames[1:])
    assert image_info(path).frames == 3
    with pytest.raises(ImageFileError, match=r"3 frames.*frame=0.*frame=2"):
        open_image(path)
    for index, value in enumerate((250, 120, 10)):
        found = open_image(path, frame=index).compute()
        assert found.shape == ((20, 30, 3) if suffix == ".tif" else (20, 30, 4))
        assert abs(int(found[5, 5, 0]) - value) <= 3
    with pytest.raises(ImageFileError, match="no frame 3"):
        read_image(path, frame=3)
    with pytest.raises(ParameterError):
        read_image(path, frame=-1)


@pytest.mark.parametrize(
    ("head", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "heic"),
        (b"\xff\x0a" + bytes(200), "codecs"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl \0\0\1\0jxlc\xff\x0a" + bytes(200), "codecs"),
    ],
)
def test_formats_of_extras_name_the_extra(tmp_path, monkeypatch, head, extra):
    monkeypatch.setitem(sys.modules, {"heic": "pi_heif", "codecs": "imagecodecs"}[extra], None)
    (tmp_path / "x").write_bytes(head)
    with pytest.raises(EnvironmentProblem, match=rf"pip install 'daskimg\[{extra}\]'"):
        open_image(tmp_path / "x")


def test_extras_read(tmp_path):
    """Runs where the extras are installed."""
    codecs = pytest.importorskip("imagecodecs")
    for shape, dtype in [((30, 40), "uint8"), ((30, 40, 3), "uint16"), ((30, 40, 4), "uint8")]:
        image = noise(shape, dtype)
        (tmp_path / "x.jxl").write_bytes(codecs.jpegxl_encode(image, lossless=True))
        assert open_image(tmp_path / "x.jxl").shape == shape
        np.testing.assert_array_equal(read_image(tmp_path / "x.jxl"), image)
        with pytest.raises(ImageTooLargeError):
            open_image(tmp_path / "x.jxl", max_pixels=100)
    for compression in ("lzw", "zstd"):
        image = noise((30, 40, 3), "float32")
        save_image(image, tmp_path / "x.tif", compression=compression)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), image)


def test_every_error_of_a_missing_extra_is_a_daskimg_error():
    assert issubclass(EnvironmentProblem, DaskimgError)


def test_metadata_checks_itself():
    with pytest.raises(ParameterError, match="dpi"):
        ImageMetadata(dpi=(0, 300))
    with pytest.raises(ParameterError, match="Exif"):
        ImageMetadata(exif=b"nonsense")


def test_files_read_elsewhere(tmp_path):
    """Other programs read what is saved: same pixels, same order of colours."""
    image = noise((20, 30, 4), "uint8")
    for suffix in (".png", ".bmp", ".tif", ".webp"):
        stream = io.BytesIO()
        path = tmp_path / f"x{suffix}"
        save_image(image, path, **({"lossless": True} if suffix == ".webp" else {}))
        stream.write(path.read_bytes())
        np.testing.assert_array_equal(np.asarray(Image.open(stream)), image)
