"""Many files: each is done where it runs, fails by itself, and nothing is overwritten that was not meant to be."""

import os
import pickle
import threading
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import pytest

import daskimg as di
from daskimg.batch import Failure, Report, places, process_images
from daskimg.batch.outputs import Output
from daskimg.batch.targets import Job
from daskimg.batch.task import Work, do, do_group
from daskimg.errors import EnvironmentProblem, ImageFileError, ParameterError, UnknownNameError
from daskimg.parameters import Range
from daskimg.progress import Progress

STEPS = di.gaussian_blur(ksize=5) | di.invert()


@di.operation
def fail_on_dark(image, *, level: Annotated[int, Range(0, 255)] = 1):
    """Raise what no operation of daskimg raises, if the image is dark."""
    if image.max() < level:
        raise ZeroDivisionError("a fault in an operation")
    return image.copy()


@di.operation
def end_process_on_dark(image):
    """End the process that works on a dark image, as the system does when memory runs out."""
    if image.max() < 1:
        import os

        os._exit(1)
    return image.copy()


@pytest.fixture
def many(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        di.save_image(np.full((9, 11), number + 1, np.uint8), folder / f"{number:02}.png")
    return folder


def names(folder):
    """The files in a folder, but for what daskimg keeps beside results."""
    return sorted(path.name for path in Path(folder).iterdir() if path.name != ".daskimg")


# What is done, and where


@pytest.mark.parametrize("place", ["threads", "cluster"])
def test_pixels_are_those_of_the_pipeline(photos, tmp_path, request, place):
    options = {"threads": 2} if place == "threads" else {"cluster": request.getfixturevalue("cluster")}
    report = process_images(photos, STEPS, tmp_path / "out", format="png", **options)
    assert (report.total, report.done, report.failures, report.ok) == (3, 3, [], True)
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    for path in photos.iterdir():
        expected = STEPS(di.read_image(path))
        np.testing.assert_array_equal(di.read_image(tmp_path / "out" / f"{path.stem}.png"), expected)
    assert place[:-1] in report.where or "2 workers of tcp://127.0.0.1" in report.where


def test_a_client_an_address_and_a_function_name_a_cluster_too(photos, tmp_path, client, cluster):
    import contextlib

    for number, one in enumerate([client, cluster.scheduler_address, lambda: contextlib.nullcontext(cluster)]):
        assert process_images(photos, STEPS, tmp_path / str(number), cluster=one).done == 3
    assert client.status == "running"


def test_the_active_client_is_used_and_threads_where_there_is_none(photos, tmp_path, cluster):
    from distributed import Client

    assert "threads in this process" in process_images(photos, STEPS, tmp_path / "1").where
    with Client(cluster):
        assert cluster.scheduler_address in process_images(photos, STEPS, tmp_path / "2").where
        assert "thread" in process_images(photos, STEPS, tmp_path / "3", threads=1).where


def test_the_cluster_is_not_started_when_something_is_wrong(photos, tmp_path):
    def start():
        raise AssertionError("started")

    with pytest.raises(ParameterError):
        process_images(photos, STEPS, photos, overwrite=True, cluster=start)


def test_pixels_never_come_back_from_the_task(photos, tmp_path):
    outcome = do(Job(str(photos / "a.png"), (str(tmp_path / "a.png"),), "a.png"), Work((Output(STEPS),)))
    assert outcome.pixels == 60 * 80
    assert len(pickle.dumps(outcome)) < 300


def test_a_large_bound_image_and_an_operation_defined_here_reach_the_workers(photos, tmp_path, cluster):
    mark = np.random.default_rng(0).integers(0, 255, (600, 700, 3), np.uint8)
    steps = di.overlay(mark=mark) | fail_on_dark()
    assert process_images(photos / "a.png", steps, tmp_path / "out", cluster=cluster).failures == []
    np.testing.assert_array_equal(di.read_image(tmp_path / "out" / "a.png"), steps(di.read_image(photos / "a.png")))


def test_text_and_json_are_pipelines_too(photos, tmp_path):
    for number, text in enumerate([STEPS.to_text(), STEPS.to_json()]):
        assert process_images(photos / "a.png", text, tmp_path / str(number)).ok
        np.testing.assert_array_equal(
            di.read_image(tmp_path / str(number) / "a.png"), STEPS(di.read_image(photos / "a.png"))
        )


def test_a_bounded_number_is_under_way(many, tmp_path, monkeypatch):
    lock, now, most, out = threading.Lock(), 0, 0, []

    def slow(*arguments):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        result = do_group(*arguments)
        with lock:
            now -= 1
        return result

    submit = places.Threads.submit

    def counted(self, jobs, **options):
        out.extend(jobs)
        return submit(self, jobs, **options)

    monkeypatch.setattr(places, "do_group", slow)
    monkeypatch.setattr(places.Threads, "submit", counted)
    seen = []
    report = process_images(
        many, STEPS, tmp_path / "out", threads=3, group=1, progress=lambda p: seen.append(len(out) - p.done)
    )
    assert report.done == 20
    assert most <= 3
    assert max(seen) <= 3 * places.AHEAD


def test_small_files_are_done_in_groups_that_grow(tmp_path, monkeypatch):
    (tmp_path / "many").mkdir()
    for number in range(300):
        di.save_image(np.full((9, 11), 7, np.uint8), tmp_path / "many" / f"{number:03}.png")
    sizes = []
    submit = places.Threads.submit
    monkeypatch.setattr(
        places.Threads, "submit", lambda self, jobs, **how: sizes.append(len(jobs)) or submit(self, jobs, **how)
    )
    assert process_images(tmp_path / "many", STEPS, tmp_path / "out", threads=2).done == 300
    assert sizes[:4] == [1, 1, 1, 1]  # what is first is soon there
    assert 4 < max(sizes) <= 64
    assert sizes[-1] < max(sizes)  # all threads end together
    sizes.clear()
    assert process_images(tmp_path / "many", STEPS, tmp_path / "2", threads=2, group=7).done == 300
    assert set(sizes[:-1]) == {7}


@pytest.mark.parametrize(("suffix", "memory", "share"), [(".png", 3 << 28, 0.6), (".tif", 2 << 30, 0.1)])
def test_images_that_need_more_than_their_share_are_done_alone_or_by_chunk(
    photos, tmp_path, monkeypatch, suffix, memory, share
):
    large = np.random.default_rng(8).integers(0, 256, (200, 190, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    di.save_image(large, photos / "large.png")  # 46 MB, of which five are needed at once
    if suffix == ".tif":  # a plan counts what this process has taken already
        total = memory + psutil.Process().memory_info().rss
        memory, share = total, share * memory / total
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", memory)
    monkeypatch.setattr(places, "SHARE", share)
    seen = []
    report = process_images(
        photos, STEPS, tmp_path / "out", threads=4, format=suffix[1:].replace("tif", "tiff"), progress=seen.append
    )
    assert (report.done, report.failures) == (4, [])
    by_chunk = {Path(one.file).name for one in seen if one.file}
    assert by_chunk == ({"large.png"} if suffix == ".tif" else set())
    for path in photos.iterdir():
        result = di.read_image(tmp_path / "out" / f"{path.stem}{suffix}")
        np.testing.assert_array_equal(result, STEPS(di.read_image(path)))


# Failures


@pytest.mark.parametrize("place", ["threads", "cluster"])
def test_a_file_that_is_no_image_is_named_and_the_others_are_done(photos, bad_file, tmp_path, request, place):
    options = {"threads": 2} if place == "threads" else {"cluster": request.getfixturevalue("cluster")}
    report = process_images(photos, STEPS, tmp_path / "out", **options)
    assert (report.total, report.done, report.ok) == (4, 3, False)
    ((source, reason, attempts),) = report.failures
    assert source.endswith("bad.png")
    assert attempts == 1
    assert reason.startswith("is no image that daskimg knows")
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "c.webp"]


def test_a_missing_file_is_its_own_failure(photos, tmp_path):
    report = process_images([photos / "a.png", photos / "gone.png"], STEPS, tmp_path / "out")
    assert report.done == 1
    assert [Path(one.source).name for one in report.failures] == ["gone.png"]
    assert "no such file" in report.failures[0].reason


def test_a_fault_in_an_operation_is_one_images_failure_with_its_traceback(photos, tmp_path):
    di.save_image(np.zeros((5, 5), np.uint8), photos / "dark.png")
    report = process_images(photos, fail_on_dark(level=1), tmp_path / "out")
    assert report.done == 3
    (failure,) = report.failures
    assert failure.reason == "ZeroDivisionError: a fault in an operation"
    assert "Traceback" in report.details[failure.source]


def test_lack_of_memory_is_said_in_words(photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("daskimg.batch.task.loaded", full)
    report = process_images(photos / "a.png", STEPS, tmp_path / "out")
    assert "not enough memory" in report.failures[0].reason


def test_a_worker_that_dies_costs_one_image(photos, tmp_path, cluster, client):
    di.save_image(np.zeros((5, 5), np.uint8), photos / "dark.png")
    before = cluster.scheduler.allowed_failures
    cluster.scheduler.allowed_failures = 0
    try:
        report = process_images(sorted(photos.iterdir()), end_process_on_dark(), tmp_path / "out", cluster=client)
    finally:
        cluster.scheduler.allowed_failures = before
    failed = {Path(one.source).name: one.reason for one in report.failures}
    assert list(failed) == ["dark.png"]
    assert "died" in failed["dark.png"]
    assert report.done == 3  # one that waited behind it on the same worker too
    client.wait_for_workers(2, timeout=60)


def test_a_cluster_that_is_gone_ends_the_wait(photos, tmp_path, client, monkeypatch):
    place = places.OnCluster(client, Work((Output(STEPS),)))
    place.patience = 0.0
    monkeypatch.setattr(client, "nthreads", dict)
    place._asked = -10.0
    with pytest.raises(EnvironmentProblem, match="workers have been gone"):
        _ = place.window


def test_what_a_format_cannot_hold_is_said(photos, tmp_path):
    report = process_images(photos / "a.png", di.sobel(dx=1), tmp_path / "out")
    assert "PNG cannot hold int16" in report.failures[0].reason
    assert names(tmp_path / "out") == []


# What is refused before anything begins


def test_two_inputs_with_one_result_are_refused(photos, tmp_path):
    (photos / "sub").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), photos / "sub" / "a.png")
    with pytest.raises(ParameterError, match=r"a\.png' and .*would both become"):
        process_images([photos / "a.png", photos / "sub" / "a.png"], STEPS, tmp_path / "out")
    di.save_image(np.zeros((5, 5), np.uint8), photos / "a.jpg")
    with pytest.raises(ParameterError, match="would both become"):
        process_images(photos, STEPS, tmp_path / "out", format="png")
    assert not (tmp_path / "out").exists()


def test_the_same_input_twice_is_done_once(photos, tmp_path):
    assert process_images([photos, photos / "a.png", str(photos / "*.png")], STEPS, tmp_path / "out").total == 3


def test_results_that_exist_are_kept_unless_overwrite_is_set(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.jpg").write_bytes(b"mine")
    with pytest.raises(ParameterError, match=r"b\.jpg' exists already.*--overwrite"):
        process_images(photos, STEPS, out)
    assert names(out) == ["b.jpg"]
    assert (out / "b.jpg").read_bytes() == b"mine"
    assert process_images(photos, STEPS, out, overwrite=True).ok
    assert di.read_image(out / "b.jpg").shape == (60, 80, 3)


@pytest.mark.parametrize("way", ["same folder", "link to the folder", "hard link"])
def test_inputs_are_never_overwritten(photos, tmp_path, way):
    before = (photos / "a.png").read_bytes()
    to = photos
    if way == "link to the folder":
        to = tmp_path / "link"
        try:
            to.symlink_to(photos, target_is_directory=True)
        except OSError:
            pytest.skip("links are not allowed here")
    if way == "hard link":
        to = tmp_path / "other"
        to.mkdir()
        os.link(photos / "a.png", to / "a.png")
    with pytest.raises(ParameterError, match="would overwrite an input"):
        process_images(photos / "a.png", STEPS, to, overwrite=True)
    assert (photos / "a.png").read_bytes() == before


def test_results_may_lie_beside_inputs_under_another_name(photos):
    assert process_images(photos, STEPS, photos, name="{stem}-new").done == 3
    assert "a-new.png" in names(photos)


@pytest.mark.parametrize("name", ["new", "../{stem}", "x/{stem}", "..\\{stem}", ""])
def test_names_are_plain_and_hold_the_stem(photos, tmp_path, name):
    with pytest.raises(ParameterError, match="name="):
        process_images(photos, STEPS, tmp_path / "out", name=name)


def test_a_folder_that_cannot_be_written_to_is_said_before_work(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageFileError, match=r"output folder .* cannot be written to"):
        process_images(photos, fail_on_dark(level=255), tmp_path / "file" / "out")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.name == "posix" and os.geteuid() != 0:  # nothing is locked for root
        with pytest.raises(ImageFileError, match="permission denied"):
            process_images(photos, STEPS, folder)


def test_bad_options_are_refused(photos, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ParameterError, match="quality must be"):
        process_images(photos, STEPS, out, format="webp", quality=300)
    with pytest.raises(ParameterError, match="PNG has no quality"):
        process_images(photos, STEPS, out, quality=80)
    with pytest.raises(UnknownNameError, match=r"'pgn'.*png"):
        process_images(photos, STEPS, out, format="pgn")
    with pytest.raises(ParameterError, match="threads=0"):
        process_images(photos, STEPS, out, threads=0)
    with pytest.raises(ParameterError, match="exclude each other"):
        process_images(photos, STEPS, out, threads=1, cluster="tcp://127.0.0.1:1")
    with pytest.raises(ParameterError, match="names one file, but there are several"):
        process_images(photos, STEPS, tmp_path / "out.png")
    with pytest.raises(ParameterError, match="contradicts"):
        process_images(photos / "a.png", STEPS, tmp_path / "out.png", format="jpeg")
    with pytest.raises(UnknownNameError, match="can be read but not written"):
        process_images(photos / "a.png", STEPS, tmp_path / "out.gif")
    with pytest.raises(ParameterError, match="no images"):
        process_images([], STEPS, out)
    with pytest.raises(ParameterError, match="no file matches"):
        process_images(str(photos / "*.nix"), STEPS, out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="holds no image"):
        process_images(tmp_path / "empty", STEPS, out)
    assert not out.exists()


# Which files are meant, and where they go


def test_a_single_image_may_go_to_a_file(photos, tmp_path):
    assert process_images(photos / "a.png", STEPS, tmp_path / "new.jpg").ok
    assert process_images(photos / "a.png", STEPS, f"{tmp_path}/folder.jpg/").ok
    assert (tmp_path / "new.jpg").is_file()
    assert names(tmp_path / "folder.jpg") == ["a.png"]


def test_folders_inside_count_only_if_recursive_and_stay_apart(photos, tmp_path):
    (photos / "sub").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), photos / "sub" / "a.png")
    (photos / ".hidden.png").touch()
    (photos / "notes.txt").touch()
    assert process_images(photos, STEPS, tmp_path / "1").total == 3
    assert process_images(photos, STEPS, tmp_path / "2", recursive=True).total == 4
    assert process_images(str(photos / "**" / "*.png"), STEPS, tmp_path / "3").total == 2
    assert (tmp_path / "2" / "sub" / "a.png").is_file()
    assert (tmp_path / "3" / "sub" / "a.png").is_file()


