"""What became of each file of a batch, written so that the process may end at any moment: an SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple

from daskimg.batch.targets import Job
from daskimg.batch.task import Outcome
from daskimg.errors import EnvironmentProblem, ImageFileError

__all__ = ["ALONE", "DEATHS", "LARGE", "ORDINARY", "Manifest", "Row", "Run", "read_rows"]

FOLDER, FILE = ".daskimg", "manifest.sqlite"  # beside the results
DEATHS = 3  # so often may the process die over a file before it is given up
# The lanes: in groups; with nothing beside it, since it needs the memory or a process died over it; by chunk.
ORDINARY, ALONE, LARGE = range(3)
PAGE = 512  # jobs that are read at once

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept.works (work INTEGER PRIMARY KEY, fingerprint TEXT UNIQUE, content TEXT);
CREATE TABLE IF NOT EXISTS kept.runs (run INTEGER PRIMARY KEY, began REAL, work INTEGER, here INTEGER);
CREATE TABLE IF NOT EXISTS kept.files (
    number INTEGER PRIMARY KEY,
    source TEXT UNIQUE NOT NULL,  -- where it is; of a URL with secrets, what is shown and a digest
    hidden INTEGER NOT NULL DEFAULT 0,  -- whether it is such a URL
    shown TEXT NOT NULL,
    version TEXT NOT NULL,
    targets TEXT NOT NULL,  -- JSON, below the folder of the results
    work INTEGER NOT NULL,
    run INTEGER NOT NULL,  -- the last one that had to do it
    state TEXT NOT NULL,  -- waiting, under way, done, failed, skipped
    lane INTEGER NOT NULL DEFAULT 0,
    ours INTEGER NOT NULL DEFAULT 0,  -- whether a result that stands there is one of ours
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    details TEXT NOT NULL DEFAULT '',
    pixels INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    sizes TEXT NOT NULL DEFAULT ''  -- JSON, bytes of each result
);
"""
_ROW = "source, shown, version, targets, state, reason, attempts, pixels, seconds, sizes, details, hidden"


class Row(NamedTuple):
    """Says what became of a file; its targets lie below the folder of the results."""

    source: str
    shown: str
    version: str
    targets: tuple[str, ...]
    state: str
    reason: str
    attempts: int
    pixels: int
    seconds: float
    sizes: tuple[int, ...]
    details: str
    hidden: bool


class Run(NamedTuple):
    """Is a run that the manifest knows: its number and, as text, what it did to each file."""

    number: int
    content: str


