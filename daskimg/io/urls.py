"""Where files are: local paths and fsspec URLs, read by range and written in one go.

Local names never pass through fsspec, because ``*``, ``?``, ``[`` and ``::`` in a name are letters, not commands.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from daskimg.errors import ImageFileError, ParameterError
from daskimg.io.boundary import translated
from daskimg.io.remote import patiently, without_secrets

__all__ = ["Location", "locate", "replacing"]

# Small, so that looking at a header does not fetch the file: s3fs would read 50 MB ahead.
_BLOCK = 2**18
_PART = 2**24  # of a large file on its way to S3
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2")
_READ_ONLY = ("data", "http", "https")
# The keys under which file systems keep what changes when a file does.
_VERSION_KEYS = frozenset(
    {
        "content-md5",
        "created",
        "crc32c",
        "digest",
        "etag",
        "generation",
        "last-modified",
        "last_modified",
        "lastmodified",
        "md5hash",
        "modified",
        "mtime",
        "size",
        "versionid",
    }
)


@dataclass(frozen=True)
class Location:
    """Is a file's place: picklable, so that the task that decodes can travel to a worker.

    `url` is an absolute local path if `local`, else an fsspec URL as given.
    """

    url: str
    local: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Location({self.shown})"

    @property
    def shown(self) -> str:
        """Return the name for messages: no passwords, no signatures, no inline data."""
        if self.local:
            return repr(self.url)
        if self.url.startswith("data:"):
            return repr(self.url[:40].split(",")[0] + ",...")
        if "::" in self.url:
            return repr(without_secrets(self.url))
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        path = parts.path if parts.scheme in ("http", "https") else self.url.partition("://")[2].partition("/")[2]
        return repr(f"{parts.scheme}://{host}/{path.lstrip('/')}")

    @property
    def _scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def _settings(self) -> dict[str, Any]:
        """The options of the file system, with what daskimg sets where they don't."""
        settings: dict[str, Any] = {}
        if self._scheme in _OBJECT_STORES:
            settings["use_listings_cache"] = False  # A listing that is kept would hide that an object has changed.
        if self._scheme in ("s3", "s3a"):
            settings["max_concurrency"] = 1  # More, and s3fs asks for the size of each object before it fetches it.
        return {**settings, **self.options}

    def filesystem(self) -> tuple[Any, str]:
        """Return the fsspec file system of a URL, and the path in it."""
        import fsspec

        with translated(self.shown, "reached"):
            try:
                fs, path = fsspec.core.url_to_fs(self.url, **self._settings)
            except ValueError as error:
                if "rotocol not known" in str(error):
                    raise ParameterError(
                        f"{self.shown}: no file system is known for {self._scheme}://. Write a path, or a URL that "
                        "fsspec knows, such as s3://, gs://, https:// or memory://."
                    ) from error
                raise
            # The data file system wants the URL whole, but url_to_fs takes the scheme away.
            return fs, self.url if self.url.startswith("data:") else path

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading, with a small buffer."""
        with translated(self.shown, "read"):
            # The name `fs` lives as long as the stream, because an archive closes with its file system.
            fs, stream = (None, self._open_local()) if self.local else self._open_remote()
        with stream:
            yield stream
        del fs

    def _open_local(self) -> IO[bytes]:
        # A named pipe would wait for ever, and /dev/zero would never end.
        mode = os.stat(self.url).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ImageFileError(f"{self.shown} is {kind}, not an image.")
        return open(self.url, "rb")

    def _open_remote(self) -> tuple[Any, IO[bytes]]:
        fs, path = self.filesystem()
        if self._scheme not in ("http", "https"):  # s3fs and its like try again by themselves
            return fs, fs.open(path, "rb", block_size=_BLOCK)
        stream = patiently(lambda: fs.open(path, "rb", block_size=_BLOCK))
        cache: Any = getattr(stream, "cache", None)
        if fetch := getattr(cache, "fetcher", None):
            cache.fetcher = lambda start, stop: patiently(lambda: fetch(start, stop))
        return fs, stream

    def version(self) -> tuple[Any, ...]:
        """Return what tells this content from an earlier one: size and time, or entity tag."""
        with translated(self.shown, "read"):
            if self.local:
                status = os.stat(self.url)
                return (status.st_size, status.st_mtime_ns, status.st_ino)
            fs, path = self.filesystem()
            facts = fs.info(path)
            return tuple(sorted((k, str(v)) for k, v in facts.items() if k.lower() in _VERSION_KEYS))

    def check_writable(self, *, overwrite: bool) -> None:
        """Refuse a target that cannot be written, while nothing is computed yet."""
        with translated(self.shown, "written"):
            if self.local:
                target = Path(self.url)
                folder = target.parent
                if not folder.is_dir():
                    raise ImageFileError(f"{self.shown}: the folder {str(folder)!r} does not exist; make it first.")
                if target.is_dir():
                    raise ImageFileError(f"{self.shown} is a folder; add a file name.")
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise ImageFileError(f"{self.shown}: the folder {str(folder)!r} may not be written to.")
                exists = target.exists()
            else:
                scheme = self.url.partition(":")[0]
                if scheme in _READ_ONLY:
                    raise ImageFileError(f"{self.shown}: {scheme} can be read but not written.")
                fs, path = self.filesystem()
                exists = not overwrite and fs.exists(path)
            if exists and not overwrite:
                raise ImageFileError(f"{self.shown} exists already; pass overwrite=True to replace it.")

    def write(self, data: bytes | memoryview, *, overwrite: bool = True, durable: bool = True) -> None:
        """Write all bytes or nothing: readers see the old file or the new one, never a part.

        Parameters
        ----------
        data : bytes-like
            The content.
        overwrite : bool
            Replace a file that exists. An object store is told not to, so that of two writers only one succeeds.
        durable : bool
            Wait until a local disk has it, so that it outlives a loss of power. That takes milliseconds a file.
        """
        with translated(self.shown, "written"):
            if self.local:
                written = _replace_file(self.url, data, overwrite, durable)
            else:
                self.check_writable(overwrite=overwrite or self._scheme in _OBJECT_STORES)
                written = self._pipe(bytes(data), overwrite)
            if not written:
                raise ImageFileError(f"{self.shown} exists already; pass overwrite=True to replace it.")

    def _pipe(self, data: bytes, overwrite: bool) -> bool:
        if overwrite or self._scheme not in _OBJECT_STORES:
            self._put(lambda fs, path: fs.pipe_file(path, data))
            return True
        try:
            self._put(lambda fs, path: fs.pipe_file(path, data, mode="create"))
        except FileExistsError:
            # It may be ours: the answer was lost, and the library tried again.
            fs, path = self.filesystem()
            return bool(fs.info(path)["size"] == len(data) and fs.cat_file(path) == data)
        return True

    def upload(self, path: Path) -> None:
        """Copy a local file to this URL, in parts where it is large: readers see all of it or nothing."""
        # Unasked s3fs would hold ten parts of 50 MB. S3 takes 10,000 parts.
        size = max(_PART, -(-path.stat().st_size // 10_000))
        parts = {"chunksize": size, "max_concurrency": 4} if self._scheme in ("s3", "s3a") else {}
        with translated(self.shown, "written"):
            self._put(lambda fs, target: fs.put_file(str(path), target, **parts))

    def _put(self, send: Callable[[Any, str], None]) -> None:
        fs, path = self.filesystem()
        if self._scheme in _OBJECT_STORES:
            # They show an object when its upload ends, and a writer need not be allowed to look or to delete.
            send(fs, path)
            return
        # Other systems may keep a stump: take it away.
        existed = fs.exists(path)
        try:
            send(fs, path)
        except BaseException:
            if not existed and fs.exists(path):
                fs.rm_file(path)
            raise


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a name beside a local file, under which what is to be in its place is written; it is there whole or not.

    Parameters
    ----------
    target : path
        The file. Where it is a link, what lies behind it is replaced.
    """
    target = target.resolve()
    # The name is short, whatever the target's, and hidden, so that no pattern such as *.png finds half a file.
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield temporary
        if target.is_file():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _replace_file(target: str, data: bytes | memoryview, overwrite: bool, durable: bool) -> bool:
    """Write a file under another name and rename it; False if it exists and may not be replaced."""
    mode = None
    try:
        status = os.lstat(target)
        if stat.S_ISLNK(status.st_mode):  # A link stays a link; the file behind it changes.
            target = os.path.realpath(target)
            status = os.stat(target)
        mode = stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        pass
    if mode is not None and not overwrite:
        return False
    # The name is short, whatever the target's, and hidden, so that no pattern such as *.png finds half a file.
    temporary = f"{os.path.dirname(target)}{os.sep}.{uuid.uuid4().hex}.part"
    try:
        with open(temporary, "xb", buffering=0) as stream:
            rest = memoryview(data)
            while rest:  # The system takes 2 GiB at once.
                rest = rest[stream.write(rest) :]
            if durable:
                os.fsync(stream.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def locate(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Location:
    """Return the location that a path or URL names; local paths become absolute.

    Parameters
    ----------
    url : str or path
        A local path, in which every letter stands for itself, or any fsspec URL.
    storage_options : mapping, optional
        Options of the fsspec file system, such as ``{"anon": True}`` for s3.

    Raises
    ------
    ParameterError
        `url` is empty or no path.

    Examples
    --------
    >>> locate("s3://bucket/a.png").local
    False
    >>> locate("https://user:secret@host/a.png?signature=abc").shown
    "'https://host/a.png'"
    """
    if not isinstance(url, str | os.PathLike) or not str(url):
        raise ParameterError(f"Expected a path or a URL, got {url!r}.")
    text = os.fspath(url)
    if isinstance(url, str):
        scheme = text.partition("://")[0] if "://" in text else ""
        if scheme in ("file", "local"):
            return Location(os.path.abspath(text.partition("://")[2]), True)
        # "C:\\x" has no "://"; a folder may hold ":" but hardly "://".
        if scheme or text.startswith("data:"):
            return Location(text, False, dict(storage_options or {}))
    return Location(os.path.abspath(os.path.expanduser(text)), True)
