"""Runs a batch: hands images out, a bounded number at once, and collects what came of each."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from daskimg.batch.places import OnCluster, Place, Threads
from daskimg.batch.report import Failure, Report
from daskimg.batch.sources import find_sources, is_url
from daskimg.batch.targets import Job, check_targets, make_folders, names_file, plan_targets
from daskimg.batch.task import Outcome, Work
from daskimg.errors import ParameterError
from daskimg.io.encode import Options
from daskimg.pipeline import Pipeline, Step
from daskimg.progress import Progress, ProgressBar

__all__ = ["process_images"]

TICK = 0.2  # seconds between looks at the clock and at `cancel`


def process_images(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    pipeline: Pipeline | Step | str,
    to: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    name: str = "{stem}",
    overwrite: bool = False,
    recursive: bool = False,
    frame: int | None = None,
    cluster: Any = None,
    threads: int | None = None,
    progress: Callable[[Progress], None] | bool = False,
    cancel: threading.Event | None = None,
) -> Report:
    """Put many image files through a pipeline; each is decoded, processed and encoded where it runs.

    A file that cannot be read, processed or written is recorded in the report, and the others are done. What is wrong
    for all of them is said before the first: a pipeline that does not parse, two inputs with one result, a result that
    exists, a folder that cannot be written to. A result is written whole or not at all.

    Parameters
    ----------
    sources : str, path, or iterable of these
        Files, folders, patterns such as `"photos/*.jpg"`, URLs.
    pipeline : Pipeline, Step or str
        What to do; its text and JSON forms too.
    to : str or path
        A folder, made if missing, or a URL prefix. For a single image also a file, if it ends like an image.
    format : str
        The format of the results, such as `"webp"`. Without it each keeps its own; what can only be read (GIF, HEIC,
        JPEG XL), and what has no suffix, becomes PNG.
    quality : int
        From 1 to 100, for JPEG, WebP and AVIF.
    lossless : bool
        Write WebP bit for bit.
    name : str
        The names of the results without suffix: `"{stem}-edges"` makes `cat.jpg` become `cat-edges.jpg`.
    overwrite : bool
        Whether results that exist are replaced; the inputs never are.
    recursive : bool
        Whether folders inside folders count; the results then lie in folders of the same names.
    frame : int
        Which frame of animations, or page of TIFF files, from 0. Files with several fail without it.
    cluster : distributed.Client, cluster object, str or callable
        Where to work: a client, what `start_cluster` returns, a scheduler's address; or a function that returns a
        context manager of one of these, which is entered when everything else is checked. Without it the active dask
        client of this process is used, and where there is none, threads in this process.
    threads : int
        How many threads in this process, rather than a cluster; by default as many as there are processors.
    progress : callable or bool
        Called with a `Progress` after each image and while waiting; True draws a bar on stderr.
    cancel : threading.Event
        Set it from elsewhere to stop; the report then says `cancelled`. Ctrl-C stops likewise and is raised again.

    Returns
    -------
    Report
        Counts, failures, time and speed.

    Raises
    ------
    ParameterError, PipelineSyntaxError, UnknownNameError
        If the inputs, the pipeline or an option are not allowed.
    ImageFileError
        If the output folder cannot be written to.
    EnvironmentProblem
        If the cluster does not answer, has other versions, or cannot see the files.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile, daskimg as di
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> di.save_image(np.full((40, 60), 200, "uint8"), folder / "a.png")
    >>> report = process_images(folder / "a.png", di.gaussian_blur(ksize=5), folder / "out", threads=1)
    >>> report.done, report.failures
    (1, [])
    """
    pipeline = as_pipeline(pipeline)
    to = os.fspath(to)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ParameterError(f"threads={threads!r} is not allowed; threads is a whole number, 1 or more")
    if threads is not None and cluster is not None:
        raise ParameterError("threads and cluster exclude each other; leave one out")
    single = names_file(to)
    found = find_sources(sources, recursive=recursive, outside=None if single or is_url(to) else to)
    jobs = plan_targets(found, to, format=format, name=name)
    check_targets(jobs, overwrite=overwrite, options=Options(quality, lossless))
    folder = make_folders(jobs)
    reading = {} if frame is None else {"frame": frame}
    if cancel is not None and cancel.is_set():  # before a cluster is started for it
        return Report(len(jobs), to=to, where="nobody", cancelled=True)
    jobs = [job._replace(replace=overwrite) for job in jobs]
    work = Work(pipeline, reading, {"quality": quality, "lossless": lossless})
    with _place(cluster, threads, work, jobs, folder) as place, _drawn(progress) as draw:
        report = Report(len(jobs), to=to, where=place.name)
        _run(jobs, place, report, draw, cancel)
    return report


def as_pipeline(pipeline: Any) -> Pipeline:
    """Return a pipeline given as one, as a step, or in its text or JSON form."""
    if isinstance(pipeline, str):
        return Pipeline.from_json(pipeline) if pipeline.lstrip().startswith("{") else Pipeline.from_text(pipeline)
    return Pipeline(pipeline)


@contextlib.contextmanager
def _drawn(progress: Callable[[Progress], None] | bool) -> Iterator[Callable[[Progress], None]]:
    if progress is True:
        with ProgressBar() as bar:
            yield bar
    else:
        yield progress or (lambda _: None)


@contextlib.contextmanager
def _place(cluster: Any, threads: int | None, work: Work, jobs: list[Job], folder: str | None) -> Iterator[Place]:
    """Yield where the images are processed; a cluster's workers must see the files."""
    if cluster is None and threads is None:
        cluster = _active_client()
    place: Place
    if cluster is None:
        from dask.system import CPU_COUNT

        place = Threads(min(threads or CPU_COUNT, len(jobs)), work)
        try:
            yield place
        finally:
            place.close()
        return
    from daskimg.clusters._checks import check_folder, check_readable
    from daskimg.clusters._connect import connected

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connected(stack.enter_context(cluster()) if callable(cluster) else cluster))
        if folder is not None:
            check_folder(client, folder, "where the results go")
        here = (job.source for job in jobs if not is_url(job.source) and os.access(job.source, os.R_OK))
        check_readable(client, [path for path, _ in zip(here, range(3), strict=False)])
        place = OnCluster(client, work)
        try:
            yield place
        finally:
            place.close()


