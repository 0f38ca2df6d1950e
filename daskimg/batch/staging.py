"""Files of this machine that the workers of a cluster do not see: they pass through a URL that all can reach."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import queue
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from daskimg.batch.loading import loaded
from daskimg.batch.places import OnCluster
from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome, failed
from daskimg.errors import DaskimgError, ParameterError, UnavailableError
from daskimg.io.archive import is_member
from daskimg.io.boundary import translated
from daskimg.io.formats import suffix_of
from daskimg.io.urls import locate, replacing

__all__ = ["Staged", "Staging", "file_here"]

THREADS = 64  # groups that pass at once, at most; each waits for the network or for a worker nearly all of the time


class Staging:
    """Is a folder of one run at a URL, with a folder for each group of files; each is deleted after use.

    Parameters
    ----------
    url : str
        Where files may be put for a while, such as `"s3://bucket/tmp"`.
    storage_options : mapping
        Options of its file system.

    Raises
    ------
    ParameterError
        It is a local path.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self.place = locate(f"{url.rstrip('/')}/daskimg-{uuid.uuid4().hex}", storage_options)
        if self.place.local:
            raise ParameterError(f"staging={url!r} is not allowed; staging is a URL such as 's3://bucket/tmp'")
        self._fs, self._path = self.place.filesystem()
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def folder(self) -> Iterator[str]:
        """Yield the name of a new folder, which is deleted at the end."""
        name = str(next(self._numbers))
        try:
            yield name
        finally:
            # What cannot be deleted now may be at the end of the run.
            with contextlib.suppress(OSError):
                self._fs.rm(f"{self._path}/{name}", recursive=True)

    def send(self, job: Job, folder: str) -> tuple[Job, str]:
        """Put a local source into a folder; return the job as a worker is given it, and the version of what was sent.

        Raises
        ------
        ImageFileError
            If it cannot be read here, or not be put there.
        """
        number = next(self._numbers)
        source, version = job.source, job.version
        if file_here(source) is not None:
            source = self._url(folder, f"{number}-in{suffix_of(source)}")
            version = self._upload(job.source, source)
        targets = tuple(
            self._url(folder, f"{number}-out{which}{suffix_of(target)}") if locate(target).local else target
            for which, target in enumerate(job.targets)
        )
        # Its entity tag there is not known before it is read.
        return job._replace(source=source, targets=targets, version=""), version

    def receive(self, job: Job, sent: Job, sizes: Sequence[int] = ()) -> None:
        """Get the local results of a job that is done, each of them whole or not at all.

        Parameters
        ----------
        job, sent : Job
            As it was given here, and as `send` returned it.
        sizes : sequence of int
            The bytes of each result, where they are known.

        Raises
        ------
        ImageFileError
            If one cannot be read there, or not be written here.
        """
        for target, staged, size in itertools.zip_longest(job.targets, sent.targets, sizes):
            if target == staged:
                continue
            place = locate(target)
            place.check_writable(overwrite=job.replace)
            with translated(place.shown, "written"), replacing(Path(place.url)) as temporary:
                path = self._within(staged)
                if self._fs.isdir(path):
                    self._fs.get(path, str(temporary), recursive=True)
                    shutil.rmtree(place.url, ignore_errors=True)
                else:
                    self._fs.get_file(path, str(temporary))
                    if size is not None and temporary.stat().st_size != size:
                        raise UnavailableError(f"{place.shown} did not come back whole from {self.place.shown}.")

    def close(self) -> None:
        """Delete what is left."""
        with contextlib.suppress(OSError):
            self._fs.rm(self._path, recursive=True)

    def _upload(self, source: str, staged: str) -> str:
        path = self._within(staged)
        if os.path.isdir(source):
            with translated(self.place.shown, "written"):
                self._fs.put(source, path, recursive=True)
            return ""
        with loaded(locate(source)) as opened:
            with translated(self.place.shown, "written"):
                if isinstance(opened.file, io.BytesIO):
                    self._fs.pipe_file(path, opened.file.getvalue())
                else:
                    self._fs.put_file(source, path)
            opened.check()
            return opened.version

    def _url(self, folder: str, name: str) -> str:
        return f"{self.place.url}/{folder}/{name}"

    def _within(self, url: str) -> str:
        """Return the path in the file system."""
        return f"{self._path}{url.removeprefix(self.place.url)}"


