"""Which images are meant: files, folders, patterns, lists, archives and URLs, found one after another.

What is found is yielded and not kept. Only the names of one folder are in memory at once, to sort them.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from daskimg.errors import ParameterError
from daskimg.io.boundary import translated
from daskimg.io.formats import FORMATS, suffix_of
from daskimg.io.urls import Location, locate

__all__ = ["Source", "find_sources", "is_url", "version_of"]

SUFFIXES = frozenset(suffix for one in FORMATS.values() for suffix in one.suffixes)
IMAGE_FOLDERS = frozenset({".zarr"})  # folders that are one image
# What no file system, or one of Windows', takes in a name.
_UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*\\/]')
# Where file systems keep when a file was changed.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class Source(NamedTuple):
    """Is one image: where it is, how messages call it, and its path below what the user named, with slashes.

    `version` tells its content from another at the same place: size and time, or entity tag; nothing if unknown.
    """

    url: str
    shown: str
    below: str
    version: str = ""


def is_url(text: str) -> bool:
    """Return whether a text names something else than a local path."""
    return text.startswith("data:") or ("://" in text and not locate(text).local)


def version_of(status: os.stat_result) -> str:
    """Return what tells the content of a local file from an earlier or later one."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def version_in(facts: Mapping[str, Any]) -> str:
    """Return the same for a file of another file system, from what that says of it: its entity tag, else as above."""
    tag = facts.get("ETag") or facts.get("etag")
    if tag:
        return str(tag).strip('"')
    changed = next((facts[name] for name in _TIMES if facts.get(name)), None)
    return "" if changed is None else f"{facts.get('size', '')}-{changed}"


def find_sources(
    sources: Any,
    *,
    recursive: bool = False,
    outside: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[Source]:
    """Yield the images meant, in the order given; those of a folder, pattern or archive sorted.

    An image that is meant twice is yielded twice.

    Parameters
    ----------
    sources : str, path, or iterable of these
        A file or folder; a pattern such as `photos/*.jpg` or `photos/**/*.jpg`; a ZIP archive; `@list.txt`, a text
        file with one of these per line; a URL, a prefix such as `s3://bucket/photos/`, or a URL with a pattern where
        its file system can list. In folders, prefixes and archives, the files that are called like images count, but
        not hidden ones.
    recursive : bool
        Look into the folders inside a folder or prefix too.
    outside : str
        A folder for results: what lies in it is not found in folders or by patterns, so that a second run does not
        process the results of the first.
    storage_options : mapping, optional
        Options of the file systems of URLs.

    Raises
    ------
    ParameterError
        If a folder holds no image or a pattern matches none.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else sources
    skipped = None if outside is None or is_url(outside) else os.path.abspath(os.path.expanduser(outside))
    one = None
    for one in given:
        source = None
        for source in _find(one, recursive, skipped, storage_options):
            yield source
        if source is None:
            raise ParameterError(_nothing(os.fspath(one), recursive))
    if one is None:
        raise ParameterError("there are no images to process; name files, folders, patterns or URLs")


def _find(
    one: str | os.PathLike[str], recursive: bool, outside: str | None, options: Mapping[str, Any] | None
) -> Iterator[Source]:
    text = os.fspath(one)
    place = locate(one, options)
    if text.startswith("@") and isinstance(one, str) and not os.path.lexists(place.url):
        for line in _lines(text[1:]):
            # A list in a list could be itself.
            yield from _find(Path(line) if line.startswith("@") else line, recursive, outside, options)
    elif suffix_of(place.url) == ".zip" and not (place.local and os.path.isdir(place.url)):
        yield from _in_archive(place)
    elif not place.local:
        yield from _find_urls(text, place, recursive)
    elif place.local and suffix_of(place.url) in IMAGE_FOLDERS:
        yield _Folder(os.path.dirname(place.url), "").source(os.path.basename(place.url))
    elif os.path.isdir(place.url):
        # The results' own folder may be named as the source; results have other names then.
        inside = None if outside and _within(place.url, outside) else outside
        yield from _in_folder(place.url, SUFFIXES.__contains__, recursive, inside)
    elif isinstance(one, str) and glob.has_magic(text) and not os.path.lexists(place.url):
        yield from _match(place.url, outside)
    elif text.endswith(("/", os.sep)):
        raise ParameterError(f"there is no folder {text!r}")
    else:
        yield _Folder(os.path.dirname(place.url), "").source(os.path.basename(place.url))


class _Folder:
    """Makes sources of the files in one folder: what they share is found out once."""

    def __init__(self, path: str, below: str) -> None:
        self.path = path.rstrip(os.sep) + os.sep
        here = os.getcwd().rstrip(os.sep) + os.sep
        self.shown = self.path.removeprefix(here)
        self.below = f"{below}/" if below else ""

    def source(self, name: str) -> Source:
        path = self.path + name
        try:
            version = version_of(os.stat(path))
        except OSError:  # The worker will say why.
            version = ""
        return Source(path, self.shown + name, self.below + name, version)


def _lines(path: str) -> Iterator[str]:
    with translated(repr(path), "read"), open(os.path.expanduser(path), encoding="utf-8-sig") as lines:
        yield from filter(None, (line.rstrip("\r\n") for line in lines))


def _in_folder(root: str, wanted: Callable[[str], bool], recursive: bool, outside: str | None) -> Iterator[Source]:
    """Walk a folder: first its own files, then the folders inside it, each in the order of names."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        path = os.path.join(root, below) if below else root
        folder = _Folder(path, below.replace(os.sep, "/"))
        folders, names = [], []
        with translated(repr(path), "listed"), os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if suffix_of(entry.name) in IMAGE_FOLDERS:
                        names.append(entry.name)
                    elif recursive and not entry.is_symlink() and entry.path != outside:
                        folders.append(os.path.join(below, entry.name))
                elif wanted(suffix_of(entry.name)):
                    names.append(entry.name)
        names.sort(reverse=True)
        while names:
            yield folder.source(names.pop())
        waiting += sorted(folders, reverse=True)


def _match(pattern: str, outside: str | None) -> Iterator[Source]:
    """Yield the local files that a pattern means, sorted."""
    root = _before_magic(pattern)
    parent, last = os.path.split(pattern)
    if parent == root and last != "**":
        # One folder, which may hold a million files: glob would keep its matches as whole paths.
        found = os.listdir(root) if os.path.isdir(root) else []
        names = sorted((name for name in fnmatch.filter(found, last) if _shows(name, last)), reverse=True)
        folder = _Folder(root, "")
        while names:
            source = folder.source(names.pop())
            if os.path.isfile(source.url):
                yield source
        return
    results = None if outside and _within(root, outside) else outside
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path) and not (results and _within(path, results)):
            below = os.path.relpath(os.path.dirname(path), root).replace(os.sep, "/")
            yield _Folder(os.path.dirname(path), "" if below == "." else below).source(os.path.basename(path))