def _active_client() -> Any:
    """Return the dask client that this process works with, if any, as dask's own `compute` does."""
    distributed: Mapping[str, Any] | None = vars(sys.modules["distributed"]) if "distributed" in sys.modules else None
    if distributed is None:
        return None
    try:
        client = distributed["default_client"]()
    except ValueError:
        return None
    return None if client.asynchronous else client


def _run(
    jobs: list[Job],
    place: Place,
    report: Report,
    draw: Callable[[Progress], None],
    cancel: threading.Event | None,
) -> None:
    """Hand all jobs out, a bounded number at once, and fill the report."""
    began = time.perf_counter()
    waiting = iter(jobs)
    under_way: dict[Any, Job] = {}

    def show() -> None:
        report.seconds = time.perf_counter() - began
        failed = len(report.failures)
        draw(Progress(report.done + failed, failed, report.total, report.seconds, report.cancelled))

    def hand_out() -> None:
        for _ in range(place.window - len(under_way)):
            if (job := next(waiting, None)) is None:
                return
            under_way[place.submit(job)] = job

    def collect(timeout: float | None) -> None:
        try:
            future = place.finished.get(timeout=timeout)
        except queue.Empty:
            return
        if (job := under_way.pop(future, None)) is not None:
            _note(report, job, place.outcome(future))

    def stop() -> None:
        report.cancelled = True
        show()
        place.stop(list(under_way))
        while under_way:
            collect(TICK)
            # An interrupt may have come between a future's arrival and its being noted.
            for future in [one for one in under_way if one.done()]:
                _note(report, under_way.pop(future), place.outcome(future))
            show()

    order = {job.shown: number for number, job in enumerate(jobs)}
    try:
        while True:
            if cancel is not None and cancel.is_set():
                stop()
                return
            hand_out()
            show()
            if not under_way:
                return
            collect(TICK)
    except KeyboardInterrupt:
        stop()
        raise
    finally:
        report.failures.sort(key=lambda failure: order[failure.source])


def _note(report: Report, job: Job, outcome: Outcome) -> None:
    if outcome.skipped:
        return
    if not outcome.reason:
        report.done += 1
        report.pixels += outcome.pixels
        return
    report.failures.append(Failure(job.shown, outcome.reason))
    if outcome.details:
        report.details[job.shown] = outcome.details
