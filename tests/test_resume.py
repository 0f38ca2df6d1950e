"""What a batch survives: its process killed, its workers killed, a full disk, files that change."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import daskimg as di
from daskimg.batch import process_images
from daskimg.batch.manifest import read_rows

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that kill")

MANIFEST = Path(".daskimg", "manifest.sqlite")

# A script of a user: an operation that ends the process on one image, as a library at fault does.
POISON = """
import os, sys
from pathlib import Path
import daskimg as di

@di.operation
def fall_on_dark(image):
    if image.max() < 1:
        os.kill(os.getpid(), 9)
    return image.copy()

if __name__ == "__main__":
    seen = []
    report = di.process_images(sys.argv[1], fall_on_dark(), sys.argv[2], threads=2, progress=seen.append)
    print(report, *seen[-1:])
"""


@di.operation
def end_process_on_black(image):
    """End the process that works on a dark image, as the system does when memory runs out."""
    if image.max() < 1:
        import os

        os._exit(1)
    return image.copy()


@di.operation
def wait_a_little(image):
    """Take some time."""
    import time

    time.sleep(0.02)
    return image.copy()


def make_images(folder, count, side=9):
    folder.mkdir()
    for number in range(count):
        di.save_image(np.full((side, side + 2), number % 250 + 1, np.uint8), folder / f"{number:03}.png")
    return folder


def results(out):
    return {path.name: path.stat() for path in out.iterdir() if path.suffix == ".png"} if out.is_dir() else {}


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition(), process.communicate(timeout=10)


@pytest.mark.parametrize("place", [["--threads", "2"], ["--workers", "2"]])
def test_kill_9_in_mid_batch_and_all_is_there_in_the_end(start_daskimg, run_daskimg, tmp_path, place):
    random = np.random.default_rng(3).integers(0, 256, (80, 100), np.uint8)
    (tmp_path / "many").mkdir()
    for number in range(40):
        di.save_image(random, tmp_path / "many" / f"{number:02}.png")
    out = tmp_path / "out"
    arguments = ["run", "non_local_means", "many", "--to", "out", *place]

    process = start_daskimg(*arguments)
    wait_for(lambda: len(results(out)) > 6, process)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that would still finish what they have

    noted = {row.targets[0] for row in read_rows(out / MANIFEST) if row.state == "done"}
    in_flight = {row.targets[0] for row in read_rows(out / MANIFEST) if row.state == "under way"}
    before = results(out)
    assert noted
    assert noted <= set(before) <= noted | in_flight
    assert len(before) < 40
    for name in before:
        assert di.read_image(out / name).shape == (80, 100)  # whole, whatever was going on

    done = run_daskimg(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(noted)} done before" in done.stdout
    after = results(out)
    assert len(after) == 40
    twice = {name for name in before if (after[name].st_ino, after[name].st_mtime_ns) != _mark(before[name])}
    assert twice <= in_flight
    for name in after:
        assert di.read_image(out / name).shape == (80, 100)
    assert [path.name for path in out.iterdir() if path.name.endswith(".part")] == []
    assert "40 images done before" in run_daskimg(*arguments).stdout


def _mark(status):
    return status.st_ino, status.st_mtime_ns


def test_a_file_that_kills_the_process_is_given_up_and_all_others_are_done(tmp_path):
    many = make_images(tmp_path / "many", 40)
    di.save_image(np.zeros((9, 11), np.uint8), many / "dark.png")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(POISON))

    def run():
        command = [sys.executable, str(script), str(many), str(tmp_path / "out")]
        path = os.pathsep.join([str(Path(di.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path}
        )

    codes = [run().returncode for _ in range(3)]
    assert codes == [-signal.SIGKILL] * 3
    last = run()
    assert last.returncode == 0, last.stderr
    assert "40 done before, 1 failed" in last.stdout
    assert "dark.png: the process died each time that it was processed" in last.stdout
    assert len(results(tmp_path / "out")) == 40
    di.save_image(np.full((9, 11), 5, np.uint8), many / "new.png")
    again = run()
    assert again.returncode == 0  # it is not tried again
    assert "1 of 42 images done" in again.stdout
    assert "42/42" in again.stdout


def test_a_file_that_kills_workers_is_reported_and_all_others_are_done(tmp_path, cluster, client):
    many = make_images(tmp_path / "many", 30)
    di.save_image(np.zeros((9, 11), np.uint8), many / "dark.png")
    before = cluster.scheduler.allowed_failures
    cluster.scheduler.allowed_failures = 1
    try:
        report = process_images(many, end_process_on_black(), tmp_path / "out", cluster=client, group=8)
    finally:
        cluster.scheduler.allowed_failures = before
    (failure,) = report.failures
    assert failure.source.endswith("dark.png")
    assert "each worker that began it died" in failure.reason
    assert (report.done, report.total) == (30, 31)
    client.wait_for_workers(2, timeout=60)


def test_the_scheduler_forgets_what_is_done(tmp_path, cluster, client):
    many = make_images(tmp_path / "many", 60)
    most = []

    def look(_):
        most.append(len(cluster.scheduler.tasks))

    report = process_images(many, di.invert(), tmp_path / "out", cluster=client, group=2, progress=look)
    assert report.done == 60
    assert max(most) <= 8  # four groups under way, and as many that are being forgotten


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte, or where none may be mounted, a limit on the size of files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = sys.platform == "linux" and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder, mounted
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_what_is_left_is_done_when_there_is_room(small_disk, tmp_path):
    folder, mounted = small_disk
    many = tmp_path / "many"
    many.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    for number in range(20):
        di.save_image(noise, many / f"{number:02}.png")  # 90 kB each
    code = "import sys, daskimg as di; print(di.process_images(sys.argv[1], 'invert', sys.argv[2], threads=2))"
    limit = "" if mounted else "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, -1)); "
    path = os.pathsep.join([str(Path(di.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", limit + code, str(many), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    said = done.stdout + done.stderr
    assert "no space left" in said.lower() or "file too large" in said.lower() or "full" in said
    whole = results(folder / "out")
    assert len(whole) < 20
    for name in whole:
        np.testing.assert_array_equal(di.read_image(folder / "out" / name), 255 - noise)
    assert not list(folder.rglob("*.part"))
    if mounted:
        subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)
    report = process_images(many, "invert", folder / "out")
    assert report.ok
    assert report.total == 20
    assert report.before >= len(whole) - 4  # what was under way may not have been noted


def test_files_that_change_while_the_batch_runs_are_their_own_trouble(tmp_path):
    many = make_images(tmp_path / "many", 40)

    def spoil(progress):
        if progress.done == 4:
            (many / "037.png").unlink(missing_ok=True)
            (many / "038.png").write_bytes((many / "038.png").read_bytes()[:40])
            di.save_image(np.full((9, 11), 99, np.uint8), many / "039.png", overwrite=True)

    report = process_images(many, wait_a_little(), tmp_path / "out", threads=1, group=1, progress=spoil)
    assert sorted(Path(one.source).name for one in report.failures) == ["037.png", "038.png"]
    assert report.done == 38
    assert (di.read_image(tmp_path / "out" / "039.png") == 99).all()
    (many / "037.png").write_bytes((many / "000.png").read_bytes())
    (many / "038.png").write_bytes((many / "000.png").read_bytes())
    report = process_images(many, wait_a_little(), tmp_path / "out", threads=1)
    assert report.ok
    assert (di.read_image(tmp_path / "out" / "037.png") == 1).all()
    assert (di.read_image(tmp_path / "out" / "039.png") == 99).all()


def test_a_run_that_was_interrupted_twice_ends_with_all_done_once(tmp_path):
    many = make_images(tmp_path / "many", 50)
    marks = {}
    for _ in range(3):
        cancel = threading.Event()
        goal = len(marks) + 15
        report = process_images(
            many,
            wait_a_little(),
            tmp_path / "out",
            threads=2,
            cancel=cancel,
            progress=lambda p, goal=goal, cancel=cancel: p.done >= goal and cancel.set(),
        )
        assert report.before == len(marks)
        found = {name: _mark(status) for name, status in results(tmp_path / "out").items()}
        assert marks.items() <= found.items()
        assert len(found) == len(marks) + report.done
        marks = found
    report = process_images(many, wait_a_little(), tmp_path / "out", threads=2)
    assert report.ok
    assert len(results(tmp_path / "out")) == 50


def test_an_image_has_all_of_its_results_or_none(tmp_path):
    many = make_images(tmp_path / "many", 1)
    out = tmp_path / "out"
    outputs = [{"pipeline": "invert", "name": "{stem}-a"}, {"pipeline": "invert", "name": "{stem}-b"}]

    def stand_in_the_way(state):
        if state.state == "under way":
            (out / "000-b.png").write_bytes(b"mine")

    report = process_images(many, None, out, outputs=outputs, on_file=stand_in_the_way)
    assert "000-b.png" in report.failures[0].reason
    assert [path.name for path in out.glob("*.png")] == ["000-b.png"]
    (out / "000-b.png").unlink()
    assert process_images(many, None, out, outputs=outputs).done == 1
