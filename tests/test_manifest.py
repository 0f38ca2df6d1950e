"""The manifest: the same call does only what is left, and notices what changed."""

import os
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import daskimg as di
from daskimg.batch import process_images, retry_images
from daskimg.batch.manifest import ORDINARY, Manifest, read_rows
from daskimg.batch.sources import find_sources
from daskimg.batch.survey import Survey
from daskimg.batch.targets import Job
from daskimg.errors import EnvironmentProblem, ImageFileError, ParameterError
from daskimg.progress import Progress

STEPS = di.gaussian_blur(ksize=5)
MANIFEST = Path(".daskimg", "manifest.sqlite")


@pytest.fixture
def many(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(6):
        di.save_image(np.full((9, 11), number + 1, np.uint8), folder / f"{number}.png")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def written(folder):
    """What tells that a result was written anew: its inode and time."""
    return {
        path.relative_to(folder): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".daskimg" not in path.parts
    }


def anew(folder, before):
    return sorted(str(path) for path, mark in written(folder).items() if before.get(path) != mark)


def states(out):
    return {Path(row.source).name: row.state for row in read_rows(out / MANIFEST)}


# What is left to do


def test_what_is_done_is_not_done_again_and_no_cluster_is_started_for_it(many, out):
    def start():
        raise AssertionError("started")

    first = process_images(many, STEPS, out)
    assert (first.total, first.done, first.before) == (6, 6, 0)
    before = written(out)
    second = process_images(many, STEPS, out, cluster=start)
    assert (second.total, second.done, second.before, second.ok, second.notes) == (6, 0, 6, True, [])
    assert "6 images done before" in second.headline
    assert anew(out, before) == []


def test_new_files_are_done_and_no_others(many, out):
    process_images(many, STEPS, out)
    before = written(out)
    di.save_image(np.zeros((5, 5), np.uint8), many / "new.png")
    report = process_images(many, STEPS, out)
    assert (report.done, report.before) == (1, 6)
    assert anew(out, before) == ["new.png"]


@pytest.mark.parametrize(
    ("pipeline", "options"), [(di.gaussian_blur(ksize=7), {}), (STEPS, {"metadata": "none"}), (STEPS, {"frame": 0})]
)
def test_another_pipeline_or_option_makes_everything_new(many, out, pipeline, options):
    process_images(many, STEPS, out)
    before = written(out)
    report = process_images(many, pipeline, out, **options)
    assert report.done == 6
    assert report.notes == ["6 done before are done anew, because the pipeline or its options changed"]
    assert "6 done before are done anew" in str(report)
    assert len(anew(out, before)) == 6
    assert process_images(many, pipeline, out, **options).before == 6


def test_a_source_that_changed_is_done_anew(many, out):
    process_images(many, STEPS, out)
    before = written(out)
    di.save_image(np.full((9, 11), 200, np.uint8), many / "3.png", overwrite=True)
    os.utime(many / "3.png", (1, 1))
    report = process_images(many, STEPS, out)
    assert report.notes == ["1 done before is done anew, because the source changed"]
    assert anew(out, before) == ["3.png"]
    assert (di.read_image(out / "3.png") == 200).all()


def test_results_that_are_gone_or_have_another_size_are_made_anew(many, out):
    process_images(many, STEPS, out)
    before = written(out)
    (out / "1.png").unlink()
    (out / "2.png").write_bytes(b"cut")
    report = process_images(many, STEPS, out)
    assert report.notes == ["2 done before are done anew, because the results were changed or removed"]
    assert anew(out, before) == ["1.png", "2.png"]
    assert (di.read_image(out / "2.png") == 3).all()


def test_results_of_other_names_are_made_beside_those_that_exist(many, out):
    process_images(many, STEPS, out)
    report = process_images(many, STEPS, out, name="{stem}-new")
    assert (report.done, len(written(out))) == (6, 12)


def test_all_is_done_anew_without_resume(many, out):
    process_images(many, STEPS, out)
    before = written(out)
    with pytest.raises(ParameterError, match="exist"):
        process_images(many, STEPS, out, resume=False)
    assert process_images(many, STEPS, out, resume=False, overwrite=True).done == 6
    assert len(anew(out, before)) == 6


def test_a_folder_of_results_may_move(many, out, tmp_path):
    process_images(many, STEPS, out)
    out.rename(tmp_path / "moved")
    assert process_images(many, STEPS, tmp_path / "moved").before == 6


def test_several_results_of_an_image_are_one_file_to_do(many, out):
    outputs = [{"pipeline": STEPS, "name": "{stem}-a"}, {"pipeline": "invert", "name": "{stem}-b", "format": "webp"}]
    assert process_images(many, None, out, outputs=outputs).done == 6
    before = written(out)
    (out / "4-b.webp").unlink()
    report = process_images(many, None, out, outputs=outputs)
    assert (report.done, report.before) == (1, 5)
    assert anew(out, before) == ["4-a.png", "4-b.webp"]


# What others wrote


def test_what_others_wrote_is_refused_skipped_or_replaced(many, out):
    out.mkdir()
    (out / "2.png").write_bytes(b"mine")
    with pytest.raises(ParameterError, match=r"2\.png' exists already.*--skip-existing"):
        process_images(many, STEPS, out)
    assert sorted(path.name for path in out.iterdir()) == ["2.png"]
    report = process_images(many, STEPS, out, overwrite="skip")
    assert (report.done, report.skipped, report.ok) == (5, 1, True)
    assert states(out)["2.png"] == "skipped"
    with pytest.raises(ParameterError, match="exist"):
        process_images(many, STEPS, out)
    assert (out / "2.png").read_bytes() == b"mine"
    assert process_images(many, STEPS, out, overwrite=True).done == 1
    assert (di.read_image(out / "2.png") == 3).all()


def test_a_result_belongs_to_the_last_source_that_it_was_made_of(many, out, tmp_path):
    process_images(many, STEPS, out)
    other = tmp_path / "other"
    other.mkdir()
    di.save_image(np.full((9, 11), 77, np.uint8), other / "1.png")
    with pytest.raises(ParameterError, match="exist"):
        process_images(other, STEPS, out)
    assert process_images(other, STEPS, out, overwrite=True).done == 1
    with pytest.raises(ParameterError, match=r"1\.png' exists already"):
        process_images(many, STEPS, out)


def test_results_are_no_inputs_that_may_be_replaced(many, out):
    process_images(many, STEPS, out)
    before = written(out)
    with pytest.raises(ParameterError, match="would overwrite an input"):
        process_images(out, STEPS, out, overwrite=True)
    assert anew(out, before) == []


def test_names_that_differ_in_case_are_one_result_where_the_system_says_so(tmp_path, out, monkeypatch):
    for name in ("a.png", "A.png"):
        di.save_image(np.zeros((5, 5), np.uint8), tmp_path / name)
    monkeypatch.setattr("daskimg.batch.targets.sys.platform", "darwin")
    with pytest.raises(ParameterError, match="would both become"):
        process_images([tmp_path / "a.png", tmp_path / "A.png"], STEPS, out)
    assert not out.exists()


# Failures, and trying again


def test_failures_are_tried_again_and_counted(many, out):
    (many / "bad.png").write_text("no image")
    report = process_images(many, STEPS, out, retries=2)
    assert (report.done, report.failed) == (6, 1)
    assert report.failures[0].attempts == 3
    assert process_images(many, STEPS, out).failures[0].attempts == 1  # a new run tries it, and no other


def test_what_fails_now_and_then_works_in_the_end(many, out):
    seen = []

    def mend(state):
        seen.append((Path(state.source).name, state.state))
        if state.state == "failed":
            di.save_image(np.zeros((5, 5), np.uint8), many / "bad.png", overwrite=True)

    (many / "bad.png").write_text("no image")
    report = process_images(many, STEPS, out, retries=1, on_file=mend, threads=1)
    assert (report.done, report.failures) == (7, [])
    assert [state for name, state in seen if name == "bad.png"] == ["under way", "failed", "under way", "done"]
    assert [state for name, state in seen if name == "0.png"] == ["under way", "done"]


def test_retry_takes_pipeline_and_options_from_the_manifest(many, out):
    for name in ("bad.png", "worse.png"):
        (many / name).write_text("no image")
    process_images(many, "invert", out, format="webp", lossless=True)
    before = written(out)
    di.save_image(np.zeros((5, 5), np.uint8), many / "bad.png", overwrite=True)
    report = retry_images(out)
    assert (report.total, report.done, report.failed) == (2, 1, 1)
    assert anew(out, before) == ["bad.webp"]
    assert (di.read_image(out / "bad.webp") == 255).all()
    report = retry_images(out)
    assert (report.total, report.failed) == (1, 1)


def test_retry_says_what_it_needs(many, out, tmp_path):
    with pytest.raises(ParameterError, match="holds no manifest"):
        retry_images(many)
    (many / "bad.png").write_text("no image")
    mark = np.zeros((1200, 1300, 3), np.uint8)
    process_images(many / "bad.png", di.overlay(mark=mark), out)
    with pytest.raises(ParameterError, match="no text form; call process_images"):
        retry_images(out)


def test_bad_options_are_named(many, out):
    for options in ({"retries": -1}, {"group": 0}, {"overwrite": "all"}):
        with pytest.raises(ParameterError, match=next(iter(options))):
            process_images(many, STEPS, out, **options)
    assert not out.exists()


# The report


def test_the_table_has_a_row_for_each_file(many, out):
    (many / "bad.png").write_text("no image")
    table = process_images(many, STEPS, out).to_pandas().set_index("source")
    assert len(table) == 7
    good, bad = (table.loc[next(name for name in table.index if name.endswith(end))] for end in ("/0.png", "bad.png"))
    assert (good.state, good.targets, good.pixels, good.attempts) == ("done", ("0.png",), 99, 1)
    assert good.bytes == (out / "0.png").stat().st_size
    assert good.seconds > 0
    assert (bad.state, bad.pixels) == ("failed", 0)
    assert bad.reason.startswith("is no image")


def test_results_at_urls_and_in_one_file_have_a_table_too(many, tmp_path):
    report = process_images(many, STEPS, "memory://manifest/out")
    assert report.to_pandas().state.tolist() == ["done"] * 6
    path = tmp_path / "one" / "new.png"
    assert process_images(many / "1.png", STEPS, path).to_pandas().state.tolist() == ["done"]
    assert [one.name for one in path.parent.iterdir()] == ["new.png"]


def test_a_report_holds_some_failures_and_counts_all(out, tmp_path, monkeypatch):
    monkeypatch.setattr("daskimg.batch.running.HELD", 3)
    report = process_images([tmp_path / f"{number}.png" for number in range(5)], STEPS, out)
    assert (report.failed, len(report.failures), len(report.to_pandas())) == (5, 3, 5)


def test_progress_begins_where_the_last_run_ended(many, out):
    process_images(many, STEPS, out)
    (out / "1.png").unlink()
    seen = []
    process_images(many, STEPS, out, progress=seen.append)
    shown = [one for one in seen if not one.looking]
    assert (shown[0].done, shown[0].before, shown[0].total) == (5, 5, 6)
    assert shown[-1].done == 6
    assert str(Progress(0, 0, 1200, 0.0, looking=True)) == "1200 images found"
    assert Progress(60, 0, 100, 5.0, before=50).left == 20
    assert str(Progress(1, 0, 2, 1.0, file="big.tif", part=0.3)).endswith("big.tif 30 %")


# What is written down


def test_names_that_are_no_unicode_are_kept(tmp_path, out):
    name = b"b\xff d.png".decode(errors="surrogateescape") if sys.platform == "linux" else "b d.png"
    (tmp_path / "in").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "in" / name)
    assert process_images(tmp_path / "in", STEPS, out).done == 1
    report = process_images(tmp_path / "in", STEPS, out)
    assert report.before == 1
    assert [row.targets for row in read_rows(out / MANIFEST)] == [(name,)]


