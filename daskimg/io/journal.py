"""What is done of a large image, written so that the process may end at any moment."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from daskimg.io.pyramid import Rest

__all__ = ["Journal"]

Index = tuple[int, ...]


class Entry(NamedTuple):
    """Is a chunk that is done: where its tiles are, and what it left for coarser levels."""

    chunk: Index
    tiles: list[Any]
    rests: list[Rest]


class Journal:
    """Is an SQLite file that lists the chunks which are done; used by one thread at a time.

    Parameters
    ----------
    path : path
        The file.
    fingerprint : str
        What tells this image and its options from others; entries of another are forgotten.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        try:
            self._open(fingerprint)
        except sqlite3.DatabaseError:  # it is no journal: the disk was full, perhaps
            self.remove()
            self._open(fingerprint)

    def _open(self, fingerprint: str) -> None:
        self._base = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.execute("CREATE TABLE IF NOT EXISTS head (fingerprint TEXT)")
        self._base.execute("CREATE TABLE IF NOT EXISTS chunks (place TEXT PRIMARY KEY, tiles TEXT, rests BLOB)")
        found = self._base.execute("SELECT fingerprint FROM head").fetchone()
        self.begun = found == (fingerprint,)
        if not self.begun:
            self.forget()
            self._base.execute("DELETE FROM head")
            self._base.execute("INSERT INTO head VALUES (?)", (fingerprint,))

    def forget(self) -> None:
        """Forget all entries."""
        self._base.execute("DELETE FROM chunks")

    def add(self, index: Index, tiles: list[Any], rests: list[Rest]) -> None:
        """Note that a chunk is done."""
        stream = io.BytesIO()
        np.savez(stream, **{str(number): rest.pixels for number, rest in enumerate(rests)})  # type: ignore[arg-type]
        places = [[rest.level, rest.batch, rest.at] for rest in rests]
        row = json.dumps(index), json.dumps([tiles, places]), stream.getvalue()
        self._base.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)", row)

    def entries(self) -> Iterator[Entry]:
        """Yield the chunks that are done."""
        for place, text, blob in self._base.execute("SELECT place, tiles, rests FROM chunks"):
            tiles, places = json.loads(text)
            with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
                rests = [
                    Rest(level, tuple(batch), tuple(at), arrays[str(number)])
                    for number, (level, batch, at) in enumerate(places)
                ]
            yield Entry(tuple(json.loads(place)), tiles, rests)

    def close(self) -> None:
        """Close the file; it stays."""
        self._base.close()

    def remove(self) -> None:
        """Close the file and take it away."""
        self._base.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
