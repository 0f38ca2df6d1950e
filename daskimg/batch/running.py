"""Runs a batch: finds out what is left to do, and where, and has it done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from daskimg.batch.driver import Driver
from daskimg.batch.manifest import FILE, FOLDER, ORDINARY, Manifest
from daskimg.batch.outputs import Output, as_outputs
from daskimg.batch.places import OnCluster, Place, Threads
from daskimg.batch.remote_manifest import RemoteManifest
from daskimg.batch.report import HELD, Failure, Report
from daskimg.batch.sources import find_sources, is_url
from daskimg.batch.staging import Staged, Staging, file_here
from daskimg.batch.survey import Overwrite, Survey
from daskimg.batch.targets import make_folders, names_file, plan_targets
from daskimg.batch.task import Kept, Work
from daskimg.errors import EnvironmentProblem, ParameterError
from daskimg.io.reading import ColorProfile, check_color_profile
from daskimg.io.streaming import active_client
from daskimg.io.urls import locate
from daskimg.pipeline import Pipeline, Step
from daskimg.progress import FileState, Progress, drawn

__all__ = ["process_images", "retry_images"]

SEEN = 3  # inputs that each worker is asked for before the start


def process_images(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    pipeline: Pipeline | Step | str | None,
    to: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    name: str = "{stem}",
    outputs: Sequence[Output | Mapping[str, Any]] | None = None,
    metadata: Kept = "keep",
    color_profile: ColorProfile = "srgb",
    reduced: bool = False,
    overwrite: Overwrite = False,
    resume: bool = True,
    retries: int = 0,
    recursive: bool = False,
    frame: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    staging: str | None = None,
    cluster: Any = None,
    threads: int | None = None,
    group: int | None = None,
    progress: Callable[[Progress], None] | bool = False,
    on_file: Callable[[FileState], None] | None = None,
    cancel: threading.Event | None = None,
) -> Report:
    """Put many image files through a pipeline; each is decoded, processed and encoded where it runs.

    A file that cannot be read, processed or written is recorded in the report, and the others are done. What is wrong
    for all of them is said before the first: a pipeline that does not parse, two inputs with one result, a result that
    exists, a folder that cannot be written to. A result is written whole or not at all.

    What becomes of each file is noted in a manifest beside the results, `.daskimg/manifest.sqlite`. The same call does
    only what is left, however the one before it ended. Files are done anew whose results are gone or have another size,
    and whose source, pipeline or options changed.

    Parameters
    ----------
    sources : str, path, or iterable of these
        Files, folders, patterns such as `"photos/*.jpg"`, ZIP archives, `"@list.txt"` (a text file with one of these
        per line), URLs, prefixes and patterns of URLs such as `"s3://bucket/photos/"`.
    pipeline : Pipeline, Step or str
        What to do; its text and JSON forms too. None where `outputs` says it.
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
        The names of the results without suffix: `"{stem}-edges"` makes `cat.jpg` become `cat-edges.jpg`. `Output` tells
        what else it may hold, such as `{number}`.
    outputs : sequence of Output or mapping
        Several renditions of each image, all made from one decoding, instead of `pipeline`, `format`, `quality`,
        `lossless` and `name`.
    metadata : {"keep", "public", "none"}
        What results keep of the Exif data and resolution of their source; `"public"` leaves out place and owner.
    color_profile : {"srgb", "keep", "ignore"}
        What becomes of the ICC profile: the pixels are converted to sRGB and results have none; the pixels stay and
        results have it; or it is dropped.
    reduced : bool
        Decode JPEG smaller where all renditions begin with a resize to less. Faster; the pixels differ from exact ones.
    overwrite : bool or "skip"
        What happens to results that exist and that the manifest does not know: the run is refused unless they may be
        replaced (True) or their images are left out ("skip"). Inputs are never replaced.
    resume : bool
        Whether images that the manifest knows as done are left as they are; otherwise all results are made anew, and
        those that exist are treated like any other file.
    retries : int
        How often images that failed are tried again, at the end; after a server that was busy, some seconds later.
    group : int
        How many images a task takes. By default one at first, and more where they are done quickly.
    recursive : bool
        Whether folders inside folders count; the results then lie in folders of the same names.
    frame : int
        Which frame of animations, or page of TIFF files, from 0. Files with several fail without it.
    storage_options : mapping
        Options of the file systems of URLs, such as `{"anon": True}` for public data on S3, or
        `{"requester_pays": True}` where readers pay. They travel to the workers and are not written down. Without them
        each worker finds credentials as AWS tools do: environment, profile, role of the machine; `AWS_ENDPOINT_URL`
        names another server.
    staging : str
        A URL, such as `"s3://bucket/tmp"`, by way of which files reach workers that do not see this machine's: inputs
        are put there a few at a time, and deleted after use; results come back. Without it such workers are refused.
    cluster : distributed.Client, cluster object, str or callable
        Where to work: a client, what `start_cluster` returns, a scheduler's address; or a function that returns a
        context manager of one of these, which is entered when everything else is checked. Without it the active dask
        client of this process is used, and where there is none, threads in this process.
    threads : int
        How many threads in this process, rather than a cluster; by default as many as there are processors.
    progress : callable or bool
        Called with a `Progress` after each group of images and while waiting; True draws a bar on stderr.
    on_file : callable
        Called with a `FileState` when an image is begun and when it is done or has failed.
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
        If the cluster does not answer, has other versions, or cannot see the files, or another run works on `to`.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile, daskimg as di
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> di.save_image(np.full((40, 60), 200, "uint8"), folder / "a.png")
    >>> report = process_images(folder / "a.png", di.gaussian_blur(ksize=5), folder / "out", threads=1)
    >>> report.done, report.failures
    (1, [])
    >>> process_images(folder / "a.png", di.gaussian_blur(ksize=5), folder / "out", threads=1).before
    1
    """
    to = os.fspath(to)
    renditions = as_outputs(pipeline, outputs, format=format, name=name, quality=quality, lossless=lossless)
    check_color_profile(color_profile)
    reading: dict[str, Any] = {"color_profile": color_profile} | ({} if frame is None else {"frame": frame})
    work = Work(renditions, reading, metadata, reduced, storage_options=storage_options or {})
    batch = Batch(cluster, threads, retries, group, progress, on_file, cancel, staging)
    if overwrite not in (True, False, "skip"):
        raise ParameterError(f"overwrite={overwrite!r} is not allowed; it is True, False or 'skip'")
    single = names_file(to)
    found = find_sources(
        sources, recursive=recursive, outside=None if single or is_url(to) else to, storage_options=storage_options
    )
    jobs = plan_targets(found, to, renditions)
    with contextlib.ExitStack() as stack:
        draw = stack.enter_context(drawn(progress))
        manifest, scratch = _manifest_of(to, single, work.storage_options)
        stack.enter_context(manifest)
        survey = Survey(manifest, overwrite, resume)
        survey.look(jobs, work.fingerprint, lambda number: draw(Progress(0, 0, number, 0.0, looking=True)))
        report = Report(
            survey.total,
            before=survey.before,
            skipped=survey.skipped,
            to=to,
            where="nobody",
            notes=[*survey.notes, *work.notes],
            manifest=str(manifest.path),
            scratch=scratch,
        )
        if cancel is not None and cancel.is_set():  # before a cluster is started for it
            report.cancelled = True
            return report
        folder = make_folders(survey.folders)
        manifest.keep()
        batch.begin(manifest, work)
        survey.settle()
        batch.run(manifest, work, report, folder, draw, replace=overwrite is True)
    return report


def retry_images(
    folder: str | os.PathLike[str],
    *,
    cluster: Any = None,
    threads: int | None = None,
    retries: int = 0,
    group: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    staging: str | None = None,
    progress: Callable[[Progress], None] | bool = False,
    on_file: Callable[[FileState], None] | None = None,
    cancel: threading.Event | None = None,
) -> Report:
    """Try the images again that failed in the last run into a folder, with the same pipeline and options.

    Parameters
    ----------
    folder : str or path
        Where the results of `process_images` went: a folder or a URL.
    cluster, threads, retries, group, storage_options, staging, progress, on_file, cancel
        As in `process_images`.

    Returns
    -------
    Report
        Of the images that were tried again.

    Raises
    ------
    ParameterError
        If the folder holds no manifest, or the pipeline of the last run has no text form.
    EnvironmentProblem
        If the cluster does not answer, or another run works on the folder.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile, daskimg as di
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.png").write_text("no image")
    >>> process_images(folder / "a.png", "invert", folder / "out").failed
    1
    >>> di.save_image(np.full((40, 60), 200, "uint8"), folder / "a.png", overwrite=True)
    >>> retry_images(folder / "out").done
    1
    """
    batch = Batch(cluster, threads, retries, group, progress, on_file, cancel, staging)
    to = os.fspath(folder)
    if not is_url(to) and not _path_in(to).is_file():
        raise _nothing_in(to)
    manifest, scratch = _manifest_of(to, False, storage_options or {})
    with manifest, drawn(progress) as draw:
        before = manifest.last_run()
        if before is None:
            raise _nothing_in(to)
        if not before.content:
            raise ParameterError(
                f"the pipeline of the last run into {to!r} has no text form; call process_images as before, which "
                "does what is left"
            )
        work = dataclasses.replace(Work.from_json(before.content), storage_options=storage_options or {})
        batch.begin(manifest, work)
        report = Report(manifest.renew(before), to=to, where="nobody", manifest=str(manifest.path), scratch=scratch)
        batch.run(manifest, work, report, None if is_url(to) else os.path.dirname(manifest.root), draw)
    return report


def _nothing_in(to: str) -> ParameterError:
    return ParameterError(f"{to!r} holds no manifest of a batch; name the folder that --to or to= named")


class Batch:
    """Holds how a batch is to be run: where, how often, and who is told."""

    def __init__(
        self,
        cluster: Any,
        threads: int | None,
        retries: int,
        group: int | None,
        progress: Any,
        on_file: Callable[[FileState], None] | None,
        cancel: threading.Event | None,
        staging: str | None,
    ) -> None:
        _check_number("threads", threads, 1)
        _check_number("group", group, 1)
        _check_number("retries", retries, 0)
        if threads is not None and cluster is not None:
            raise ParameterError("threads and cluster exclude each other; leave one out")
        self.cluster = active_client() if cluster is None and threads is None else cluster
        self.threads = threads
        self.retries = retries
        self.group = group
        self.on_file = on_file
        self.cancel = cancel
        self.staging = staging

    def begin(self, manifest: Manifest, work: Work) -> None:
        """Note that a run begins."""
        try:
            content = work.to_json()
        except ParameterError:  # an image of some size is bound in Python
            content = ""
        manifest.begin(work.fingerprint, content, here=self.cluster is None)

    def run(
        self,
        manifest: Manifest,
        work: Work,
        report: Report,
        folder: str | None,
        draw: Callable[[Progress], None],
        replace: bool = False,
    ) -> None:
        """Do what waits, and fill the report; where nothing waits, no cluster is started."""
        left = manifest.count("waiting")
        report.failed = manifest.count("failed")  # those that are given up
        try:
            if left:
                first = [job.source for _, job in islice(manifest.waiting(ORDINARY, False), SEEN)]
                with _place(self, work, left, first, manifest.root, folder) as place:
                    report.where = place.name
                    Driver(
                        manifest,
                        place,
                        work,
                        report,
                        left,
                        draw,
                        self.on_file,
                        self.cancel,
                        replace,
                        self.retries,
                        self.group,
                    ).run()
        finally:
            report.failed = manifest.count("failed")
            failures = manifest.failures(HELD)
            report.failures = [Failure(row.shown, row.reason, row.attempts) for row in failures]
            report.details = {row.shown: row.details for row in failures if row.details}


def _check_number(name: str, value: Any, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ParameterError(f"{name}={value!r} is not allowed; {name} is a whole number, {least} or more")


def _manifest_of(to: str, single: bool, storage_options: Mapping[str, Any]) -> tuple[Manifest, Any]:
    """Return the manifest of the results, and the folder that it lies in where that is to be thrown away.

    It lies beside the results. Those at a URL have a copy there; one single file needs none.
    """
    if not single and not is_url(to):
        folder = os.path.abspath(os.path.expanduser(to))
        return Manifest(os.path.join(folder, ""), _path_in(to)), None
    scratch = tempfile.TemporaryDirectory(prefix="daskimg-", ignore_cleanup_errors=True)
    path = Path(scratch.name, FILE)
    return Manifest("", path) if single else RemoteManifest(locate(to, storage_options), path), scratch


def _path_in(folder: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(folder)), FOLDER, FILE)


@contextlib.contextmanager
def _place(batch: Batch, work: Work, left: int, sources: list[str], to: str, folder: str | None) -> Iterator[Place]:
    """Yield where the images are processed; a cluster's workers must see the files, or be sent them."""
    place: Place
    if batch.cluster is None:
        from dask.system import CPU_COUNT

        place = Threads(batch.threads or CPU_COUNT, work)  # a single file may use them all, by chunk
        try:
            yield place
        finally:
            place.close()
        return
    from daskimg.clusters._connect import connected

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(batch.cluster()) if callable(batch.cluster) else batch.cluster
        client = stack.enter_context(connected(cluster))
        staging = _checked(client, work, sources, to, folder, batch.staging)
        place = OnCluster(client, work)
        if staging is not None:
            place = Staged(place, staging)
        try:
            yield place
        finally:
            place.close()


def _checked(
    client: Any, work: Work, sources: list[str], to: str, folder: str | None, staging: str | None
) -> Staging | None:
    """Make sure that workers reach inputs and outputs; return the way of those that they do not see."""
    from daskimg.clusters._checks import check_folder, check_place, check_readable, check_urls

    options = work.storage_options
    way = None if staging is None else Staging(staging, options)
    here = [path for path in map(file_here, sources) if path is not None and os.access(path, os.R_OK)]
    try:
        if folder is not None:
            check_folder(client, folder, "where the results go")
        check_readable(client, here)
        way = None
    except EnvironmentProblem:
        if way is None:
            raise
        check_place(client, way.place.url, options)
    check_urls(client, [source for source in sources if file_here(source) is None], options)
    if is_url(to):
        check_place(client, to, options)
    return way
