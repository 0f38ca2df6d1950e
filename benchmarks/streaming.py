"""One pipeline over a Zarr of 100,000 chunks: prints when the first chunk is done, and memory on the way, as JSON.

python -m benchmarks.streaming SOURCE TO WHERE, where WHERE is `threads` or `workers`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import zarr

import daskimg as di
from benchmarks.contenders import CHAIN

SIDE, COUNT = 64, 316


def make(path: Path) -> None:
    """Write the Zarr: its chunks are of noise, not compressed, each a file of 4 KiB."""
    zarr.create_array(path, shape=(COUNT * SIDE,) * 2, chunks=(SIDE, SIDE), dtype="uint8", compressors=None)
    noise = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE), dtype=np.uint8)
    for row in range(COUNT):
        folder = path / "c" / str(row)
        folder.mkdir(parents=True)
        for column in range(COUNT):
            (folder / str(column)).write_bytes(noise[(7 * row + column) % 16].tobytes())


def megabytes(processes: list[psutil.Process]) -> float:
    """Return the memory of the largest of some processes, in MB."""
    return max(process.memory_info().rss for process in processes) / 1e6


def main() -> None:
    """Run it and print what was seen."""
    source, to, where = sys.argv[1:]
    own = psutil.Process()
    with ExitStack() as stack:
        threads: int | None = 2
        if where == "workers":
            cluster = stack.enter_context(di.start_cluster("local", workers=2, dashboard=False))
            stack.enter_context(cluster.get_client()).wait_for_workers(2)
            threads = None
        began, first, memory = time.perf_counter(), 0.0, {}

        def look(progress: object) -> None:
            nonlocal first
            first = first or (time.perf_counter() - began if progress.done else 0.0)
            share = 100 * progress.done // progress.total
            if share % 10 == 0:
                memory.setdefault(share, megabytes([own]))

        image = di.Pipeline.from_text(CHAIN)(di.open_image(source, chunks=SIDE))
        di.save_image(image, to, tile=SIDE, threads=threads, progress=look)
        seconds = time.perf_counter() - began
    print(json.dumps({"first": first, "seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main()