@pytest.mark.parametrize(
    "name", ["-rf.png", " sp ace .png", "ünïcødé 图.png", "new\nline.png", "a" * 251 + ".png", "''"]
)
def test_odd_names_are_known_again(tmp_path, out, name):
    (tmp_path / "in").mkdir()
    di.save_image(np.zeros((5, 5), np.uint8), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "in" / name)
    assert process_images(tmp_path / "in" / name, STEPS, out).done == 1
    assert process_images(tmp_path / "in" / name, STEPS, out).before == 1


def test_secrets_in_urls_are_not_written_down(out):
    url = "http://user:hunter2@127.0.0.1:9/a.png?token=sesame"
    (source,) = find_sources(url)
    job = Job(source.url, (f"{out}{os.sep}a.png",), source.shown)
    with Manifest(f"{out}{os.sep}", out / MANIFEST) as manifest:
        survey = Survey(manifest)
        survey.look([job], "a digest")
        manifest.keep()
        manifest.begin("a digest", "", here=True)
        survey.settle()
        assert [one.source for _, one in manifest.waiting(ORDINARY, False)] == [url]
    kept = b"".join(path.read_bytes() for path in (out / ".daskimg").iterdir())
    assert b"127.0.0.1:9/a.png" in kept
    assert b"hunter2" not in kept
    assert b"sesame" not in kept


