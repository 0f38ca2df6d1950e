"""A file of a batch that is larger than a worker's share of memory: it is done by chunk, with all of the place."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daskimg.batch.places import Place
from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome, Work

__all__ = ["process_large"]


def process_large(
    job: Job, work: Work, place: Place, show: Callable[[float], None], cancel: threading.Event | None
) -> Outcome:
    """Do a file by chunk; `show` is told how much of it is done, from 0 to 1."""
    return Outcome(reason="it needs more memory than a worker has")
