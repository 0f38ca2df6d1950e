"""Images on S3: read and written there, through what goes wrong on the way, and without showing secrets."""

import gzip
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import daskimg as di
from daskimg.batch import process_images, retry_images
from daskimg.errors import ImageFileError, UnavailableError
from daskimg.io.remote import trouble
from daskimg.io.urls import locate


@pytest.fixture
def image():
    return np.random.default_rng(7).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture
def stored(s3, image):
    """The URL of that image, on S3."""
    url = f"s3://{s3.bucket()}/folder/a b.png"
    di.save_image(image, url)
    return url


def test_an_image_is_written_and_read(s3, stored, image):
    assert (di.read_image(stored) == image).all()
    assert (di.open_image(stored, chunks=50).compute(scheduler="synchronous") == image).all()
    assert di.image_info(stored).shape == image.shape


def test_what_is_there_is_not_replaced_unless_that_is_said(stored, image):
    with pytest.raises(ImageFileError, match="exists already"):
        di.save_image(image, stored, overwrite=False)


def test_a_header_takes_few_requests(s3, image):
    large = f"s3://{s3.bucket()}/large.png"
    di.save_image(np.random.default_rng(7).integers(0, 256, (1000, 1000, 3), np.uint8), large)
    with s3.counted("large.png") as requests:
        di.image_info(large)
    assert [request.method for request in requests] == ["HEAD", "GET", "GET"]  # the size, the head, what is at the end
    assert sum(request.sent for request in requests) < 600_000


def test_a_file_of_a_batch_takes_three_requests(s3, thirty):
    with s3.counted("07.png") as requests:
        inverted(f"s3://{thirty}/in/*7.png", f"s3://{thirty}/out", threads=1)
    assert [request.method for request in requests] == ["HEAD", "GET", "PUT"]


def test_of_two_writers_one_is_refused(s3):
    place = locate(f"s3://{s3.bucket()}/a")
    place.write(b"first", overwrite=False)
    with pytest.raises(ImageFileError, match="exists already"):
        place.write(b"other", overwrite=False)
    with s3.fault("cut", path=place.url.removeprefix("s3:/") + "b", method="PUT", times=1) as fault:
        locate(place.url + "b").write(b"the answer is lost", overwrite=False)
    assert fault.hits == 1


def test_a_change_is_seen(stored, image):
    before = locate(stored).version()
    di.save_image(255 - image, stored)
    assert locate(stored).version() != before
    assert (di.read_image(stored) == 255 - image).all()


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [({"anon": True}, "AUTHORIZATION", None), ({"requester_pays": True}, "X_AMZ_REQUEST_PAYER", "requester")],
)
def test_options_reach_the_server(s3, stored, image, options, header, value):
    bucket, _, key = stored.removeprefix("s3://").partition("/")
    s3.client.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")
    with s3.counted("a b.png") as requests:
        assert (di.read_image(stored, storage_options=options) == image).all()
    assert requests
    assert {request.headers.get(header) for request in requests} == {value}


def run_python(code, **environment):
    """Run code in a process of its own, with these variables and no others of AWS."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_credentials_and_endpoint_come_from_a_profile(s3, stored, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        f"[profile lab]\nendpoint_url = {s3.endpoint}\nregion = us-east-1\n"
        "aws_access_key_id = of-the-profile\naws_secret_access_key = hidden\n"
    )
    code = f"import daskimg as di; print(di.image_info({stored!r}).shape)"
    with s3.counted("a b.png") as requests:
        done = run_python(code, AWS_CONFIG_FILE=str(config), AWS_PROFILE="lab")
    assert done.stdout.strip() == "(120, 160, 3)", done.stderr
    assert all("of-the-profile/" in request.headers["AUTHORIZATION"] for request in requests)


def test_credentials_come_from_a_role_of_the_machine(s3, stored):
    """As a container's role gives them: by a server on loopback."""
    with s3.role("of-the-role") as url:
        done = run_python(
            f"import daskimg as di; print(di.image_info({stored!r}).shape)",
            AWS_CONTAINER_CREDENTIALS_FULL_URI=url,
            AWS_ENDPOINT_URL=s3.endpoint,
            AWS_DEFAULT_REGION="us-east-1",
        )
        assert done.stdout.strip() == "(120, 160, 3)", done.stderr
    assert "of-the-role/" in s3.app.requests[-1].headers["AUTHORIZATION"]