def test_results_inside_the_inputs_folder_are_no_inputs_of_a_second_run(photos):
    assert process_images(photos, STEPS, photos / "out", recursive=True).total == 3
    assert process_images(photos, STEPS, photos / "out", recursive=True, overwrite=True).total == 3


@pytest.mark.parametrize("name", ["-rf.png", "sp ace.png", "ünïcødé 图.png", "a[1].png", "#%*.png", "x.tar.png"])
def test_odd_names_are_only_names(tmp_path, name):
    if os.name == "nt" and "*" in name:
        pytest.skip("Windows has no such names")
    (tmp_path / "in").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "in" / name)
    assert process_images(str(tmp_path / "in" / name), STEPS, tmp_path / "1").ok
    assert process_images(tmp_path / "in", STEPS, tmp_path / "2").ok
    assert names(tmp_path / "1") == names(tmp_path / "2") == [name]


def test_a_pattern_means_a_file_of_that_very_name_first(tmp_path):
    for name in ("a[1].png", "a1.png"):
        di.save_image(np.zeros((5, 5), np.uint8), tmp_path / name)
    assert process_images(str(tmp_path / "a[1].png"), STEPS, tmp_path / "out").total == 1
    assert names(tmp_path / "out") == ["a[1].png"]


def test_what_cannot_be_written_becomes_png(photos, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((5, 5), np.uint8)).save(photos / "d.gif")
    process_images(photos / "d.gif", STEPS, tmp_path / "out")
    assert names(tmp_path / "out") == ["d.png"]


