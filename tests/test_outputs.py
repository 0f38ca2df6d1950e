"""Several renditions from one decoding: their names, what they keep of their source, and how they fail."""

import io
import os
import pickle
import platform
import subprocess
import sys
import threading
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import daskimg as di
from daskimg.batch.loading import loaded
from daskimg.batch.needs import bytes_needed
from daskimg.batch.outputs import Output, as_outputs
from daskimg.batch.reduced import reduced_pipelines
from daskimg.batch.targets import Job
from daskimg.batch.task import Work, do, do_group
from daskimg.errors import ParameterError, UnknownNameError
from daskimg.io import probe
from daskimg.io.encode import Options, encode
from daskimg.io.formats import FORMATS
from daskimg.io.urls import locate

HALF = di.resize(scale=0.5, interpolation="area")


def smooth(rows, columns, seed=3):
    noise = np.random.default_rng(seed).integers(0, 256, (rows // 20 + 2, columns // 20 + 2, 3), np.uint8)
    return cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def camera(tmp_path):
    """A JPEG as a camera writes it: lying, with Exif, GPS, a resolution and a profile."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B], exif[0x0128] = 6, "Maker", 240.0, 240.0, 2
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8769)[0xA431] = "serial 1234"
    exif.get_ifd(0x8825)[1] = "N"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "in" / "camera.jpg"
    path.parent.mkdir()
    Image.fromarray(smooth(120, 200)).save(path, exif=exif, dpi=(240, 240), icc_profile=icc, quality=92)
    return path


def one(source, target, *outputs, **work):
    targets = tuple(map(str, target if isinstance(target, list) else [target]))
    return do(Job(str(source), targets, "shown"), Work(outputs, **work))


def raising(*_, **__):
    raise AssertionError("called")


# Renditions


def test_renditions_are_those_of_their_pipelines_from_one_decoding(camera, tmp_path, monkeypatch):
    decoded = []
    imdecode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: decoded.append(1) or imdecode(*given))
    outputs = [
        Output(HALF, name="{stem}-half"),
        {"pipeline": "gaussian_blur ksize=5 | invert", "format": "png", "folder": "inverted"},
        Output(di.Pipeline(), format="webp", lossless=True, name="{stem}-{output}"),
    ]
    report = di.process_images(camera, None, tmp_path / "out", outputs=outputs, threads=1)
    assert (report.total, report.done, report.failures) == (1, 1, [])
    assert len(decoded) == 1
    image = di.read_image(camera)
    assert di.read_image(tmp_path / "out" / "camera-half.jpg").shape == (100, 60, 3)
    expected = (di.gaussian_blur(ksize=5) | di.invert())(image)
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "inverted" / "camera.png"), expected)
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "camera-3.webp"), image)


def test_a_rendition_that_fails_names_itself_and_nothing_is_written(camera, tmp_path):
    outputs = (Output(HALF), Output("sobel dx=1", name="{stem}-edges"))
    targets = [tmp_path / "a.jpg", tmp_path / "a-edges.jpg"]
    outcome = one(camera, targets, *outputs)
    assert outcome.reason.startswith("output 2, a-edges.jpg: JPEG cannot hold int16")
    assert not any(target.exists() for target in targets)
    report = di.process_images(camera, None, tmp_path / "out", outputs=outputs, threads=1)
    assert (report.done, len(report.failures)) == (0, 1)
    assert "output 2" in report.failures[0].reason


def test_the_sizes_of_results_are_told_in_their_order(camera, tmp_path):
    targets = [tmp_path / "a.png", tmp_path / "b.jpg"]
    outcome = one(camera, targets, Output(HALF), Output(HALF, quality=30))
    assert outcome.sizes == tuple(target.stat().st_size for target in targets)
    assert outcome.pixels == 120 * 200
    assert outcome.seconds > 0
    status = camera.stat()
    assert outcome.version == f"{status.st_size}-{status.st_mtime_ns}"


def test_results_that_exist_are_replaced_only_if_the_job_says_so(camera, tmp_path):
    target = tmp_path / "a.jpg"
    target.write_bytes(b"mine")
    assert "exists already" in one(camera, target, Output(HALF)).reason
    assert target.read_bytes() == b"mine"
    job = Job(str(camera), (str(target),), "shown", replace=True)
    assert do(job, Work((Output(HALF),))).reason == ""
    assert di.read_image(target).shape == (100, 60, 3)


def test_a_missing_folder_and_a_folder_in_place_of_a_file_are_said(camera, tmp_path):
    assert "no such file" in one(camera, tmp_path / "gone" / "a.jpg", Output(HALF)).reason
    (tmp_path / "a.jpg").mkdir()
    assert one(camera, tmp_path / "a.jpg", Output(HALF)).reason
    assert list((tmp_path / "a.jpg").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_group_gives_the_outcomes_in_order_whatever_fails(tmp_path):
    jobs = []
    for number in range(12):
        source = tmp_path / f"{number}.png"
        if number % 3 == 1:
            source.write_bytes(b"none")
        else:
            di.save_image(np.full((8 if number % 2 else 600, 400), number, np.uint8), source)
        jobs.append(Job(str(source), (str(tmp_path / f"{number}-new.png"),), str(number)))
    outcomes = do_group(jobs, Work((Output("invert"),)))
    assert [bool(outcome.reason) for outcome in outcomes] == [number % 3 == 1 for number in range(12)]
    for number, job in enumerate(jobs):
        if number % 3 != 1:
            assert (di.read_image(job.targets[0]) == 255 - number).all()
            assert outcomes[number].pixels == (8 if number % 2 else 600) * 400


def test_what_is_stopped_is_not_begun(camera, tmp_path):
    stop = threading.Event()
    stop.set()
    job = Job(str(camera), (str(tmp_path / "a.jpg"),), "shown")
    assert [outcome.skipped for outcome in do_group([job, job], Work((Output(HALF),)), stop)] == [True, True]
    assert not (tmp_path / "a.jpg").exists()


# Names


@pytest.mark.parametrize(
    ("output", "below", "expected"),
    [
        ({}, "2024/cat.JPG", "2024/cat.JPG"),
        ({"format": "webp"}, "2024/cat.JPG", "2024/cat.webp"),
        ({"format": "jpeg"}, "cat.JPG", "cat.JPG"),
        ({"name": "{stem}-{suffix}", "format": "png"}, "a/cat.jpg", "a/cat-jpg.png"),
        ({"name": "{folder}-{stem}"}, "2024/may/cat.jpg", "2024-may-cat.jpg"),
        ({"name": "{number}"}, "2024/cat.jpg", "2024/000007.jpg"),
        ({"name": "{number}-{output}", "folder": "web/small"}, "a/cat.jpg", "web/small/a/000007-2.jpg"),
        ({}, "movie.gif", "movie.png"),
        ({}, "scan.v2", "scan.v2.png"),
        ({"format": "tif"}, "-rf ünï 图.png", "-rf ünï 图.tiff"),
    ],
)
def test_names_follow_their_template(output, below, expected):
    named = Output(di.Pipeline(), **output).name_of(below, number=7, output=2)
    assert named == expected.replace(".tiff", FORMATS["tiff"].suffixes[0])


@pytest.mark.parametrize(
    "name", ["new", "{steam}", "../{stem}", "x/{stem}", "..\\{stem}", "{stem", "{}{stem}", "", "\0{stem}", 3]
)
def test_other_names_are_refused_with_those_allowed(name):
    with pytest.raises(ParameterError, match=r"name=.*\{stem\}.*\{suffix\}.*\{folder\}.*\{number\}.*\{output\}"):
        Output("invert", name=name)


@pytest.mark.parametrize("folder", ["", "..", "a/../..", "/abs", "a//b", "a\\b", "C:"])
def test_folders_stay_below_that_of_the_batch(folder):
    with pytest.raises(ParameterError, match="folder="):
        Output("invert", folder=folder)


def test_names_are_as_long_as_file_systems_take(tmp_path):
    longest = "ü" * 125 + "a" + ".png"
    assert len(os.fsencode(longest)) == 255
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / longest)
    report = di.process_images(tmp_path / longest, di.invert(), tmp_path / "out", threads=1)
    assert report.failures == []
    assert (di.read_image(tmp_path / "out" / longest) == 255).all()
    with pytest.raises(ParameterError, match=r"257 bytes.*255"):
        di.process_images(tmp_path / longest, di.invert(), tmp_path / "2", name="{stem}-1")
    with pytest.raises(ParameterError, match=r"256 bytes.*255"):
        di.process_images(tmp_path / longest, di.invert(), tmp_path / "2", format="webp")
    assert not (tmp_path / "2").exists()


def test_two_outputs_with_one_name_are_refused(camera, tmp_path):
    with pytest.raises(ParameterError, match=r"would have one name.*\{output\}"):
        di.process_images(camera, None, tmp_path / "out", outputs=[Output(HALF), Output("invert")])
    with pytest.raises(ParameterError, match="names one file, but there are 2 outputs"):
        di.process_images(camera, None, tmp_path / "out.jpg", outputs=[Output(HALF), Output("invert")])
    assert not (tmp_path / "out").exists()


def test_what_outputs_may_be_is_said():
    with pytest.raises(ParameterError, match="pipeline and quality beside outputs"):
        as_outputs("invert", [Output("invert")], quality=80)
    with pytest.raises(ParameterError, match="say what to do"):
        as_outputs(None, None)
    with pytest.raises(ParameterError, match="outputs is a list"):
        as_outputs(None, [])
    with pytest.raises(ParameterError, match="outputs is a list"):
        as_outputs(None, Output("invert"))
    with pytest.raises(ParameterError, match=r"no 'qualty'.*quality"):
        as_outputs(None, [{"pipeline": "invert", "qualty": 3}])
    with pytest.raises(ParameterError, match="needs a pipeline"):
        as_outputs(None, [{"quality": 3}])
    with pytest.raises(ParameterError, match="an output is"):
        as_outputs(None, ["invert"])
    with pytest.raises(UnknownNameError, match="png"):
        Output("invert", format="pgn")
    with pytest.raises(ParameterError, match="PNG has no quality"):
        Output("invert", format="png", quality=3)
    (alone,) = as_outputs("invert", None, format="png", name="{stem}-x")
    assert alone == Output("invert", format="png", name="{stem}-x")


def test_work_travels_and_its_fingerprint_tells_what_results_depend_on():
    work = Work((Output(HALF, quality=80), Output("invert", format="png")), {"frame": 1}, "public", reduced=True)
    assert pickle.loads(pickle.dumps(work)) == work
    assert Work.from_json(work.to_json()) == work
    assert Work.from_json(work.to_json()).fingerprint == work.fingerprint
    secret = replace(work, share=5, storage_options={"secret": "s3cr3t"})
    assert secret.fingerprint == work.fingerprint
    assert "s3cr3t" not in secret.to_json() + repr(secret)
    others = [
        replace(work, metadata="none"),
        replace(work, reduced=False),
        replace(work, reading={"frame": 2}),
        replace(work, outputs=work.outputs[:1]),
        replace(work, outputs=(Output(HALF, quality=81), work.outputs[1])),
    ]
    assert len({work.fingerprint, *(other.fingerprint for other in others)}) == 6
    with pytest.raises(ParameterError, match="keep, public, none"):
        Work((), metadata="all")


# Metadata


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_exif_and_resolution_are_kept_upright_and_pixels_are_srgb(camera, tmp_path, suffix):
    target = tmp_path / f"a{suffix}"
    assert one(camera, target, Output(HALF)).reason == ""
    assert di.image_info(target).orientation == 1
    assert di.image_info(target).shape == (100, 60, 3)
    found = di.read_metadata(target, color_profile="keep")
    assert found.icc is None
    assert found.has_gps
    assert b"serial 1234" in found.exif
    assert found.dpi == pytest.approx((240, 240), abs=0.01)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_profile_goes_along_where_it_is_kept(camera, tmp_path, suffix):
    target = tmp_path / f"a{suffix}"
    assert one(camera, target, Output(HALF), reading={"color_profile": "keep"}).reason == ""
    with Image.open(camera) as before, Image.open(target) as after:
        assert after.info["icc_profile"] == before.info["icc_profile"]
    report = di.process_images(camera, HALF, tmp_path / "out", color_profile="keep", threads=1)
    assert report.ok
    assert di.read_metadata(tmp_path / "out" / "camera.jpg", color_profile="keep").icc is not None


def test_public_leaves_out_who_and_where_and_none_leaves_out_all(camera, tmp_path):
    one(camera, tmp_path / "public.jpg", Output(HALF), metadata="public")
    public = di.read_metadata(tmp_path / "public.jpg")
    assert not public.has_gps
    assert b"serial" not in public.exif
    assert b"Maker" in public.exif
    assert public.dpi == (240, 240)
    one(camera, tmp_path / "none.jpg", Output(HALF), metadata="none")
    assert di.read_metadata(tmp_path / "none.jpg") == di.ImageMetadata()
    one(camera, tmp_path / "kept.jpg", Output(HALF))
    assert (tmp_path / "none.jpg").stat().st_size < (tmp_path / "kept.jpg").stat().st_size


def test_jpeg_is_what_pillow_writes(camera):
    """OpenCV's encoder is the faster one; both are libjpeg-turbo with the same tables."""
    metadata = di.read_metadata(camera, color_profile="keep")
    large = replace(metadata, icc=bytes(range(256)) * 600, dpi=(300, 72))
    pixels = smooth(97, 131)
    for image in (pixels, pixels[..., 0]):
        for quality in (1, 50, 95, 100):
            for given in (di.ImageMetadata(), large):
                data = bytes(encode(image, FORMATS["jpeg"], Options(quality), given))
                stream = io.BytesIO()
                Image.fromarray(image).save(stream, "JPEG", quality=quality)
                tables = stream.getvalue().index(b"\xff\xdb")
                assert data.endswith(stream.getvalue()[tables:])
                with Image.open(io.BytesIO(data)) as shown:
                    assert shown.info.get("dpi") == (None if given.dpi is None else (300, 72))
                    assert shown.info.get("icc_profile") == given.icc
                    assert dict(shown.getexif()).get(0x010F) == (None if given.exif is None else "Maker")


def test_exif_that_jpeg_cannot_hold_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "x" * 70000
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "a.png", metadata=di.ImageMetadata(exif.tobytes()))
    assert "65,533" in one(tmp_path / "a.png", tmp_path / "a.jpg", Output("invert")).reason
    assert not (tmp_path / "a.jpg").exists()


# Headers without Pillow


def plain_files():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"):
        for dpi in (None, (72, 72), (1, 1), (300.5, 10)):
            for more in (
                {},
                {"progressive": True},
                {"comment": b"hey"},
                {"icc_profile": b"x" * 300},
                {"transparency": 1},
            ):
                for suffix in ("png", "jpeg"):
                    stream = io.BytesIO()
                    image = Image.new(mode, (21, 10))
                    try:
                        image.save(stream, suffix, **more, **({"dpi": dpi} if dpi else {}))
                    except (OSError, ValueError):  # not in this format
                        continue
                    yield suffix, stream.getvalue()


def test_headers_read_here_are_those_that_pillow_reads():
    quick = 0
    for name, data in plain_files():
        file = io.BytesIO(data)
        found = probe._plain(file, name)
        expected = probe._by_pillow(file, name, data[:64], "it")
        if found is not None:
            quick += 1
            assert replace(found, mode=expected.mode) == expected
    assert quick > 60


def test_headers_that_are_broken_are_left_to_pillow():
    data = next(data for name, data in plain_files() if name == "png")
    broken = [
        data[:20],
        data[:33],
        data[:29] + b"\0\0" + data[31:],
        data[:17] + b"\1" + data[18:],
        data.replace(b"IDAT", b"IDAX"),
    ]
    assert [probe._plain(io.BytesIO(one), "png") for one in broken] == [None] * len(broken)
    assert probe._plain(io.BytesIO(data), "png") is not None
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    body = b"eXIf" + exif.tobytes()[6:]
    late = data[:-12] + len(body[4:]).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + data[-12:]
    assert probe._plain(io.BytesIO(late), "png") is None


# Reduced decoding


@pytest.mark.parametrize(
    ("steps", "factors"),
    [
        ([di.resize(scale=0.5)], [2]),
        ([di.resize(scale=0.51)], [1]),
        ([di.resize(longest=250, interpolation="area")], [4]),
        ([di.resize(longest=125), di.resize(width=300)], [8, 2]),
        ([di.resize(longest=125, interpolation="area"), di.resize(width=600, interpolation="area")], [8, 1]),
        ([di.resize(width=100, height=100, fit="cover", interpolation="area")], [4]),
        ([di.resize(width=100, height=100, fit="contain", interpolation="area")], [8]),
        ([di.resize(longest=100, interpolation="area"), di.gaussian_blur(ksize=3)], [8, 1]),
        ([di.invert() | di.resize(longest=100)], [1]),
        ([di.resize(scale=2.0)], [1]),
    ],
)
def test_small_renditions_begin_with_less_but_never_with_less_than_wanted(tmp_path, steps, factors):
    path = tmp_path / "a.jpg"
    di.save_image(smooth(601, 1000), path)
    image = di.read_image(path)
    for (found, pipeline), step, factor in zip(
        reduced_pipelines(image.shape, steps_of(steps)), steps, factors, strict=True
    ):
        assert found == factor
        assert pipeline(image[: 601 // factor, : 1000 // factor]).shape == step(image).shape
    targets = [tmp_path / f"{number}.png" for number in range(len(steps))]
    assert one(path, targets, *map(Output, steps), reduced=True).reason == ""
    for step, pipeline, target in zip(steps, steps_of(steps), targets, strict=True):
        exact, close = step(image), di.read_image(target)
        assert exact.shape == close.shape
        # Nearly the same picture, where it is cut moved by half a pixel; without `reduced` it is the very same.
        limit = 15 if pipeline[0].params.get("fit") == "cover" else 8
        if pipeline[0].params.get("interpolation") == "area":
            assert np.abs(exact.astype(int) - close).mean() < limit
        assert one(path, tmp_path / "exact.png", Output(step)).reason == ""
        np.testing.assert_array_equal(di.read_image(tmp_path / "exact.png"), exact)
        (tmp_path / "exact.png").unlink()


def steps_of(steps):
    return [di.Pipeline(step) for step in steps]


def test_reduced_decoding_turns_lying_images_and_leaves_other_formats(camera, tmp_path):
    assert one(camera, tmp_path / "a.png", Output("resize width=40"), reduced=True).reason == ""
    assert di.read_image(tmp_path / "a.png").shape == (67, 40, 3)
    di.save_image(smooth(100, 100), tmp_path / "b.png")
    step = di.resize(scale=0.3)
    assert one(tmp_path / "b.png", tmp_path / "c.png", Output(step), reduced=True).reason == ""
    np.testing.assert_array_equal(di.read_image(tmp_path / "c.png"), step(di.read_image(tmp_path / "b.png")))


# What does not fit


def test_what_is_larger_than_a_share_is_told_before_it_is_decoded(camera, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", raising)
    outcome = one(camera, tmp_path / "a.jpg", Output(HALF), share=100_000)
    assert (outcome.too_large, outcome.reason, outcome.pixels) == (True, "", 0)
    assert outcome.version
    monkeypatch.undo()
    assert one(camera, tmp_path / "a.jpg", Output(HALF), share=10_000_000).too_large is False
    for name in ("a.zarr", "a.npy"):
        assert one(tmp_path / name, tmp_path / "b.png", Output(HALF), share=1).too_large


def test_needs_grow_with_what_the_steps_make():
    shape, uint8 = (1000, 1000, 3), np.dtype("uint8")
    plain = bytes_needed(shape, uint8, [di.Pipeline(di.invert())])
    assert plain >= 6_000_000
    wide = bytes_needed(shape, uint8, [di.Pipeline(di.rescale(to="float64"))])
    assert wide >= 3_000_000 + 24_000_000
    large = bytes_needed(shape, uint8, [di.Pipeline(di.invert()), di.resize(scale=4.0) | di.invert()])
    assert large >= 2 * 48_000_000
    assert bytes_needed(shape, uint8, []) >= 3_000_000


def test_a_tiff_of_a_million_rows_and_columns_is_its_own_failure(tmp_path):
    entries = [
        (256, 4, 10**6),
        (257, 4, 10**6),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 10**6),
        (279, 4, 100),
    ]
    data = b"II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        data += (
            tag.to_bytes(2, "little")
            + kind.to_bytes(2, "little")
            + (1).to_bytes(4, "little")
            + value.to_bytes(4, "little")
        )
    (tmp_path / "huge.tif").write_bytes(data + bytes(200))
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "small.tif")
    report = di.process_images(tmp_path, di.invert(), tmp_path / "out", threads=1)
    assert (report.total, report.done) == (2, 1)
    (failure,) = report.failures
    assert failure.source.endswith("huge.tif")
    assert "1,000,000,000,000" in failure.reason


# Files that change


@pytest.fixture
def changing(camera, monkeypatch):
    """Let the file grow between the first and the second look at each reading, as often as the list is long."""
    fstat, looks, changes = os.fstat, [], []

    def look(descriptor):
        looks.append(fstat(descriptor).st_size)
        if len(looks) % 2 == 0 and changes:
            with open(camera, "ab") as file:
                file.write(changes.pop())
        return fstat(descriptor)

    monkeypatch.setattr("daskimg.batch.loading.os.fstat", look)
    return changes


def test_a_file_that_changes_once_while_it_is_read_is_read_again(camera, tmp_path, changing):
    changing += [b"\0"]
    size = camera.stat().st_size
    outcome = one(camera, tmp_path / "a.jpg", Output(HALF))
    assert (outcome.reason, changing) == ("", [])
    assert outcome.version.startswith(f"{size + 1}-")


def test_a_file_that_goes_on_changing_is_reported_as_such(camera, tmp_path, changing):
    changing += [b"\0"] * 3
    outcome = one(camera, tmp_path / "a.jpg", Output(HALF))
    assert (outcome.reason, outcome.transient) == ("changed while it was read", True)
    assert len(changing) == 1
    assert not (tmp_path / "a.jpg").exists()


def test_a_large_file_is_compared_after_it_was_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    di.save_image(smooth(50, 60), path)
    monkeypatch.setattr("daskimg.batch.loading.IN_MEMORY", 100)
    with loaded(locate(path)) as source:
        source.check()
        assert source.file.read(2) == b"II"
        with open(path, "ab") as file:
            file.write(b"\0")
        with pytest.raises(di.DaskimgError, match="changed while it was read"):
            source.check()
    assert one(path, tmp_path / "b.png", Output("invert")).reason == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_regular_file_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "no regular file" in one(tmp_path / "pipe.png", tmp_path / "a.png", Output("invert")).reason
    assert "is a folder" in one(tmp_path, tmp_path / "a.png", Output("invert")).reason


def test_reduced_decoding_is_marked_in_the_report(camera, tmp_path):
    assert "not exact" in str(di.process_images(camera, HALF, tmp_path / "1", reduced=True, threads=1))
    assert "not exact" not in str(di.process_images(camera, HALF, tmp_path / "2", threads=1))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by other rules")
def test_freed_images_leave_their_memory_to_the_next():
    code = """
import resource, sys, numpy as np
from daskimg.chunked.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def some():
    return [np.ones(3 << 20, np.uint8) for _ in range(4)]
some(), some()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    some()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    faults = {
        way: int(
            subprocess.run([sys.executable, "-c", code, way], env=environment, check=True, capture_output=True).stdout
        )
        for way in ("keep", "leave")
    }
    assert faults["keep"] < faults["leave"] / 5
