"""Large images on their way out: any chunks, any tiles, several levels, in one pass, interrupted and resumed."""

import signal
import subprocess
import sys
import threading
import time

import cv2
import dask
import dask.array as da
import numpy as np
import pytest

import daskimg as di
from daskimg.chunked import bands
from daskimg.io.journal import Journal
from daskimg.io.pyramid import Halving, level_sizes
from daskimg.io.sink import Encoder, Sink, Target
from daskimg.io.streaming import Stopped, aligned, fingerprint, stream


class KeepTiles(Encoder):
    """Leaves tiles as they are."""

    def encode(self, level, batch, at, pixels):
        return pixels.copy()


class MemorySink(Sink):
    """Puts tiles together in memory; what was appended outlives it, as a file does."""

    def __init__(self, target, tile, stored=None):
        self.target, self.tile, self.encoder = target, tile, KeepTiles()
        self.stored = {} if stored is None else stored
        self.state = "open"
        self.tiles = {}
        self.appended = 0

    def append(self, level, batch, at, payload):
        assert (level, batch, at) not in self.tiles
        self.appended += 1
        number = len(self.stored)
        self.stored[number] = payload
        self.tiles[level, batch, at] = payload
        return number

    def restore(self, level, batch, at, entry):
        self.tiles[level, batch, at] = self.stored[entry]

    def flush(self):
        pass

    def finish(self):
        self.state = "finished"

    def keep(self):
        self.state = "kept"

    def discard(self):
        self.state = "discarded"
        self.stored.clear()

    def level(self, number):
        """The whole level, of which every pixel was written."""
        rows, columns = self.target.levels[number]
        tail = () if self.target.channels is None else (self.target.channels,)
        image = np.zeros((*self.target.batch, rows, columns, *tail), self.target.dtype)
        filled = np.zeros((*self.target.batch, rows, columns), int)
        for (level, batch, at), pixels in self.tiles.items():
            if level == number:
                where = (*batch, *(slice(at[n] * self.tile[n], at[n] * self.tile[n] + pixels.shape[n]) for n in (0, 1)))
                image[where] = pixels
                filled[where] += 1
        assert (filled == 1).all()
        return image


def target_of(image, dims=None, tile=(32, 32), **attrs):
    dims = dims or ("y", "x", "channel")[: image.ndim]
    y = dims.index("y")
    return Target(image.shape, dims, image.dtype, level_sizes(*image.shape[y : y + 2], tile[0]), attrs)


@pytest.fixture
def noise():
    return np.random.default_rng(7).integers(0, 256, (300, 421, 3), dtype=np.uint8)


@pytest.mark.parametrize("chunks", [64, (128, 96), (300, 421), 32, ((100, 200), (1, 400, 20)), 37])
@pytest.mark.parametrize("align", [True, False])
def test_every_level_is_whole_whatever_the_chunks(noise, chunks, align):
    pipeline = di.gaussian_blur(ksize=5) | di.invert()
    image = pipeline(da.from_array(noise, chunks=(*chunks, -1) if isinstance(chunks, tuple) else (chunks, chunks, -1)))
    image = aligned(image, (32, 32), 0) if align else image
    sink = MemorySink(target_of(image), (32, 32))
    stream(image, sink.target, sink, Halving("mean"))
    assert sink.state == "finished"
    expected = pipeline(noise)
    for number in range(len(sink.target.levels)):
        assert np.array_equal(sink.level(number), expected)
        expected = Halving("mean")(expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 7, float("nan")])
