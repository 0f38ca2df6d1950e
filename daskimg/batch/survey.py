"""What is left to do: the files that are wanted, beside what is known of them and what stands there already."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from daskimg.batch.manifest import ALONE, DEATHS, ORDINARY, Manifest, kept, kept_list
from daskimg.batch.sources import is_url, version_of
from daskimg.batch.targets import Job, comparable
from daskimg.errors import ParameterError

__all__ = ["Overwrite", "Survey"]

Overwrite = bool | Literal["skip"]

_AT_ONCE = 2000  # jobs that are written down together

_WANTED = """
CREATE TABLE wanted (
    number INTEGER PRIMARY KEY, source UNIQUE, hidden, shown, version, targets,
    there  -- the sizes of results that stand there, as JSON
);
CREATE TABLE claims (target, number);
"""

# What a run does with a file, given what is known of it.
_FATES = f"""
CREATE TABLE fates AS SELECT
    wanted.number AS number, known.number AS file, known.state = 'done' AS done, coalesce(known.ours, 0) AS ours,
    CASE WHEN known.work IS :work AND known.version = wanted.version THEN min(known.lane, {ALONE}) ELSE {ORDINARY}
        END AS lane,
    CASE WHEN known.work IS :work AND known.version = wanted.version THEN known.deaths ELSE 0 END AS deaths,
    CASE
        WHEN known.work IS NOT :work THEN 'the pipeline or its options changed'
        WHEN known.version <> wanted.version THEN 'the source changed'
        WHEN known.targets <> wanted.targets THEN 'the results have other names'
        ELSE 'the results were changed or removed'
    END AS change,
    CASE
        WHEN known.state = 'done' AND known.work = :work AND known.version = wanted.version
            AND known.targets = wanted.targets AND (NOT :local OR known.sizes = wanted.there) THEN 'before'
        WHEN known.state = 'failed' AND known.deaths >= {DEATHS} AND known.work = :work
            AND known.version = wanted.version THEN 'given up'
        WHEN wanted.there IS NULL OR (known.ours AND known.targets = wanted.targets) THEN 'to do'
        ELSE 'strange'
    END AS fate
FROM wanted LEFT JOIN kept.files AS known ON :resume AND known.source = wanted.source
"""

_SETTLE = """
INSERT INTO kept.files (source, hidden, shown, version, targets, work, run, state, lane, ours, deaths)
SELECT source, hidden, shown, version, targets, :work, :run,
    iif(fate = 'strange' AND :skip, 'skipped', 'waiting'), lane, ours, deaths
FROM wanted JOIN fates USING (number) WHERE fate IN ('to do', 'strange')
ORDER BY number
ON CONFLICT (source) DO UPDATE SET
    hidden = excluded.hidden, shown = excluded.shown, version = excluded.version, targets = excluded.targets,
    work = excluded.work, run = excluded.run, state = excluded.state, lane = excluded.lane, ours = excluded.ours,
    deaths = excluded.deaths, attempts = 0, reason = '', details = '', pixels = 0, seconds = 0, sizes = ''
