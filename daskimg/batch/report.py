"""What came of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from daskimg.progress import duration

__all__ = ["Failure", "Report"]

SHOWN = 20  # failures that a printed report lists


class Failure(NamedTuple):
    """Names an image that was not written, and says why."""

    source: str
    reason: str


@dataclass
class Report:
    """Says what came of a batch.

    Attributes
    ----------
    total, done : int
        Images that were found, and those that were written.
    failures : list of Failure
        `(source, reason)` of each that could not be read, processed or written.
    seconds : float
        How long it took.
    pixels : int
        Pixels of the images that were written, as they were read.
    to : str
        The folder or file that holds the results.
    where : str
        What did the work, such as `"2 threads in this process"`.
    cancelled : bool
        Whether it was stopped before the end; what was neither done nor failed was not begun.
    details : dict of str to str
        The tracebacks of failures that are no error of daskimg's own, by source.
    """

    total: int
    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    pixels: int = 0
    to: str = ""
    where: str = ""
    cancelled: bool = False
    details: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every image was written."""
        return self.done == self.total

    @property
    def images_per_second(self) -> float:
        """Images written per second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def megapixels_per_second(self) -> float:
        """Million pixels read, processed and written per second."""
        return self.pixels / self.seconds / 1e6 if self.seconds else 0.0

    @property
    def headline(self) -> str:
        """The counts and the speed in a line."""
        plural = "" if self.total == 1 else "s"
        text = f"{self.done} of {self.total} image{plural} done in {duration(self.seconds)} by {self.where}"
        if self.done:
            text += f" ({self.images_per_second:.1f} images/s, {self.megapixels_per_second:.0f} megapixels/s)"
        if self.failures:
            text += f", {len(self.failures)} failed"
        return text + (", cancelled" if self.cancelled else "") + f": {self.to}"

    def __str__(self) -> str:
        lines = [self.headline, *(f"  {failure.source}: {failure.reason}" for failure in self.failures[:SHOWN])]
        if len(self.failures) > SHOWN:
            lines.append(f"  and {len(self.failures) - SHOWN} more in .failures")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(failure.source)}</td><td>{escape(failure.reason)}</td></tr>"
            for failure in self.failures[:SHOWN]
        )
        table = f"<table><tr><th>failed</th><th>why</th></tr>{rows}</table>" if rows else ""
        more = f"<p>and {len(self.failures) - SHOWN} more</p>" if len(self.failures) > SHOWN else ""
        return f"<p>{escape(self.headline)}</p>{table}{more}"
