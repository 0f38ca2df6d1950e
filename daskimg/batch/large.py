"""A file of a batch that is larger than a worker's share of memory: it is done by chunk, with all of the place."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import dask

from daskimg.batch.outputs import Output
from daskimg.batch.places import OnCluster, Place, Threads
from daskimg.batch.sources import SUFFIXES
from daskimg.batch.staging import Staged
from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome, Work, failed
from daskimg.errors import DaskimgError
from daskimg.io.formats import suffix_of
from daskimg.io.inspecting import image_info, read_metadata
from daskimg.io.large import Streaming, streamed_format
from daskimg.io.reading import open_image
from daskimg.io.saving import save_image
from daskimg.io.streaming import Stopped
from daskimg.io.urls import Location, locate
from daskimg.planning import plan

__all__ = ["process_large"]

MICROMETERS = 25400  # of an inch


def process_large(
    job: Job, work: Work, place: Place, show: Callable[[float], None], cancel: threading.Event | None
) -> Outcome:
    """Do a file by chunk; `show` is told how much of it is done, from 0 to 1.

    What is done of a result that is streamed, TIFF or Zarr, is kept when it is interrupted, and the next run goes on.
    """
    if isinstance(place, Staged):
        return place.pass_one(job, lambda sent: process_large(sent, work, place.place, show, cancel))
    began = time.perf_counter()
    made: list[str] = []
    try:
        with _computing(place) as (client, threads):
            for number, (output, target) in enumerate(zip(work.outputs, job.targets, strict=True)):
                made.append(target)
                show_all = functools.partial(_show_part, show, number, len(work.outputs))
                pixels = _make(job, work, output, target, client, threads, show_all, cancel)
        sizes = tuple(_size(locate(target, work.storage_options)) for target in job.targets)
        outcome = Outcome(pixels=pixels, sizes=sizes, version=job.version)
    except Stopped:
        _take_away(made[:-1])
        return Outcome(skipped=True)
    except DaskimgError as error:
        _take_away(made[:-1])
        outcome = failed(error, job)
    except Exception as error:
        _take_away(made[:-1])
        outcome = Outcome(reason=f"{type(error).__name__}: {error}", details=traceback.format_exc())
    return outcome._replace(seconds=time.perf_counter() - began)


def _take_away(targets: list[str]) -> None:
    """Take away the local results of an image that has all of them or none."""
    for target in filter(os.path.exists, targets):
        shutil.rmtree(target) if os.path.isdir(target) else os.unlink(target)


def _show_part(show: Callable[[float], None], number: int, count: int, part: float) -> None:
    show((number + part) / count)


def _size(place: Location) -> int:
    """Return the bytes of a result; 0 for a folder."""
    if place.local:
        return 0 if os.path.isdir(place.url) else os.path.getsize(place.url)
    fs, path = place.filesystem()
    return int(fs.size(path) or 0)


@contextlib.contextmanager
def _computing(place: Place) -> Iterator[tuple[Any, int | None]]:
    """Let dask compute where the batch runs, and yield the client or the number of threads."""
    if isinstance(place, OnCluster):
        with place.client.as_current():
            yield place.client, None
    else:
        threads = place.threads if isinstance(place, Threads) else None
        with dask.config.set(scheduler="threads", num_workers=threads):
            yield None, threads


def _make(
    job: Job,
    work: Work,
    output: Output,
    target: str,
    client: Any,
    threads: int | None,
    show: Callable[[float], None],
    cancel: threading.Event | None,
) -> int:
    """Make one rendition, and return how many pixels the source has."""
    options = work.storage_options
    image = open_image(job.source, labelled=True, storage_options=options, **work.reading)
    if work.metadata != "none" and suffix_of(job.source) in SUFFIXES and "pixel_size" not in image.attrs:
        dpi = image_info(job.source, storage_options=options).dpi
        if dpi is not None:
            image = image.assign_attrs(pixel_size=(MICROMETERS / dpi[1], MICROMETERS / dpi[0]), unit="micrometer")
    result = output.pipeline(image)
    plan(image, output.pipeline, target, threads=threads, client=client).check()
    given: dict[str, Any] = {"overwrite": job.replace, "storage_options": options}
    kind = streamed_format(output.format, target, result, Streaming(resume=True))
    if kind is not None:
        given |= {"format": kind, "compression": output.compression}
        given |= {"resume": True, "cancel": cancel, "threads": threads}
        given["progress"] = lambda progress: show(progress.done / max(progress.total, 1))
    else:
        given |= {"quality": output.quality, "lossless": output.lossless, "compression": output.compression}
        if work.metadata != "none" and suffix_of(job.source) in SUFFIXES:
            profile = work.reading.get("color_profile", "srgb")
            given["metadata"] = read_metadata(job.source, color_profile=profile, storage_options=options)
            given["strip_private"] = work.metadata == "public"
    save_image(result, target, **given)
    return int(image.sizes["y"] * image.sizes["x"])
