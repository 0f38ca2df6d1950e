"""Times contenders interleaved, and writes the table of their ratios."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Result:
    """Is one line of the table: a figure, what it must reach, and whether it does."""

    what: str
    measured: str
    target: str
    reached: bool | None  # None: reported, without a target


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time each contender once a round, in turn; seconds by name.

    Each runs twice in a row and the second run counts. So all find memory that the system has handed out before; on
    virtual machines fetching it takes longer than the work, and would measure the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            run()
            gc.collect()
            start = time.perf_counter()
            result = run()
            seconds[name].append(time.perf_counter() - start)
            del result
        print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median over the rounds of how many times longer `slow` took than `fast`."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def milliseconds(seconds: list[float]) -> str:
    """Return median and range of timings, in milliseconds."""
    low, middle, high = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.4g} ms ({low:.4g} to {high:.4g})"


def machine() -> str:
    """Return what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    names = ("dask", "distributed", "numpy", "opencv-python-headless", "dask-image", "scikit-image")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def fresh_process(code: str, rounds: int) -> list[float]:
    """Return the seconds that `code` prints as its last line, from several fresh interpreters."""
    times = []
    for _ in range(rounds):
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        times.append(float(output.split()[-1]))
    return times


def table(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| what | measured | to reach | reached |", "|---|---|---|---|"]
    lines += [f"| {one.what} | {one.measured} | {one.target} | {marks[one.reached]} |" for one in results]
    return "\n".join(lines)
