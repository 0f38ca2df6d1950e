"""What workers can see: they are asked before the start, and files that they do not see pass by way of a URL."""

import contextlib
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import daskimg as di
from daskimg.batch import process_images
from daskimg.errors import EnvironmentProblem, ParameterError

ROOT = Path(__file__).resolve().parents[1]


def unshare():
    """The command that gives a process mounts of its own; none where that is not permitted."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
                return command
    return None


@pytest.fixture(scope="module")
def hidden_mount(s3_port, tmp_path_factory):
    """A folder, and a client of two workers for which another one is mounted over it."""
    from distributed import Client, LocalCluster

    command = unshare()
    if command is None:
        pytest.skip("mounts are not permitted here; the other way of hiding is tested")
    folder, elsewhere = tmp_path_factory.mktemp("hidden"), tmp_path_factory.mktemp("elsewhere")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"))
        client = stack.enter_context(Client(cluster, set_as_default=False))
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nthreads", "1"]
        options = ["--no-nanny", "--no-dashboard", "--local-directory", str(elsewhere), "--host", "127.0.0.1"]
        script = 'mount -t tmpfs none "$0" && exec "$@"'
        workers = [
            subprocess.Popen(
                [*command, "sh", "-c", script, str(folder), *worker, *options],
                cwd=elsewhere,
                env={**os.environ, "PYTHONPATH": paths},
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        try:
            client.wait_for_workers(2, timeout=60)
            yield folder, client
        finally:
            for one in workers:
                one.terminate()
                one.wait(20)


@pytest.fixture
def hidden_descriptor(client, tmp_path):
    """A folder under a name that means it in this process only, which needs no permissions; and a client."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system has no /proc")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield Path(f"/proc/self/fd/{descriptor}"), client
    os.close(descriptor)


@pytest.fixture(params=["mount", "descriptor"])
def hidden(request, tmp_path):
    """A folder that the workers of a client do not see, and the client."""
    folder, client = request.getfixturevalue(f"hidden_{request.param}")
    folder = folder / request.node.name.replace("[", "-").replace("]", "")
    folder.mkdir()
    return folder, client


@pytest.fixture
def files(hidden):
    """Twelve images in a folder that the workers do not see."""
    folder, _ = hidden
    for number in range(12):
        di.save_image(np.full((20, 30), number, np.uint8), folder / f"{number:02}.png")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".daskimg")


def test_hidden_files_are_refused_with_the_remedy(hidden, files):
    _, client = hidden
    with pytest.raises(EnvironmentProblem, match=r"--staging s3://"):
        process_images(files, "invert", files / "out", cluster=client)
    assert names(files / "out") == []


def test_hidden_inputs_alone_are_refused_too(hidden, files, s3):
    _, client = hidden
    with pytest.raises(EnvironmentProblem, match=r"does not see .*00\.png.*--staging s3://"):
        process_images(files, "invert", f"s3://{s3.bucket()}/out", cluster=client)


