"""Clusters are dask's own, on this machine only, and checked before any work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import daskimg as di
from daskimg.clusters import _checks, kinds, start_cluster
from daskimg.clusters._connect import connected
from daskimg.errors import EnvironmentProblem, ParameterError, UnknownNameError

ROOT = Path(__file__).resolve().parents[1]


def test_unknown_kind_names_those_there_are():
    assert "local" in kinds()
    with pytest.raises(UnknownNameError, match=re.escape("'locl'. Did you mean 'local'? There are: ")):
        start_cluster("locl")


def test_private_modules_are_no_kinds():
    assert not [kind for kind in kinds() if kind.startswith("_")]
    with pytest.raises(UnknownNameError):
        start_cluster("_checks")


def test_unknown_option_names_the_known():
    with pytest.raises(UnknownNameError, match=r"'memory'.* memory_limit"):
        start_cluster("local", memory="1 GiB")


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_is_a_positive_number(workers):
    with pytest.raises(ParameterError, match="1 or more"):
        start_cluster("local", workers=workers)


def test_distributed_is_imported_only_when_a_cluster_starts():
    code = "import sys, daskimg, daskimg.clusters; daskimg.start_cluster; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, cwd=ROOT).returncode == 0


def test_local_cluster_is_dasks_own(cluster):
    from distributed import LocalCluster

    assert isinstance(cluster, LocalCluster)
    assert di.start_cluster is start_cluster


def test_workers_are_processes_of_one_thread_each(client):
    import os

    assert sorted(client.nthreads().values()) == [1, 1]
    pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_opencv_has_one_thread_in_a_worker(client):
    def threads():
        import cv2

        return cv2.getNumThreads()

    assert set(client.run(threads).values()) == {1}


def test_workers_keep_their_memory(client):
    def setting():
        import os

        return os.environ.get("MALLOC_TRIM_THRESHOLD_")

    assert set(client.run(setting).values()) == {None}


def test_workers_leave_ctrl_c_to_the_process_of_the_user(client):
    def ignored():
        import signal

        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    assert all(client.run(ignored).values())


def test_everything_listens_on_loopback_only(cluster, client):
    import os

    psutil = pytest.importorskip("psutil")
    addresses = set()
    for pid in {os.getpid(), *client.run(os.getpid).values()}:
        connections = psutil.Process(pid).net_connections("inet")
        addresses |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}
    assert cluster.dashboard_link.startswith("http://127.0.0.1:")


def test_versions_that_agree_pass(client):
    _checks.check_versions(client)


def test_other_versions_on_workers_are_refused_with_a_table(client, monkeypatch):
    monkeypatch.setattr(np, "__version__", "1.0.0")
    with pytest.raises(EnvironmentProblem) as caught:
        _checks.check_versions(client)
    message = str(caught.value)
    assert re.search(r"package +here +worker +on", message)
    assert re.search(r"numpy +1\.0\.0 +2\.\S+ +tcp://127\.0\.0\.1:\d+ and 1 more", message)
    assert "nothing was started" in message
    assert "cv2" not in message


def test_software_that_a_worker_lacks_is_named_missing():
    with pytest.raises(EnvironmentProblem, match=r"daskimg +0\.1 +missing +tcp://a"):
        _checks.compare({"daskimg": "0.1", "cv2": "5.0"}, {"tcp://a": {"cv2": "5.0", "daskimg": "missing"}})


@pytest.mark.parametrize("name", ["python", "dask", "distributed", "numpy", "cv2", "daskimg"])
def test_what_decides_about_pixels_is_compared(name):
    own = _checks.versions()
    with pytest.raises(EnvironmentProblem, match=name):
        _checks.compare(own, {"tcp://a": {**own, name: "other"}})


def test_nobody_at_the_address_is_said_soon(monkeypatch):
    from daskimg.clusters import _connect

    monkeypatch.setattr(_connect, "ANSWER_WITHIN", 0.5)
    with (
        pytest.raises(EnvironmentProblem, match=r"no scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        connected("tcp://127.0.0.1:9"),
    ):
        pass


def test_cluster_without_workers_is_said():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        Client(empty, set_as_default=False) as client,
        pytest.raises(EnvironmentProblem, match="has no worker after 0 seconds; start one: dask worker"),
    ):
        _checks.check_versions(client, wait=0.1)


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ParameterError, match="cluster=5"), connected(5):
        pass


def test_folders_that_workers_see_pass_and_stay_clean(client, tmp_path):
    _checks.check_folder(client, str(tmp_path), "where the results go")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_workers_do_not_see_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(_checks, "_run_by_value", lambda *_: {"tcp://a:1": True, "tcp://b:1": False})
    with pytest.raises(EnvironmentProblem, match=r"1 of 2 workers \(such as tcp://b:1\).*s3://"):
        _checks.check_folder(None, str(tmp_path), "where the results go")
    assert list(tmp_path.iterdir()) == []


def test_files_that_workers_do_not_see_are_refused(monkeypatch, client, tmp_path):
    seen = tmp_path / "seen.png"
    seen.touch()
    _checks.check_readable(client, [str(seen)])
    with pytest.raises(EnvironmentProblem, match=r"does not see .*gone\.png"):
        _checks.check_readable(client, [str(seen), str(tmp_path / "gone.png")])
