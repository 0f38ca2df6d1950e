"""Shows daskimg at work on this machine: many photos on a cluster, one large image on threads, a sheet to look at."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from daskimg.batch import Report, process_images
from daskimg.errors import EnvironmentProblem
from daskimg.io import read_image, save_image
from daskimg.operations import draw_text
from daskimg.pipeline import Pipeline, Step
from daskimg.progress import Progress, duration

__all__ = ["demo"]

# Files inside the scikit-image wheel; what its other samples need is a download.
PHOTOS = {
    "astronaut.png": "astronaut",
    "coffee.png": "coffee",
    "chelsea.png": "cat",
    "rocket.jpg": "rocket",
    "hubble_deep_field.jpg": "Hubble deep field",
    "retina.jpg": "retina",
    "ihc.png": "stained tissue",
    "motorcycle_left.png": "motorcycle",
}
PIPELINES = {
    "enhanced": "bilateral_filter d=9 sigma_color=30 sigma_space=4 | sharpen amount=1.2 sigma=2"
    " | hue_saturation saturation=1.35",
    "edges": "to_gray | gaussian_blur ksize=5 | morphological_gradient ksize=3 | gamma gamma=0.45"
    " | colormap name=inferno",
}
LARGE = "gaussian_blur ksize=5 | sharpen amount=1.5 sigma=2 | morphological_gradient ksize=3 | invert"
TILE = 1024  # pixels; a side of the photos in the mosaic

Say = Callable[[str], None]


def demo(
    to: str | Path = "demo-output",
    *,
    workers: int = 2,
    side: int = 8192,
    say: Say = print,
    progress: Callable[[Progress], None] | bool = True,
    cancel: threading.Event | None = None,
) -> Path:
    """Put sample photos through two pipelines on a local cluster, and one large image through another on threads.

    Parameters
    ----------
    to : str or path
        The folder for photos, results and the sheet; what an earlier demo wrote there is replaced.
    workers : int
        Worker processes of the cluster.
    side : int
        Rows and columns of the large image.
    say : callable
        Gets each line that tells what is done.
    progress : callable or bool
        As in `process_images`.
    cancel : threading.Event
        Set it to stop.

    Returns
    -------
    Path
        The sheet that shows photos before and after.

    Raises
    ------
    EnvironmentProblem
        If scikit-image, which brings the photos, is not installed.
    """
    from daskimg.clusters import start_cluster

    began = time.perf_counter()
    folder = Path(to).absolute()
    photos = copy_photos(folder / "photos")
    say(f"1. {len(photos)} photos that scikit-image ships: {folder / 'photos'}")
    say(f"2. A dask cluster of {workers} processes on this machine ...")
    sheet = folder / "before-after.png"
    with start_cluster("local", workers=workers) as cluster:
        say(f"   watch it work: {cluster.dashboard_link}")
        say("3. Every photo through two pipelines; each is decoded, processed and saved by a worker:")
        for name, text in PIPELINES.items():
            say(f"   {name}: {text}")
            report = process_images(
                photos,
                text,
                folder / name,
                format="png",
                overwrite=True,
                resume=False,
                cluster=cluster,
                progress=progress,
                cancel=cancel,
            )
            if report.cancelled:
                return sheet
            say(f"   {_summary(report)}")
    say(
        f"4. One image of {side} x {side} pixels as a dask array, its {LARGE.count('|') + 1} steps fused into one pass:"
    )
    say(f"   {LARGE}")
    for line in one_large_image(mosaic(photos, side), folder / "mosaic.jpg"):
        say(f"   {line}")
    save_image(draw_sheet(photos, folder), sheet)
    say(f"5. All of it in {duration(time.perf_counter() - began)}. Look at the photos before and after:")
    say(f"   {sheet}")
    return sheet


def _summary(report: Report) -> str:
    failed = "".join(f"\n   failed: {one.source}: {one.reason}" for one in report.failures)
    return f"{report.done} of {report.total} photos in {duration(report.seconds)}" + failed


def copy_photos(to: Path) -> list[Path]:
    """Copy the sample photos of scikit-image to a folder and return them."""
    found = find_spec("skimage")
    places = found.submodule_search_locations if found is not None else None
    data = [path for name in PHOTOS for place in places or () if (path := Path(place, "data", name)).is_file()]
    if not data:
        raise EnvironmentProblem("the photos of the demo come with scikit-image: pip install 'daskimg[demo]'")
    to.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, to / path.name)) for path in data]


def fitted(photo: Any, width: int, height: int) -> Any:
    """Return what of a photo fills a frame, scaled; what is too high is cut below rather than above."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(photo).convert("RGB"), (width, height), centering=(0.5, 0.2)))