def test_a_manifest_that_is_damaged_is_named(many, out):
    process_images(many, STEPS, out)
    (out / MANIFEST).write_bytes(b"no database" * 100)
    with pytest.raises(ImageFileError, match=r"manifest\.sqlite' cannot be used"):
        process_images(many, STEPS, out)


def test_rows_that_are_kept_elsewhere_are_taken_over(many, out, tmp_path):
    process_images(many, STEPS, out)
    rows = list(read_rows(out / MANIFEST))
    told = []
    with Manifest(f"{out}{os.sep}", tmp_path / "copy.sqlite", told.extend) as copy:
        copy.keep()
        copy.load(rows, "a digest", "")
        copy.load(rows[:1], "another digest", "")
    assert sorted(read_rows(tmp_path / "copy.sqlite")) == sorted(rows)
    assert told == []


def test_a_million_names_cost_no_memory(tmp_path):
    """The jobs pass by; what is held does not grow with them."""

    def peak(count):
        jobs = (Job(f"/in/{n}.png", (f"{tmp_path}{os.sep}{n}.png",), f"{n}.png", "1-1") for n in range(count))
        with Manifest(f"{tmp_path}{os.sep}", tmp_path / "manifest.sqlite") as manifest:
            tracemalloc.start()
            survey = Survey(manifest)
            survey.look(jobs, "digest")
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert survey.total == count
        return most

    assert peak(20_000) < 2 * peak(4_000)


