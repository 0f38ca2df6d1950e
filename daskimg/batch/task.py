"""What happens to one image, all of it in one place, so that pixels never travel."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daskimg.batch.targets import Job
from daskimg.errors import DaskimgError
from daskimg.pipeline import Pipeline

__all__ = ["Outcome", "Work", "do"]


@dataclass(frozen=True)
class Work:
    """Is what all images of a batch have in common: the steps, and how files are read and saved."""

    pipeline: Pipeline
    reading: Mapping[str, Any] = field(default_factory=dict)
    saving: Mapping[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """Says what came of one image: how many pixels it had, or why it failed, or that it was not begun."""

    pixels: int = 0
    reason: str = ""
    details: str = ""
    skipped: bool = False


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
            save_image(image, job.target, **work.saving)
    except DaskimgError as error:
        # The report names the image already, as the user wrote it.
        return Outcome(reason=str(error).removeprefix(repr(job.source)).lstrip(": "))
    except MemoryError:
        return Outcome(reason="there is not enough memory for it; use fewer workers or threads, or a larger machine")
    except Exception as error:
        return Outcome(reason=f"{type(error).__name__}: {error}", details=traceback.format_exc())
    return Outcome(pixels=rows * columns)
