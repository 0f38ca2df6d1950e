"""Colour and orientation: ICC profiles, inks, and which side is up."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageCms

from daskimg.errors import ImageFileError, ParameterError
from daskimg.io import ImageMetadata, image_info, open_image, read_image, read_metadata, save_image

# Primaries under D50 as the profiles of Adobe RGB (1998) and Display P3 state them.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def s15(value):
    return struct.pack(">i", round(value * 65536))


def gamma_curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def srgb_curve():
    return b"para\0\0\0\0\0\x03\0\0" + b"".join(map(s15, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))


def profile(space, tags, kind=b"mntr", meeting=b"XYZ "):
    """Build an ICC profile of version 4 from its tags."""
    tags = {
        b"desc": b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\2\0\0\0\x1c\0t\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642) + s15(1) + s15(0.82491),
        **tags,
    }
    table, body, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        tag += b"\0" * (-len(tag) % 4)
        table += struct.pack(">4sII", name, offset + len(body), len(tag))
        body += tag
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x04000000, kind, space, meeting)
    head += bytes(12) + b"acsp" + bytes(28) + s15(0.9642) + s15(1) + s15(0.82491)
    return head.ljust(128, b"\0") + table + body


def rgb_profile(primaries, curve):
    names = (b"r", b"g", b"b")
    colorants = {n + b"XYZ": b"XYZ \0\0\0\0" + b"".join(map(s15, xyz)) for n, xyz in zip(names, primaries, strict=True)}
    return profile(b"RGB ", {**colorants, **{n + b"TRC": curve for n in names}})


def cmyk_profile():
    """Build a profile of four inks by a table of 2 x 2 x 2 x 2 colours."""
    nodes = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        light = (1 - 0.75 * k) * (1 - 0.3 * c) * (1 - 0.35 * m) * (1 - 0.05 * y)
        nodes += [round(255 * light), round(128 - 60 * c + 70 * m - 5 * y), round(128 - 50 * c - 5 * m + 90 * y)]
    ramp = bytes(range(256))
    identity = b"".join(map(s15, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0\x04\x03\x02\0" + identity + ramp * 4 + bytes(np.clip(nodes, 0, 255).tolist()) + ramp * 3
    return profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def encoded(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_from(values, primaries, gamma):
    """Return what sRGB values colours have, computed from the definitions in float64."""
    matrix = np.linalg.inv(np.array(SRGB).T) @ np.array(primaries).T
    return encoded(np.asarray(values) ** gamma @ matrix.T)


PHOTO = skimage.data.astronaut()[:120, :160]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_profile_is_turned_to_srgb_in_every_format(tmp_path, suffix):
    icc = rgb_profile(ADOBE, gamma_curve(2.19921875))
    save_image(PHOTO, tmp_path / f"x{suffix}", metadata=ImageMetadata(icc=icc))
    stored = read_image(tmp_path / f"x{suffix}", color_profile="keep")
    expected = srgb_from(stored / 255, ADOBE, 2.19921875) * 255
    found = read_image(tmp_path / f"x{suffix}")
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found.astype(int) - stored).max() > 10
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}", color_profile="ignore"), stored)
    assert image_info(tmp_path / f"x{suffix}").has_icc
    # The profile goes along only with pixels that still follow it.
    assert read_metadata(tmp_path / f"x{suffix}", color_profile="keep").icc == icc
    assert read_metadata(tmp_path / f"x{suffix}").icc is None


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("primaries", [ADOBE, P3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_turned_to_srgb_too(tmp_path, suffix, primaries, channels):
    image = np.random.default_rng(1).integers(0, 65536, (40, 50, channels), np.uint16)
    for curve, gamma in ((gamma_curve(1.8), 1.80078125), (srgb_curve(), None)):
        save_image(image, tmp_path / f"x{suffix}", metadata=ImageMetadata(icc=rgb_profile(primaries, curve)))
        found = read_image(tmp_path / f"x{suffix}")
        assert found.dtype == np.uint16
        values = image[..., :3] / 65535
        if gamma is None:
            values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        expected = srgb_from(values, primaries, gamma or 1) * 65535
        assert np.abs(found[..., :3] - expected).max() < 40  # Profiles state primaries to 1/65536.
        np.testing.assert_array_equal(found[..., 3:], image[..., 3:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_grey_profile_changes_the_greys(tmp_path, dtype):
    top = np.iinfo(dtype).max
    image = np.linspace(0, top, 256).astype(dtype).reshape(16, 16)
    icc = profile(b"GRAY", {b"kTRC": gamma_curve(1.0)})
    save_image(image, tmp_path / "x.png", metadata=ImageMetadata(icc=icc))
    found = read_image(tmp_path / "x.png")
    assert found.shape == image.shape
    assert np.abs(found - encoded(image / top) * top).max() <= (1 if dtype == "uint8" else 2)


def test_srgb_under_any_name_leaves_every_bit(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (own, rgb_profile(SRGB, srgb_curve())):
        for image in (PHOTO, PHOTO.astype(np.uint16) * 257):
            save_image(image, tmp_path / "x.png", metadata=ImageMetadata(icc=icc))
            np.testing.assert_array_equal(read_image(tmp_path / "x.png"), image)


def test_profiles_that_are_broken_or_of_other_channels_are_ignored(tmp_path):
    for icc in (b"nonsense" * 20, profile(b"RGB ", {}), rgb_profile(ADOBE, gamma_curve(2.2))[:300], cmyk_profile()):
        for image in (PHOTO, PHOTO[..., 0], PHOTO.astype(np.uint16)):
            save_image(image, tmp_path / "x.png", metadata=ImageMetadata(icc=icc))
            np.testing.assert_array_equal(read_image(tmp_path / "x.png"), image)


def test_float_pixels_with_a_profile_are_refused_when_opened(tmp_path):
    icc = rgb_profile(ADOBE, gamma_curve(2.2))
    save_image(PHOTO.astype(np.float32), tmp_path / "x.tif", metadata=ImageMetadata(icc=icc))
    with pytest.raises(ImageFileError, match="color_profile='keep'"):
        open_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif", color_profile="keep"), PHOTO)


def test_an_unknown_way_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="Did you mean 'srgb'"):
        read_image(tmp_path / "x.png", color_profile="sRBG")


# ---- inks


def inks():
    """Return smooth CMYK values, so that JPEG changes them little."""
    y, x = np.mgrid[0:64, 0:80]
    return np.stack([x * 3, y * 3, 200 - x * 2, (x + y) // 2], -1).astype(np.uint8)


def plain_rgb(cmyk):
    light = 255.0 - cmyk
    return light[..., :3] * light[..., 3:] / 255


def segment(data, marker):
    start = data.index(marker)
    return start, start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0]


def ycck(cmyk):
    """Return a YCCK JPEG as Photoshop writes it: inverted inks, three of them as YCbCr."""
    stored = 255 - cmyk
    # libjpeg turns YCC into "RGB" and takes 255 - RGB for the inks that the file holds.
    luma = cv2.cvtColor(255 - stored[..., :3], cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    planes = np.dstack([luma, stored[..., 3]])
    stream = io.BytesIO()
    Image.fromarray(255 - planes, "CMYK").save(stream, "JPEG", quality=100)
    data = bytearray(stream.getvalue())
    _, end = segment(bytes(data), b"\xff\xee")
    data[end - 1] = 2
    return bytes(data)


def cmyk_jpeg(cmyk, **options):
    stream = io.BytesIO()
    Image.fromarray(cmyk, "CMYK").save(stream, "JPEG", quality=100, **options)
    return stream.getvalue()


def test_cmyk_and_ycck_jpeg_show_their_inks(tmp_path):
    for data in (cmyk_jpeg(inks()), ycck(inks())):
        (tmp_path / "x.jpg").write_bytes(data)
        for profile_use in ("srgb", "keep", "ignore"):
            found = open_image(tmp_path / "x.jpg", color_profile=profile_use)
            assert found.shape == (64, 80, 3)
            assert np.abs(found.compute() - plain_rgb(inks())).max() <= 5


def test_cmyk_without_adobes_mark_is_not_inverted(tmp_path):
    data = cmyk_jpeg(255 - inks())  # The file holds the inks themselves.
    start, end = segment(data, b"\xff\xee")
    (tmp_path / "x.jpg").write_bytes(data[:start] + data[end:])
    assert np.abs(read_image(tmp_path / "x.jpg") - plain_rgb(inks())).max() <= 5


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_follows_its_profile(tmp_path, suffix):
    icc = cmyk_profile()
    path = tmp_path / f"x{suffix}"
    Image.fromarray(inks(), "CMYK").save(path, quality=100, icc_profile=icc)
    with Image.open(path) as image:
        reference = np.asarray(
            ImageCms.profileToProfile(
                image,
                io.BytesIO(icc),
                ImageCms.createProfile("sRGB"),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                "RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        )
    for way in ("srgb", "keep"):
        np.testing.assert_array_equal(read_image(path, color_profile=way), reference)
        assert read_metadata(path, color_profile=way).icc is None  # It speaks of inks, and these are gone.
    assert np.abs(read_image(path, color_profile="ignore") - plain_rgb(inks())).max() <= 5
    assert np.abs(reference - plain_rgb(inks())).max() > 20


# ---- which side is up

# Smooth, so that JPEG changes it little, and different under every turn.
BOARD = np.add.outer(np.arange(24) * 7, np.arange(40) * 2).astype(np.uint8)
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".lzw.tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_every_orientation_is_applied_once(tmp_path, suffix, orientation, mode):
    if mode not in {".jpg": ("L", "RGB"), ".webp": ("RGB", "RGBA"), ".avif": ("RGB",)}.get(suffix, mode):
        pytest.skip("not held, or slow")
    exif = Image.Exif()
    exif[0x0112] = orientation
    board = np.dstack([BOARD, BOARD // 2, 255 - BOARD, 255 - BOARD // 3])
    image = Image.fromarray({"L": BOARD, "RGB": board[..., :3], "RGBA": board}[mode].copy())
    options = {"compression": "tiff_lzw"} if "lzw" in suffix else {} if suffix == ".tif" else {"quality": 95}
    image.save(tmp_path / f"x{suffix}", exif=exif, **options)
    expected = UPRIGHT[orientation](np.asarray(image))
    lazy = open_image(tmp_path / f"x{suffix}")
    found = lazy.compute()
    assert lazy.shape == found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() <= (0 if suffix in (".png", ".tif", ".lzw.tif") else 6)
    assert image_info(tmp_path / f"x{suffix}").orientation == orientation
    # And saved, it says no more that it should be turned.
    save_image(found, tmp_path / "y.tif", metadata=read_metadata(tmp_path / f"x{suffix}"))
    np.testing.assert_array_equal(read_image(tmp_path / "y.tif"), found)
    assert image_info(tmp_path / "y.tif").orientation == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_sixteen_bits_and_floats_stand_upright_too(tmp_path, orientation):
    image = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    done, data = cv2.imencode(".png", image[..., ::-1])
    assert done
    body = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    data = data.tobytes()
    for where in (33, len(data) - 12):  # Before the pixels, and behind them.
        (tmp_path / "x.png").write_bytes(data[:where] + chunk + data[where:])
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), UPRIGHT[orientation](image))
    for dtype in ("int8", "uint32", "float64"):
        array = image.astype(dtype)
        tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), UPRIGHT[orientation](array))


def test_nonsense_orientations_mean_upright(tmp_path):
    for value in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(BOARD).save(tmp_path / "x.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), BOARD)