def test_missing_credentials_are_said_with_the_way_out(s3, stored):
    code = f"""
        import daskimg as di
        try:
            di.read_image({stored!r})
        except di.DaskimgError as error:
            print(error)
    """
    done = run_python(code, AWS_ENDPOINT_URL=s3.endpoint, AWS_EC2_METADATA_DISABLED="true", HOME="/nowhere")
    assert "no credentials were found" in done.stdout
    assert "'anon': True" in done.stdout


def test_secrets_are_not_shown(s3, stored):
    options = {"key": "known", "secret": "do-not-tell"}
    place = locate(stored, options)
    image = di.open_image(stored, storage_options=options)
    graph = image.__dask_graph__()
    shown = [repr(place), repr(image), repr(graph), str(dict(graph)), graph._repr_html_(), *map(str, graph)]
    with pytest.raises(ImageFileError) as caught:
        di.read_image(stored + "x", storage_options=options)
    shown.append(str(caught.value))
    assert not [text for text in shown if "do-not-tell" in text]
    assert pickle.loads(pickle.dumps(place)).options == options


def test_signatures_are_not_shown(s3, stored):
    bucket, _, key = stored.removeprefix("s3://").partition("/")
    url = s3.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    assert di.read_image(url).shape == (120, 160, 3)
    with s3.fault("403", path="a b.png"), pytest.raises(ImageFileError) as caught:
        di.read_image(url)
    assert "403" in str(caught.value)
    error = caught.value
    while error is not None:
        assert "Signature" not in str(error)
        error = error.__cause__
    assert "Signature" not in repr(locate(url))


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut", "slow"])
def test_trouble_that_passes_is_waited_out(s3, stored, image, kind):
    with s3.fault(kind, method="GET", times=2) as fault:
        assert (di.read_image(stored) == image).all()
    assert fault.hits
    with s3.fault(kind, method="PUT", times=2) as fault:
        di.save_image(255 - image, stored)
    assert fault.hits
    assert (di.read_image(stored) == 255 - image).all()


@pytest.mark.parametrize("kind", ["503", "reset", "cut"])
def test_the_web_is_asked_again_too(s3, stored, image, kind):
    bucket, _, key = stored.removeprefix("s3://").partition("/")
    url = s3.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    with s3.fault(kind, method="GET", times=2) as fault:
        assert (di.read_image(url) == image).all()
    assert fault.hits == 2


@pytest.mark.parametrize(
    ("kind", "words"), [("500", "the server answered 500"), ("reset", "the connection to the server failed")]
)
def test_trouble_that_stays_is_reported_in_words(s3, stored, kind, words):
    options = {"config_kwargs": {"retries": {"max_attempts": 1}}}  # as AWS_MAX_ATTEMPTS
    with s3.fault(kind, path="a b.png"), pytest.raises(UnavailableError, match=words) as caught:
        di.read_image(stored, storage_options=options)
    assert stored in str(caught.value)


def test_refusals_are_not_tried_again(s3, stored):
    with s3.fault("403", path="a b.png") as fault, pytest.raises(ImageFileError, match="requester_pays"):
        di.read_image(stored)
    assert fault.hits == 1
    with pytest.raises(ImageFileError, match="no such"):
        di.read_image("s3://no-such-bucket/a.png")


def test_a_file_that_changes_while_it_is_read_is_noticed(s3, image):
    url = f"s3://{s3.bucket()}/a.bmp"
    large = np.zeros((600, 600, 3), np.uint8)
    di.save_image(large, url)
    with locate(url).open() as file:
        file.read(10)
        di.save_image(255 - large, url)
        file.seek(900_000)
        with pytest.raises(OSError, match="no longer exists") as caught:
            file.read(10)
    assert "changed" in trouble(caught.value).reason


@pytest.fixture
def thirty(s3):
    """A bucket with thirty images below `in/`."""
    bucket = s3.bucket()
    for number in range(30):
        di.save_image(np.full((20, 30), number, np.uint8), f"s3://{bucket}/in/{number:02}.png")
    return bucket


