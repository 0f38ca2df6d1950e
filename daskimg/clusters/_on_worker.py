"""Sets up a worker process of ours before its first task: dask loads this module there (`preload`)."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["dask_setup"]


def dask_setup(worker: Any) -> None:
    """Make OpenCV use one thread and leave Ctrl-C to the process that the user talks to."""
    import cv2

    # The environment variable that says so is read only by OpenCV's own builds of its thread pool.
    cv2.setNumThreads(1)
    # A terminal sends Ctrl-C to every process; a worker that obeyed would stop in the middle of writing a file.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
