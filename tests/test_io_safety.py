"""Broken and hostile files, laziness, and saves that fail."""

import contextlib
import errno
import io
import lzma
import os
import pickle
import stat
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from daskimg.errors import ArrayError, ImageFileError, ImageTooLargeError, ParameterError, UnknownNameError
from daskimg.io import image_info, open_image, read_image, read_metadata, save_image
from daskimg.io import urls as io_urls
from daskimg.io.formats import FORMATS

PHOTO = skimage.data.astronaut()[:96, :128].copy()
WRITTEN = [name for name in FORMATS if FORMATS[name].dtypes]


def file_bytes(name, image=PHOTO, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, name.upper(), **options)
    return stream.getvalue()


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raising_scheduler(*args, **kwargs):
    raise AssertionError("computed while it should only be described")


# ---- broken files


@pytest.mark.parametrize("name", [*WRITTEN, "gif"])
def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path, name):
    data = file_bytes(name)
    path = tmp_path / f"x.{name}"
    cuts = [1, 3, 10, 30, len(data) // 10, len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 5]
    for cut in cuts:
        path.write_bytes(data[:cut])
        with pytest.raises(ImageFileError) as caught:
            read_image(path)
        assert path.name in str(caught.value)
    path.write_bytes(data)
    read_image(path)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif", "tiff"])
def test_truncation_is_seen_when_a_file_is_opened(tmp_path, name):
    data = file_bytes(name)
    (tmp_path / "x").write_bytes(data[: len(data) * 2 // 3])
    with dask.config.set(scheduler=raising_scheduler), pytest.raises(ImageFileError):
        open_image(tmp_path / "x")


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif", "bmp", "tiff"])
def test_bytes_behind_an_image_do_no_harm(tmp_path, name):
    (tmp_path / "x").write_bytes(file_bytes(name) + b"\0junk" * 3000)
    assert read_image(tmp_path / "x").shape[:2] == PHOTO.shape[:2]


@pytest.mark.parametrize("name", ["png", "tiff", "bmp", "webp", "avif", "gif", "jpeg"])
def test_flipped_bytes_raise_our_errors_only(tmp_path, name):
    data = file_bytes(name, PHOTO[:24, :32])
    rng = np.random.default_rng(5)
    for _ in range(60):
        broken = bytearray(data)
        for position in rng.integers(0, min(len(data), 400), 3):
            broken[position] = rng.integers(0, 256)
        (tmp_path / "x").write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImageFileError):
                read_image(tmp_path / "x", frame=0, max_pixels=10**6)


def test_a_wrong_checksum_in_a_png_is_seen(tmp_path):
    data = bytearray(file_bytes("png"))
    data[len(data) // 2] ^= 255
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageFileError):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b'\n <?xml version="1.0"?><svg/>', "SVG"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"PK\x03\x04rest", "zip"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"just some text", "no image"),
        (bytes(1000), "no image"),
    ],
)
def test_what_is_no_image_is_refused_under_any_name(tmp_path, content, message):
    for name in ("x.png", "x.jpg", "x"):
        (tmp_path / name).write_bytes(content)
        for function in (open_image, read_image, image_info, read_metadata):
            with pytest.raises(ImageFileError, match=message):
                function(tmp_path / name)


def test_a_wrong_extension_is_refused_unless_told_otherwise(tmp_path):
    (tmp_path / "x.jpg").write_bytes(file_bytes("png"))
    for function in (open_image, read_image):
        with pytest.raises(ImageFileError, match=r"content is PNG.*strict=False"):
            function(tmp_path / "x.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg", strict=False), PHOTO)
    assert image_info(tmp_path / "x.jpg").format == "png"
    (tmp_path / "x.part").write_bytes(file_bytes("png"))  # Promises nothing.
    np.testing.assert_array_equal(read_image(tmp_path / "x.part"), PHOTO)


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in [("no.png", "no such file"), ("", "folder"), ("pipe.png", "no regular file")]:
        with pytest.raises(ImageFileError, match=message):
            open_image(tmp_path / path)
    with pytest.raises(ImageFileError, match="no such file"):
        open_image("memory://no/such.png")
    for nothing in ("", None, 3):
        with pytest.raises(ParameterError):
            open_image(nothing)
    with pytest.raises(ParameterError, match="no file system"):
        open_image("nope://x.png")


# ---- bombs


def bomb(side=60000):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(9))) + png_chunk(b"IEND", b"")