def _shows(name: str, pattern: str) -> bool:
    return not name.startswith(".") or pattern.startswith(".")


def _before_magic(pattern: str) -> str:
    """Return the folder that a pattern starts in: what comes before its first part with a wildcard."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _in_archive(place: Location) -> Iterator[Source]:
    """Yield the images in a ZIP archive, by URLs that name it and the member."""
    from daskimg.io.archive import member_url, members

    shown = place.shown.strip("'\"")
    for name, meant, version in members(place):
        parts = meant.replace("\\", "/").split("/")
        if suffix_of(meant) in SUFFIXES and not any(
            part.startswith((".", "__MACOSX")) for part in parts if part != ".."
        ):
            yield Source(member_url(place, name), f"{shown}/{meant}", _safe(parts), version)


def _find_urls(text: str, place: Location, recursive: bool) -> Iterator[Source]:
    web = text.startswith(("http://", "https://", "data:"))
    if not web and glob.has_magic(text):
        yield from _list(place, text, recursive=True)
    elif not web and suffix_of(text) not in SUFFIXES | IMAGE_FOLDERS and "::" not in text and _is_prefix(text, place):
        yield from _list(place, text.rstrip("/") + "/", recursive)
    else:
        yield Source(text, place.shown.strip("'\""), _name_in_url(text))


def _is_prefix(text: str, place: Location) -> bool:
    if text.endswith("/"):
        return True
    with translated(place.shown, "listed"):
        fs, path = place.filesystem()
        return bool(fs.isdir(path))


def _list(place: Location, text: str, recursive: bool) -> Iterator[Source]:
    """Yield the images behind a prefix, which ends with a slash, or a pattern."""
    from fsspec.utils import glob_translate

    with translated(place.shown, "listed"):
        fs, path = place.filesystem()
        path = path.rstrip("/") + ("/" if text.endswith("/") else "")
        literal = re.split(r"[*?\[]", path, maxsplit=1)[0]
        rest = path[len(literal) :]
        root = literal.rpartition("/")[0] + "/"
        pattern = re.compile(glob_translate(path)) if rest else None
        deep = "/" in rest or "**" in rest if rest else recursive
        pages = _pages_of_s3 if hasattr(fs, "call_s3") else _pages_by_walking
        for name, facts in pages(fs, literal, deep):
            below = name.removeprefix(root)
            if "/." in f"/{below}" and "/." not in path:  # hidden, as in folders
                continue
            if pattern.match(name) if pattern else suffix_of(name) in SUFFIXES:
                url = fs.unstrip_protocol(name)
                yield Source(url, locate(url).shown.strip("'\""), _safe(below.split("/")), version_in(facts))


def _pages_of_s3(fs: Any, prefix: str, deep: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List objects page by page, in the order of their names; s3fs' own listings keep all of them."""
    bucket, _, key = prefix.partition("/")
    options = {"Bucket": bucket, "Prefix": key, **fs.req_kw} | ({} if deep else {"Delimiter": "/"})
    while True:
        page = fs.call_s3("list_objects_v2", **options)
        for facts in page.get("Contents", []):
            if not facts["Key"].endswith("/"):
                yield f"{bucket}/{facts['Key']}", facts
        if not page.get("IsTruncated"):
            return
        options["ContinuationToken"] = page["NextContinuationToken"]


def _pages_by_walking(fs: Any, prefix: str, deep: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List files folder by folder."""
    folder = prefix.rpartition("/")[0]
    for parent, folders, files in fs.walk(folder, maxdepth=None if deep else 1, detail=True):
        for name in sorted(files):
            yield f"{parent.rstrip('/')}/{name}", files[name]
        for name in sorted(folders):  # walk goes on in this order
            folders[name] = folders.pop(name)


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
    """Return whether an absolute local path lies in a folder or is it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _nothing(text: str, recursive: bool) -> str:
    if os.path.isdir(text) or (is_url(text) and text.endswith("/")) or suffix_of(text) == ".zip":
        what = "archive" if suffix_of(text) == ".zip" else "folder"
        hint = (
            "" if recursive or what == "archive" else "; for the folders inside it too: --recursive, or recursive=True"
        )
        return f"the {what} {text!r} holds no image ({' '.join(sorted(SUFFIXES))}){hint}"
    return f"no file matches {text!r}"