def test_a_batch_is_done_through_all_that_passes(s3, thirty, client):
    troubles = [("500", 17), ("503", 23), ("reset", 29), ("cut", 19), ("slow", 13)]
    with s3.faults([(kind, {"every": every, "path": thirty}) for kind, every in troubles]) as faults:
        report = inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", cluster=client)
    assert all(fault.hits for fault in faults)
    assert (report.done, report.failures) == (30, [])
    assert len([key for key in s3.keys(thirty) if key.startswith("out/") and ".daskimg" not in key]) == 30
    assert di.read_image(f"s3://{thirty}/out/07.png")[0, 0] == 248


def test_only_the_file_fails_that_cannot_be_had(s3, thirty):
    options = {"config_kwargs": {"retries": {"max_attempts": 1}}}
    with s3.fault("500", path="in/07.png", method="GET"):
        report = inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", threads=4, storage_options=options)
    assert report.done == 29
    ((source, reason, *_),) = report.failures
    assert source.endswith("in/07.png")
    assert "the server answered 500" in reason


def test_a_second_run_does_what_is_left(s3, thirty, client):
    with s3.fault("403", path="in/07.png", method="GET"):
        assert inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", cluster=client).done == 29
    with s3.counted(thirty) as requests:
        report = inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", cluster=client)
    assert (report.done, report.before) == (1, 29)
    touched = {request.path.removeprefix(f"/{thirty}/") for request in requests}
    assert {path for path in touched if path.endswith(".png")} == {"in/07.png", "out/07.png"}


def test_failures_are_tried_again(s3, thirty):
    with s3.fault("403", path="in/07.png", method="GET"):
        assert inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", threads=2).failed == 1
    report = retry_images(f"s3://{thirty}/out", threads=2)
    assert (report.total, report.done) == (1, 1)


def test_options_travel_to_the_workers(s3, thirty, client):
    with s3.counted(thirty) as requests:
        report = inverted(
            f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", cluster=client, storage_options={"requester_pays": True}
        )
    assert report.done == 30
    assert {request.headers.get("X_AMZ_REQUEST_PAYER") for request in requests} == {"requester"}


def test_options_are_not_written_down(s3, thirty):
    options = {"key": "known", "secret": "do-not-tell"}
    report = inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", threads=2, storage_options=options)
    assert report.done == 30
    kept = [key for key in s3.keys(thirty) if ".daskimg" in key]
    assert kept
    for key in kept:
        data = s3.client.get_object(Bucket=thirty, Key=key)["Body"].read()
        assert b"do-not-tell" not in (gzip.decompress(data) if key.endswith(".gz") else data)
    assert "do-not-tell" not in repr(report)


def test_the_command_takes_options_of_file_systems(s3, thirty, run_daskimg):
    options = ["--storage-option", "requester_pays=true", "--threads", "2"]
    with s3.counted(thirty) as requests:
        done = run_daskimg("run", "invert", f"s3://{thirty}/in/0*.png", "--to", f"s3://{thirty}/out", *options)
    assert done.returncode == 0, done.stderr
    assert {request.headers.get("X_AMZ_REQUEST_PAYER") for request in requests} == {"requester"}
    assert run_daskimg("run", "invert", "a.png", "--to", "x", "--storage-option", "anon").returncode == 2


KILLED = """
    import os, signal, sys, threading
    from daskimg.batch import process_images, segments
    segments.SECONDS = {seconds}
    def look(progress):
        if progress.done >= 8:
            __import__("time").sleep({pause})
            os.kill(os.getpid(), signal.SIGKILL)
    process_images("s3://{bucket}/in/*.png", "invert", "s3://{bucket}/out", threads=1, group=1, progress=look)
"""


@pytest.mark.parametrize(("seconds", "pause", "known"), [(60, 0, 0), (0.1, 1, 8)])
def test_kill_minus_9_leaves_what_was_written_down(s3, thirty, seconds, pause, known):
    code = KILLED.format(bucket=thirty, seconds=seconds, pause=pause)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    report = inverted(f"s3://{thirty}/in/*.png", f"s3://{thirty}/out", threads=2, overwrite=True)
    assert report.done + report.before == 30
    assert known <= report.before < 30
    for number in range(30):
        assert di.read_image(f"s3://{thirty}/out/{number:02}.png")[0, 0] == 255 - number


def inverted(sources, to, **options):
    return process_images(sources, "invert", to, **options)
