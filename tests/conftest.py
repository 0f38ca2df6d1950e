"""What several files of tests share."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import daskimg as di
from tests.s3 import S3, s3_environment

ROOT = Path(__file__).resolve().parents[1]

# The same cases in each run: what is red is red for everybody. `make soak` draws more.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def s3_port():
    """A port for `s3`, and the environment that leads there; it is there before the cluster's workers are."""
    with s3_environment() as listener:
        yield listener


@pytest.fixture(scope="session")
def s3(s3_port):
    """A server of S3 on this machine, started once: `.bucket()`, `.client`, `.endpoint`, `.fault(...)`."""
    server = S3(s3_port)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster(s3_port):
    """Two worker processes, started once in each process of tests that asks for them."""
    with di.start_cluster("local", workers=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """A client of the cluster that is not dask's default, so that other tests don't use it by accident."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)  # a test before may have ended one
        yield client


@pytest.fixture
def photos(tmp_path):
    """A folder of three photos of noise: PNG, JPEG and WebP."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(5)
    for name, channels in (("a.png", 3), ("b.jpg", 3), ("c.webp", 3)):
        di.save_image(random.integers(0, 256, (60, 80, channels), np.uint8), folder / name)
    return folder


@pytest.fixture
def bad_file(photos):
    """A file among the photos that is called like an image and is none."""
    path = photos / "bad.png"
    path.write_text("this is no image")
    return path


@pytest.fixture
def run_daskimg(tmp_path):
    """Run the command as a process of its own, as a user does."""

    def run(*arguments, **options):
        return subprocess.run(command(*arguments), **process_options(tmp_path), timeout=120, **options)

    return run


@pytest.fixture
def start_daskimg(tmp_path):
    """Start the command as a process of its own, and end it after the test."""
    started = []

    def start(*arguments):
        started.append(subprocess.Popen(command(*arguments), start_new_session=True, **process_options(tmp_path)))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def command(*arguments):
    return [sys.executable, "-m", "daskimg", *map(str, arguments)]


def process_options(folder):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "encoding": "utf-8",
    }