class Staged:
    """Is a cluster whose workers do not see the files of this machine; these are sent, and the results come back.

    As many groups pass at once as the cluster takes, so that files are on their way while others are processed.
    """

    def __init__(self, place: OnCluster, staging: Staging) -> None:
        self.place = place
        self.staging = staging
        self.finished: queue.SimpleQueue[Future[list[Outcome]]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="daskimg-staging")

    @property
    def window(self) -> int:
        """How many groups may be under way at once."""
        return self.place.window

    @property
    def name(self) -> str:
        """The place in words."""
        return f"{self.place.name}, by way of {self.staging.place.shown}"

    def submit(self, jobs: Sequence[Job], alone: bool = False) -> Future[list[Outcome]]:
        """Begin a group."""
        future = self._pool.submit(self._pass, jobs, alone)
        future.add_done_callback(self.finished.put)
        return future

    def outcomes(self, future: Future[list[Outcome]], jobs: Sequence[Job]) -> list[Outcome]:
        """Return what came of a group."""
        return [Outcome(skipped=True)] * len(jobs) if future.cancelled() else future.result()

    def stop(self, futures: list[Future[list[Outcome]]]) -> None:
        """Send no more; what is sent is done and comes back."""
        self._stop.set()
        for future in futures:
            future.cancel()

    def close(self) -> None:
        """End the threads, and delete what is left at the URL."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.place.close()
        self.staging.close()

    def pass_one(self, job: Job, do: Callable[[Job], Outcome]) -> Outcome:
        """Send one file, let `do` make its results from what is given to workers, and get them."""
        with self.staging.folder() as folder:
            try:
                one, version = self.staging.send(job, folder)
            except DaskimgError as error:
                return failed(error, job)
            return self._received(job, one, version, do(one))

    def _pass(self, jobs: Sequence[Job], alone: bool) -> list[Outcome]:
        """Send a group, have it done, and get its results."""
        if self._stop.is_set():
            return [Outcome(skipped=True)] * len(jobs)
        with self.staging.folder() as folder:
            outcomes: list[Outcome | None] = []
            sent: list[tuple[Job, Job, str]] = []
            for job in jobs:
                try:
                    sent.append((job, *self.staging.send(job, folder)))
                    outcomes.append(None)
                except DaskimgError as error:
                    outcomes.append(failed(error, job))
            done = iter(self._done(sent, alone))
            return [next(done) if outcome is None else outcome for outcome in outcomes]

    def _done(self, sent: list[tuple[Job, Job, str]], alone: bool) -> Iterator[Outcome]:
        if not sent:
            return
        staged = [one for _, one, _ in sent]
        found = self.place.outcomes(self.place.submit(staged, alone), staged)
        self.place.finished.get()  # each waits for its own; this keeps the queue short
        for (job, one, version), outcome in zip(sent, found, strict=True):
            yield self._received(job, one, version, outcome)

    def _received(self, job: Job, sent: Job, version: str, outcome: Outcome) -> Outcome:
        """Get the results of a job that is done; the outcome says the version of the source as it is here."""
        if not (outcome.reason or outcome.skipped or outcome.too_large):
            try:
                self.staging.receive(job, sent, outcome.sizes)
            except DaskimgError as error:
                outcome = failed(error, job)
        return outcome._replace(version=version)


def file_here(source: str) -> str | None:
    """Return the path of the local file that a source is or lies in, as an archive; None where it is elsewhere."""
    place = locate(source.rpartition("::")[2] if is_member(source) else source)
    return place.url if place.local else None