# One run at a time


def test_a_second_run_at_the_same_time_is_refused(many, out):
    code = "import sys, daskimg as di; di.process_images(sys.argv[1], 'invert', sys.argv[2], threads=1)"
    refused = []

    def meanwhile(progress):
        if refused or not progress.done:
            return
        with pytest.raises(EnvironmentProblem, match="while a run uses it"):
            list(read_rows(out / MANIFEST))
        with pytest.raises(EnvironmentProblem, match=rf"another run works on .*process {os.getpid()} on ") as here:
            process_images(many, STEPS, out)
        done = subprocess.run(
            [sys.executable, "-c", code, str(many), str(out)], capture_output=True, text=True, timeout=60
        )
        refused.extend([here, done])

    assert process_images(many, STEPS, out, threads=1, progress=meanwhile).done == 6
    assert f"process {os.getpid()} on " in refused[1].stderr
    assert process_images(many, STEPS, out).before == 6


def test_cancelling_leaves_nothing_under_way(many, out):
    cancel = threading.Event()
    report = process_images(
        many, STEPS, out, cancel=cancel, group=1, threads=1, progress=lambda p: p.done and cancel.set()
    )
    assert report.cancelled
    found = states(out)
    assert set(found.values()) == {"done", "waiting"}
    assert sum(state == "done" for state in found.values()) == report.done == len(written(out))
    assert sorted(path.name for path in (out / ".daskimg").iterdir()) == ["manifest.sqlite"]
    rest = process_images(many, STEPS, out)
    assert (rest.before, rest.done) == (report.done, 6 - report.done)


def test_the_manifest_is_a_plain_database(many, out):
    process_images(many, STEPS, out)
    base = sqlite3.connect(out / MANIFEST)
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert base.execute("SELECT state, count(*) FROM files GROUP BY state").fetchall() == [("done", 6)]
    base.close()
