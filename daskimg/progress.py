"""How far a piece of work is: the numbers, and a bar in a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TextIO

__all__ = ["FileState", "Progress", "ProgressBar", "drawn"]


class FileState(NamedTuple):
    """Says how far one file of many is.

    `source` is the file as the user named it; `state` is `"under way"`, `"done"` or `"failed"`; `reason` says why it
    failed; `seconds` is how long it took.
    """

    source: str
    state: str
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Says how far a piece of work is.

    Attributes
    ----------
    done, failed, total : int
        Items that are finished, those among them that failed, and all.
    seconds : float
        Since the work began.
    stopping : bool
        Whether it was interrupted, and only what is under way is still finished.
    unit : str
        What is counted.
    before : int
        Items among those that are finished which an earlier run finished.
    looking : bool
        Whether the items are still being found; `total` are those found so far.
    file : str
        The item that is under way alone, since it is large.
    part : float
        How much of that item is done, from 0 to 1.
    """

    done: int
    failed: int
    total: int
    seconds: float
    stopping: bool = False
    unit: str = "images"
    before: int = 0
    looking: bool = False
    file: str = ""
    part: float = 0.0

    @property
    def rate(self) -> float:
        """Items a second so far."""
        return (self.done - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at this rate; None before anything is done."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        if self.looking:
            return f"{self.total} {self.unit} found"
        share = 100 * self.done // max(self.total, 1)
        parts = [f"{self.done}/{self.total}", f"{share} %", f"{self.rate:.1f} {self.unit}/s"]
        if self.stopping:
            parts.append("stopping")
        elif self.done < self.total:
            parts.append("time left " + (duration(self.left) if self.left is not None else "unknown"))
        else:
            parts.append(duration(self.seconds))
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.file:
            parts.append(f"{self.file} {100 * self.part:.0f} %")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return a length of time as people write it.

    >>> duration(0.42), duration(7), duration(83), duration(7384)
    ('0.4 s', '7 s', '1:23 min', '2:03 h')
    """
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


class ProgressBar:
    """Draws progress as a bar that renews itself; where the stream is no terminal, as a line now and then.

    Call it with each `Progress`; it decides what is worth drawing. Use it as a context manager, so that the line is
    ended however the work ends.

    Parameters
    ----------
    stream : text file
        Where to write: stderr unless said otherwise, so that stdout stays clean for results.
    every : float
        Seconds between two lines where there is no terminal.
    """

    width = 28

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.every = every
        self._terminal = self.stream.isatty()
        self._drawn = 0  # length of the line that stands there
        self._last = time.monotonic()
        self._final = self._stopping = False
        try:
            "█·".encode(self.stream.encoding or "ascii")
            self._signs = "█·"
        except (UnicodeEncodeError, LookupError):
            self._signs = "#."

    def __call__(self, progress: Progress) -> None:
        """Draw it, if it is time to."""
        now = time.monotonic()
        finished = progress.done >= progress.total and not progress.looking
        news = progress.stopping and not self._stopping
        due = finished or news or now - self._last >= (0.1 if self._terminal else self.every)
        if self._final or not due:
            return
        self._last, self._final, self._stopping = now, finished, progress.stopping
        if self._terminal:
            full = self.width * progress.done // max(progress.total, 1)
            bar = self._signs[0] * full + self._signs[1] * (self.width - full)
            line = f"{bar}  {progress}"
            self.stream.write("\r" + line.ljust(self._drawn))
            self._drawn = len(line)
        else:
            self.stream.write(f"{progress}\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line that stands there."""
        if self._drawn:
            self.stream.write("\n")
            self.stream.flush()
            self._drawn = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def drawn(progress: Callable[[Progress], None] | bool) -> Iterator[Callable[[Progress], None]]:
    """Yield what is to be called with each `Progress`: what was given, a bar on stderr for True, else nothing."""
    if progress is True:
        with ProgressBar() as bar:
            yield bar
    else:
        yield progress or (lambda _: None)
