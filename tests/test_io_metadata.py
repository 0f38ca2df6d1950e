"""What goes along with the pixels, and what must not."""

import struct

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from daskimg.io import ImageMetadata, image_info, read_image, read_metadata, save_image

PHOTO = skimage.data.astronaut()[:96, :128].copy()
SECRETS = (
    b"SN-4711-SECRET",
    b"MAKERNOTE-SECRET",
    b"COMMENT-SECRET",
    b"OWNER-SECRET",
    b"THUMB-SECRET",
    b"UNKNOWN-SECRET",
)
EXIF_IFD, GPS_IFD = 0x8769, 0x8825


def camera_exif(orientation=6, endian="<"):
    """Return an Exif block as a camera writes it, with all that it should not tell, and a thumbnail."""
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "Maker"
    exif[0x0110] = "Model 1"
    exif[0x0112] = orientation
    exif[0x013B] = "An artist"
    exif[0x8298] = "Someone, 2024"
    exif[0x0132] = "2024:05:06 07:08:09"
    exif[0xC62F] = "SN-4711-SECRET"
    exif[0x9C9C] = b"UNKNOWN-SECRET"
    inner = exif.get_ifd(EXIF_IFD)
    inner[0x829A] = 0.008
    inner[0x9003] = "2024:05:06 07:08:09"
    inner[0x927C] = b"MAKERNOTE-SECRET" * 4
    inner[0x9286] = b"ASCII\0\0\0COMMENT-SECRET"
    inner[0xA002] = 4000
    inner[0xA003] = 3000
    inner[0xA430] = "OWNER-SECRET"
    inner[0xA431] = "SN-4711-SECRET"
    inner[0xA434] = "Lens 50 mm"
    inner[0xEEEE] = "UNKNOWN-SECRET"
    exif[EXIF_IFD] = dict(inner)
    exif[GPS_IFD] = {1: "N", 2: (48.0, 8.0, 7.5), 3: "E", 4: (11.0, 34.0, 30.0), 29: "2024:05:06"}
    block = bytearray(exif.tobytes()[6:])
    # The second directory holds a thumbnail; Pillow writes none, so chain one to the first by hand.
    count = struct.unpack(f"{endian}H", block[8:10])[0]
    struct.pack_into(f"{endian}I", block, 10 + 12 * count, len(block))
    block += struct.pack(f"{endian}HHHII", 1, 0x010E, 2, 12, len(block) + 18) + bytes(4) + b"THUMB-SECRET"
    return bytes(block)


def exif_of(path):
    with Image.open(path) as image:
        image.load()
        exif = image.getexif()
        return exif, dict(exif.get_ifd(EXIF_IFD)), dict(exif.get_ifd(GPS_IFD))


HOLD_EXIF = ["png", "jpeg", "webp", "tiff", "avif"]


@pytest.fixture(params=["<", ">"])
def source(tmp_path, request):
    path = tmp_path / "source.jpg"
    Image.fromarray(PHOTO).save(path, exif=b"Exif\0\0" + camera_exif(endian=request.param), dpi=(240, 120))
    return path


def test_the_source_holds_what_the_tests_look_for(source):
    data = source.read_bytes()
    assert all(secret in data for secret in SECRETS)
    info = image_info(source)
    assert info.has_gps
    assert info.orientation == 6
    assert info.dpi == (240, 120)
    assert info.shape == (128, 96, 3)


@pytest.mark.parametrize("name", HOLD_EXIF)
def test_metadata_of_the_source_is_kept(tmp_path, source, name):
    path = tmp_path / f"x.{name}"
    save_image(read_image(source), path, metadata=read_metadata(source))
    exif, inner, gps = exif_of(path)
    assert exif[0x010F].rstrip("\0") == "Maker"
    assert exif[0x8298].rstrip("\0") == "Someone, 2024"
    assert inner[0xA434] == "Lens 50 mm"
    assert float(inner[0x829A]) == pytest.approx(0.008)
    assert inner[0x927C] == b"MAKERNOTE-SECRET" * 4
    assert [float(v) for v in gps[2]] == [48, 8, 7.5]
    assert image_info(path).has_gps
    again = read_metadata(path)
    assert again.has_gps
    assert again.dpi == pytest.approx((240, 120), abs=0.02)


