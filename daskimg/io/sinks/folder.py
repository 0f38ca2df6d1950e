"""A folder of many files that appears as a whole: a local one, or objects whose names begin alike."""

from __future__ import annotations

import os
import shutil
import uuid
from hashlib import blake2b
from pathlib import Path

from daskimg.errors import ImageFileError
from daskimg.io.urls import Location

__all__ = ["begin", "begun", "finish", "put", "remove", "sizes", "temporary"]

_UNFINISHED = ".unfinished"  # a folder inside: what is being written, and, locally, files that are not whole yet
_PLAN = f"{_UNFINISHED}/plan"


def temporary(place: Location) -> Location:
    """Return where a folder is written: a hidden one beside it, or, in an object store, its own place."""
    if not place.local:
        return place
    path = Path(place.url).resolve()  # A link stays a link; the folder behind it changes.
    name = blake2b(path.name.encode(), digest_size=8).hexdigest()  # Short, and found again by a later run.
    return Location(str(path.with_name(f".{name}.part")), True)


def begin(folder: Location, plan: bytes, *, resume: bool) -> bool:
    """Make a folder to write into, and return whether it goes on with one that was begun with the same plan.

    Anything else that is there is taken away.
    """
    if resume and _plan(folder) == plan:
        return True
    remove(folder)
    if folder.local:
        os.makedirs(os.path.join(folder.url, _UNFINISHED))
    put(folder, _PLAN, plan)
    return False


def begun(folder: Location) -> bool:
    """Tell whether a folder was begun and not finished."""
    return _plan(folder) is not None


def put(folder: Location, key: str, data: bytes) -> None:
    """Write a file within a folder that was begun; nobody sees a part of it."""
    if not folder.local:
        _inside(folder, key).write(data)
        return
    path = os.path.join(folder.url, key)
    whole = os.path.join(folder.url, _UNFINISHED, uuid.uuid4().hex)
    if not os.path.isdir(os.path.dirname(whole)):
        raise ImageFileError(f"{folder.shown} is not there: this machine does not see it, or it is gone.")
    try:
        with open(whole, "xb") as stream:
            stream.write(data)
        _move(whole, path)
    except BaseException:
        Path(whole).unlink(missing_ok=True)
        raise


def _move(whole: str, path: str) -> None:
    try:
        os.replace(whole, path)
    except FileNotFoundError:  # The first file of its folder.
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.replace(whole, path)


def sizes(folder: Location) -> dict[str, int]:
    """Return the names of all files in a folder, with their sizes."""
    if folder.local:
        root = Path(folder.url)
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    fs, path = folder.filesystem()
    fs.invalidate_cache()
    found = fs.find(path, detail=True)
    return {name.removeprefix(path).lstrip("/"): int(facts["size"]) for name, facts in found.items()}


def finish(folder: Location, place: Location) -> None:
    """Show a folder under its name, in place of an older one."""
    remove(_inside(folder, _UNFINISHED))
    if not folder.local:
        return
    target = Path(place.url).resolve()
    if not target.exists():
        os.rename(folder.url, target)
        return
    older = target.with_name(f".{uuid.uuid4().hex}.old")
    os.rename(target, older)
    try:
        os.rename(folder.url, target)
    except BaseException:
        os.rename(older, target)
        raise
    shutil.rmtree(older)


def remove(folder: Location) -> None:
    """Take a folder away with all that is in it, if it is there."""
    if folder.local:
        if os.path.isdir(folder.url):
            shutil.rmtree(folder.url)
        return
    fs, path = folder.filesystem()
    fs.invalidate_cache()
    if fs.exists(path):
        fs.rm(path, recursive=True)


def _plan(folder: Location) -> bytes | None:
    try:
        with _inside(folder, _PLAN).open() as stream:
            return stream.read()
    except ImageFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _inside(folder: Location, key: str) -> Location:
    return Location(f"{folder.url.rstrip('/')}/{key}", folder.local, folder.options)
