"""Hands the files that wait out in small groups, a bounded number at once, and notes what came of each."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from daskimg.batch.large import process_large
from daskimg.batch.manifest import ALONE, LARGE, ORDINARY, Manifest
from daskimg.batch.places import Place, WorkerDied
from daskimg.batch.report import Report
from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome, Work
from daskimg.progress import FileState, Progress

__all__ = ["Driver"]

TICK = 0.2  # seconds between looks at the clock and at `cancel`
TASK_SECONDS = 0.25  # what a group should take: much longer than handing it out, too short to wait for
MOST = 64  # files in a group
LONGEST_WAIT = 60.0  # seconds before another try


class Group(NamedTuple):
    """Is some files that are done by one task."""

    numbers: list[int]
    jobs: list[Job]


class Cancelled(Exception):
    """Says that the user wants to stop."""


@dataclass
class Driver:
    """Runs what waits in a manifest, in a place, and fills a report."""

    manifest: Manifest
    place: Place
    work: Work
    report: Report
    left: int
    draw: Callable[[Progress], None]
    on_file: Callable[[FileState], None] | None = None
    cancel: threading.Event | None = None
    replace: bool = False
    retries: int = 0
    group: int | None = None
    under_way: dict[Any, Group] = field(default_factory=dict)

    def run(self) -> None:
        """Do all that waits; what fails is tried again at the end."""
        self.began = time.perf_counter()
        self._size, self._transient = self.group or 1, False
        self._given_up = self.report.failed
        tries = 0
        self._show()
        try:
            self._lanes()
            while again := self.manifest.try_again(self.retries):
                tries += 1
                self._wait(min(2.0**tries, LONGEST_WAIT) if self._transient else 0.0)
                self.left, self._transient = again, False
                self.report.failed -= again
                self._lanes()
        except Cancelled:
            self._stop()
        except KeyboardInterrupt:
            self._stop()
            raise

    def _lanes(self) -> None:
        """Do the ordinary files first; then one by one those that are large or ended a worker; then those by chunk."""
        self._lane(ORDINARY)
        self._lane(ALONE)
        for number, job in self.manifest.waiting(LARGE, self.replace):
            self._check()
            self._do_large(number, job)

    def _lane(self, lane: int) -> None:
        waiting = self.manifest.waiting(lane, self.replace)
        finished: list[Any] = []
        while True:
            self._check()
            self._exchange(finished, waiting, lane)
            self._show()
            if not self.under_way:
                return
            finished = self._finished()

    def _check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled

    def _exchange(self, finished: list[Any], waiting: Iterator[tuple[int, Job]], lane: int) -> None:
        """Note what came of groups that are finished, and hand out as many others; both are written down at once."""
        groups = [(future, self.under_way[future]) for future in finished if future in self.under_way]
        outcomes = [self._outcomes(future, group, lane) for future, group in groups]
        with self.manifest.transaction():
            for (_, group), ones in zip(groups, outcomes, strict=True):
                if ones is None:
                    self.manifest.put_off(group.numbers)
                else:
                    self.manifest.finish(group.numbers, ones)
            new = list(self._new_groups(waiting, lane, len(self.under_way) - len(groups)))
        for (future, group), ones in zip(groups, outcomes, strict=True):
            del self.under_way[future]
            if ones is None:
                self.left += len(group.numbers)
            else:
                self._note(group, ones)
        for group in new:
            self._say(group)
            self.under_way[self.place.submit(group.jobs, alone=lane == ALONE)] = group

    def _outcomes(self, future: Any, group: Group, lane: int) -> list[Outcome] | None:
        """Return what came of a group; nothing if a worker died over it, and each file is to be done alone."""
        try:
            return self.place.outcomes(future, group.jobs)
        except WorkerDied:
            if lane != ALONE:
                return None
            return [Outcome(reason="each worker that began it died; it may need more memory than a worker has")]

    def _new_groups(self, waiting: Iterator[tuple[int, Job]], lane: int, under_way: int) -> Iterator[Group]:
        window = self.place.window if lane == ORDINARY else 1
        for _ in range(window - under_way):
            # The last groups are small, so that all places end together.
            most = self.group or min(self._size, max(1, self.left // window))
            taken = list(islice(waiting, most if lane == ORDINARY else 1))
            if not taken:
                return
            numbers, jobs = zip(*taken, strict=True)
            self.left -= len(taken)
            self.manifest.start(numbers)
            yield Group(list(numbers), list(jobs))

    def _finished(self) -> list[Any]:
        """Return the futures that are finished, after waiting a little for the first."""
        arrived = self.place.finished
        finished: list[Any] = []
        with contextlib.suppress(queue.Empty):
            finished.append(arrived.get(timeout=TICK))
            while True:
                finished.append(arrived.get_nowait())
        return finished

    def _do_large(self, number: int, job: Job) -> None:
        """Do one file by chunk, with all of the place to itself."""
        group = Group([number], [job])
        with self.manifest.transaction():
            self.manifest.start(group.numbers)
        self.left -= 1
        self._say(group)
        outcome = process_large(job, self.work, self.place, lambda part: self._show(job.shown, part), self.cancel)
        with self.manifest.transaction():
            self.manifest.finish(group.numbers, [outcome])
        self._note(group, [outcome])
        self._show()

    def _note(self, group: Group, outcomes: list[Outcome]) -> None:
        report = self.report
        self.manifest.tell(group.numbers)
        for job, outcome in zip(group.jobs, outcomes, strict=True):
            if outcome.skipped or outcome.too_large:
                self.left += 1
                continue
            if outcome.reason:
                report.failed += 1
                self._transient |= outcome.transient
            else:
                report.done += 1
                report.pixels += outcome.pixels
            if self.on_file is not None:
                state = "failed" if outcome.reason else "done"
                self.on_file(FileState(job.shown, state, outcome.reason, outcome.seconds))
        pace = sum(outcome.seconds for outcome in outcomes) / len(outcomes)
        if self.group is None and pace:
            self._size = max(1, min(2 * self._size, MOST, int(TASK_SECONDS / pace)))

    def _say(self, group: Group) -> None:
        if self.on_file is not None:
            for job in group.jobs:
                self.on_file(FileState(job.shown, "under way"))

    def _show(self, file: str = "", part: float = 0.0) -> None:
        report = self.report
        report.seconds = time.perf_counter() - self.began
        before = report.before + report.skipped + self._given_up
        done = report.done + report.failed + report.before + report.skipped
        stopping = report.cancelled
        self.draw(
            Progress(done, report.failed, report.total, report.seconds, stopping, before=before, file=file, part=part)
        )

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            self._check()
            self._show()
            time.sleep(min(rest, TICK))

    def _stop(self) -> None:
        """Hand out nothing more and wait for what is under way, so that nothing is half done."""
        self.report.cancelled = True
        self._show()
        self.place.stop(list(self.under_way))
        nothing: Iterator[tuple[int, Job]] = iter(())
        while self.under_way:
            arrived = self._finished()
            # An interrupt may have come between a future's arrival and its being noted.
            done = [one for one in self.under_way if one in arrived or one.done()]
            self._exchange(done, nothing, ORDINARY)
            self._show()