@pytest.mark.parametrize("name", HOLD_EXIF)
def test_orientation_is_reset_and_stale_facts_go(tmp_path, source, name):
    path = tmp_path / f"x.{name}"
    upright = read_image(source)
    save_image(upright, path, metadata=read_metadata(source))
    exif, inner, _ = exif_of(path)
    assert exif.get(0x0112, 1) == 1
    assert image_info(path).orientation == 1
    assert read_image(path).shape == upright.shape
    with Image.open(path) as image:
        assert image.size == (96, 128)
    assert not {0xA002, 0xA003} & set(inner)
    # The thumbnail shows the picture as it was before it was processed.
    assert b"THUMB-SECRET" not in path.read_bytes()


@pytest.mark.parametrize("name", HOLD_EXIF)
@pytest.mark.parametrize("way", ["strip_private", "without_private"])
def test_private_metadata_is_stripped(tmp_path, source, name, way):
    path = tmp_path / f"x.{name}"
    metadata = read_metadata(source)
    if way == "strip_private":
        save_image(PHOTO, path, metadata=metadata, strip_private=True)
    else:
        save_image(PHOTO, path, metadata=metadata.without_private())
    data = path.read_bytes()
    assert not [secret for secret in SECRETS if secret in data]
    exif, inner, gps = exif_of(path)
    assert not gps
    assert GPS_IFD not in exif
    assert not image_info(path).has_gps
    # The rest stays.
    assert exif[0x010F].rstrip("\0") == "Maker"
    assert exif[0x013B].rstrip("\0") == "An artist"
    assert inner[0x9003] == "2024:05:06 07:08:09"
    assert inner[0xA434] == "Lens 50 mm"
    assert read_metadata(path).dpi == pytest.approx((240, 120), abs=0.02)


def test_nothing_is_written_unless_asked(tmp_path):
    for name in [*HOLD_EXIF, "bmp"]:
        save_image(PHOTO, tmp_path / f"x.{name}")
        found = read_metadata(tmp_path / f"x.{name}", color_profile="keep")
        assert (found.exif, found.icc) == (None, None)
        assert found.dpi is None or name == "bmp"


@pytest.mark.parametrize("name", [*HOLD_EXIF, "bmp"])
def test_resolution_is_kept_in_every_format(tmp_path, name):
    save_image(PHOTO, tmp_path / f"x.{name}", metadata=ImageMetadata(dpi=(300, 150)))
    assert read_metadata(tmp_path / f"x.{name}").dpi == pytest.approx((300, 150), abs=0.02)
    assert image_info(tmp_path / f"x.{name}").dpi == pytest.approx((300, 150), abs=0.02)


def test_tiff_metadata_leaves_layout_behind(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", PHOTO, photometric="rgb", description="ImageJ=1.11a\nimages=1", metadata=None)
    save_image(PHOTO[:10], tmp_path / "y.tif", metadata=read_metadata(tmp_path / "x.tif"))
    assert b"ImageJ" not in (tmp_path / "y.tif").read_bytes()
    tifffile.imwrite(tmp_path / "x.tif", PHOTO, photometric="rgb", description="a cat", datetime="2024:01:02 03:04:05")
    save_image(PHOTO[:10], tmp_path / "y.tif", metadata=read_metadata(tmp_path / "x.tif"))
    with tifffile.TiffFile(tmp_path / "y.tif") as tiff:
        assert tiff.pages[0].description == "a cat"
        assert tiff.pages[0].datetime.year == 2024
    np.testing.assert_array_equal(read_image(tmp_path / "y.tif"), PHOTO[:10])


def test_sixteen_bit_and_float_files_carry_metadata(tmp_path):
    metadata = ImageMetadata(exif=camera_exif(), dpi=(100, 100))
    for name, dtype in (("png", "uint16"), ("tiff", "float32")):
        image = PHOTO.astype(dtype)
        save_image(image, tmp_path / f"x.{name}", metadata=metadata)
        assert read_metadata(tmp_path / f"x.{name}").has_gps
        np.testing.assert_array_equal(read_image(tmp_path / f"x.{name}"), image)


@pytest.mark.filterwarnings("ignore")
def test_broken_exif_does_not_stop_reading(tmp_path):
    block = camera_exif(1)
    rng = np.random.default_rng(3)
    for _ in range(15):
        broken = bytearray(block)
        for position in rng.integers(0, len(block), 6):
            broken[position] = rng.integers(0, 256)
        for exif in (bytes(broken), block[: rng.integers(0, len(block))]):
            Image.fromarray(PHOTO).save(tmp_path / "x.png", exif=exif)
            read_image(tmp_path / "x.png")
            image_info(tmp_path / "x.png")
            metadata = read_metadata(tmp_path / "x.png")
            save_image(PHOTO, tmp_path / "y.png", metadata=metadata, strip_private=True)
