"""Plans: what is said before the start holds afterwards, and what won't fit is refused."""

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

import daskimg as di
from daskimg.errors import EnvironmentProblem
from daskimg.planning import plan

# Saves a pipeline's result in a process of its own, and prints the planned and the true peak of its memory.
MEASURE = """
import sys
import daskimg as di
from daskimg.planning import plan
source, text, to = sys.argv[1:]
image = di.open_image(source)
found = plan(image, text, to, threads=2)
di.save_image(di.Pipeline.from_text(text)(image), to, threads=2)
with open("/proc/self/status") as status:  # getrusage would tell the peak of the process that started this one
    peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(found.peak_bytes, peak, found.read_bytes, found.written_bytes)
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "image.zarr"
    image = zarr.create_array(path, shape=(4096, 4096), chunks=(512, 512), dtype="uint8")
    for row in range(0, 4096, 512):
        image[row : row + 512] = np.random.default_rng(row).integers(0, 256, (512, 4096), dtype=np.uint8)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "gaussian_blur ksize=5 | sobel dx=1 | absolute | threshold value=50",
        "equalize_hist | median_blur ksize=3",
        "canny low=50 high=120",
        "resize scale=0.5",
        "invert | connected_components",
    ],
)
def test_the_peak_stays_below_the_plans(stored, tmp_path, text):
    command = [sys.executable, "-c", MEASURE, stored, text, tmp_path / "out.zarr"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout
    planned, measured, read, written = map(int, output.split())
    assert measured < planned < 10 * measured
    assert read >= 4096 * 4096
    result = zarr.open_array(tmp_path / "out.zarr")
    assert written == result.size * result.dtype.itemsize


def test_planning_computes_nothing(stored):
    def raising(*args, **kwargs):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=raising):
        found = plan(di.open_image(stored), "gaussian_blur ksize=5 | equalize_hist", threads=2)
    assert found.fits
    assert found.chunk_count == di.open_image(stored).npartitions


def test_what_will_not_fit_is_refused_with_the_numbers(tmp_path):
    image = da.zeros((40000, 40000), chunks=8192, dtype="float64")
    found = plan(image, "gaussian_blur sigma=3", tmp_path / "a.zarr", memory="500 MiB", threads=2)
    assert not found.fits
    with pytest.raises(EnvironmentProblem, match=r"500.00 MiB: use smaller chunks"):
        found.check()
    huge = da.zeros((10**7, 10**7), chunks=4096, dtype="uint8")
    with pytest.raises(EnvironmentProblem, match=r"before compression, and the disk of .* has .* left"):
        plan(huge, None, tmp_path / "a.zarr").check()


def test_chunks_are_made_smaller_where_memory_is_short(stored):
    wide = plan(stored, "gaussian_blur sigma=3 | canny low=10 high=30", memory="8 GiB", threads=2)
    short = plan(stored, "gaussian_blur sigma=3 | canny low=10 high=30", memory=wide.peak_bytes, threads=2)
    assert np.prod(short.chunks) < np.prod(wide.chunks)
    assert short.peak_bytes < wide.peak_bytes


def test_labelled_stacks_have_plans_too():
    import xarray

    stack = xarray.DataArray(da.zeros((4, 3, 900, 1000), chunks=(1, 1, 300, 300), dtype="uint16"), dims=tuple("tcyx"))
    found = plan(stack, "median_blur ksize=3", threads=1)
    assert found.written_bytes == stack.nbytes
    assert found.chunk_count == 4 * 3 * 12


def test_a_cluster_is_planned_for_by_its_workers(client):
    found = plan(da.zeros((4000, 4000), chunks=1000, dtype="uint8"), "invert", client=client)
    assert (found.processes, found.threads) == (2, 1)
    assert found.where.startswith("2 workers of tcp://")


def test_the_plan_is_shown():
    found = plan(da.zeros((4000, 3000), chunks=1000, dtype="uint8"), "invert", threads=2)
    assert "4000 x 3000 uint8, 11.44 MiB" in str(found)
    assert "<th>memory</th>" in found._repr_html_()
