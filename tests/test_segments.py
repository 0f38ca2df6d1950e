"""The manifest on object stores: segments that are written once, and a lease that keeps a second run away."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import uuid

import pytest

from daskimg.batch.segments import Lease, Segment, Segments
from daskimg.errors import EnvironmentProblem, ImageFileError
from daskimg.io.urls import locate


@pytest.fixture(params=["memory", "s3"])
def root(request):
    """A place without anything, at a URL."""
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3').bucket()}/out/.daskimg"
    return f"memory://{uuid.uuid4().hex}/.daskimg"


def leased(root, **options):
    return Lease(locate(f"{root}/lease"), **options)


def segments(root, lease, **options):
    return Segments(locate(f"{root}/segments"), lease, **options)


def rows_of(root, lease):
    return [row for segment in segments(root, lease).read() for row in segment.rows]


def test_rows_come_back_with_what_goes_with_them(root):
    odd = {"source": "ü 'x'\n\udc80.png", "targets": ["a", "b"], "seconds": 0.5}
    with leased(root) as lease:
        first = segments(root, lease)
        assert list(first.read()) == []
        first.begin({"fingerprint": "abc"})
        first.add([odd])
        first.add([{"source": "2"}])
        first.close()
        assert list(segments(root, lease).read()) == [Segment({"fingerprint": "abc"}, [odd, {"source": "2"}])]


def test_segments_are_written_while_the_batch_runs_and_in_order(root):
    with leased(root) as lease:
        writing = segments(root, lease, seconds=0.05)
        list(writing.read())
        writing.begin({})
        for number in range(3):
            writing.add([{"source": number}])
            while len(rows_of(root, lease)) <= number:
                time.sleep(0.02)
        assert len(list(segments(root, lease).read())) == 3
        writing.close()
        assert [row["source"] for row in rows_of(root, lease)] == [0, 1, 2]

        later = segments(root, lease)
        list(later.read())
        later.begin({})
        later.add([{"source": 3}])
        later.close()
        assert [row["source"] for row in rows_of(root, lease)] == [0, 1, 2, 3]


def test_all_is_put_together_at_the_end(root):
    with leased(root) as lease:
        writing = segments(root, lease)
        list(writing.read())
        writing.begin({"fingerprint": "new"})
        writing.add([{"source": "a", "state": "failed"}])
        whole = [Segment({"fingerprint": "old"}, [{"source": "b"}]), Segment({"fingerprint": "new"}, [{"source": "a"}])]
        writing.close(whole)
        assert list(segments(root, lease).read()) == whole


def test_a_segment_of_a_later_version_is_refused(s3):
    bucket = s3.bucket()
    with leased(f"s3://{bucket}") as lease:
        writing = segments(f"s3://{bucket}", lease)
        writing.begin({"format": 2})
        writing.add([{}])
        writing.close()
        with pytest.raises(ImageFileError, match="another version"):
            list(segments(f"s3://{bucket}", lease).read())


def test_a_second_run_is_refused_and_told_who_has_it(root):
    with (
        leased(root),
        pytest.raises(EnvironmentProblem, match=r"another run writes to .*: process \d+ on "),
        leased(root),
    ):
        pass
    with leased(root):
        pass


def test_only_one_of_many_gets_the_lease(s3):
    root = f"s3://{s3.bucket()}"
    taken, refused, go, done = [], [], threading.Barrier(8), threading.Barrier(8)

    def compete():
        lease = leased(root)
        go.wait(20)
        try:
            with lease:
                taken.append(lease)
                done.wait(20)
        except EnvironmentProblem as error:
            refused.append(error)
            done.wait(20)

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(taken), len(refused)) == (1, 7)


def test_a_store_is_asked_to_create_and_not_to_replace(s3):
    bucket = s3.bucket()
    with s3.counted() as requests, leased(f"s3://{bucket}"):
        pass
    first = next(request for request in requests if request.method == "PUT")
    assert first.headers["IF_NONE_MATCH"] == "*"
    assert s3.keys(bucket) == ["lease/000000001.json"]


@pytest.mark.parametrize("kind", ["500", "reset", "cut"])
def test_a_lease_is_got_though_the_server_fails_at_first(s3, kind):
    with s3.fault(kind, method="PUT", times=1) as fault, leased(f"s3://{s3.bucket()}"):
        pass
    assert fault.hits == 1


def test_an_ended_lease_is_taken_over_and_its_owner_notices(root):
    ended = json.dumps({"host": "elsewhere", "process": 1, "token": "", "until": time.time() - 1}).encode()
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(leased(root, seconds=0.4))
        kept = segments(root, old)
        kept.begin({})
        new = None
        while new is None:  # the old one may be renewed in between
            old._fs.pipe_file(old._name(1), ended)
            with contextlib.suppress(EnvironmentProblem):
                new = stack.enter_context(leased(root))
        while not old._lost:
            time.sleep(0.02)
        with pytest.raises(EnvironmentProblem, match="another run"):
            kept.add([])
        kept.close()
        new.check()


def test_a_lease_is_renewed_while_the_run_lasts(root):
    with leased(root, seconds=0.4) as lease:
        untils = set()
        while len(untils) < 3:
            untils.add(lease._last()[1]["until"])
        with pytest.raises(EnvironmentProblem), leased(root):
            pass


def test_the_lease_of_a_process_that_was_killed_here_does_not_keep_others_away(s3):
    bucket = s3.bucket()
    code = f"""if True:
        import os, signal
        from daskimg.batch.segments import Lease, Segments
        from daskimg.io.urls import locate
        lease = Lease(locate("s3://{bucket}/lease")).__enter__()
        segments = Segments(locate("s3://{bucket}/segments"), lease, seconds=0.05)
        segments.begin({{}})
        segments.add([{{"source": "a"}}])
        while not list(segments.read()):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode < 0
    with leased(f"s3://{bucket}") as lease:
        assert rows_of(f"s3://{bucket}", lease) == [{"source": "a"}]


def test_rows_wait_for_a_store_that_does_not_answer(s3):
    bucket = s3.bucket()
    with leased(f"s3://{bucket}") as lease:
        writing = segments(f"s3://{bucket}", lease, seconds=0.02)
        writing.begin({})
        with s3.fault("500", path="/segments/") as fault:
            writing.add([{"source": "a"}])
            writing.add([{"source": "b"}])
            while fault.hits < 5:
                time.sleep(0.02)
        writing.close()
        assert rows_of(f"s3://{bucket}", lease) == [{"source": "a"}, {"source": "b"}]
