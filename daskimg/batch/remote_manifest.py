"""The manifest of a batch whose results go to a URL: here while the batch runs, there in segments for the next run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from daskimg.batch.manifest import FOLDER, Manifest, Row
from daskimg.batch.segments import ROWS, Lease, Segment, Segments
from daskimg.io.urls import Location

__all__ = ["RemoteManifest"]


class RemoteManifest(Manifest):
    """Is a manifest that is read from segments below a URL and adds to them; one run at a time, by a lease.

    Parameters
    ----------
    place : Location
        Where the results go.
    path : path
        A temporary SQLite file.

    Raises
    ------
    EnvironmentProblem
        If another run writes there.
    ImageFileError
        If that place cannot be read or written.
    """

    def __init__(self, place: Location, path: Path) -> None:
        place.check_writable(overwrite=True)
        folder = f"{place.url.rstrip('/')}/{FOLDER}"
        self._lease = Lease(dataclasses.replace(place, url=f"{folder}/lease"))
        self._segments = Segments(dataclasses.replace(place, url=f"{folder}/segments"), self._lease)
        self._changed = False
        super().__init__(f"{place.url.rstrip('/')}/", path, self._add)
        self.keep()
        self._lease.__enter__()
        try:
            self._take_over()
        except BaseException:
            self.close()
            raise

    def begin(self, fingerprint: str, content: str, here: bool) -> None:
        """Begin a run."""
        super().begin(fingerprint, content, here)
        self._segments.begin({"fingerprint": fingerprint, "content": content})

    def close(self) -> None:
        """Write what is left, put all segments together, and let go of the place."""
        try:
            self._segments.close(self._whole() if self._changed else None)
        finally:
            super().close()
            self._lease.__exit__()

    def _add(self, rows: list[Row]) -> None:
        self._changed = True
        self._segments.add(row._asdict() for row in rows)

    def _take_over(self) -> None:
        """Fill the local file with what runs before have left, as one run that `retry_images` can go back to."""
        header = None
        for segment in self._segments.read():
            header = segment.header
            self.load((_row(one) for one in segment.rows), header["fingerprint"], header["content"])
        if header is not None:
            work = self.known_work(header["fingerprint"])
            self.base.execute("INSERT INTO kept.runs (run, began, work, here) VALUES (0, ?, ?, 0)", (time.time(), work))

    def _whole(self) -> Iterator[Segment]:
        """Yield all that is done or has failed, by what it was put through."""
        for work, fingerprint, content in self.base.execute(
            "SELECT work, fingerprint, content FROM kept.works"
        ).fetchall():
            rows = (row._asdict() for row in self.rows(work))
            while some := list(islice(rows, ROWS)):
                yield Segment({"fingerprint": fingerprint, "content": content}, some)


def _row(values: dict[str, object]) -> Row:
    return Row(**values)  # type: ignore[arg-type]
