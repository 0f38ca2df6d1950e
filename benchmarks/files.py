"""Runs the benchmarks on files and writes benchmarks/files.md.

python -m benchmarks.files [--only large,streaming,renditions,many,tiny] [--scale 1.0] [--scratch FOLDER] [--dry-run]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import daskimg as di
from benchmarks import contenders, streaming
from benchmarks.harness import Result, machine, ratio, table

CHAIN = contenders.CHAIN.replace("|", "→")  # a bar would end a cell of the table


def run(name: str, *arguments: object) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contenders", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name} {arguments[-1]}: {found['seconds']:.2f} s, {found['peak']:.0f} MB", file=sys.stderr, flush=True)
    return found


def rounds(contenders: dict[str, Callable[[], dict[str, float]]], count: int) -> dict[str, list[dict[str, float]]]:
    """Run contenders in turn, several times."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(count):
        for name, contender in contenders.items():
            found[name].append(contender())
    return found


def seconds(found: Sequence[dict[str, float]]) -> list[float]:
    """Return the times of a contender."""
    return [one["seconds"] for one in found]


def timing(found: Sequence[dict[str, float]]) -> str:
    """Return median and range of a contender's times."""
    times = seconds(found)
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def peak(found: Sequence[dict[str, float]]) -> float:
    """Return the most memory that a contender took, in MB."""
    return max(one["peak"] for one in found)