def mosaic(photos: Sequence[Path], side: int) -> Any:
    """Return a square image tiled with photos, each row shifted so that equal ones don't line up."""
    tiles = [fitted(read_image(path), TILE, TILE) for path in photos]
    count = -(-side // TILE)
    image = np.empty((count * TILE, count * TILE, 3), np.uint8)
    for row in range(count):
        for column in range(count):
            where = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            image[where] = tiles[(row * 3 + column) % len(tiles)]
    return image[:side, :side]


def one_large_image(image: Any, preview: Path) -> list[str]:
    """Process an image as a dask array and with OpenCV alone, and return what the comparison says."""
    import dask.array as da
    from dask.system import CPU_COUNT

    pipeline = Pipeline.from_text(LARGE)
    result = np.empty_like(image)

    def in_chunks() -> None:
        lazy = pipeline(da.from_array(image, chunks=(2048, 2048, -1), name=False))
        da.store(lazy, result, lock=False, scheduler="threads", num_workers=CPU_COUNT)

    ours = _fastest(in_chunks)
    expected: list[Any] = []

    def whole() -> None:
        expected[:] = [pipeline(image)]

    plain = _fastest(whole)
    different = int(np.count_nonzero(result != expected[0]))
    save_image(result[:: max(1, len(result) // 1024), :: max(1, len(result) // 1024)], preview)
    pixels = "identical pixels" if not different else f"{different} of {result.size} values differ"
    comparison = f"{plain / ours:.1f} times as fast" if ours < plain else f"{ours / plain:.1f} times as long"
    return [
        f"daskimg on {CPU_COUNT} threads   {ours:.2f} s",
        f"OpenCV on the whole   {plain:.2f} s   (with its own threads)",
        f"{pixels}, {comparison}; a preview: {preview}",
    ]


def _fastest(run: Callable[[], None], times: int = 2) -> float:
    """Return the shorter time of two: the first also pays for memory that was never touched."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


WIDTH, HEIGHT, GAP, MARGIN, CAPTION, TITLE = 300, 200, 6, 40, 44, 150
PAPER, INK, FAINT = 250, 30, 110


def draw_sheet(photos: Sequence[Path], folder: Path) -> Any:
    """Return a contact sheet: two photos a row, each before and after both pipelines."""
    block = 3 * WIDTH + 2 * GAP
    rows = -(-len(photos) // 2)
    sheet = np.full((TITLE + rows * (HEIGHT + CAPTION) + MARGIN, 3 * MARGIN + 2 * block, 3), PAPER, np.uint8)
    marks = [_text("daskimg", MARGIN - 14, MARGIN, 36, INK, 700)]
    for line, (name, text) in enumerate(PIPELINES.items()):
        marks.append(_text(f"{name}:  {text}", MARGIN - 10 + 24 * line, 3 * MARGIN + WIDTH // 2, 17, FAINT))
    for number, path in enumerate(photos):
        top = TITLE + (number // 2) * (HEIGHT + CAPTION)
        left = MARGIN + (number % 2) * (block + MARGIN)
        for place, name in enumerate(["photos", *PIPELINES]):
            x = left + place * (WIDTH + GAP)
            if number < 2:
                marks.append(_text("before" if name == "photos" else name, TITLE - 28, x, 18, INK, 600))
            file = folder / name / (path.name if name == "photos" else f"{path.stem}.png")
            if file.is_file():  # else its failure was said above
                sheet[top : top + HEIGHT, x : x + WIDTH] = fitted(read_image(file), WIDTH, HEIGHT)
        marks.append(_text(PHOTOS[path.name], top + HEIGHT + 6, left, 17, FAINT))
    return Pipeline(*marks)(sheet)


def _text(text: str, row: int, column: int, size: int, gray: int, weight: int = 400) -> Step:
    return draw_text(text=text, row=row, column=column, size=size, color=gray, weight=weight)
