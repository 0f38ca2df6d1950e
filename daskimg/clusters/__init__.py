"""Where work runs: each module here is a kind of cluster and yields dask's own cluster object.

A kind is a module without a leading underscore that has a function `start(workers, **options)`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from daskimg.errors import ParameterError, UnknownNameError, suggest

__all__ = ["kinds", "start_cluster"]


def kinds() -> list[str]:
    """Return the names of the kinds of cluster that there are.

    >>> "local" in kinds()
    True
    """
    return sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))


def start_cluster(kind: str = "local", *, workers: int | None = None, **options: Any) -> Any:
    """Start a cluster and return dask's own cluster object, which is also a context manager.

    Parameters
    ----------
    kind : str
        Where to: one of `kinds()`. `"local"` means processes on this machine, reachable from this machine only.
    workers : int
        How many workers; the kind decides where none is given.
    **options
        What else the kind takes, such as `memory_limit="4 GiB"`.

    Returns
    -------
    distributed.deploy.Cluster
        With `.scale()`, `.adapt()`, `.dashboard_link`, `.get_client()` and `.close()`.

    Raises
    ------
    UnknownNameError
        If there is no such kind or option.
    ParameterError
        If the number of workers is none.

    Examples
    --------
    >>> with start_cluster("local", workers=2) as cluster:  # doctest: +SKIP
    ...     report = process_images("photos/*.jpg", pipeline, "out/", cluster=cluster)
    """
    if kind not in kinds():
        raise UnknownNameError(
            f"there is no kind of cluster {kind!r}.{suggest(str(kind), kinds())} There are: {' '.join(kinds())}"
        )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ParameterError(f"workers={workers!r} is not allowed; workers is a whole number, 1 or more")
    start = importlib.import_module(f"{__name__}.{kind}").start
    known = [name for name in inspect.signature(start).parameters if name != "workers"]
    for name in options:
        if name not in known:
            raise UnknownNameError(
                f"a {kind} cluster has no option {name!r}.{suggest(name, known)} It has: {' '.join(known)}"
            )
    return start(workers, **options)
