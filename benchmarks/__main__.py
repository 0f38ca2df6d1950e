"""Runs the benchmarks and writes benchmarks/README.md.

python -m benchmarks [--side 16384] [--rounds 7] [--dry-run]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import cv2
import dask.array as da
import numpy as np

import daskimg as di
from benchmarks import chain, whole
from benchmarks.harness import Result, fresh_process, interleaved, machine, milliseconds, ratio, table

IMPORT_PEERS = "import time; s = time.perf_counter(); import cv2, dask.array; print(time.perf_counter() - s)"
IMPORT_OURS = "import cv2, dask.array, time; s = time.perf_counter(); import daskimg; print(time.perf_counter() - s)"
FORBIDDEN = ("matplotlib", "IPython", "jupyter", "boto3", "botocore", "s3fs", "distributed")


def chain_results(side: int, rounds: int) -> list[Result]:
    """Measure the chain on a large image against everyone."""
    image = chain.photo_like(side)
    chunked = da.from_array(image, chunks=chain.CHUNK)
    lazy = chain.PIPELINE(chunked)
    overlap = chain.overlap_per_operation(chunked)
    expected = chain.in_cv2(image)
    if not np.array_equal(lazy.compute(), expected):
        raise AssertionError("the fused chain differs from OpenCV on the whole image")
    del expected
    print("chain", file=sys.stderr)
    seconds = interleaved(
        {
            "ours": lambda: di.to_numpy(lazy),
            "ours, compute()": lazy.compute,
            "ours, left in chunks": lazy.persist,
            "cv2": lambda: chain.in_cv2(image),
            "by hand": lambda: chain.by_hand(image),
            "map_overlap": overlap.compute,
        },
        rounds,
    )
    print("chain, slow peers", file=sys.stderr)
    slow = interleaved(
        {
            "ours": lambda: di.to_numpy(lazy),
            "scikit-image": lambda: chain.in_scikit_image(image),
            "dask-image": chain.in_dask_image(chunked).compute,
        },
        2,
    )
    print("gaussian", file=sys.stderr)
    smooth = di.gaussian_blur(chunked, ksize=5)
    single = interleaved(
        {"ours": lambda: di.to_numpy(smooth), "cv2": lambda: cv2.GaussianBlur(image, (5, 5), 0)}, rounds
    )
    name = f"chain of four on {side}² uint8"
    results = [Result(f"{name}, into one array by `daskimg.to_numpy`", milliseconds(seconds["ours"]), "", None)]
    for peer, label, wanted in (
        ("cv2", "`cv2` on the whole image, all cores", 2),
        ("map_overlap", "one `map_overlap` per operation, same cv2 calls and chunks", 3),
    ):
        found = ratio(seconds[peer], seconds["ours"])
        results.append(
            Result(
                f"against {label}: {milliseconds(seconds[peer])}",
                f"{found:.2f}× faster",
                f"at least {wanted}×",
                found >= wanted,
            )
        )
        found = ratio(seconds[peer], seconds["ours, compute()"])
        results.append(
            Result(
                f"the same, ours by dask's `compute()`: {milliseconds(seconds['ours, compute()'])}",
                f"{found:.2f}× faster",
                "",
                None,
            )
        )
    for peer, label in (("scikit-image", "scikit-image `apply_parallel`"), ("dask-image", "dask-image")):
        found = ratio(slow[peer], slow["ours"])
        results.append(
            Result(f"against {label}: {milliseconds(slow[peer])}", f"{found:.1f}× faster", "at least 10×", found >= 10)
        )
    overhead = ratio(seconds["ours, left in chunks"], seconds["by hand"])
    results.append(
        Result(
            f"the engine, result left in chunks: {milliseconds(seconds['ours, left in chunks'])}, against the same "
            f"chunks and strips by hand on two threads: {milliseconds(seconds['by hand'])}",
            f"{overhead:.2f}× the time",
            "at most 1.15×",
            overhead <= 1.15,
        )
    )
    found = ratio(single["cv2"], single["ours"])
    results.append(
        Result(
            f"one gaussian 5×5: {milliseconds(single['ours'])}, against `cv2`, all cores: "
            f"{milliseconds(single['cv2'])}",
            f"{found:.2f}× faster",
            "not slower",
            found >= 1,
        )
    )
    return results


def small_photo_result() -> Result:
    """Measure what the eager form adds to a bare cv2 call on a small photo."""
    photo = chain.photo_like(1024)[:512, :512].copy()

    def many(call: object) -> object:
        return lambda: [call() for _ in range(200)]  # type: ignore[operator]

    seconds = interleaved(
        {
            "bare": many(lambda: cv2.GaussianBlur(photo, (5, 5), 0)),
            "ours": many(lambda: di.gaussian_blur(photo, ksize=5)),
        },  # type: ignore[arg-type]
        15,
    )
    added = statistics.median(
        (ours - bare) / 200 * 1e6 for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True)
    )
    return Result(
        "eager gaussian on a 512² photo, on top of the bare cv2 call", f"{added:.1f} µs", "≤ 30 µs", added <= 30
    )


def graph_results() -> list[Result]:
    """Measure a graph of 100,000 chunks and five operations, in a fresh process."""
    code = Path(__file__).with_name("large_graph.py")
    output = subprocess.run([sys.executable, str(code)], capture_output=True, text=True, check=True).stdout
    lazy, seconds, megabytes, optimise, tasks = map(float, output.split())
    return [
        Result("graph of 100,000 chunks, five operations: lazy", f"{1000 * lazy:.1f} ms", "< 10 ms", lazy < 0.01),
        Result(f"the same, its {tasks:.0f} tasks made", f"{seconds:.2f} s", "< 5 s", seconds < 5),
        Result("the same, memory", f"{megabytes:.0f} MB", "< 400 MB", megabytes < 400),
        Result("dask's own optimisation of it", f"{optimise:.2f} s", "", None),
    ]


def import_result(rounds: int) -> Result:
    """Measure what `import daskimg` adds to importing cv2 and dask.array."""
    added, peers = fresh_process(IMPORT_OURS, rounds), fresh_process(IMPORT_PEERS, rounds)
    code = f"import sys, daskimg; print(sum(name.partition('.')[0] in {FORBIDDEN!r} for name in sys.modules))"
    heavy = fresh_process(code, 1)[0]
    middle = statistics.median(added)
    return Result(
        f"`import daskimg`, on top of `import cv2, dask.array` ({milliseconds(peers)})",
        f"{1000 * middle:.0f} ms, {heavy:.0f} heavy modules",
        "< 600 ms, none",
        middle < 0.6 and heavy == 0,
    )


def main() -> int:
    """Run all benchmarks, print the table and write it to benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384, help="rows and columns of the large image")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender runs")
    parser.add_argument("--dry-run", action="store_true", help="print the table only")
    options = parser.parse_args()
    results = [import_result(options.rounds), *graph_results(), small_photo_result()]
    results = [*chain_results(options.side, options.rounds), *whole.results(options.side, options.rounds), *results]
    page = (
        "# Benchmarks\n\n`make bench` writes this page. Contenders take turns within one process. In each round each "
        "runs twice in a row and the second run counts, so that all find memory that the system has handed out before. "
        "Figures are medians (lowest to highest), ratios are medians of the ratios within a round.\n\n"
        f"Measured on: {machine()}.\n\n{table(results)}\n"
    )
    print(page)
    if not options.dry_run:
        Path(__file__).with_name("README.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