def photo() -> np.ndarray:
    """Return a photo of 2048 x 2048 pixels, RGB, with the noise of a camera."""
    from skimage import data

    image = cv2.resize(data.astronaut(), (2048, 2048), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    image += np.random.default_rng(0).integers(-4, 5, image.shape, dtype=np.int16)
    return np.clip(image, 0, 255).astype(np.uint8)


def large_tiff(path: Path, side: int) -> None:
    """Write a tiled TIFF of RGB, compressed with deflate, unless it is there from another time."""
    import tifffile

    if path.exists():
        return

    tile, image = 512, photo()

    def tiles() -> Iterator[np.ndarray]:
        for row in range(0, side, tile):
            for column in range(0, side, tile):
                yield image[row % 2048 : row % 2048 + tile, column % 2048 : column % 2048 + tile]

    options: dict[str, Any] = {"photometric": "rgb", "compression": "deflate", "predictor": True, "bigtiff": True}
    tifffile.imwrite(path, tiles(), shape=(side, side, 3), dtype="uint8", tile=(tile, tile), **options)


def large_results(scratch: Path, scale: float) -> list[Result]:
    """Measure one large image against libvips, and its memory at twice the side."""
    side = max(2048, round(32768 * scale) // 2048 * 2048)
    source, twice = scratch / f"large-{side}.tif", scratch / f"large-{2 * side}.tif"
    large_tiff(source, side)
    outputs = {name: scratch / f"out-{name}" for name in ("ours.tif", "vips.tif", "ours.zarr")}

    def ours(to: str, compression: str) -> dict[str, float]:
        return run("large_ours", source, outputs[to], compression)

    found = rounds(
        {
            "ours": lambda: ours("ours.tif", "deflate"),
            "vips": lambda: run("large_vips", source, outputs["vips.tif"], "deflate"),
            "zarr": lambda: ours("ours.zarr", "zstd"),
        },
        3,
    )
    import tifffile

    same = np.mean(
        tifffile.imread(outputs["ours.tif"], key=0)[:512] == tifffile.imread(outputs["vips.tif"], key=0)[:512]
    )
    sizes = [outputs[name].stat().st_size / 1e6 for name in ("ours.tif", "vips.tif")]
    for path in outputs.values():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    large_tiff(twice, 2 * side)
    big = [
        run("large_ours", twice, scratch / f"out.{kind}", name) for kind, name in (("tif", "deflate"), ("zarr", "zstd"))
    ]
    (scratch / "out.tif").unlink()
    shutil.rmtree(scratch / "out.zarr")
    results = []
    for number, (name, label) in enumerate((("ours", "tiled TIFF, deflate"), ("zarr", "Zarr, zstd"))):
        faster = ratio(seconds(found["vips"]), seconds(found[name]))
        extra = (
            f"; {100 * same:.1f} % of samples equal, {sizes[0]:.0f} against {sizes[1]:.0f} MB" if name == "ours" else ""
        )
        growth = big[number]["peak"] / peak(found[name])
        results += [
            Result(
                f"{side}² RGB tiled TIFF, `{CHAIN}` on each channel → {label}: {timing(found[name])}, against "
                f"libvips → tiled TIFF, deflate: {timing(found['vips'])}{extra}",
                f"{faster:.2f}× as fast",
                "not slower",
                faster >= 1,
            ),
            Result(
                f"the same, memory: libvips {peak(found['vips']):.0f} MB",
                f"{peak(found[name]):.0f} MB",
                "at most 600 MB",
                peak(found[name]) <= 600,
            ),
            Result(
                f"the same at {2 * side}², memory: {big[number]['peak']:.0f} MB",
                f"{growth:.2f}×",
                "at most 1.1×",
                growth <= 1.1,
            ),
        ]
    return results


def streaming_results(scratch: Path, scale: float) -> list[Result]:
    """Measure a pipeline over a Zarr of 100,000 chunks."""
    source, to = scratch / "chunks.zarr", scratch / "chunks-out.zarr"
    streaming.make(source)
    results = []
    for where in ("threads", "workers"):
        command = [sys.executable, "-m", "benchmarks.streaming", str(source), str(to), where]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(output.splitlines()[-1])
        memory = {int(share): value for share, value in found["memory"].items()}
        growth = memory[max(memory)] - memory[20]
        print(f"  streaming, {where}: {found}", file=sys.stderr, flush=True)
        label = "two threads" if where == "threads" else "two worker processes; memory is that of client and scheduler"
        results += [
            Result(
                f"`{CHAIN}` over a Zarr of 99,856 chunks, {label}: {found['seconds']:.0f} s in all, first chunk",
                f"{found['first']:.1f} s",
                "within 10 s",
                found["first"] <= 10,
            ),
            Result(
                "the same, memory at 20 % and at the end", f"{memory[20]:.0f} MB, {growth:+.0f} MB", "flat", growth < 50
            ),
        ]
        shutil.rmtree(to)
    shutil.rmtree(source)
    return results


def renditions_results(scratch: Path, scale: float) -> list[Result]:
    """Measure four renditions of a photo of 12 megapixels."""
    source = scratch / "photo.jpg"
    pixels = cv2.resize(photo(), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    di.save_image(pixels, source, quality=92)
    found = rounds(
        {
            "exact": lambda: run("renditions_ours", source, scratch / "renditions", False),
            "reduced": lambda: run("renditions_ours", source, scratch / "renditions", True),
            "vips": lambda: run("renditions_vips", source, scratch, True),
        },
        7,
    )
    shutil.rmtree(scratch / "renditions")
    results = []
    for name, label in (("exact", "decoded once, whole"), ("reduced", "decoded once, reduced as libvips does")):
        faster = ratio(seconds(found["vips"]), seconds(found[name]))
        results.append(
            Result(
                f"JPEG of 12 megapixels → four renditions, {label}: {timing(found[name])}, against four thumbnails of "
                f"libvips: {timing(found['vips'])}",
                f"{faster:.2f}× as fast",
                "not slower" if name == "reduced" else "",
                faster >= 1 if name == "reduced" else None,
            )
        )
    return results


def many_results(scratch: Path, scale: float) -> list[Result]:
    """Measure many photos of a megapixel."""
    folder, out = scratch / "photos", scratch / "photos-out"
    folder.mkdir()
    count, image = max(64, round(2000 * scale)), photo()
    for number in range(count):
        row, column = (37 * number) % 1000, (53 * number) % 1000
        di.save_image(image[row : row + 1000, column : column + 1000], folder / f"{number:05}.jpg", quality=90)
    names = ("loop", "two_loops", "ours", "ours_threads", "joblib", "futures", "ray", "daft")

    def contender(name: str) -> dict[str, float]:
        out.mkdir()
        try:
            return run(
                f"many_{name.removesuffix('_threads')}", folder, out, "threads" if "threads" in name else "workers"
            )
        finally:
            shutil.rmtree(out)

    found = rounds({name: lambda name=name: contender(name) for name in names}, 3)
    shutil.rmtree(folder)
    results = []
    for name, label in (("ours", "two worker processes"), ("ours_threads", "two threads")):
        share = ratio(seconds(found["loop"]), seconds(found[name])) / 2
        rate = count / statistics.median(seconds(found[name]))
        results.append(
            Result(
                f"{count} JPEG of 1 megapixel, decode → gaussian → encode, {label}: {timing(found[name])}, "
                f"{rate:.0f} images/s; a bare loop of OpenCV: {timing(found['loop'])}",
                f"{100 * share:.0f} % of twice the loop",
                "at least 95 %",
                share >= 0.95,
            )
        )
    best = min(("ours", "ours_threads"), key=lambda name: statistics.median(seconds(found[name])))
    peers = {
        "two_loops": "two bare loops in two processes",
        "joblib": "joblib",
        "futures": "concurrent.futures processes",
        "ray": "Ray Data",
        "daft": "Daft",
    }
    for name, label in peers.items():
        faster = ratio(seconds(found[name]), seconds(found[best]))
        aim = None if name == "two_loops" else faster > 1
        results.append(
            Result(
                f"the same against {label}: {timing(found[name])}",
                f"{faster:.2f}× as fast",
                "" if aim is None else "ahead",
                aim,
            )
        )
    return results


def tiny_results(scratch: Path, scale: float) -> list[Result]:
    """Measure very many tiny files, and how long it takes to learn that nothing is left of them."""
    folder, out = scratch / "tiny", scratch / "tiny-out"
    folder.mkdir()
    count = max(1000, round(200_000 * scale))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64), dtype=np.uint8)
    encoded = [cv2.imencode(".png", one)[1].tobytes() for one in noise]
    for number in range(count):
        (folder / f"{number:06}.png").write_bytes(encoded[number % 64])
    out.mkdir()
    bare = run("many_two_loops", folder, out, "workers")
    shutil.rmtree(out)
    ours = run("many_ours", folder, out, "workers")
    start = time.perf_counter()
    report = di.process_images(folder, "gaussian_blur ksize=5", out, threads=2)
    nothing = time.perf_counter() - start
    assert report.ok, report
    shutil.rmtree(out)
    threads = run("many_ours", folder, out, "threads")
    shutil.rmtree(folder)
    shutil.rmtree(out)
    share = bare["seconds"] / ours["seconds"]
    return [
        Result(
            f"{count} PNG of 64², two worker processes: {ours['seconds']:.0f} s, "
            f"{count / ours['seconds']:.0f} images/s; two bare loops in two processes: {bare['seconds']:.0f} s",
            f"{100 * share:.0f} %",
            "at least 80 %",
            share >= 0.8,
        ),
        Result(
            f"the same, memory of client and scheduler: {ours['peak']:.0f} MB, of the largest worker",
            f"{ours['children']:.0f} MB",
            "",
            None,
        ),
        Result("the same on two threads", f"{100 * bare['seconds'] / threads['seconds']:.0f} %", "", None),
        Result("to learn that nothing of them is left", f"{nothing:.1f} s", "< 10 s", nothing < 10),
    ]


SECTIONS = {
    "large": large_results,
    "streaming": streaming_results,
    "renditions": renditions_results,
    "many": many_results,
    "tiny": tiny_results,
}


def main() -> int:
    """Run the sections, print the table and write it to benchmarks/files.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="which sections, with commas between")
    parser.add_argument("--scale", type=float, default=1.0, help="how large: 0.1 is a quick look")
    parser.add_argument(
        "--scratch", type=Path, help="a folder on a disk with 40 GB to spare, where large sources stay for another time"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the table only")
    options = parser.parse_args()
    results = []
    with contextlib.ExitStack() as stack:
        scratch = options.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in options.only.split(","):
            print(name, file=sys.stderr, flush=True)
            results += SECTIONS[name](scratch, options.scale)
    page = (
        "# Benchmarks on files\n\n`python -m benchmarks.files` writes this page. Each contender runs in a process of "
        "its own, in turn; imports and the start of clusters and pools are not counted. Figures are medians (lowest to "
        "highest), ratios are medians of the ratios within a round.\n\n"
        f"Measured on: {machine()}.\n\n{table(results)}\n"
    )
    print(page)
    if not options.dry_run:
        Path(__file__).with_name("files.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
