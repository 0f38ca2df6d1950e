"""Where each result goes, decided and checked before any work: nothing is overwritten that was not meant to be."""

from __future__ import annotations

import os
import sys
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daskimg.batch.sources import Source, is_url
from daskimg.errors import ImageFileError, ParameterError
from daskimg.io.encode import Options
from daskimg.io.formats import FORMATS, format_named, suffix_of

__all__ = ["Job", "check_targets", "make_folders", "plan_targets"]

FALLBACK = ".png"  # for inputs in a format that is only read, or without a suffix


class Job(NamedTuple):
    """Is one image to do.

    `source` is where it is, `targets` where its results go, `shown` how messages call it. `version` tells this content
    from another at the same place: size and time, or entity tag; nothing if unknown. `replace` says that results which
    exist may be replaced.
    """

    source: str
    targets: tuple[str, ...]
    shown: str
    version: str = ""
    replace: bool = False


def names_file(to: str) -> bool:
    """Return whether `to` means one file rather than a folder: it ends like an image and is no folder."""
    known = any(suffix_of(to) in one.suffixes for one in FORMATS.values())
    return known and not to.endswith(("/", os.sep)) and not os.path.isdir(to)


def plan_targets(sources: Sequence[Source], to: str, *, format: str | None, name: str) -> list[Job]:
    """Return the jobs: each source with its target.

    Raises
    ------
    ParameterError
        If two inputs would share a target, or one file is to hold several.
    UnknownNameError
        If the format is none that can be written.
    """
    if not to:
        raise ParameterError("say where the results go: a folder, or a file for a single image")
    if "{stem}" not in name or os.path.basename(name) != name or "/" in name or "\\" in name:
        raise ParameterError(
            f"name={name!r} is not allowed; name is a file name with {{stem}} in it, such as '{{stem}}-edges'"
        )
    place = to if is_url(to) else os.path.abspath(os.path.expanduser(to))
    if names_file(to):
        if len(sources) > 1:
            raise ParameterError(f"{to!r} names one file, but there are {len(sources)} images; name a folder")
        if format is not None and format_named(format, "") is not format_named(None, to):
            raise ParameterError(f"format={format!r} contradicts the name {to!r}; leave one of them out")
        format_named(None, to)
        return [Job(sources[0].url, (place,), sources[0].shown)]
    jobs: list[Job] = []
    taken: dict[str, Source] = {}
    for source in sources:
        target = _join(place, _named(source.below, format, name))
        other = taken.setdefault(_comparable(target), source)
        if other is not source:
            raise ParameterError(
                f"{other.shown!r} and {source.shown!r} would both become {target!r}; process them in separate runs "
                "with folders of their own, or give a common folder with --recursive, which keeps its folders apart"
            )
        jobs.append(Job(source.url, (target,), source.shown))
    return jobs


def _named(below: str, format: str | None, name: str) -> str:
    folders, slash, last = below.rpartition("/")
    suffix = suffix_of(last)
    current = next((one for one in FORMATS.values() if suffix in one.suffixes), None)
    if current is None:  # "scan.v2" has no suffix that means an image: all of it is the name
        suffix = ""
    stem, own = last[: len(last) - len(suffix)], last[len(last) - len(suffix) :]
    if format is not None:
        wanted = format_named(format, "")
        own = own if current is wanted else wanted.suffixes[0]
    elif current is None or not current.dtypes:
        own = FALLBACK
    return folders + slash + name.replace("{stem}", stem) + own


def _join(place: str, below: str) -> str:
    if is_url(place):
        return f"{place.rstrip('/')}/{below}"
    target = os.path.abspath(os.path.join(place, below))
    if os.path.commonpath([target, place]) != place:
        raise ParameterError(f"the result {below!r} would leave the folder {place!r}; rename the image")
    return target


def _comparable(target: str) -> str:
    """Return a target so that two which are one file compare equal: Windows and macOS ignore case."""
    if is_url(target) or sys.platform not in ("win32", "darwin"):
        return target
    return unicodedata.normalize("NFC", target).casefold()


def check_targets(jobs: Iterable[Job], *, overwrite: bool, options: Options) -> None:
    """Raise if a target is an input, exists already, or cannot have the options of its format.

    Raises
    ------
    ParameterError
        Naming the target. Inputs are not overwritten even if `overwrite` is set.
    """
    jobs = list(jobs)
    inputs = {status for job in jobs if (status := _identity(job.source))}
    existing = []
    pairs = [(job.source, target) for job in jobs for target in job.targets]
    for format in {format_named(None, target).name: format_named(None, target) for _, target in pairs}.values():
        options.check(format)
    for source, target in pairs:
        status = _identity(target)
        if source == target or (status and status in inputs):
            raise ParameterError(
                f"the result {target!r} would overwrite an input; choose another folder, "
                "or another name with --name '{stem}-new' (in Python: name='{stem}-new')"
            )
        if status:
            existing.append(target)
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ParameterError(
            f"{existing[0]!r}{more} exists already; choose another folder, or replace with --overwrite "
            "(in Python: overwrite=True)"
        )


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells one local file from all others, whatever its names; None where there is none."""
    if is_url(path):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_folders(jobs: Iterable[Job]) -> str | None:
    """Make the folders of the targets and try to write in each; return the topmost local one.

    Raises
    ------
    ImageFileError
        If one cannot be made or written to.
    """
    folders = sorted({os.path.dirname(target) for job in jobs for target in job.targets if not is_url(target)}, key=len)
    for folder in folders:
        probe = os.path.join(folder, f".{uuid.uuid4().hex}.probe")
        try:
            os.makedirs(folder, exist_ok=True)
            # Asking for permissions is not enough: disks are full or mounted read-only, and Windows answers wrongly.
            with open(probe, "xb"):
                pass
            os.unlink(probe)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageFileError(
                f"the output folder {folder!r} cannot be written to: {reason}; choose another"
            ) from error
    return folders[0] if folders else None
