"""The two places where images are processed: threads in this process, and the workers of a cluster."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome, Work, do_group
from daskimg.errors import EnvironmentProblem

__all__ = ["OnCluster", "Place", "Threads", "WorkerDied"]

SHARE = 0.6  # of the memory that each thread has: what an image may need, or else it is done by chunk
AHEAD = 2  # groups of images handed out for each thread: one that it works on, one that waits for it


class WorkerDied(Exception):
    """Says that each worker that began a group died."""


class Place(Protocol):
    """Takes groups of jobs and says, by a queue, which futures are finished."""

    finished: queue.SimpleQueue[Any]

    @property
    def window(self) -> int:
        """How many groups may be under way at once."""

    @property
    def name(self) -> str:
        """The place in words."""

    def submit(self, jobs: Sequence[Job], alone: bool = False) -> Any:
        """Begin a group and return its future, which later comes by `finished`; `alone`: it may take all memory."""

    def outcomes(self, future: Any, jobs: Sequence[Job]) -> list[Outcome]:
        """Return what came of the group of a finished future, or raise `WorkerDied`."""

    def stop(self, futures: list[Any]) -> None:
        """Don't begin what is not begun; what is under way is stopped where that leaves nothing half done."""

    def close(self) -> None:
        """Give back what was taken."""


class Threads:
    """Processes images on threads of this process."""

    def __init__(self, threads: int, work: Work) -> None:
        import psutil
        from distributed.system import MEMORY_LIMIT

        self.threads = threads
        memory = min(MEMORY_LIMIT, psutil.virtual_memory().available)
        self.work = _sharing(work, memory / threads)
        self._alone = _sharing(work, memory)
        self.finished: queue.SimpleQueue[Future[list[Outcome]]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="daskimg")

    @property
    def window(self) -> int:
        """How many groups may be under way at once."""
        return AHEAD * self.threads

    @property
    def name(self) -> str:
        """The place in words."""
        return f"{self.threads} thread{'s' * (self.threads != 1)} in this process"

    def submit(self, jobs: Sequence[Job], alone: bool = False) -> Future[list[Outcome]]:
        """Begin a group."""
        future = self._pool.submit(do_group, jobs, self._alone if alone else self.work, self._stop)
        future.add_done_callback(self.finished.put)
        return future

    def outcomes(self, future: Future[list[Outcome]], jobs: Sequence[Job]) -> list[Outcome]:
        """Return what came of a group."""
        return [Outcome(skipped=True)] * len(jobs) if future.cancelled() else future.result()

    def stop(self, futures: list[Future[list[Outcome]]]) -> None:
        """Stop before the next image, and between the steps of those under way."""
        self._stop.set()
        for future in futures:
            future.cancel()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class OnCluster:
    """Processes images on the workers of a cluster; only names and numbers pass through this process."""

    patience = 60.0  # seconds without any worker, or without the scheduler, before giving up

    def __init__(self, client: Any, work: Work) -> None:
        self.client = client
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [(one["memory_limit"], one["nthreads"]) for one in workers if one["memory_limit"]]
        self.work = _sharing(work, min((memory / threads for memory, threads in limits), default=None))
        self._alone = _sharing(work, min((memory for memory, _ in limits), default=None))
        self.finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = 1
        self._asked = 0.0
        self._alive = time.monotonic()
        self._look()
        # A bound image would otherwise travel with every task.
        if len(_pickled(self.work)) > 1 << 20:
            self.work = client.scatter(self.work, broadcast=True, hash=False)

    def _look(self) -> None:
        """Count the workers' threads, now and then: clusters grow, shrink and break."""
        now = time.monotonic()
        if now - self._asked < 2:
            return
        self._asked = now
        if self.client.status == "running":
            self._threads = sum(self.client.nthreads().values())
            if self._threads:
                self._alive = now
        if now - self._alive > self.patience:
            missing = "workers" if self.client.status == "running" else "scheduler"
            raise EnvironmentProblem(f"the cluster's {missing} have been gone for {self.patience:.0f} seconds")

    @property
    def window(self) -> int:
        """How many groups may be under way at once."""
        self._look()
        return AHEAD * max(self._threads, 1)

    @property
    def name(self) -> str:
        """The place in words."""
        count = len(self.client.nthreads())
        return f"{count} worker{'s' * (count != 1)} of {self.client.scheduler.address}"

    def submit(self, jobs: Sequence[Job], alone: bool = False) -> Any:
        """Begin a group."""
        # Arguments are searched for futures, each name in each job; a function is not.
        group = functools.partial(do_group, jobs)
        future = self.client.submit(group, self._alone if alone else self.work, pure=False)
        future.add_done_callback(self.finished.put)
        return future

    def outcomes(self, future: Any, jobs: Sequence[Job]) -> list[Outcome]:
        """Return what came of a group, and let the scheduler forget it."""
        from distributed import KilledWorker

        try:
            outcomes: list[Outcome] = future.result()
        except KilledWorker:
            raise WorkerDied from None
        except CancelledError:
            return [Outcome(reason="the cluster lost it", transient=True)] * len(jobs)
        except Exception as error:
            return [Outcome(reason=f"the worker could not run it: {type(error).__name__}: {error}")] * len(jobs)
        finally:
            future.release()
        return outcomes

    def stop(self, futures: list[Any]) -> None:
        """Let the few that are handed out end: a worker cannot be stopped between two steps."""

    def close(self) -> None:
        """Release what is still held."""


def _sharing(work: Work, memory: float | None) -> Work:
    return work if memory is None else replace(work, share=int(SHARE * memory))


def _pickled(work: Work) -> bytes:
    import cloudpickle

    dumps: Callable[[Any], bytes] = cloudpickle.dumps
    return dumps(work)
