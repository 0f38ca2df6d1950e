"""Ctrl-C as a request rather than an exception, which would come up anywhere inside dask."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Stop", "stop_on_signals"]


class Stop(threading.Event):
    """Is set by the first Ctrl-C, or by the request to terminate; `code` is the exit code that says so."""

    code = 0

    def request(self, number: int, _: Any) -> None:
        """Stop softly at first, at once when asked again: no result is half written either way."""
        if self.is_set():
            os._exit(128 + number)
        self.code = 128 + number
        # Not by print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping: what is under way is finished first. Once more: don't wait.\n")
        self.set()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yield what tells that the user wants to stop, while a command runs."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
        if stop.is_set():
            sys.stderr.write("Interrupted. Every result that was written is whole.\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
