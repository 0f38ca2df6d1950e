"""Large images on S3: written and read there chunk by chunk, of which no more is fetched than is wanted."""

import dask
import dask.array as da
import numpy as np
import pytest

import daskimg as di

SIZE = 1536
FORMATS = ["a.tif", "a.ome.tif", "a.zarr", "a.ome.zarr"]


@pytest.fixture(scope="module")
def pixels():
    """Noise, so that compression does not hide what is fetched."""
    return np.random.default_rng(11).integers(0, 256, (SIZE, SIZE), np.uint8)


@pytest.fixture(scope="module", params=FORMATS)
def url(request, s3, pixels):
    """The URL of that image, in tiles of 256 pixels."""
    url = f"s3://{s3.bucket()}/folder/{request.param}"
    di.save_image(da.from_array(pixels, chunks=256), url, tile=256, pyramid=request.param != "a.zarr", threads=2)
    return url


def raising(*_arguments, **_options):
    raise AssertionError("something was computed")


def test_an_image_is_whole(url, pixels):
    assert (di.open_image(url).compute(scheduler="threads") == pixels).all()


def test_opening_fetches_a_header(s3, url, pixels):
    with s3.counted("folder") as requests, dask.config.set(scheduler=raising):
        image = di.open_image(url, chunks=256)
    assert image.shape == pixels.shape
    assert len(requests) <= 20  # of OME-Zarr, some for each level
    assert sum(request.sent for request in requests) < pixels.nbytes / 4


def test_a_part_costs_its_tiles(s3, url, pixels):
    image = di.open_image(url, chunks=256)
    with s3.counted("folder") as requests:
        part = image[600:640, 700:740].compute(scheduler="synchronous")
    assert (part == pixels[600:640, 700:740]).all()
    assert len(requests) <= 5  # of Zarr, three for what is an array
    assert sum(request.sent for request in requests) < pixels.nbytes / 4


def test_levels_are_there(s3, url, pixels):
    if url.endswith("/a.zarr"):
        with pytest.raises(di.DaskimgError, match="level"):
            di.open_image(url, level=2)
        return
    with s3.counted("folder") as requests:
        coarse = di.open_image(url, level=2).compute(scheduler="synchronous")
    assert coarse.shape == (SIZE // 4, SIZE // 4)
    assert abs(float(coarse.mean()) - float(pixels.mean())) < 1
    assert sum(request.sent for request in requests) < pixels.nbytes / 2


def test_troubles_on_the_way_leave_an_image_whole(s3, url, pixels, client):
    bucket = s3.bucket()
    with s3.faults([("500", {"every": 23}), ("503", {"every": 31}), ("cut", {"every": 29})]) as faults:
        image = di.invert(di.open_image(url, chunks=512))
        with client.as_current():
            di.save_image(image, f"s3://{bucket}/{url.rpartition('/')[2]}", tile=256)
    assert any(fault.hits for fault in faults)
    there = di.open_image(f"s3://{bucket}/{url.rpartition('/')[2]}")
    assert (there.compute(scheduler="threads") == 255 - pixels).all()


def test_options_reach_all_of_a_large_image(s3, url, pixels):
    options = {"requester_pays": True}
    bucket = s3.bucket()
    with s3.counted() as requests:
        image = di.open_image(url, storage_options=options)
        di.save_image(image, f"s3://{bucket}/{url.rpartition('/')[2]}", storage_options=options, threads=2)
    assert [request.path for request in requests if request.headers.get("X_AMZ_REQUEST_PAYER") != "requester"] == []
