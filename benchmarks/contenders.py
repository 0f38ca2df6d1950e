"""Runs one contender on files, in a process of its own, and prints what it took: python -m benchmarks.contenders NAME.

Imports and what is started once (clusters, pools) are not timed. Memory is the peak of the process, and of the largest
of its children.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

CHAIN = "gaussian_blur ksize=5 | sobel dx=1 | absolute | threshold value=50"
QUALITY = 95  # of JPEG
WIDTHS = (2048, 1024, 512, 256)  # of the four renditions


class Clock:
    """Times the part of a contender that counts."""

    seconds = 0.0
    children = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time within."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        children = psutil.Process().children(recursive=True)
        self.children = max([self.children, *(peak(child.pid) for child in children)])


def peak(process: int) -> float:
    """Return the most memory that a process has taken, in MB; what it inherited from its parent does not count."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/status") as file:
        return next((int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM")), 0.0)
    return 0.0


# One large image: a tiled TIFF of RGB, the chain on each channel.


def large_ours(clock: Clock, source: str, to: str, compression: str) -> None:
    """By daskimg, on two threads."""
    import daskimg as di

    pipeline = di.Pipeline.from_text(CHAIN)
    with clock.running():
        di.save_image(pipeline(di.open_image(source)), to, compression=compression, tile=512, threads=2)


def large_vips(clock: Clock, source: str, to: str, compression: str) -> None:
    """By libvips, with its own threads: the same chain in integers, the same tiles and compression."""
    import pyvips

    with clock.running():
        image = pyvips.Image.new_from_file(source, access="sequential")
        smooth = image.convsep(pyvips.Image.new_from_array([[1, 4, 6, 4, 1]], scale=16), precision="integer")
        sobel = pyvips.Image.new_from_array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        edges = smooth.conv(sobel, precision="integer").abs() > 50
        options = {"tile": True, "tile_width": 512, "tile_height": 512, "bigtiff": True, "predictor": "horizontal"}
        edges.tiffsave(to, compression=compression, **options)


# One photo, four renditions.


def renditions_ours(clock: Clock, source: str, to: str, reduced: str) -> None:
    """By daskimg, one decoding, on one thread."""
    import daskimg as di

    outputs = [
        di.Output(di.resize(width=width, interpolation="area"), name=f"{{stem}}-{width}", quality=QUALITY)
        for width in WIDTHS
    ]
    options: dict[str, Any] = {"outputs": outputs, "threads": 1, "overwrite": True, "resume": False}
    options["reduced"] = reduced == "True"
    di.process_images(source, None, to, **options)  # what is done once in a process is not timed
    with clock.running():
        report = di.process_images(source, None, to, **options)
    assert report.ok, report


def renditions_vips(clock: Clock, source: str, to: str, reduced: str) -> None:
    """By four thumbnails of libvips, which decode JPEG at a smaller size where they can."""
    import pyvips

    def run() -> None:
        for width in WIDTHS:
            pyvips.Image.thumbnail(source, width).jpegsave(f"{to}/vips-{width}.jpg", Q=QUALITY)

    run()
    with clock.running():
        run()


# Many files: decode, gaussian, encode.


def one_file(source: str, to: str) -> None:
    """Do one file in bare OpenCV."""
    cv2.setNumThreads(1)
    image = cv2.imread(source, cv2.IMREAD_COLOR if source.endswith(".jpg") else cv2.IMREAD_UNCHANGED)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if source.endswith(".jpg") else []
    cv2.imwrite(os.path.join(to, os.path.basename(source)), cv2.GaussianBlur(image, (5, 5), 0), options)


def files_in(folder: str) -> list[str]:
    """Return the files of a folder, sorted."""
    return sorted(entry.path for entry in os.scandir(folder) if not entry.name.startswith("."))


def some_files(work: tuple[list[str], str]) -> None:
    """Do some files in bare OpenCV."""
    for source in work[0]:
        one_file(source, work[1])


def many_ours(clock: Clock, source: str, to: str, place: str) -> None:
    """By daskimg, on two threads or two worker processes."""
    import daskimg as di

    options: dict[str, Any] = {"quality": QUALITY} if any(Path(source).glob("*.jpg")) else {}
    with contextlib.ExitStack() as stack:
        if place == "threads":
            options["threads"] = 2
        else:
            options["cluster"] = stack.enter_context(di.start_cluster("local", workers=2, dashboard=False))
            options["cluster"].get_client().wait_for_workers(2)
        with clock.running():
            report = di.process_images(source, "gaussian_blur ksize=5", to, **options)
    assert report.ok, report


def many_loop(clock: Clock, source: str, to: str, place: str) -> None:
    """By a loop in one thread."""
    files = files_in(source)
    with clock.running():
        some_files((files, to))


def many_two_loops(clock: Clock, source: str, to: str, place: str) -> None:
    """By two bare loops in two processes, each over half of the files: nothing is coordinated."""
    files = files_in(source)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(abs, range(4)))
        with clock.running():
            list(pool.map(some_files, [(files[::2], to), (files[1::2], to)]))


def many_futures(clock: Clock, source: str, to: str, place: str) -> None:
    """By concurrent.futures, two processes."""
    files = files_in(source)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(abs, range(4)))
        with clock.running():
            list(pool.map(one_file, files, [to] * len(files), chunksize=16))


def many_joblib(clock: Clock, source: str, to: str, place: str) -> None:
    """By joblib, two processes."""
    from joblib import Parallel, delayed

    files = files_in(source)
    with Parallel(n_jobs=2) as parallel:
        parallel(delayed(abs)(number) for number in range(4))
        with clock.running():
            parallel(delayed(one_file)(file, to) for file in files)


def many_ray(clock: Clock, source: str, to: str, place: str) -> None:
    """By Ray Data: its own reading of binary files, mapped on two processors."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def work(batch: dict[str, Any]) -> dict[str, Any]:
        cv2.setNumThreads(1)
        for data, path in zip(batch["bytes"], batch["path"], strict=True):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            cv2.imwrite(os.path.join(to, os.path.basename(path)), cv2.GaussianBlur(image, (5, 5), 0), options)
        return {"path": batch["path"]}

    ray.data.range(4).map_batches(lambda batch: batch).materialize()
    with clock.running():
        ray.data.read_binary_files(source, include_paths=True).map_batches(work, batch_size=16).materialize()
    ray.shutdown()


def many_daft(clock: Clock, source: str, to: str, place: str) -> None:
    """By Daft: a function of ours over the paths, on its own threads."""
    import daft

    @daft.func(return_dtype=daft.DataType.bool())
    def work(path: str) -> bool:
        one_file(path, to)
        return True

    frame = daft.from_pydict({"path": files_in(source)}).into_partitions(2)
    with clock.running():
        frame.with_column("done", work(daft.col("path"))).collect()


CONTENDERS: dict[str, Callable[..., None]] = {
    name: function for name, function in globals().items() if name.startswith(("large_", "many_", "renditions_"))
}


def main() -> None:
    """Run the contender that the command line names, and print seconds and the peak of memory in MB."""
    clock = Clock()
    CONTENDERS[sys.argv[1]](clock, *sys.argv[2:])
    print(json.dumps({"seconds": clock.seconds, "peak": peak(os.getpid()), "children": clock.children}))


if __name__ == "__main__":
    main()