def test_frames_are_chosen(tmp_path):
    from PIL import Image

    pages = [Image.fromarray(np.full((5, 5), level, np.uint8)) for level in (10, 20)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert "2 frames" in process_images(tmp_path / "pages.tif", di.invert(), tmp_path / "1").failures[0].reason
    assert process_images(tmp_path / "pages.tif", di.invert(), tmp_path / "2", frame=1).ok
    assert (di.read_image(tmp_path / "2" / "pages.tif") == 235).all()


def test_urls_are_inputs_and_outputs(tmp_path):
    di.save_image(np.full((5, 5), 7, np.uint8), "memory://batch/in/a.png")
    di.save_image(np.full((5, 5), 8, np.uint8), "memory://batch/in/b.png")
    report = process_images("memory://batch/in/*.png", di.invert(), "memory://batch/out")
    assert report.done == 2
    assert (di.read_image("memory://batch/out/b.png") == 247).all()
    assert process_images("memory://batch/in/a.png", di.invert(), "memory://batch/out").ok  # it holds that already
    di.save_image(np.full((5, 5), 9, np.uint8), "memory://batch/other/a.png")
    report = process_images("memory://batch/in/a.png", di.invert(), "memory://batch/other")
    assert "exists already" in report.failures[0].reason
    assert process_images("memory://batch/in/a.png", di.invert(), tmp_path / "new").done == 1


@pytest.mark.parametrize(
    "end", ["..%2F..%2Fevil.png", "%2e%2e%2fevil.png", "..%5Cevil.png", "a/../../evil.png", "evil.png"]
)
def test_names_from_urls_cannot_leave_the_folder(tmp_path, end):
    from daskimg.batch.sources import find_sources
    from daskimg.batch.targets import plan_targets

    for url in (f"https://example.org/{end}", f"s3://bucket/{end}"):
        (job,) = plan_targets(find_sources(url), str(tmp_path / "out"), [Output("invert")])
        assert job.targets == (str(tmp_path / "out" / "evil.png"),)


def test_passwords_in_urls_are_not_shown(tmp_path):
    from daskimg.batch.sources import find_sources

    (source,) = find_sources("https://user:secret@example.org/a.png?token=secret")
    assert "secret" not in source.shown


# Progress, cancelling, the report


def test_progress_counts_and_tells_rate_and_time_left(photos, bad_file, tmp_path):
    seen = []
    process_images(photos, STEPS, tmp_path / "out", threads=1, progress=seen.append)
    assert (seen[0].done, seen[0].total) == (0, 4)
    assert (seen[-1].done, seen[-1].failed, seen[-1].left) == (4, 1, 0)
    halfway = Progress(done=10, failed=0, total=40, seconds=5)
    assert (halfway.rate, halfway.left) == (2, 15)
    assert str(halfway) == "10/40  25 %  2.0 images/s  time left 15 s"


@pytest.mark.parametrize("place", ["threads", "cluster"])
def test_cancelling_stops_between_images(many, tmp_path, request, place):
    options = {"threads": 1} if place == "threads" else {"cluster": request.getfixturevalue("cluster")}
    cancel = threading.Event()
    report = process_images(
        many, STEPS, tmp_path / "out", cancel=cancel, group=1, progress=lambda p: p.done and cancel.set(), **options
    )
    assert report.cancelled
    assert not report.ok
    assert 1 <= report.done < 20
    assert len(names(tmp_path / "out")) == report.done
    assert process_images(many, STEPS, tmp_path / "2", cancel=cancel).done == 0


def test_ctrl_c_is_raised_again_when_nothing_is_half_written(many, tmp_path):
    def interrupt(progress):
        if progress.done == 2 and not progress.stopping:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_images(many, STEPS, tmp_path / "out", threads=1, progress=interrupt)
    written = names(tmp_path / "out")
    assert 2 <= len(written) < 20
    for name in written:
        assert di.read_image(tmp_path / "out" / name).shape == (9, 11)


def test_the_report_says_how_many_how_fast_and_what_failed():
    failures = [Failure("<a>.png", "is broken")] * 30
    report = Report(total=40, done=10, failures=failures, seconds=5, pixels=10**7, to="out", where="2 threads")
    assert "10 of 40 images done in 5 s by 2 threads (2.0 images/s, 2 megapixels/s), 30 failed: out" in str(report)
    assert "<a>.png: is broken" in str(report)
    assert "and 10 more" in str(report)
    assert "&lt;a&gt;.png" in report._repr_html_()
    assert "<a>" not in report._repr_html_()
    assert pickle.loads(pickle.dumps(report)) == report
