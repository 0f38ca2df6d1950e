"""Which images a user means by paths, patterns, folders and URLs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from daskimg.errors import ParameterError
from daskimg.io.formats import FORMATS, suffix_of
from daskimg.io.urls import locate

__all__ = ["Source", "find_sources", "is_url"]

SUFFIXES = frozenset(suffix for one in FORMATS.values() for suffix in one.suffixes)
# What no file system, or one of Windows', takes in a name.
_UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*\\/]')


@dataclass(frozen=True)
class Source:
    """Is one image: where it is, how messages call it, and its path below what the user named, with slashes."""

    url: str
    shown: str
    below: str


def is_url(text: str) -> bool:
    """Return whether a text names something else than a local path."""
    return not locate(text).local


def find_sources(sources: Any, *, recursive: bool = False, outside: str | None = None) -> list[Source]:
    """Return the images meant, each once, in the order given; those of a folder or pattern sorted.

    Parameters
    ----------
    sources : str, path, or iterable of these
        A file or folder; a pattern such as `photos/*.jpg` or `photos/**/*.jpg`; a URL, with a pattern where its file
        system can list. In a folder, the files that are called like images count, but not hidden ones.
    recursive : bool
        Look into the folders inside a folder too.
    outside : str
        A folder for results: what lies in it is not found in folders or by patterns, so that a second run does not
        process the results of the first.

    Raises
    ------
    ParameterError
        If a folder holds no image or a pattern matches none.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    found: dict[str, Source] = {}
    for one in given:
        skip = outside if outside and not _within(os.fspath(one), outside) else None
        matches = [source for source in _find(one, recursive) if not (skip and _within(source.url, skip))]
        if not matches:
            raise ParameterError(_nothing(os.fspath(one), recursive))
        for source in matches:
            found.setdefault(source.url, source)
    if not found:
        raise ParameterError("there are no images to process; name files, folders, patterns or URLs")
    return list(found.values())


def _find(one: str | os.PathLike[str], recursive: bool) -> Iterator[Source]:
    text = os.fspath(one)
    place = locate(one)
    if not place.local:
        if "*" in text and not text.startswith(("http://", "https://", "data:")):
            yield from _match_urls(text)
        else:
            yield Source(text, place.shown.strip("'\""), _name_in_url(text))
    elif os.path.isdir(place.url):
        yield from (_local(path, place.url) for path in _in_folder(place.url, recursive))
    elif isinstance(one, str) and glob.has_magic(text) and not os.path.lexists(place.url):
        root = _before_magic(place.url)
        yield from (_local(path, root) for path in sorted(glob.glob(place.url, recursive=True)) if os.path.isfile(path))
    else:
        yield _local(place.url, os.path.dirname(place.url))


def _local(path: str, root: str) -> Source:
    shown = os.path.relpath(path) if _within(path, os.getcwd()) else path
    return Source(path, shown, os.path.relpath(path, root).replace(os.sep, "/"))


def _in_folder(folder: str, recursive: bool) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            if suffix_of(name) in SUFFIXES and not name.startswith("."):
                yield os.path.join(parent, name)


def _before_magic(pattern: str) -> str:
    """Return the folder that a pattern starts in: what comes before its first part with a wildcard."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _match_urls(pattern: str) -> Iterator[Source]:
    import fsspec

    from daskimg.io.boundary import translated

    shown = locate(pattern).shown
    with translated(shown, "listed"):
        fs, path = fsspec.core.url_to_fs(pattern)
        matches = sorted(name for name in fs.glob(path) if not fs.isdir(name))
    root = path.partition("*")[0].rpartition("/")[0]
    for name in matches:
        url = fs.unstrip_protocol(name)
        yield Source(url, locate(url).shown.strip("'\""), _safe(name.removeprefix(root).split("/")))


def _name_in_url(url: str) -> str:
    if url.startswith("data:"):
        return "image"
    path = url.partition("://")[2].rpartition("::")[2]
    if url.startswith(("http://", "https://")):
        path = re.split("[?#]", path)[0]
    _, _, name = unquote(path.partition("/")[2] or path).replace("\\", "/").rstrip("/").rpartition("/")
    return _safe([name])


def _safe(parts: Iterable[str]) -> str:
    """Return a relative path of these parts that stays below its folder on every system."""
    clean = [_UNSAFE.sub("_", part) for part in parts if part not in ("", ".", "..")]
    return "/".join(clean) or "image"


def _within(path: str, folder: str) -> bool:
    """Return whether a local path lies in a folder or is it."""
    if is_url(path) or is_url(folder):
        return False
    try:
        return os.path.commonpath([os.path.abspath(path), os.path.abspath(folder)]) == os.path.abspath(folder)
    except ValueError:  # another drive
        return False


def _nothing(text: str, recursive: bool) -> str:
    if os.path.isdir(text):
        hint = "" if recursive else "; for the folders inside it too: --recursive, or recursive=True"
        return f"the folder {text!r} holds no image ({' '.join(sorted(SUFFIXES))}){hint}"
    return f"no file matches {text!r}"