def test_files_pass_by_a_url(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    (files / "bad.png").write_text("this is no image")
    report = process_images(files, "invert", files / "out", cluster=client, staging=f"s3://{bucket}/tmp", group=3)
    assert (report.done, report.failed) == (12, 1)
    assert report.failures[0].source.endswith("bad.png")
    assert "tmp" not in report.failures[0].reason
    assert f"by way of 's3://{bucket}/tmp" in report.where
    assert names(files / "out") == [f"{number:02}.png" for number in range(12)]
    assert (di.read_image(files / "out" / "05.png") == 250).all()
    assert s3.keys(bucket) == []

    again = process_images(files, "invert", files / "out", cluster=client, staging=f"s3://{bucket}/tmp")
    assert (again.before, again.done, again.failed) == (12, 0, 1)


def test_results_alone_come_back(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    for number in range(3):
        di.save_image(np.full((20, 30), number, np.uint8), f"s3://{bucket}/in/{number}.png")
    with s3.counted("-in") as sent:
        report = process_images(
            f"s3://{bucket}/in/*.png", "invert", files / "out", cluster=client, staging=f"s3://{bucket}/tmp"
        )
    assert report.done == 3
    assert not sent
    assert names(files / "out") == ["0.png", "1.png", "2.png"]


def test_renditions_and_archives_pass(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    with zipfile.ZipFile(files / "all.zip", "w") as archive:
        archive.write(files / "03.png", "03.png")
    outputs = [
        {"pipeline": "invert", "name": "{stem}-dark"},
        {"pipeline": "threshold value=2", "name": "{stem}-two", "format": "webp"},
    ]
    report = process_images(
        files / "all.zip", None, files / "out", outputs=outputs, cluster=client, staging=f"s3://{bucket}/tmp"
    )
    assert report.failures == []
    assert names(files / "out") == ["03-dark.png", "03-two.webp"]
    assert (di.read_image(files / "out" / "03-dark.png") == 252).all()


def test_stored_images_pass(hidden, s3):
    """A folder of Zarr, which is done by chunk."""
    folder, client = hidden
    bucket = s3.bucket()
    (folder / "in").mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (300, 200), np.uint8)
    di.save_image(da.from_array(pixels, chunks=100), folder / "in" / "a.zarr")
    report = process_images(
        folder / "in", "invert", folder / "out", cluster=client, staging=f"s3://{bucket}/tmp", format="tiff"
    )
    assert report.failures == []
    (name,) = names(folder / "out")
    assert (di.read_image(folder / "out" / name) == 255 - pixels).all()
    assert s3.keys(bucket) == []


def test_few_files_lie_there_at_once(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    folders = set()
    with s3.counted(bucket) as requests:
        process_images(files, "invert", files / "out", cluster=client, staging=f"s3://{bucket}/tmp", group=1)
    most = 0
    for request in requests:
        folder = request.path.rpartition("/")[0]
        if request.method == "PUT" and "-in" in request.path:
            folders.add(folder)
        if request.method == "PUT" and "-out" in request.path:
            folders.discard(folder)
        most = max(most, len(folders))
    assert most <= 4  # two for each of two workers


def test_trouble_on_the_way_passes_or_is_reported(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    with s3.faults([("500", {"every": 19, "path": bucket}), ("cut", {"every": 17, "path": bucket})]) as faults:
        report = process_images(files, "invert", files / "out", cluster=client, staging=f"s3://{bucket}/tmp")
    assert all(fault.hits for fault in faults)
    assert (report.done, report.failures) == (12, [])
    with s3.fault("403", path="-in", method="PUT", times=1):
        report = process_images(
            files, "invert", files / "two", cluster=client, staging=f"s3://{bucket}/tmp", group=1, name="{stem}2"
        )
    assert (report.done, report.failed) == (11, 1)
    assert "403" in report.failures[0].reason
    assert not [name for name in names(files / "out") + names(files / "two") if name.startswith(".")]


def test_cancelling_leaves_nothing_there(hidden, files, s3):
    _, client = hidden
    bucket = s3.bucket()
    cancel = threading.Event()
    report = process_images(
        files,
        "invert",
        files / "out",
        cluster=client,
        staging=f"s3://{bucket}/tmp",
        group=1,
        progress=lambda progress: cancel.set() if progress.done else None,
        cancel=cancel,
    )
    assert report.cancelled
    assert 0 < report.done < 12
    assert len(names(files / "out")) == report.done
    assert s3.keys(bucket) == []


def test_staging_is_not_used_where_workers_see_the_files(client, photos, tmp_path, s3):
    bucket = s3.bucket()
    report = process_images(photos, "invert", tmp_path / "out", cluster=client, staging=f"s3://{bucket}/tmp")
    assert report.done == 3
    assert "by way of" not in report.where


def test_staging_is_a_url(client, photos, tmp_path):
    with pytest.raises(ParameterError, match="s3://bucket/tmp"):
        process_images(photos, "invert", tmp_path / "out", cluster=client, staging=str(tmp_path))


@pytest.mark.parametrize("place", ["memory://", "s3://no-such-bucket/"])
def test_a_place_that_workers_do_not_share_is_refused(client, photos, place):
    with pytest.raises(di.DaskimgError, match=r"found from here|no such bucket"):
        process_images(photos, "invert", f"{place}out", cluster=client)


def test_an_input_that_workers_do_not_reach_is_refused(client, photos, s3):
    di.save_image(np.zeros((4, 5), np.uint8), "memory://only-here/a.png")
    with pytest.raises(EnvironmentProblem, match=r"cannot read 'memory://only-here/a.png'"):
        process_images("memory://only-here/a.png", "invert", f"s3://{s3.bucket()}/out", cluster=client)
