"""What happens to one image, all of it in one place, so that pixels never travel."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daskimg.batch.sources import is_url
from daskimg.batch.targets import Job
from daskimg.errors import DaskimgError
from daskimg.pipeline import Pipeline

__all__ = ["Outcome", "Work", "do", "do_group"]


@dataclass(frozen=True)
class Work:
    """Is what all images of a batch have in common: the steps, and how files are read and saved."""

    pipeline: Pipeline
    reading: Mapping[str, Any] = field(default_factory=dict)
    saving: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A digest of all that results depend on beside their sources."""
        options = json.dumps([self.reading, self.saving], sort_keys=True, default=str)
        return hashlib.sha256(f"{self.pipeline.fingerprint} {options}".encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Return it as text, which the manifest keeps for another try."""
        return json.dumps(
            {"pipeline": self.pipeline.to_dict(), "reading": dict(self.reading), "saving": dict(self.saving)}
        )

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Make it from what `to_json` returned."""
        parts = json.loads(text)
        return cls(Pipeline.from_json(parts["pipeline"]), parts["reading"], parts["saving"])


class Outcome(NamedTuple):
    """Says what came of one image.

    `pixels` it had, in `seconds` it was done, `sizes` are the bytes of its results in the order of its targets. Or why
    it failed: `reason`, with a traceback in `details` if daskimg did not raise it; `transient` where the same may work
    later, such as a server that was busy. `skipped`: it was not begun. `too_large`: it needs more than this worker's
    share of memory, nothing was done.
    """

    pixels: int = 0
    reason: str = ""
    details: str = ""
    skipped: bool = False
    too_large: bool = False
    transient: bool = False
    seconds: float = 0.0
    sizes: tuple[int, ...] = ()


def do_group(jobs: Sequence[Job], work: Work, stop: threading.Event | None = None) -> list[Outcome]:
    """Work through a small group of images and return their outcomes in the same order."""
    outcomes = []
    for job in jobs:
        began = time.perf_counter()
        outcome = do(job, work, stop)
        outcomes.append(outcome._replace(seconds=time.perf_counter() - began))
    return outcomes


def do(job: Job, work: Work, stop: threading.Event | None = None) -> Outcome:
    """Decode, process and encode one image; what goes wrong is returned, so that it stays this image's own."""
    from daskimg.chunked.strips import one_cv2_thread
    from daskimg.io.reading import read_image
    from daskimg.io.saving import save_image

    stopped = stop.is_set if stop is not None else bool
    try:
        with one_cv2_thread():
            if stopped():
                return Outcome(skipped=True)
            image = read_image(job.source, **work.reading)
            rows, columns = image.shape[:2]
            if stopped():
                return Outcome(skipped=True)
            image = work.pipeline(image)
            if stopped():
                return Outcome(skipped=True)
            (target,) = job.targets
            save_image(image, target, **work.saving, overwrite=job.replace)
    except DaskimgError as error:
        # The report names the image already, as the user wrote it.
        return Outcome(reason=str(error).removeprefix(repr(job.source)).lstrip(": "))
    except MemoryError:
        return Outcome(reason="there is not enough memory for it; use fewer workers or threads, or a larger machine")
    except Exception as error:
        return Outcome(reason=f"{type(error).__name__}: {error}", details=traceback.format_exc())
    return Outcome(pixels=rows * columns, sizes=(0 if is_url(target) else os.path.getsize(target),))
