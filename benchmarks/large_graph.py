"""Builds a graph of 100,000 chunks and prints: lazy s, materialised s, MB, dask's optimisation s, tasks."""

import time

import dask.array as da
import psutil
from dask.array.optimization import optimize
from dask.core import flatten

import daskimg as di


def build(image: da.Array) -> da.Array:
    """Apply five operations, one after another."""
    for number in range(5):
        image = di.gaussian_blur(image, ksize=3 + 2 * number)
    return image


def main() -> None:
    """Measure and print."""
    image = da.zeros((316 * 64, 317 * 64), chunks=64, dtype="uint8")
    build(da.zeros((64, 64), chunks=32, dtype="uint8"))  # what is done once in a process is not the graph's
    start = time.perf_counter()
    lazy = build(image)
    seconds_lazy = time.perf_counter() - start
    layer = lazy.dask.layers[lazy.name]
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    tasks = dict(layer)
    seconds = time.perf_counter() - start
    megabytes = (psutil.Process().memory_info().rss - before) / 1e6
    start = time.perf_counter()
    optimize(lazy.dask, list(flatten(lazy.__dask_keys__())))
    print(seconds_lazy, seconds, megabytes, time.perf_counter() - start, len(tasks))


if __name__ == "__main__":
    main()