"""

# A result that is replaced is no longer that of the file it was made of.
_DISOWN = """
DELETE FROM kept.files WHERE number IN (
    SELECT files.number FROM kept.files, json_each(files.targets) AS theirs WHERE theirs.value IN (
        SELECT ours.value FROM wanted JOIN fates USING (number), json_each(wanted.targets) AS ours
        WHERE fate = 'strange'
    )
) AND source NOT IN (SELECT source FROM wanted)
"""


@dataclass
class Survey:
    """Finds out what is left to do; nothing is changed before `settle`.

    Parameters
    ----------
    manifest : Manifest
        What is known.
    overwrite : bool or "skip"
        What happens to results that exist and are not known: they are replaced, skipped, or the run is refused.
    resume : bool
        Whether what was done before is left as it is.

    Attributes
    ----------
    total, before, skipped : int
        Files that are wanted; those that were done before; those that are left out, since their results exist.
    notes : list of str
        Why files that were done before are done anew.
    folders : set of str
        The local folders of the results.
    """

    manifest: Manifest
    overwrite: Overwrite = False
    resume: bool = True
    total: int = 0
    before: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)

    def look(self, jobs: Iterable[Job], fingerprint: str, say: Callable[[int], None] = lambda _: None) -> None:
        """Go through the jobs; `say` is told now and then how many were found.

        Raises
        ------
        ParameterError
            If two have one result, a result is an input, or results exist that may not be replaced.
        """
        self.local = not is_url(self.manifest.root)
        base = self.manifest.base
        base.executescript(_WANTED)
        numbered = enumerate(jobs)
        while some := list(islice(numbered, _AT_ONCE)):
            with self.manifest.transaction():
                base.executemany(
                    "INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?)", [self._wanted(*one) for one in some]
                )
                base.executemany("INSERT INTO claims VALUES (?, ?)", _claims(some))
            say(some[-1][0] + 1)
        known = self.manifest.known_work(fingerprint)
        base.execute(_FATES, {"work": known, "local": self.local, "resume": self.resume})
        self._refuse_clashes()
        self._refuse_inputs()
        self._refuse_strangers()
        self._count()

    def _wanted(self, number: int, job: Job) -> tuple[Any, ...]:
        manifest = self.manifest
        targets = [target.removeprefix(manifest.root) for target in job.targets]
        source, hidden = job.source, False
        there = None
        if self.local:
            there = _sizes(job.targets)
            self.folders.update(map(os.path.dirname, job.targets))
        if is_url(source) and source != job.shown:
            # Secrets are not written down. The digest tells apart what is shown alike.
            source, hidden = manifest.hide(job), True
        return number, kept(source), hidden, kept(job.shown), job.version, kept_list(targets), there

    def _refuse_clashes(self) -> None:
        base = self.manifest.base
        clash = base.execute(
            "SELECT target, min(number), max(number) FROM claims WHERE number IN (SELECT number FROM wanted) "
            "GROUP BY target HAVING count(*) > 1 ORDER BY 3 LIMIT 1"
        ).fetchone()
        if clash:
            first, second = (
                os.fsdecode(base.execute("SELECT shown FROM wanted WHERE number = ?", (one,)).fetchone()[0])
                for one in clash[1:]
            )
            raise ParameterError(
                f"{first!r} and {second!r} would both become {os.fsdecode(clash[0])!r}; process them in separate runs "
                "with folders of their own, or give a common folder with --recursive, which keeps its folders apart"
            )

    def _refuse_inputs(self) -> None:
        """Compare what would be replaced with the inputs, by what tells one file from all others."""
        base = self.manifest.base
        if not self.local:
            found = base.execute("SELECT target FROM claims JOIN wanted ON source = target LIMIT 1").fetchone()
            if found:
                raise _overwrites(os.fsdecode(found[0]))
            return
        if not self._replaced():
            return
        base.execute("CREATE INDEX versions ON wanted (version)")
        for target in self._standing():
            # One file has one size and time; few others have the same.
            version = version_of(os.stat(target))
            for (source,) in base.execute("SELECT source FROM wanted WHERE version = ?", (version,)):
                if os.path.exists(source) and os.path.samefile(source, target):
                    raise _overwrites(target)

    def _replaced(self) -> int:
        count = "SELECT count(*) FROM wanted JOIN fates USING (number) WHERE there IS NOT NULL AND fate <> 'before'"
        return int(self.manifest.base.execute(count).fetchone()[0])

    def _standing(self, fates: str = "'to do', 'strange'") -> Iterator[str]:
        select = f"SELECT targets FROM wanted JOIN fates USING (number) WHERE there IS NOT NULL AND fate IN ({fates})"
        for (targets,) in self.manifest.base.execute(select):
            yield from filter(os.path.exists, (self.manifest.root + one for one in json.loads(targets)))

    def _refuse_strangers(self) -> None:
        strange = self._having("fate = 'strange'")
        if strange and not self.overwrite:
            more = f" and {strange - 1} more exist" if strange > 1 else " exists"
            raise ParameterError(
                f"{next(self._standing(repr('strange')))!r}{more} already; choose another folder, replace with "
                "--overwrite (in Python: overwrite=True), or leave out with --skip-existing (overwrite='skip')"
            )

    def _having(self, condition: str) -> int:
        return int(self.manifest.base.execute(f"SELECT count(*) FROM fates WHERE {condition}").fetchone()[0])

    def _count(self) -> None:
        base = self.manifest.base
        self.total = self._having("true")
        self.before = self._having("fate = 'before'")
        self.skipped = self._having("fate = 'strange'") if self.overwrite == "skip" else 0
        anew = base.execute("SELECT change, count(*) FROM fates WHERE done AND fate <> 'before' GROUP BY change")
        self.notes = [f"{count} done before {_are(count)} done anew, because {change}" for change, count in anew]

    def settle(self) -> None:
        """Write down what is left as waiting, in the run that has begun."""
        base, manifest = self.manifest.base, self.manifest
        skip = self.overwrite == "skip"
        with manifest.transaction():
            if self.overwrite is True and self._having("fate = 'strange'"):
                base.execute(_DISOWN)
            base.execute(_SETTLE, {"work": manifest.work, "run": manifest.run, "skip": skip})
            base.execute(
                "UPDATE kept.files SET run = ? WHERE number IN (SELECT file FROM fates WHERE fate = 'given up')",
                (manifest.run,),
            )
        base.executescript("DROP TABLE wanted; DROP TABLE claims; DROP TABLE fates")


def _claims(jobs: Iterable[tuple[int, Job]]) -> Iterator[tuple[str | bytes, int]]:
    for number, job in jobs:
        for target in job.targets:
            yield kept(comparable(target)), number


def _sizes(targets: Iterable[str]) -> str | None:
    """Return the sizes of files as JSON; None if there is none of them."""
    sizes: list[int | None] = []
    for target in targets:
        try:
            status = os.stat(target)
            sizes.append(0 if stat.S_ISDIR(status.st_mode) else status.st_size)
        except OSError:
            sizes.append(None)
    return str(sizes).replace("None", "null") if any(size is not None for size in sizes) else None


def _overwrites(target: str) -> ParameterError:
    return ParameterError(
        f"the result {target!r} would overwrite an input; choose another folder, "
        "or another name with --name '{stem}-new' (in Python: name='{stem}-new')"
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
