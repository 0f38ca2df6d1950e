"""Large images to Zarr and OME-Zarr, read back by zarr, ome-zarr and the models of the specification."""

import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import zarr

import daskimg as di
from daskimg.errors import ArrayError, DtypeError, ImageFileError, ParameterError
from daskimg.io.pyramid import level_sizes
from daskimg.io.sink import Target
from daskimg.io.sinks.zarr import ZarrSink
from daskimg.io.urls import locate

UM = {"pixel_size": (0.5, 0.25), "unit": "micrometer"}


def pictures(shape, dtype="uint8", colors=None, smallest=None, seed=0):
    """An image and its smaller ones, each `(*batch, rows, columns[, colors])`."""
    rng = np.random.default_rng(seed)
    *batch, rows, columns = shape
    sizes = level_sizes(rows, columns, smallest or max(rows, columns))
    dtype = np.dtype(dtype)
    levels = [np.empty((*batch, *size, *((colors,) if colors else ())), dtype) for size in sizes]
    for at in np.ndindex(*batch):
        plane = rng.integers(0, 200, levels[0].shape[len(batch) :]).astype(dtype)
        for level, size in zip(levels, sizes, strict=True):
            if plane.shape[:2] != size:
                plane = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
            level[at] = plane.reshape(level[at].shape)
    return levels


def target_of(levels, dims, **attrs):
    y = dims.index("y")
    return Target(levels[0].shape, dims, levels[0].dtype, tuple(one.shape[y : y + 2] for one in levels), attrs)


