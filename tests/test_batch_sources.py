"""Which images are meant by folders, patterns, lists, archives and prefixes, and that none of them is kept."""

import os
import tracemalloc
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import daskimg as di
from daskimg.batch.outputs import Output
from daskimg.batch.sources import find_sources, version_of
from daskimg.batch.targets import Job, plan_targets
from daskimg.batch.task import Work, do
from daskimg.errors import DaskimgError, ImageFileError, ParameterError
from daskimg.io import archive

ODD = [
    "-rf.png",
    "--help.png",
    "sp ace.png",
    "ünïcødé 图.png",
    "a[1].png",
    "#%&*.png",
    "a..png",
    "x.tar.png",
    "é" * 125 + "a.png",
]


@pytest.fixture
def tree(tmp_path):
    """A folder of images in folders, with what is no image between them; nothing in it can be decoded."""
    root = tmp_path / "tree"
    for name in (
        "b.png",
        "a.JPG",
        ".hidden.png",
        "notes.txt",
        "sub/c.tif",
        "sub/deep/d.webp",
        ".git/e.png",
        "x.zarr/0",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def below(*given, **options):
    return [source.below for source in find_sources(*given, **options)]


# Local files


def test_folders_are_walked_in_order(tree):
    assert below(tree) == ["a.JPG", "b.png", "x.zarr"]
    assert below(tree, recursive=True) == ["a.JPG", "b.png", "x.zarr", "sub/c.tif", "sub/deep/d.webp"]
    assert below([tree / "sub", tree / "b.png"]) == ["c.tif", "b.png"]
    assert below(tree / "x.zarr") == ["x.zarr"]


def test_patterns_keep_the_folders_below_what_they_begin_with(tree):
    assert below(f"{tree}/*.png") == ["b.png"]
    assert below(f"{tree}/.*.png") == [".hidden.png"]
    assert below(f"{tree}/**/*.*", recursive=True) == ["a.JPG", "b.png", "notes.txt", "sub/c.tif", "sub/deep/d.webp"]
    assert below(f"{tree}/s*/*.tif") == ["sub/c.tif"]
    with pytest.raises(ParameterError, match="no file matches"):
        below(f"{tree}/*.gif")
    with pytest.raises(ParameterError, match="no file matches"):
        below([f"{tree}/*.png", f"{tree}/gone/*.gif"])


def test_versions_are_size_and_time(tree):
    (source,) = find_sources(tree / "b.png")
    status = (tree / "b.png").stat()
    assert source.version == version_of(status) == f"1-{status.st_mtime_ns}"
    (tree / "b.png").write_bytes(b"xy")
    assert next(find_sources(tree / "b.png")).version != source.version
    assert next(find_sources(tree / "gone.png")).version == ""


def test_results_are_no_sources(tree):
    (tree / "out" / "sub").mkdir(parents=True)
    (tree / "out" / "sub" / "r.png").write_bytes(b"x")
    expected = below(tree, recursive=True, outside=str(tree / "out"))
    assert not any(name.startswith("out") for name in expected)
    assert below(f"{tree}/**/*.png", outside=str(tree / "out")) == ["b.png"]
    assert below(tree / "out", recursive=True, outside=str(tree / "out")) == ["sub/r.png"]


def test_links_to_folders_are_not_followed(tree):
    try:
        (tree / "sub" / "loop").symlink_to(tree, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert below(tree / "sub", recursive=True) == ["c.tif", "deep/d.webp"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_odd_names_come_out_as_they_went_in(tmp_path, name, monkeypatch):
    (tmp_path / "in").mkdir()
    di.save_image(np.full((5, 5), 9, np.uint8), tmp_path / "in" / name)
    (tmp_path / "list.txt").write_text(f"in/{name}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for number, given in enumerate(
        [tmp_path / "in", str(tmp_path / "in" / name), f"in/{name}", "@list.txt", "in/*.png"]
    ):
        report = di.process_images(given, di.invert(), tmp_path / str(number), threads=1)
        assert (report.done, report.failures) == (1, [])
        assert (di.read_image(tmp_path / str(number) / name) == 246).all()


def test_a_name_with_two_dots_cannot_leave_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "in" / "a.png")
    report = di.process_images(tmp_path / "in" / ".." / "in" / "a.png", di.invert(), tmp_path / "out", threads=1)
    assert report.done == 1
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]


def test_lists_name_files_folders_and_patterns(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    text = f"b.png\r\n\nsub\n{tree}/*.JPG\nhttps://example.org/far.png\n@list.txt\n"
    (tree / "list.txt").write_text(text, encoding="utf-8-sig", newline="")
    assert below("@list.txt") == ["b.png", "c.tif", "a.JPG", "far.png", "@list.txt"]
    with pytest.raises(ImageFileError, match="no such file"):
        below("@gone.txt")
    (tree / "@at.png").write_bytes(b"x")
    assert below("@at.png") == ["@at.png"]


def test_a_million_names_are_not_kept(tmp_path):
    """What comes from an iterable passes through; of a folder only its names are held, and let go."""
    names = (f"/nowhere/photo-{number}.png" for number in range(10**6))
    jobs = plan_targets(find_sources(names), str(tmp_path / "out"), (Output("invert", name="{number}"),))
    for job in islice(jobs, 100):
        assert job.targets
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    last = [job for number, job in enumerate(islice(jobs, 20_000)) if number == 19_999]
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert last[0].targets[0].endswith("020100.png")
    assert peak < 2_000_000  # twenty thousand jobs would take ten


# Archives


def pack(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)


def test_an_archive_is_all_the_images_in_it(tmp_path):
    di.save_image(np.full((5, 5), 7, np.uint8), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    names = ["b/a.png", "a.png", "../../evil.png", "/abs/c.png", "ü nï#?.png", "..\\w.png"]
    others = ["__MACOSX/a.png", "b/.hidden.png", "notes.txt"]
    pack(tmp_path / "photos.zip", dict.fromkeys([*names, *others], data))
    found = list(find_sources(tmp_path / "photos.zip"))
    assert [source.below for source in found] == ["evil.png", "w.png", "abs/c.png", "a.png", "b/a.png", "ü nï#_.png"]
    assert found[3].shown.endswith("photos.zip/a.png")
    assert len({source.version for source in found}) == 1
    report = di.process_images(tmp_path / "photos.zip", di.invert(), tmp_path / "out", threads=2)
    assert (report.done, report.failures) == (6, [])
    assert (di.read_image(tmp_path / "out" / "b" / "a.png") == 248).all()
    assert not (tmp_path / "evil.png").exists()


def test_an_archive_is_opened_once_however_many_images_it_holds(tmp_path, monkeypatch):
    di.save_image(np.full((5, 5), 7, np.uint8), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    pack(tmp_path / "many.zip", {f"{number}.png": data for number in range(30)})
    opened = []
    open_archive = zipfile.ZipFile
    monkeypatch.setattr(archive.zipfile, "ZipFile", lambda *given: opened.append(1) or open_archive(*given))
    assert di.process_images(tmp_path / "many.zip", di.invert(), tmp_path / "out", threads=2).done == 30
    assert len(opened) <= 3


def test_broken_and_inflating_archives_are_told(tmp_path, monkeypatch):
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 this is no archive")
    with pytest.raises(ImageFileError, match=r"broken\.zip"):
        below(tmp_path / "broken.zip")
    with pytest.raises(ImageFileError, match="no such file"):
        below(tmp_path / "gone.zip")
    pack(tmp_path / "empty.zip", {"notes.txt": b"x"})
    with pytest.raises(ParameterError, match=r"archive .* holds no image"):
        below(tmp_path / "empty.zip")
    pack(tmp_path / "bomb.zip", {"bomb.png": bytes(1 << 20)})
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 1 << 16)
    report = di.process_images(tmp_path / "bomb.zip", di.invert(), tmp_path / "out", threads=1)
    assert "1,048,576 bytes" in report.failures[0].reason
    # One that declares less than it holds.
    data = bytearray((tmp_path / "bomb.zip").read_bytes())
    for start in range(len(data) - 4):
        if data[start : start + 4] == (1 << 20).to_bytes(4, "little"):
            data[start : start + 4] = (100).to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(bytes(data))
    assert di.process_images(tmp_path / "liar.zip", di.invert(), tmp_path / "2", threads=1).failures


def test_a_damaged_member_is_its_own_failure(tmp_path):
    di.save_image(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("1.png", data)
        packed.writestr("2.png", data)
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[1000] ^= 255
    (tmp_path / "a.zip").write_bytes(bytes(raw))
    report = di.process_images(tmp_path / "a.zip", di.invert(), tmp_path / "out", threads=1)
    assert report.done == 1
    assert "CRC" in report.failures[0].reason


# URLs


def put(*names):
    for name in names:
        di.save_image(np.full((5, 5), 7, np.uint8), f"memory://{name}")


def test_prefixes_and_patterns_of_any_file_system():
    put("src1/a.png", "src1/sub/b.png", "src1/sub/deep/c.png", "src1/.d.png")
    assert below("memory://src1/") == ["a.png"]
    assert below("memory://src1") == ["a.png"]
    assert below("memory://src1/", recursive=True) == ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert below("memory://src1/*.png") == ["a.png"]
    assert below("memory://src1/**/*.png") == ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert below("memory://src1/s*/b.png") == ["sub/b.png"]
    with pytest.raises(ParameterError, match="holds no image"):
        below("memory://src1/none/")
    with pytest.raises(ParameterError, match="no file matches"):
        below("memory://src1/*.tif")


def test_buckets_are_listed_page_by_page(s3, monkeypatch):
    import s3fs

    bucket = s3.bucket()
    for name in ["in/a.png", "in/b.JPG", "in/notes.txt", "in/sub/c.png", "in/.d.png", "other.png"]:
        s3.client.put_object(Bucket=bucket, Key=name, Body=b"x")
    pages = []
    call = s3fs.S3FileSystem.call_s3

    def small(self, method, **options):
        pages.append(options)
        return call(self, method, **options, MaxKeys=2)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", small)
    assert below(f"s3://{bucket}/in/") == ["a.png", "b.JPG"]
    assert below(f"s3://{bucket}/in") == ["a.png", "b.JPG"]
    assert below(f"s3://{bucket}/in/", recursive=True) == ["a.png", "b.JPG", "sub/c.png"]
    assert below(f"s3://{bucket}/in/*.png") == ["a.png"]
    assert below(f"s3://{bucket}/**/*.png", recursive=True)[-2:] == ["in/sub/c.png", "other.png"]
    assert below(f"s3://{bucket}/*.png") == ["other.png"]
    assert len(pages) > 8
    first = next(find_sources(f"s3://{bucket}/in/"))
    assert len(first.version) == 32
    s3.client.put_object(Bucket=bucket, Key="in/a.png", Body=b"y")
    assert next(find_sources(f"s3://{bucket}/in/")).version != first.version


def test_what_was_read_from_a_bucket_has_its_tag(s3, tmp_path):
    bucket = s3.bucket()
    di.save_image(np.full((5, 5), 7, np.uint8), f"s3://{bucket}/a.png")
    (source,) = find_sources(f"s3://{bucket}/*.png")
    outcome = do(Job(source.url, (str(tmp_path / "a.png"),), source.shown), Work((Output("invert"),)))
    assert (outcome.reason, outcome.version) == ("", source.version)


def test_an_archive_may_lie_in_a_bucket(s3, tmp_path):
    bucket = s3.bucket()
    di.save_image(np.full((5, 5), 7, np.uint8), tmp_path / "a.png")
    pack(tmp_path / "photos.zip", dict.fromkeys(["b/a.png", "a.png"], (tmp_path / "a.png").read_bytes()))
    s3.client.upload_file(str(tmp_path / "photos.zip"), bucket, "in/photos.zip")
    options = {"anon": False}
    report = di.process_images(
        f"s3://{bucket}/in/photos.zip", di.invert(), tmp_path / "out", threads=1, storage_options=options
    )
    assert (report.done, report.failures) == (2, [])
    assert (di.read_image(tmp_path / "out" / "b" / "a.png") == 248).all()


def test_a_missing_bucket_is_told(s3):
    with pytest.raises(DaskimgError, match="no-such-bucket"):
        below("s3://no-such-bucket-here/a/*.png")


def test_sources_are_found_lazily(tmp_path):
    def names():
        yield Path(tmp_path / "a.png")
        raise AssertionError("asked for too early")

    assert next(find_sources(names())).below == "a.png"


def test_names_in_archives_are_those_that_were_meant(tmp_path):
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as packed:
        packed.writestr("xxxxxxx.png", b"x")
    # Info-ZIP on Linux writes UTF-8 and does not say so.
    data = (tmp_path / "plain.zip").read_bytes().replace(b"xxxxxxx.png", "münzen.png".encode())
    (tmp_path / "umlaut.zip").write_bytes(data)
    (source,) = find_sources(tmp_path / "umlaut.zip")
    assert source.below == "münzen.png"
    assert source.shown.endswith("umlaut.zip/münzen.png")
