"""What is found out about a cluster before any work: do its workers have the same software, do they see the files."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from daskimg.errors import EnvironmentProblem

__all__ = ["check_folder", "check_place", "check_readable", "check_urls", "check_versions"]

_STAGING = (
    "or let them pass through a URL that all can reach, with --staging s3://bucket/tmp (in Python: staging='s3://...')"
)
WAIT = 60  # seconds for the first worker to come: machines in a cloud take longer and are waited for by their kind


def versions() -> dict[str, str]:
    """Return the versions of what must agree for equal pixels and readable messages."""
    import importlib
    import sys

    found = {"python": "{}.{}".format(*sys.version_info[:2])}
    for name in ("dask", "distributed", "numpy", "cv2", "daskimg.version"):
        try:
            found[name.partition(".")[0]] = str(importlib.import_module(name).__version__)
        except ImportError:
            found[name.partition(".")[0]] = "missing"
    return found


def check_versions(client: Any, *, wait: float = WAIT) -> None:
    """Raise unless every worker has this process's versions of Python, dask, numpy, OpenCV and daskimg.

    Raises
    ------
    EnvironmentProblem
        With a table of what differs, or if no worker comes.
    """
    try:
        client.wait_for_workers(1, timeout=wait)
    except TimeoutError:
        raise EnvironmentProblem(
            f"the cluster at {client.scheduler.address} has no worker after {wait:.0f} seconds; start one: "
            f"dask worker {client.scheduler.address}"
        ) from None
    compare(versions(), _run_by_value(client, versions))


def compare(own: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> None:
    """Raise where the versions of a worker differ from our own.

    Raises
    ------
    EnvironmentProblem
        With a table: one row for each package and set of workers that differ.
    """
    rows: dict[tuple[str, str, str], list[str]] = {}
    for worker, found in others.items():
        for name, version in own.items():
            if found.get(name, "missing") != version:
                rows.setdefault((name, version, found.get(name, "missing")), []).append(worker)
    if not rows:
        return
    table = [("package", "here", "worker", "on")]
    for (name, here, there), workers in rows.items():
        table.append((name, here, there, workers[0] + (f" and {len(workers) - 1} more" if len(workers) > 1 else "")))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    raise EnvironmentProblem(
        "the workers have other software than this process, so their pixels could differ; nothing was started\n"
        + "\n".join(lines)
        + "\nInstall the same versions there, for example from the same environment file or image."
    )


def sees(path: str, token: str) -> bool:
    """Return whether a worker sees the file with that content and may write beside it."""
    import os

    try:
        with open(path, encoding="ascii") as file:
            return file.read() == token and os.access(os.path.dirname(path), os.W_OK)
    except OSError:
        return False


def check_folder(client: Any, folder: str, why: str) -> None:
    """Raise unless every worker sees a folder of this machine.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    folder : str
        An absolute path that this process may write to.
    why : str
        What the folder is for, as the message says it.

    Raises
    ------
    EnvironmentProblem
        Naming the workers that don't.
    """
    token = uuid.uuid4().hex
    path = os.path.join(folder, f".{token}.probe")
    with open(path, "x", encoding="ascii") as file:
        file.write(token)
    try:
        seen = _run_by_value(client, sees, path, token)
    finally:
        os.unlink(path)
    blind = [worker for worker, answer in seen.items() if not answer]
    if blind:
        raise EnvironmentProblem(
            f"{len(blind)} of {len(seen)} workers (such as {blind[0]}) cannot write to {folder!r}, {why}; use a folder "
            f"that all machines share, or a URL such as s3://bucket/folder; {_STAGING}"
        )


def check_readable(client: Any, paths: Sequence[str]) -> None:
    """Raise unless every worker sees these files, which this process sees.

    Raises
    ------
    EnvironmentProblem
        Naming a worker and a file.
    """
    for worker, missing in _run_by_value(client, unseen, list(paths)).items():
        if missing:
            raise EnvironmentProblem(
                f"the worker {worker} does not see {missing[0]!r}, which is here; put the images on a folder that all "
                f"machines share, or use URLs such as s3://bucket/*.jpg; {_STAGING}"
            )


def unseen(paths: list[str]) -> list[str]:
    """Return those of the files that cannot be read here."""
    import os

    return [path for path in paths if not os.access(path, os.R_OK)]


def check_urls(client: Any, urls: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise unless every worker reaches these files, of which those count that this process reaches.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    urls : sequence of str
        Those of files.
    options : mapping
        Options of their file systems.

    Raises
    ------
    EnvironmentProblem
        Naming a worker and a URL.
    """
    mine = [url for url in urls if not unreached([url], dict(options))]
    for worker, trouble in _run_by_value(client, unreached, mine, dict(options)).items():
        if trouble:
            raise _blind(worker, f"read {trouble}")


def check_place(client: Any, url: str, options: Mapping[str, Any]) -> None:
    """Raise unless what every worker writes to a place is found there by this process.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    url : str
        The place.
    options : mapping
        Options of its file system.

    Raises
    ------
    EnvironmentProblem
        Naming a worker.
    """
    import fsspec

    place = f"{url.rstrip('/')}/.{uuid.uuid4().hex}"
    for worker, (written, trouble) in _run_by_value(client, probe, place, dict(options)).items():
        if not trouble:
            fs, path = fsspec.core.url_to_fs(written, **options)
            try:
                fs.rm_file(path)
                fs.invalidate_cache()
            except FileNotFoundError:
                trouble = f"{_shown(url)} so that it is found from here"
        if trouble:
            raise _blind(worker, f"write to {trouble}")


def _blind(worker: str, what: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the worker {worker} cannot {what}. Workers need credentials of their own, such as environment variables or a "
        "role, unless storage_options brings them; and a URL must mean the same on all machines"
    )


def unreached(urls: list[str], options: dict[str, Any]) -> str:
    """Return the first of these that cannot be read here, and why; nothing if all can."""
    import fsspec

    for url in urls:
        try:
            fs, path = fsspec.core.url_to_fs(url, **options)
            with fs.open(path, "rb", block_size=4096) as file:
                file.read(1)
        except Exception as error:
            return f"{_shown(url)} ({type(error).__name__})"  # what it says may hold a signature
    return ""


def probe(place: str, options: dict[str, Any]) -> tuple[str, str]:
    """Write a small file, and return its URL; and why not, if it cannot be."""
    import fsspec

    url = f"{place}{uuid.uuid4().hex}.probe"
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
        fs.pipe_file(path, b"probe")
    except Exception as error:
        return url, f"{_shown(url.rpartition('/')[0])} ({type(error).__name__})"
    return url, ""


def _shown(url: str) -> str:
    """Return a URL without users, passwords and signatures."""
    return repr(re.sub(r"\?.*", "", re.sub(r"://[^/@]*@", "://", url)))


def _run_by_value(client: Any, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Run a function of this module on all workers, also on those that lack daskimg or have another one."""
    import cloudpickle

    module = __import__(__name__, fromlist=["_"])
    cloudpickle.register_pickle_by_value(module)
    try:
        found: dict[str, Any] = client.run(function, *arguments)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    return found