class Manifest:
    """Is the list of a batch's files and what became of them; used by one thread, and by one run at a time.

    Parameters
    ----------
    root : str
        Where the results go: a folder or a URL prefix, with the slash at its end; targets are kept relative to it.
    path : path
        The SQLite file. Where its folder does not exist, nothing is made before `keep` is called.
    on_change : callable
        Called with the rows of files that are done or have failed, after each time that they were written down.
    """

    def __init__(self, root: str, path: Path, on_change: Callable[[list[Row]], None] | None = None) -> None:
        self.root = root
        self.path = path
        self.on_change = on_change
        self.run = self.work = 0
        self._owned = False
        # The first base is a temporary one, for what is asked for now; the second, "kept", is the file.
        self.base = sqlite3.connect("", isolation_level=None, check_same_thread=False, timeout=0)
        self.base.execute("PRAGMA main.synchronous=OFF")
        self.base.execute("CREATE TABLE urls (source PRIMARY KEY, url TEXT) WITHOUT ROWID")
        self._attach(str(path) if path.is_file() else ":memory:")

    def _attach(self, path: str) -> None:
        with self._explained():
            self.base.execute("ATTACH ? AS kept", (path,))
            # One process at a time, by a lock of the system that is gone when the process is; and no shared memory,
            # which file systems of networks lack.
            self.base.execute("PRAGMA kept.locking_mode=EXCLUSIVE")
            self.base.execute("PRAGMA kept.journal_mode=WAL")
            self.base.execute("PRAGMA kept.synchronous=NORMAL")
            self.base.executescript(_SCHEMA)
            with self.transaction():
                self.base.execute("DELETE FROM kept.runs WHERE run < 0")  # takes the lock
            if path != ":memory:":
                self._owned = True
                self._owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
                with self.transaction():
                    self._recover()

    @property
    def _owner(self) -> Path:
        return self.path.with_suffix(".owner")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                owner = self._owner.read_text() if self._owner.is_file() else "another process"
                raise EnvironmentProblem(
                    f"another run works on {self.root!r}: {owner}; wait for it, or choose another folder"
                ) from None
            raise ImageFileError(
                f"the manifest {str(self.path)!r} cannot be used: {error}; what is done stays, and the same command "
                "does what is left. If it is damaged, delete it"
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write down all that is changed inside, or nothing."""
        with self._explained():
            self.base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.base.execute("COMMIT")
            except BaseException:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise

    def _recover(self) -> None:
        """Let what was under way when a run died wait again; what it died over is done alone, and not for ever."""
        under_way = self.base.execute("SELECT targets FROM kept.files WHERE state = 'under way'").fetchall()
        targets = (target for (text,) in under_way for target in json.loads(text))
        for folder in {os.path.dirname(self.root + target) for target in targets}:
            _remove_parts(folder)
        self.base.execute(
            f"UPDATE kept.files SET deaths = deaths + 1, lane = max(lane, {ALONE}) "
            "WHERE state = 'under way' AND run IN (SELECT run FROM kept.runs WHERE here)"
        )
        self.base.execute("UPDATE kept.files SET state = 'waiting', ours = 1 WHERE state = 'under way'")
        self.base.execute(
            "UPDATE kept.files SET state = 'failed', reason = ? WHERE state = 'waiting' AND deaths >= ?",
            ("the process died each time that it was processed; daskimg retry tries once more", DEATHS),
        )

    def keep(self) -> None:
        """Make the file if there is none, which is not done before all else is found to be right."""
        if not self._owned:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained():
                self.base.execute("DETACH kept")
            self._attach(str(self.path))

    def begin(self, fingerprint: str, content: str, here: bool) -> None:
        """Begin a run.

        Parameters
        ----------
        fingerprint, content : str
            What results depend on beside their sources, as a digest and as text.
        here : bool
            Whether files are processed in this process, so that one of them may end it.
        """
        with self.transaction():
            insert = "INSERT INTO kept.works (fingerprint, content) VALUES (?, ?) ON CONFLICT DO NOTHING"
            self.base.execute(insert, (fingerprint, content))
            self.work = self.known_work(fingerprint)
            run = self.base.execute(
                "INSERT INTO kept.runs (began, work, here) VALUES (?, ?, ?)", (time.time(), self.work, here)
            )
            self.run = run.lastrowid or 0

    def known_work(self, fingerprint: str) -> int:
        """Return the number of what files were put through before; 0 if it is new."""
        found = self.base.execute("SELECT work FROM kept.works WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return found[0] if found else 0

    def last_run(self) -> Run | None:
        """Return the run before."""
        select = "SELECT run, content FROM kept.runs JOIN kept.works USING (work) ORDER BY run DESC LIMIT 1"
        found = self.base.execute(select).fetchone()
        return Run(*found) if found else None

    def hide(self, job: Job) -> str:
        """Return what a source with secrets is called here, and remember where it is while this run lasts."""
        name = f"{job.shown} {hashlib.sha256(job.source.encode()).hexdigest()[:16]}"
        self.base.execute("INSERT OR IGNORE INTO urls VALUES (?, ?)", (name, job.source))
        return name

    def waiting(self, lane: int, replace: bool) -> Iterator[tuple[int, Job]]:
        """Yield the files of a lane that wait, with their numbers; `replace`: any result that exists may go."""
        last = -1
        select = (
            "SELECT number, coalesce(url, source), shown, version, targets, ours FROM kept.files "
            "LEFT JOIN urls USING (source) "
            "WHERE number > ? AND state = 'waiting' AND run = ? AND lane = ? ORDER BY number LIMIT ?"
        )
        while page := self.base.execute(select, (last, self.run, lane, PAGE)).fetchall():
            below = json.loads(f"[{','.join(row[4] for row in page)}]")  # much faster than one by one
            for (number, source, shown, version, _, ours), targets in zip(page, below, strict=True):
                places = tuple([self.root + target for target in targets])
                yield number, Job(os.fsdecode(source), places, os.fsdecode(shown), version, replace or bool(ours))
            last = page[-1][0]

    def count(self, state: str) -> int:
        """Return how many files of this run have a state."""
        count = "SELECT count(*) FROM kept.files WHERE run = ? AND state = ?"
        return int(self.base.execute(count, (self.run, state)).fetchone()[0])

    def start(self, numbers: Sequence[int]) -> None:
        """Note that files are under way."""
        self.base.executemany(
            "UPDATE kept.files SET state = 'under way', attempts = attempts + 1 WHERE number = ?",
            [(number,) for number in numbers],
        )

    def finish(self, numbers: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Note what came of files."""
        done, failed, others = [], [], []
        for number, one in zip(numbers, outcomes, strict=True):
            if one.skipped or one.too_large:
                others.append((one.too_large, number))
            elif one.reason:
                failed.append((one.reason, one.details, one.seconds, number))
            else:
                done.append((one.pixels, one.seconds, str(list(one.sizes)), number))
        self.base.executemany(
            "UPDATE kept.files SET state = 'done', ours = 1, reason = '', details = '', pixels = ?, seconds = ?, "
            "sizes = ? WHERE number = ?",
            done,
        )
        self.base.executemany(
            "UPDATE kept.files SET state = 'failed', reason = ?, details = ?, seconds = ? WHERE number = ?", failed
        )
        self.base.executemany(
            "UPDATE kept.files SET state = 'waiting', attempts = attempts - 1, lane = lane + ? WHERE number = ?",
            others,
        )

    def tell(self, numbers: Sequence[int]) -> None:
        """Tell `on_change` of files that are done or failed, once that is written down."""
        if self.on_change is not None:
            marks = ", ".join("?" * len(numbers))
            rows = f"SELECT {_ROW} FROM kept.files WHERE number IN ({marks}) AND state IN ('done', 'failed')"
            self.on_change(list(map(_row, self.base.execute(rows, numbers))))

    def put_off(self, numbers: Sequence[int]) -> None:
        """Let files wait until nothing else is under way, since a worker died over one of them."""
        self.base.executemany(
            f"UPDATE kept.files SET state = 'waiting', lane = max(lane, {ALONE}) WHERE number = ?",
            [(one,) for one in numbers],
        )

    def try_again(self, retries: int) -> int:
        """Let the failed files wait again that were tried no more than `retries` times; return how many."""
        again = (
            "UPDATE kept.files SET state = 'waiting' "
            f"WHERE state = 'failed' AND run = ? AND attempts <= ? AND deaths < {DEATHS}"
        )
        with self.transaction():
            return self.base.execute(again, (self.run, retries)).rowcount

    def renew(self, before: Run) -> int:
        """Let all files wait that failed in a run before, as if they were never tried; return how many."""
        again = (
            f"UPDATE kept.files SET state = 'waiting', run = ?, attempts = 0, deaths = 0, lane = min(lane, {ALONE}) "
            "WHERE state = 'failed' AND run = ? AND NOT hidden"
        )
        with self.transaction():
            return self.base.execute(again, (self.run, before.number)).rowcount

    def failures(self, most: int) -> list[Row]:
        """Return the first of this run's files that failed."""
        rows = f"SELECT {_ROW} FROM kept.files WHERE run = ? AND state = 'failed' ORDER BY number LIMIT ?"
        return list(map(_row, self.base.execute(rows, (self.run, most))))

    def rows(self, work: int) -> Iterator[Row]:
        """Yield the files that are done or have failed with what they were put through, by its number."""
        rows = f"SELECT {_ROW} FROM kept.files WHERE work = ? AND state IN ('done', 'failed') ORDER BY number"
        return map(_row, self.base.execute(rows, (work,)))

    def load(self, rows: Iterable[Row], fingerprint: str, content: str) -> None:
        """Take over rows of an earlier run that are kept elsewhere; a later one of a source replaces an earlier one."""
        with self.transaction():
            insert = "INSERT INTO kept.works (fingerprint, content) VALUES (?, ?) ON CONFLICT DO NOTHING"
            self.base.execute(insert, (fingerprint, content))
            work = self.known_work(fingerprint)
            marks = ", ".join("?" * len(Row._fields))
            self.base.executemany(
                f"INSERT OR REPLACE INTO kept.files ({_ROW}, work, run, ours) VALUES ({marks}, {work}, 0, 1)",
                map(_values, rows),
            )

    def close(self) -> None:
        """Let what is still under way wait again, and let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self.base.execute("UPDATE kept.files SET state = 'waiting', ours = 1 WHERE state = 'under way'")
        self.base.close()
        if self._owned:
            self._owner.unlink(missing_ok=True)

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def kept(text: str) -> str | bytes:
    """Return a name as SQLite takes it: one that is no Unicode, which Linux allows, as bytes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return os.fsencode(text)
    return text


def kept_list(texts: Iterable[str]) -> str:
    """Return names as JSON; much faster than `json.dumps` for a few."""
    return f"[{', '.join(map(encode_basestring_ascii, texts))}]"


def _row(values: Sequence[Any]) -> Row:
    row = Row(*values)
    return row._replace(
        source=os.fsdecode(row.source),
        shown=os.fsdecode(row.shown),
        targets=tuple(json.loads(values[3])),
        sizes=tuple(json.loads(values[9] or "[]")),
        hidden=bool(row.hidden),
    )


def _values(row: Row) -> tuple[Any, ...]:
    texts = {"targets": json.dumps(row.targets), "sizes": json.dumps(row.sizes)}
    return tuple({**row._asdict(), **texts, "source": kept(row.source), "shown": kept(row.shown)}.values())


def read_rows(path: Path) -> Iterator[Row]:
    """Yield all rows of a manifest.

    Raises
    ------
    EnvironmentProblem
        If a run is using it.
    """
    base = sqlite3.connect(path, timeout=0)
    try:
        yield from map(_row, base.execute(f"SELECT {_ROW} FROM files ORDER BY number"))
    except sqlite3.OperationalError as error:
        raise EnvironmentProblem(f"the manifest {str(path)!r} cannot be read while a run uses it: {error}") from None
    finally:
        base.close()


def _remove_parts(folder: str) -> None:
    """Take away the files that a process which was killed did not finish; they have names of our own."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _is_part(entry.name):
                os.unlink(entry.path)


def _is_part(name: str) -> bool:
    digits, dot, end = name[1:].partition(".")
    return name[:1] == "." and dot + end == ".part" and len(digits) == 32 and not set(digits) - set("0123456789abcdef")