def tiles_of(levels, dims, tile):
    """All tiles of all levels, shuffled: what `encode` takes."""
    y = dims.index("y")
    found = []
    for level, image in enumerate(levels):
        for batch in np.ndindex(*image.shape[:y]):
            plane = image[batch]
            for r, c in np.ndindex(-(-plane.shape[0] // tile[0]), -(-plane.shape[1] // tile[1])):
                pixels = plane[r * tile[0] : (r + 1) * tile[0], c * tile[1] : (c + 1) * tile[1]]
                found.append((level, batch, (r, c), pixels))
    random.Random(1).shuffle(found)
    return found


def write(place, levels, dims, attrs=None, **options):
    sink = ZarrSink(place, target_of(levels, dims, **(attrs or {})), **options)
    for *where, pixels in tiles_of(levels, dims, sink.tile):
        sink.append(*where, sink.encoder.encode(*where, pixels))
    sink.finish()
    return sink


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


PLAIN, RGB = ("y", "x"), ("y", "x", "channel")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compression", [None, "none", "zstd", "gzip", "blosc", "lz4"])
def test_plain_zarr_is_read_by_zarr(tmp_path, zarr_format, compression):
    (image,) = levels = pictures((300, 217), "uint16", 3)
    attrs = {**UM, "nodata": 7, "crs": "EPSG:32633", "transform": (10.0, 0.0, 5.0, 0.0, -10.0, 6.0)}
    options = {"zarr_format": zarr_format, "compression": compression, "chunk": 64}
    write(locate(tmp_path / "a.zarr"), levels, RGB, attrs, **options)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert np.array_equal(array[:], image)
    assert (array.chunks, array.dtype, array.fill_value) == ((64, 64, 3), image.dtype, 7)
    assert array.metadata.zarr_format == zarr_format
    found = dict(array.attrs)
    names = array.metadata.dimension_names if zarr_format == 3 else found.pop("_ARRAY_DIMENSIONS")
    assert tuple(names) == RGB
    assert found == json.loads(json.dumps(attrs))
    assert bool(array.compressors) == (compression != "none")
    assert os.listdir(tmp_path) == ["a.zarr"]


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
OTHERS = ["bool", "float16", "float32", "float64", "complex64", "complex128", ">u2", ">f4"]


@pytest.mark.parametrize("dtype", INTEGERS + OTHERS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_all_types_come_back(tmp_path, dtype, zarr_format):
    (image,) = levels = pictures((50, 70), dtype)
    write(locate(tmp_path / "a.zarr"), levels, PLAIN, zarr_format=zarr_format, chunk=32)
    found = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert found.dtype == image.dtype.newbyteorder("=")
    assert np.array_equal(found[:], image)


@pytest.mark.parametrize("compression", ["zstd", "none", "blosc"])
@pytest.mark.parametrize(("rows", "columns"), [(200, 333), (40, 33), (128, 128), (1, 1)])
def test_shards(tmp_path, compression, rows, columns):
    (image,) = levels = pictures((2, rows, columns), "int16")
    image[0, :32, :32] = 0  # a chunk that is left out of its shard
    dims = ("t", "y", "x")
    sink = write(locate(tmp_path / "a.zarr"), levels, dims, compression=compression, chunk=32, shard=128)
    assert sink.tile == (128, 128)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert np.array_equal(array[:], image)
    assert array.chunks == (1, min(32, rows), min(32, columns))
    assert array.shards[1] <= 128
    assert len(files_in(tmp_path / "a.zarr")) <= 1 + 2 * -(-rows // 128) * -(-columns // 128)


def test_sharded_chunks_are_read_one_by_one(tmp_path):
    (image,) = levels = pictures((256, 256))
    write(locate(tmp_path / "a.zarr"), levels, PLAIN, compression="none", chunk=64, shard=256)
    (shard,) = (name for name in files_in(tmp_path / "a.zarr") if name != "zarr.json")
    broken = bytearray((tmp_path / "a.zarr" / shard).read_bytes())
    broken[0] ^= 255  # the first chunk
    (tmp_path / "a.zarr" / shard).write_bytes(broken)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert np.array_equal(array[64:128, :64], image[64:128, :64])
    broken[-10] ^= 255  # the index
    (tmp_path / "a.zarr" / shard).write_bytes(broken)
    with pytest.raises(ValueError, match="checksum"):
        array[:64, :64]


@pytest.mark.parametrize("nodata", [None, 0, 5, float("nan")])
def test_chunks_of_nothing_are_left_out(tmp_path, nodata):
    fill = 0 if nodata is None else nodata
    image = np.full((64, 96), fill, "float32")
    image[40, 40] = 1
    image[0, 70] = -0.0  # no zero to those who look at bits
    write(locate(tmp_path / "a.zarr"), [image], PLAIN, {"nodata": nodata}, chunk=32)
    assert [name for name in files_in(tmp_path / "a.zarr") if name != "zarr.json"] == ["c/0/2", "c/1/1"]
    assert zarr.open_array(tmp_path / "a.zarr", mode="r")[:].tobytes() == image.tobytes()


CASES = {
    "rgb": (RGB, (300, 260), 3, "uint8", UM),
    "rgba": (RGB, (300, 260), 4, "uint8", {}),
    "gray": (PLAIN, (301, 259), None, "uint16", UM),
    "one color": (RGB, (150, 100), 1, "uint8", {}),
    "tczyx": (("t", "c", "z", "y", "x"), (2, 3, 2, 90, 130), None, "uint16", {"channel_names": ("a", "b", "c")}),
    "zcyx": (("z", "c", "y", "x"), (2, 3, 90, 130), None, "float32", {**UM, "z_step": 2.0}),
    "stack of colors": (("t", "y", "x", "channel"), (2, 90, 130), 3, "uint8", UM),
}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("case", CASES)
def test_ome_zarr_is_valid_and_read_by_ome_zarr(tmp_path, case, version):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models.v04 import Image as Image04
    from ome_zarr_models.v05 import Image as Image05

    dims, shape, colors, dtype, attrs = CASES[case]
    levels = pictures(shape, dtype, colors, smallest=64)
    write(locate(tmp_path / "a.ome.zarr"), levels, dims, attrs, version=version, chunk=64)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    image = (Image04 if version == "0.4" else Image05).from_zarr(group)
    multiscale = (image.attributes if version == "0.4" else image.attributes.ome).multiscales[0]
    names = [axis.name for axis in multiscale.axes]
    assert names == [name for name in "tczyx" if name in {"c" if one == "channel" else one for one in dims}]

    order = [dims.index("channel" if name == "c" and "channel" in dims else name) for name in names]
    (node,) = Reader(parse_url(str(tmp_path / "a.ome.zarr")))()
    assert len(node.data) == len(levels) > 1
    for found, level in zip(node.data, levels, strict=True):
        assert np.array_equal(found.compute(), level.transpose(order))
    if "channel_names" in attrs:
        assert node.metadata["channel_names"] == list(attrs["channel_names"])
    if colors in (3, 4):
        assert node.metadata["channel_names"] == ["Red", "Green", "Blue", "Alpha"][:colors]
        assert group["0"].chunks[names.index("c")] == colors
    assert bool(group.attrs.get("daskimg", {}).get("color")) == (colors is not None)


def test_levels_lie_where_their_pixels_do(tmp_path):
    levels = pictures((200, 200), colors=3, smallest=50)
    attrs = {**UM, "origin": (100.0, 10.0), "nodata": float("nan"), "crs": "EPSG:4326"}
    write(locate(tmp_path / "a.zarr"), levels, RGB, attrs, chunk=64)
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs
    found = [one["coordinateTransformations"] for one in attributes["ome"]["multiscales"][0]["datasets"]]
    scales, translations = ([steps[n][key] for steps in found] for n, key in enumerate(("scale", "translation")))
    assert scales == [[1, 0.5, 0.25], [1, 1, 0.5], [1, 2, 1]]
    assert translations == [[0, 100, 10], [0, 100.25, 10.125], [0, 100.75, 10.375]]
    assert [axis.get("unit") for axis in attributes["ome"]["multiscales"][0]["axes"]] == [None, *["micrometer"] * 2]
    assert attributes["daskimg"] == {"nodata": "NaN", "crs": "EPSG:4326", "color": True}


def test_levels_of_first_pixels_lie_where_these_do(tmp_path):
    levels = pictures((200, 200), smallest=50)
    write(locate(tmp_path / "a.zarr"), levels, PLAIN, {**UM, "downsample": "nearest"}, chunk=64)
    multiscale = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]["multiscales"][0]
    steps = [one["coordinateTransformations"] for one in multiscale["datasets"]]
    assert steps == [[{"type": "scale", "scale": [0.5 * 2**n, 0.25 * 2**n]}] for n in range(3)]
    assert multiscale["type"] == "nearest"


@pytest.mark.parametrize(
    ("dims", "shape", "names", "shown"),
    [
        (PLAIN, (9, 9), None, []),
        (PLAIN, (9, 9), ["DAPI"], ["DAPI"]),
        (("c", "y", "x"), (2, 9, 9), None, []),
        (("c", "y", "x"), (2, 9, 9), ["DAPI"], []),
        (("band", "y", "x"), (2, 9, 9), ["red", "infrared"], ["red", "infrared"]),
        (RGB, (9, 9, 3), None, ["Red", "Green", "Blue"]),
        (RGB, (9, 9, 3), ["a", "b", "c"], ["a", "b", "c"]),
        (RGB, (9, 9, 2), None, []),
    ],
)
def test_channels_have_names_where_these_are_known(tmp_path, dims, shape, names, shown):
    target = Target(shape, dims, np.dtype("uint16"), ((9, 9),), {"channel_names": names} if names else {})
    ZarrSink(locate(tmp_path / "a.zarr"), target, kind="ome-zarr").finish()
    omero = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"].get("omero", {"channels": []})
    assert [channel["label"] for channel in omero["channels"]] == shown
    assert all(channel["window"]["end"] == 65535 for channel in omero["channels"])


def test_sharded_ome_zarr(tmp_path):
    levels = pictures((3, 300, 260), "uint16", smallest=40)
    write(locate(tmp_path / "a.zarr"), levels, ("c", "y", "x"), chunk=32, shard=128)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for number, level in enumerate(levels):
        assert np.array_equal(group[str(number)][:], level)
    assert group["0"].shards == (1, 128, 128)


@pytest.mark.parametrize("options", [{"kind": "zarr"}, {"kind": "zarr", "zarr_format": 2}, {"version": "0.4"}, {}])
@pytest.mark.parametrize("case", ["rgb", "gray", "stack of colors"])
def test_open_image_gives_back_what_was_written(tmp_path, case, options):
    dims, shape, colors, dtype, attrs = CASES[case]
    levels = pictures(shape, dtype, colors, smallest=None if "kind" in options else 64)
    attrs = {**attrs, "nodata": 7, "crs": "EPSG:32633", "transform": (0.25, 0.0, 5.0, 0.0, -0.5, 6.0)}
    write(locate(tmp_path / "a.zarr"), levels, dims, attrs, chunk=64, **options)
    for level, pixels in enumerate(levels):
        found = di.open_image(tmp_path / "a.zarr", labelled=True, level=level)
        assert found.dims == dims
        assert np.array_equal(found.values, pixels)
        assert found.attrs["pixel_size"] == (0.5 * 2**level, 0.25 * 2**level)
        assert found.attrs["transform"] == (0.25 * 2**level, 0, 5, 0, -0.5 * 2**level, 6)
        assert [found.attrs[key] for key in ("unit", "nodata", "crs")] == ["micrometer", 7, "EPSG:32633"]
        if "t" not in dims:
            assert np.array_equal(di.open_image(tmp_path / "a.zarr", level=level).compute(), pixels)


def test_memory_urls():
    levels = pictures((3, 100, 130), smallest=50)
    place = locate("memory://test-sinks-zarr/a b/ü.ome.zarr")
    sink = write(place, levels, ("z", "y", "x"), chunk=32)
    assert sink.tile == (32, 32)
    group = zarr.open_group(zarr.storage.FsspecStore.from_url(place.url), mode="r")
    for number, level in enumerate(levels):
        assert np.array_equal(group[str(number)][:], level)
    names = fsspec.filesystem("memory").find("/test-sinks-zarr")
    assert not [name for name in names if ".unfinished" in name]


def encode_all(task):
    encoder, tiles = pickle.loads(task)
    return [(where, encoder.encode(*where, pixels)) for *where, pixels in tiles]


def test_other_processes_encode(tmp_path):
    levels = pictures((200, 300), colors=3, smallest=64)
    sink = ZarrSink(locate(tmp_path / "a.zarr"), target_of(levels, RGB), chunk=64)
    tiles = tiles_of(levels, RGB, sink.tile)
    tasks = [pickle.dumps((sink.encoder, tiles[n::2])) for n in range(2)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for done in pool.map(encode_all, tasks):
            for where, payload in done:
                json.dumps(sink.append(*where, payload))
    assert not (tmp_path / "a.zarr").exists()
    sink.finish()
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for number, level in enumerate(levels):
        assert np.array_equal(group[str(number)][:], level.transpose(2, 0, 1))


def test_workers_write_to_s3(s3, client):
    place = locate(f"s3://{s3.bucket()}/folder/a.ome.zarr")
    levels = pictures((200, 300), colors=3, smallest=64)
    sink = ZarrSink(place, target_of(levels, RGB), chunk=64)
    tiles = tiles_of(levels, RGB, sink.tile)
    tasks = [pickle.dumps((sink.encoder, tiles[n::4])) for n in range(4)]
    for done in client.gather(client.map(encode_all, tasks)):
        for where, payload in done:
            sink.append(*where, payload)
    with pytest.raises(FileNotFoundError):
        zarr.open_group(place.url, mode="r")
    sink.finish()
    group = zarr.open_group(place.url, mode="r")
    for number, level in enumerate(levels):
        assert np.array_equal(group[str(number)][:], level.transpose(2, 0, 1))
    again = ZarrSink(place, target_of(levels, RGB), chunk=64)
    again.discard()
    assert s3.keys(place.url.split("/")[2]) == []


# What is interrupted, and what fails


@pytest.fixture
def place(request, tmp_path):
    """Where an image goes, for tests that say `indirect`: a folder, memory or S3."""
    if request.param == "local":
        return locate(tmp_path / "a.zarr")
    if request.param == "memory":
        return locate(f"memory://test-sinks-zarr-{tmp_path.name}/a.zarr")
    return locate(f"s3://{request.getfixturevalue('s3').bucket()}/a.zarr")


@pytest.mark.parametrize("place", ["local", "memory"], indirect=True)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_unfinished_one_is_no_image(tmp_path, place, zarr_format):
    levels = pictures((100, 100), smallest=50)
    sink = ZarrSink(place, target_of(levels, PLAIN), chunk=32, zarr_format=zarr_format)
    for *at, pixels in tiles_of(levels, PLAIN, sink.tile):
        sink.encoder.encode(*at, pixels)
    with pytest.raises(FileNotFoundError):
        zarr.open(place.url, mode="r")
    sink.discard()
    fs, path = fsspec.url_to_fs(place.url)
    assert not fs.exists(path)
    assert os.listdir(tmp_path) == []


def test_a_late_task_brings_nothing_back(tmp_path):
    (image,) = levels = pictures((32, 32))
    sink = ZarrSink(locate(tmp_path / "a.zarr"), target_of(levels, PLAIN))
    sink.discard()
    with pytest.raises(ImageFileError, match="is not there"):
        sink.encoder.encode(0, (), (0, 0), image)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["local", "memory", "s3"], indirect=True)
def test_a_later_run_goes_on(tmp_path, place):
    levels = pictures((2, 100, 130), smallest=50)
    levels[0][0, :32, :32] = 0
    dims = ("t", "y", "x")
    target = target_of(levels, dims, **UM)
    first = ZarrSink(place, target, chunk=32, resume=True)
    assert not first.resumed
    tiles = tiles_of(levels, dims, first.tile)
    half = len(tiles) // 2
    done = [(at, first.append(*at, first.encoder.encode(*at, pixels))) for *at, pixels in tiles[:half]]
    first.flush()
    first.keep()
    second = ZarrSink(place, target, chunk=32, resume=True)
    assert second.resumed
    for at, entry in json.loads(json.dumps(done)):
        second.restore(at[0], tuple(at[1]), tuple(at[2]), entry)
    level, batch, at, _ = tiles[half]
    with pytest.raises(ImageFileError, match="lacks the chunk"):
        second.restore(level, batch, at, 10)
    for *at, pixels in tiles[half:]:
        second.append(*at, second.encoder.encode(*at, pixels))
    second.finish()
    group = zarr.open_group(place.url, mode="r")
    for number, level in enumerate(levels):
        assert np.array_equal(group[str(number)][:], level)
    if place.local:
        assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("place", ["local", "memory"], indirect=True)
@pytest.mark.parametrize("change", [{"chunk": 64}, {"compression": "gzip"}, {"resume": False}])
def test_a_run_with_other_choices_starts_anew(tmp_path, place, change):
    (image,) = levels = pictures((100, 130))
    first = ZarrSink(place, target_of(levels, PLAIN), chunk=32)
    entry = first.append(0, (), (0, 0), first.encoder.encode(0, (), (0, 0), image[:32, :32]))
    first.keep()
    second = ZarrSink(place, target_of(levels, PLAIN), **{"chunk": 32, "resume": True, **change})
    assert not second.resumed
    with pytest.raises(ImageFileError):
        second.restore(0, (), (0, 0), entry)
    second.discard()


KILLED = """
    import os, sys, threading
    import numpy as np
    from daskimg.io.sink import Target
    from daskimg.io.sinks.zarr import ZarrSink
    from daskimg.io.urls import locate

    image = np.random.default_rng(0).integers(0, 99, (2048, 2048), "uint8")
    target = Target(image.shape, ("y", "x"), image.dtype, (image.shape,))
    sink = ZarrSink(locate(sys.argv[1]), target, chunk=256, compression="none")
    def encode():
        while True:
            for at in np.ndindex(8, 8):
                sink.encoder.encode(0, (), at, image[at[0] * 256 :, at[1] * 256 :][:256, :256])
    for _ in range(3):
        threading.Thread(target=encode, daemon=True).start()
    for at in np.ndindex(4, 8):
        entry = sink.encoder.encode(0, (), at, image[at[0] * 256 :, at[1] * 256 :][:256, :256])
        print(*at, entry, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_run_leaves_whole_chunks(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "a.zarr")]
    killed = subprocess.run(script, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    image = np.random.default_rng(0).integers(0, 99, (2048, 2048), "uint8")
    options = {"chunk": 256, "compression": "none", "resume": True}
    sink = ZarrSink(locate(tmp_path / "a.zarr"), target_of([image], PLAIN), **options)
    assert sink.resumed
    lines = killed.stdout.splitlines()
    assert len(lines) == 32
    for row, column, entry in (map(int, line.split()) for line in lines):
        sink.restore(0, (), (row, column), entry)
    for at in np.ndindex(8, 8):
        if at[0] >= 4:
            sink.encoder.encode(0, (), at, image[at[0] * 256 :, at[1] * 256 :][:256, :256])
    sink.finish()
    assert np.array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[:], image)
    assert len(files_in(tmp_path / "a.zarr")) == 65  # no file that was not whole


@pytest.mark.parametrize("place", ["local", "memory", "s3"], indirect=True)
def test_an_older_image_is_replaced(tmp_path, place):
    write(place, pictures((100, 130), smallest=50), PLAIN, chunk=32)
    (image,) = levels = pictures((60, 64), seed=1)
    sink = ZarrSink(place, target_of(levels, PLAIN), chunk=32)
    if place.local:
        assert zarr.open_group(place.url, mode="r")["0"].shape == (100, 130)
    for *at, pixels in tiles_of(levels, PLAIN, sink.tile):
        sink.append(*at, sink.encoder.encode(*at, pixels))
    sink.finish()
    assert np.array_equal(zarr.open_array(place.url, mode="r")[:], image)
    fs, path = fsspec.url_to_fs(place.url)
    assert len(fs.find(path)) == 1 + 4
    assert os.listdir(tmp_path) == (["a.zarr"] if place.local else [])


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.zarr").mkdir()
    (tmp_path / "a.zarr").symlink_to(tmp_path / "disk" / "real.zarr")
    (image,) = levels = pictures((60, 64))
    write(locate(tmp_path / "a.zarr"), levels, PLAIN)
    assert (tmp_path / "a.zarr").is_symlink()
    assert np.array_equal(zarr.open_array(tmp_path / "disk" / "real.zarr", mode="r")[:], image)


@pytest.mark.parametrize("place", ["local", "memory"], indirect=True)
def test_what_is_no_zarr_stays(tmp_path, place):
    fs, path = fsspec.url_to_fs(place.url)
    fs.pipe_file(f"{path}/letters.txt", b"dear") if not place.local else (tmp_path / "a.zarr").write_text("dear")
    with pytest.raises(ImageFileError, match="holds something that is no Zarr"):
        ZarrSink(place, target_of(pictures((10, 10)), PLAIN))
    assert fs.cat_file(f"{path}/letters.txt" if not place.local else path) == b"dear"


def test_names_of_255_bytes(tmp_path):
    (image,) = levels = pictures((60, 64))
    name = "ü *?[a]" + "x" * 242 + ".zarr"
    assert len(name.encode()) == 255
    write(locate(tmp_path / name), levels, PLAIN)
    assert np.array_equal(zarr.open_array(tmp_path / name, mode="r")[:], image)


FULL = """
    import resource, signal, sys
    import numpy as np
    from daskimg.errors import ImageFileError
    from daskimg.io.sink import Target
    from daskimg.io.sinks.zarr import ZarrSink
    from daskimg.io.urls import locate

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    target = Target((256, 256), ("y", "x"), np.dtype("uint8"), ((256, 256),))
    sink = ZarrSink(locate(sys.argv[1]), target, compression="none")
    try:
        sink.encoder.encode(0, (), (0, 0), np.ones((256, 256), "uint8"))
    except ImageFileError as error:
        print(error)
    sink.discard()
"""


def test_no_room(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "a.zarr")]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert f"'{tmp_path}/a.zarr' cannot be written: [Errno 27] File too large" in said
    assert os.listdir(tmp_path) == []


def test_folders_that_are_missing_or_closed(tmp_path):
    target = target_of(pictures((10, 10)), PLAIN)
    with pytest.raises(ImageFileError, match="does not exist; make it first"):
        ZarrSink(locate(tmp_path / "none" / "a.zarr"), target)
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageFileError, match="does not exist; make it first"):
        ZarrSink(locate(tmp_path / "file" / "a.zarr"), target)
    with pytest.raises(ImageFileError, match="https can be read but not written"):
        ZarrSink(locate("https://example.com/a.zarr"), target)
    with pytest.raises(ImageFileError, match=r"may not be written|cannot be written"):
        ZarrSink(locate("/sys/a.zarr"), target)  # where not even root may


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "n5"}, "'zarr' or 'ome-zarr'"),
        ({"kind": "ome-zarr", "version": "0.3"}, "one of 0.4, 0.5"),
        ({"zarr_format": 4}, "must be 2 or 3"),
        ({"kind": "ome-zarr", "version": "0.4", "zarr_format": 3}, "OME-Zarr 0.4 is Zarr of format 2"),
        ({"compression": "jpeg"}, "none, zstd, gzip, blosc, lz4"),
        ({"chunk": 0}, "multiple of chunk"),
        ({"chunk": 64, "shard": 100}, "multiple of chunk"),
        ({"zarr_format": 2, "shard": 2048}, "no shards"),
    ],
)
def test_choices_that_do_not_exist(tmp_path, options, said):
    with pytest.raises(ParameterError, match=said):
        ZarrSink(locate(tmp_path / "a.zarr"), target_of(pictures((10, 10)), PLAIN), **options)
    assert os.listdir(tmp_path) == []


def test_images_that_do_not_fit(tmp_path):
    place = locate(tmp_path / "a.zarr")
    with pytest.raises(ParameterError, match="one level"):
        ZarrSink(place, target_of(pictures((100, 100), smallest=50), PLAIN), kind="zarr")
    with pytest.raises(DtypeError, match="cannot hold"):
        ZarrSink(place, Target((9, 9), PLAIN, np.dtype("M8[s]"), ((9, 9),)))
    several = Target((2, 9, 9, 3), ("c", "y", "x", "channel"), np.dtype("u1"), ((9, 9),))
    with pytest.raises(ArrayError, match="one more axis such as c"):
        ZarrSink(place, several, kind="ome-zarr")
    sink = ZarrSink(place, target_of(pictures((100, 100)), PLAIN), chunk=32)
    with pytest.raises(ArrayError, match=r"not the whole of \(32, 32\)"):
        sink.encoder.encode(0, (), (0, 0), np.zeros((32, 30), "u1"))
    sink.discard()
    assert os.listdir(tmp_path) == []
