"""What came of a batch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from daskimg.batch.manifest import read_rows
from daskimg.progress import duration

__all__ = ["Failure", "Report"]

SHOWN = 20  # failures that a printed report lists
HELD = 1000  # failures that a report holds; the manifest has them all


class Failure(NamedTuple):
    """Names an image that was not written, says why, and how often it was tried."""

    source: str
    reason: str
    attempts: int = 1


@dataclass
class Report:
    """Says what came of a batch.

    Attributes
    ----------
    total, done : int
        Images that were found, and those that this run wrote.
    before : int
        Images that an earlier run wrote, and that were left as they are.
    skipped : int
        Images that were left out, since their results exist and `overwrite="skip"`.
    failed : int
        Images that could not be read, processed or written.
    failures : list of Failure
        `(source, reason, attempts)` of these, the first thousand; `to_pandas` has them all.
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
    notes : list of str
        What else is to be known, such as why images that were done before were done anew.
    details : dict of str to str
        The tracebacks of failures that are no error of daskimg's own, by source.
    manifest : str
        The file that knows what became of each image.
    """

    total: int
    done: int = 0
    before: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    pixels: int = 0
    to: str = ""
    where: str = ""
    cancelled: bool = False
    notes: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    manifest: str = ""
    # A manifest that lies beside no results lasts as long as its report in this process.
    scratch: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.failed = max(self.failed, len(self.failures))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "scratch": None}

    @property
    def ok(self) -> bool:
        """Whether every image is there."""
        return self.done + self.before + self.skipped == self.total

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
        if self.total and self.before == self.total:
            return f"nothing is left to do: {self.total} of {self.total} image{plural} done before: {self.to}"
        text = f"{self.done} of {self.total} image{plural} done in {duration(self.seconds)} by {self.where}"
        if self.done:
            text += f" ({self.images_per_second:.1f} images/s, {self.megapixels_per_second:.0f} megapixels/s)"
        counts = {"done before": self.before, "skipped": self.skipped, "failed": self.failed}
        text += "".join(f", {count} {what}" for what, count in counts.items() if count)
        return text + (", cancelled" if self.cancelled else "") + f": {self.to}"

    def to_pandas(self) -> Any:
        """Return a table of all images that the manifest knows, those of earlier runs too.

        Returns
        -------
        pandas.DataFrame
            With the columns `source`, `targets` (a tuple of paths), `state` (`done`, `failed`, `waiting`, `skipped`),
            `reason`, `attempts`, `seconds`, `pixels` and `bytes` (of the results).

        Raises
        ------
        FileNotFoundError
            If the manifest is gone.
        EnvironmentProblem
            If another run is using it.

        Examples
        --------
        >>> import numpy as np, pathlib, tempfile, daskimg as di
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> di.save_image(np.full((40, 60), 200, "uint8"), folder / "a.png")
        >>> report = di.process_images(folder, "invert", folder / "out")
        >>> report.to_pandas()[["state", "pixels"]].values.tolist()
        [['done', 2400]]
        """
        import pandas

        if not os.path.isfile(self.manifest):
            raise FileNotFoundError(f"the manifest {self.manifest!r} is gone")
        columns = ["source", "targets", "state", "reason", "attempts", "seconds", "pixels", "bytes"]
        rows = (
            (row.shown, row.targets, row.state, row.reason, row.attempts, row.seconds, row.pixels, sum(row.sizes))
            for row in read_rows(Path(self.manifest))
        )
        return pandas.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        lines = [self.headline, *(f"  {note}" for note in self.notes)]
        lines += [f"  {failure.source}: {failure.reason}" for failure in self.failures[:SHOWN]]
        if self.failed > SHOWN:
            lines.append(f"  and {self.failed - SHOWN} more in .failures")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(failure.source)}</td><td>{escape(failure.reason)}</td><td>{failure.attempts}</td></tr>"
            for failure in self.failures[:SHOWN]
        )
        table = f"<table><tr><th>failed</th><th>why</th><th>tried</th></tr>{rows}</table>" if rows else ""
        more = f"<p>and {self.failed - SHOWN} more</p>" if self.failed > SHOWN else ""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p>{escape(self.headline)}</p>{notes}{table}{more}"