def test_means_are_those_of_valid_pixels(dtype, nodata):
    if nodata is not None and np.isnan(nodata) and dtype[0] != "f":
        nodata = 0
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 9, (21, 34)).astype(dtype)
    if nodata is not None:
        pixels[generator.random(pixels.shape) < 0.4] = nodata
    half = Halving("mean", nodata)(pixels)
    even = np.pad(pixels, ((0, 1), (0, 0)), "edge").astype("float64")
    for row, column in np.ndindex(half.shape):
        four = even[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
        valid = four if nodata is None else four[~np.isnan(four)] if np.isnan(nodata) else four[four != nodata]
        mean = valid.mean() if len(valid) else nodata
        mean = np.floor(mean + 0.5) if dtype[0] != "f" else mean
        assert half[row, column] == np.dtype(dtype).type(mean) or (np.isnan(mean) and np.isnan(half[row, column]))


def test_means_of_plain_pixels_are_opencvs(noise):
    even = noise[:300, :420]
    assert np.array_equal(Halving("mean")(even), cv2.resize(even, (210, 150), interpolation=cv2.INTER_AREA))
    assert np.array_equal(Halving("nearest")(even), even[::2, ::2])


def test_stacks_are_written_plane_by_plane():
    stack = np.random.default_rng(1).integers(0, 999, (3, 2, 70, 90), dtype=np.uint16)
    image = da.from_array(stack, chunks=(2, 1, 32, 64))
    sink = MemorySink(target_of(image, ("t", "c", "y", "x")), (32, 32))
    stream(image, sink.target, sink, Halving("mean"))
    assert np.array_equal(sink.level(0), stack)
    planes = [[Halving("mean")(plane) for plane in channels] for channels in stack]
    assert np.array_equal(sink.level(1), np.array(planes))


@pytest.mark.parametrize(
    "text",
    ["gaussian_blur ksize=5", "equalize_hist", "canny low=50 high=120 | connected_components", "resize scale=0.5"],
)
@pytest.mark.parametrize("held", [0, 2**30])
def test_bands_give_the_same_pixels_and_compute_what_they_share_once(monkeypatch, text, held):
    monkeypatch.setattr(bands, "BAND", 20)
    pixels = np.random.default_rng(5).integers(0, 256, (400, 500), dtype=np.uint8)
    pipeline = di.Pipeline.from_text(text)
    with dask.config.set({"daskimg.held": held}):
        image = pipeline(da.from_array(pixels, chunks=48))
        assert image.npartitions > 3 * 20 or "resize" in text
        found = dict(bands.chunks_by_threads(image, lambda index, chunk: chunk))
    rows, columns = image.numblocks
    whole = np.block([[found[row, column] for column in range(columns)] for row in range(rows)])
    assert np.array_equal(whole, pipeline(pixels))


def test_what_all_bands_need_is_computed_once(monkeypatch):
    monkeypatch.setattr(bands, "BAND", 10)
    reads = []

    def read(block_info=None):
        reads.append(block_info[None]["chunk-location"])
        return np.full((8, 8), 3.0)

    image = da.map_blocks(read, chunks=((8,) * 8, (8,) * 8), dtype=float, meta=np.empty((0, 0)))
    found = dict(bands.chunks_by_threads(image - image.mean(), lambda index, chunk: chunk.sum()))
    assert len(found) == 64
    assert set(found.values()) == {0.0}
    assert len(reads) <= 2 * 64  # once for the mean, once for the difference


def test_the_first_chunks_come_before_the_last_band_is_begun(monkeypatch):
    monkeypatch.setattr(bands, "BAND", 50)
    begun = []
    image = da.map_blocks(lambda block_info=None: np.zeros((1, 1)) if begun.append(1) is None else None,
                          chunks=((1,) * 30, (1,) * 30), dtype=float, meta=np.empty((0, 0)))  # fmt: skip
    for number, _ in enumerate(bands.chunks_by_threads(image, lambda index, chunk: None)):
        assert len(begun) <= number + 3 * 50


def test_stopping_keeps_what_is_done_and_a_later_run_does_the_rest(noise, tmp_path):
    image = di.median_blur(da.from_array(noise, chunks=(64, 64, 3)), ksize=3)
    target, stored = target_of(image), {}
    name = fingerprint(image, target)
    cancel = threading.Event()

    def stop_at_ten(progress):
        if progress.done >= 10:
            cancel.set()

    first = MemorySink(target, (32, 32), stored)
    with pytest.raises(Stopped):
        stream(image, target, first, Halving("mean"), journal=Journal(tmp_path / "j", name), progress=stop_at_ten,
               cancel=cancel)  # fmt: skip
    assert first.state == "kept"
    journal = Journal(tmp_path / "j", name)
    done = len(list(journal.entries()))
    assert 10 <= done < image.npartitions
    second = MemorySink(target, (32, 32), stored)
    shown = []
    stream(image, target, second, Halving("mean"), journal=journal, progress=shown.append)
    assert shown[0].before == done
    assert shown[-1].done == image.npartitions
    finest = sum(1 for level, *_ in second.tiles if level == 0)
    assert second.appended < len(second.tiles) - finest * done // image.npartitions // 2  # not all of it again
    expected = di.median_blur(noise, ksize=3)
    for number in range(len(target.levels)):
        assert np.array_equal(second.level(number), expected)
        expected = Halving("mean")(expected)
    assert not list(tmp_path.iterdir())


def test_a_journal_of_another_image_is_not_followed(tmp_path):
    journal = Journal(tmp_path / "j", "one")
    journal.add((0, 0), [[0, [], [0, 0], 5]], [])
    journal.close()
    assert [entry.chunk for entry in Journal(tmp_path / "j", "one").entries()] == [(0, 0)]
    assert not list(Journal(tmp_path / "j", "another").entries())
    (tmp_path / "broken").write_bytes(b"no database" * 1000)
    assert not list(Journal(tmp_path / "broken", "one").entries())


def test_what_fails_leaves_nothing_without_a_journal(noise):
    def fail(block):
        raise ValueError("a bad chunk")

    image = da.from_array(noise, chunks=(64, 64, 3)).map_blocks(fail, dtype="uint8", meta=np.empty((0, 0, 0), "uint8"))
    sink = MemorySink(target_of(image), (32, 32))
    with pytest.raises(ValueError, match="a bad chunk"):
        stream(image, sink.target, sink, Halving("mean"))
    assert sink.state == "discarded"


def test_a_cluster_computes_and_this_process_writes(noise, client):
    image = di.gaussian_blur(da.from_array(noise, chunks=(64, 64, 3)), ksize=7)
    sink = MemorySink(target_of(image), (32, 32))
    stream(image, sink.target, sink, Halving("mean"), client=client)
    assert np.array_equal(sink.level(0), di.gaussian_blur(noise, ksize=7))
    deadline = time.monotonic() + 10
    while client.futures and time.monotonic() < deadline:  # the client lets go of them a little later
        time.sleep(0.05)
    assert not client.futures


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr", "a.tif", "a.ome.tif"])
def test_a_killed_process_is_gone_on_with(noise, tmp_path, name):
    np.save(tmp_path / "noise.npy", np.tile(noise, (4, 4, 1)))
    script = f"""
import os, signal, sys
import daskimg as di
def after_ten(progress):
    print(progress.before, progress.done, progress.total, flush=True)
    if sys.argv[1] == "die" and progress.done == 10:
        os.kill(os.getpid(), signal.SIGKILL)
image = di.open_image({str(tmp_path / "noise.npy")!r}, chunks=256)
di.save_image(di.gaussian_blur(image, ksize=5), {str(tmp_path / name)!r}, tile=64, resume=True, threads=2,
              progress=after_ten)
"""
    killed = subprocess.run([sys.executable, "-c", script, "die"], capture_output=True, text=True, timeout=100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / name).exists()
    again = subprocess.run([sys.executable, "-c", script, "live"], capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    before, done, total = map(int, again.stdout.split()[:3])
    assert before == done >= 9
    assert total > done
    expected = di.gaussian_blur(np.tile(noise, (4, 4, 1)), ksize=5)
    assert np.array_equal(di.open_image(tmp_path / name).compute(), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "noise.npy"])