def webp_bomb():
    body = b"VP8X" + struct.pack("<II", 10, 0) + (16382).to_bytes(3, "little") * 2 + b"VP8L" + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bombs():
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, shape=(60000, 60000), dtype="uint8", data=iter([b"x"]), rowsperstrip=60000, compression=8)
    gif = bytearray(file_bytes("gif"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    bmp = bytearray(file_bytes("bmp"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    jpeg = bytearray(file_bytes("jpeg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    return {"png": bomb(), "webp": webp_bomb(), "tif": tiff.getvalue(), "gif": gif, "bmp": bmp, "jpg": jpeg}


# Runs in a process of its own, because the peak of memory counts what earlier tests took.
BOMB_SCRIPT = """
import pathlib, resource, sys, time
from daskimg.errors import ImageTooLargeError
from daskimg.io import image_info, open_image, read_image
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    assert min(image_info(path).shape[:2]) >= 16383, path  # Imports, too.
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for function in (open_image, read_image):
        try:
            function(path, frame=0, max_pixels=10**8)
        except ImageTooLargeError as error:
            assert "max_pixels=" in str(error) and "DASKIMG_MAX_PIXELS" in str(error), error
        else:
            raise AssertionError(f"{path} was not refused")
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(path.suffix, taken, time.perf_counter() - start)
"""


def test_a_bomb_is_refused_by_its_declared_size_before_memory_is_taken(tmp_path):
    for name, data in bombs().items():
        (tmp_path / f"x.{name}").write_bytes(data)
    found = subprocess.run([sys.executable, "-c", BOMB_SCRIPT, tmp_path], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    assert len(lines) == 6
    for suffix, kibibytes, seconds in lines:
        assert int(kibibytes) < 4096, suffix
        assert float(seconds) < 2, suffix


def test_the_limit_has_a_default_a_variable_and_an_argument(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(ImageTooLargeError, match="268,435,456"):
        open_image(tmp_path / "bomb.png")
    (tmp_path / "x.png").write_bytes(file_bytes("png"))
    monkeypatch.setenv("DASKIMG_MAX_PIXELS", "100")
    with pytest.raises(ImageTooLargeError, match="limit of 100"):
        open_image(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png", max_pixels=None).shape == PHOTO.shape
    assert open_image(tmp_path / "x.png", max_pixels=96 * 128).shape == PHOTO.shape
    monkeypatch.setenv("DASKIMG_MAX_PIXELS", "many")
    with pytest.raises(ParameterError, match="DASKIMG_MAX_PIXELS"):
        open_image(tmp_path / "x.png")
    for limit in (0, -1, 1.5, True, "all"):
        with pytest.raises(ParameterError, match="max_pixels"):
            open_image(tmp_path / "x.png", max_pixels=limit)


def test_the_limit_of_opencv_is_explained(tmp_path):
    (tmp_path / "x.png").write_bytes(file_bytes("png"))
    code = "import sys; from daskimg.io import read_image; read_image(sys.argv[1])"
    environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "100"}
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.png"], capture_output=True, text=True, env=environment
    )
    assert "ImageTooLargeError" in found.stderr
    assert "OPENCV_IO_MAX_IMAGE_PIXELS" in found.stderr


def test_pillows_own_limit_neither_interferes_nor_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("png", "bmp", "webp", "gif", "avif", "tiff", "jpeg"):
        (tmp_path / f"x.{name}").write_bytes(file_bytes(name))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_image(tmp_path / f"x.{name}")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_strips_that_inflate_beyond_their_image_are_refused(tmp_path):
    for compression, packed in ((8, zlib.compress(bytes(10**8))), (34925, lzma.compress(bytes(10**8), preset=1))):
        tifffile.imwrite(
            tmp_path / "x.tif", shape=(10, 10), dtype="uint8", data=iter([packed]), compression=compression
        )
        for _ in range(2):  # The first time imports take memory too.
            tracemalloc.start()
            with pytest.raises(ImageTooLargeError, match="inflates"):
                read_image(tmp_path / "x.tif")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2**23


def test_a_huge_file_with_a_tiny_image_is_not_read(tmp_path):
    with open(tmp_path / "x.png", "wb") as stream:
        stream.write(file_bytes("png"))
        stream.truncate(2**31)  # Takes no space on the disk.
    with pytest.raises(ImageTooLargeError, match="something else"):
        read_image(tmp_path / "x.png")


# ---- laziness


def test_opening_never_decodes_and_decodes_once(tmp_path, monkeypatch):
    save_image(PHOTO, tmp_path / "x.png")
    with dask.config.set(scheduler=raising_scheduler):
        image = open_image(tmp_path / "x.png", chunks=40)
        assert (image.shape, image.dtype, image.numblocks) == (PHOTO.shape, PHOTO.dtype, (3, 4, 1))
        with pytest.raises(AssertionError, match="described"):
            image.compute()
    from daskimg.io import photo

    calls = []
    decode = photo.decode
    monkeypatch.setattr(photo, "decode", lambda *args, **options: calls.append(1) or decode(*args, **options))
    other = open_image(tmp_path / "x.png", chunks=-1)
    assert not calls
    both = dask.compute(image, other)
    assert len(calls) == 1
    for found in both:
        np.testing.assert_array_equal(found, PHOTO)


def test_chunks(tmp_path):
    save_image(PHOTO, tmp_path / "x.png")
    save_image(PHOTO[..., 0], tmp_path / "grey.png")
    for chunks, blocks in [("auto", (1, 1)), (-1, (1, 1)), (50, (2, 3)), ((50, -1), (2, 1)), ({0: 10}, (10, 1))]:
        image = open_image(tmp_path / "x.png", chunks=chunks)
        assert image.numblocks == (*blocks, 1)
        assert open_image(tmp_path / "grey.png", chunks=chunks).numblocks == blocks
    assert open_image(tmp_path / "x.png", chunks=(50, 50, 3)).numblocks == (2, 3, 1)
    for chunks in [(50, 50, 1), (1, 2, 3, 4), "many", ((3, 3), 5)]:
        with pytest.raises(ArrayError, match="chunk"):
            open_image(tmp_path / "x.png", chunks=chunks)
    save_image(np.zeros((3000, 4000, 3), "uint8"), tmp_path / "photo.png", compression=1)
    assert open_image(tmp_path / "photo.png").npartitions == 1


def test_names_follow_the_content(tmp_path):
    path = tmp_path / "x.png"
    save_image(PHOTO, path)
    first = open_image(path)
    assert first.name == open_image(str(path)).name
    assert first.name != open_image(path, chunks=20).name
    assert first.name != open_image(path, color_profile="keep").name
    os.utime(path, ns=(1, 1))
    assert first.name != open_image(path).name
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/names/x.png", path.read_bytes())
    remote = open_image("memory://names/x.png")
    assert remote.name == open_image("memory://names/x.png").name
    save_image(PHOTO[::-1], "memory://names/x.png")
    assert remote.name != open_image("memory://names/x.png").name


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path):
    save_image(PHOTO, tmp_path / "x.png")
    image = open_image(tmp_path / "x.png")
    save_image(PHOTO[:50], tmp_path / "x.png")
    with pytest.raises(ImageFileError, match="changed since"):
        image.compute()


def test_the_task_travels(tmp_path, monkeypatch):
    save_image(PHOTO, tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    image = pickle.loads(pickle.dumps(open_image("x.png", chunks=64)))
    monkeypatch.chdir("/")  # A worker has another working folder.
    np.testing.assert_array_equal(image.compute(scheduler="processes", num_workers=1), PHOTO)


def test_on_a_cluster_of_processes(tmp_path):
    distributed = pytest.importorskip("distributed")
    save_image(PHOTO, tmp_path / "x.png")
    with (
        distributed.LocalCluster(1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        np.testing.assert_array_equal(open_image(tmp_path / "x.png", chunks=50).compute(), PHOTO)
        (tmp_path / "x.png").write_bytes(b"gone")
        with pytest.raises(ImageFileError, match="no image"):
            open_image(tmp_path / "x.png", chunks=50)


def test_importing_takes_no_decoder_along():
    code = "import sys, daskimg.io; print([m for m in ('PIL', 'tifffile', 'fsspec', 's3fs') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'PIL'" not in found.stdout
    assert "'tifffile'" not in found.stdout
    assert "'s3fs'" not in found.stdout


# ---- saves that fail


class Broken(Exception):
    """Stands for what a user's own task raises."""


def test_a_failed_computation_leaves_nothing_behind(tmp_path):
    def fail(block):
        raise Broken

    image = da.zeros((20, 30), dtype="uint8", chunks=10).map_blocks(fail, dtype="uint8", meta=np.empty((0, 0), "uint8"))
    with pytest.raises(Broken):
        save_image(image, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
    save_image(PHOTO, tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(Broken):
        save_image(image, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_only(tmp_path, monkeypatch, step):
    save_image(PHOTO, tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(io_urls.os, step, full)
    for name in ("x.png", "new.png"):
        with pytest.raises(ImageFileError, match="No space left"):
            save_image(PHOTO[::-1], tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


def test_a_failed_encoder_leaves_nothing(tmp_path, monkeypatch):
    from daskimg.io import saving

    def fail(*args):
        raise ValueError("encoder")

    monkeypatch.setattr(saving, "encode", fail)
    with pytest.raises(ImageFileError, match="cannot be written: encoder"):
        save_image(PHOTO, tmp_path / "x.png")
    with pytest.raises(ImageFileError):
        save_image(PHOTO, "memory://failed/x.png")
    assert list(tmp_path.iterdir()) == []
    assert not fsspec.filesystem("memory").exists("/failed/x.png")


def test_a_failed_upload_leaves_no_stump(monkeypatch):
    filesystem = fsspec.filesystem("memory")

    def half(self, path, value, **options):
        with self.open(path, "wb") as stream:
            stream.write(value[:10])
        raise OSError("connection lost")

    monkeypatch.setattr(type(filesystem), "pipe_file", half)
    with pytest.raises(ImageFileError, match="connection lost"):
        save_image(PHOTO, "memory://stump/x.png")
    assert not filesystem.exists("/stump/x.png")


def test_targets_are_checked_before_computing(tmp_path):
    image = da.zeros((20, 30), dtype="uint8", chunks=10)
    save_image(image, tmp_path / "there.png")
    with dask.config.set(scheduler=raising_scheduler):
        for url, options, message in [
            (tmp_path / "no" / "x.png", {}, "make it first"),
            (tmp_path / "there.png", {"overwrite": False}, "overwrite=True"),
            ("data:image/png;base64,x", {"format": "png"}, "not written"),
            ("https://host/x.png", {}, "not written"),
        ]:
            with pytest.raises(ImageFileError, match=message):
                save_image(image, url, **options)
        with pytest.raises(UnknownNameError):
            save_image(image, tmp_path)
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(ImageFileError, match="is a folder"):
            save_image(image, tmp_path / "folder.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_computing(tmp_path):
    tmp_path.chmod(0o500)
    with dask.config.set(scheduler=raising_scheduler), pytest.raises(ImageFileError, match="may not be written"):
        save_image(da.zeros((20, 30), dtype="uint8"), tmp_path / "x.png")


def test_links_and_modes_survive(tmp_path):
    save_image(PHOTO, tmp_path / "real.png")
    (tmp_path / "real.png").chmod(0o640)
    (tmp_path / "link.png").symlink_to("real.png")
    save_image(PHOTO[::-1], tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "real.png"), PHOTO[::-1])
    assert stat.S_IMODE((tmp_path / "real.png").stat().st_mode) == 0o640


# ---- places


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "grün 写真.png",
        "-dash.png",
        "#1.png",
        "what?.png",
        "a*b.png",
        "[1].png",
        "100%25.png",
        "a::b.png",
        "{x}.png",
    ],
)
def test_every_letter_of_a_local_name_stands_for_itself(tmp_path, monkeypatch, name):
    (tmp_path / "a1b.png").write_bytes(b"what a pattern would find")
    monkeypatch.chdir(tmp_path)
    save_image(PHOTO, name)
    assert (tmp_path / name).exists()
    for url in (name, tmp_path / name, str(tmp_path / name), f"file://{tmp_path / name}"):
        np.testing.assert_array_equal(open_image(url).compute(), PHOTO)


@pytest.mark.parametrize("name", ["a b.png", "grün 写真.png", "#1.png", "what?.png", "a*b.png", "[1].png"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_urls(name, suffix):
    url = f"memory://places/{name[:-3]}{suffix}"
    save_image(PHOTO, url)
    np.testing.assert_array_equal(open_image(url).compute(), PHOTO)
    assert image_info(url).shape == PHOTO.shape


def test_data_urls_and_archives(tmp_path):
    import base64
    import zipfile

    data = file_bytes("png")
    np.testing.assert_array_equal(read_image("data:image/png;base64," + base64.b64encode(data).decode()), PHOTO)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inside.png", data)
    np.testing.assert_array_equal(open_image(f"zip://inside.png::{tmp_path / 'x.zip'}").compute(), PHOTO)


def test_messages_hold_no_secrets():
    for url in ("ftp://me:secret@host/x.png", "https://host/x.png?X-Amz-Signature=secret"):
        shown = io_urls.locate(url, {"key": "secret"})
        assert "secret" not in shown.shown
        assert "options" not in repr(shown)
    with pytest.raises(ImageFileError) as caught:
        save_image(PHOTO, "https://me:secret@host/x.png?secret=1")
    assert "secret" not in str(caught.value)
