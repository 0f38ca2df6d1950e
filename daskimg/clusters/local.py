"""Processes on this machine, one thread each, reachable from this machine only."""

from __future__ import annotations

import os
import signal
import socket
import threading
from multiprocessing import resource_tracker
from typing import Any

from distributed import LocalCluster, Nanny

from daskimg.errors import EnvironmentProblem

__all__ = ["start"]

LOOPBACK = "127.0.0.1"
DASHBOARD_PORT = 8787  # where users of dask look for it


def start(workers: int | None = None, *, memory_limit: str | float = "auto", dashboard: bool = True) -> LocalCluster:
    """Start worker processes on this machine.

    Parameters
    ----------
    workers : int
        How many processes, of one thread each; as many as there are processors where none is given.
    memory_limit : str or float
        What one worker may take, such as `"4 GiB"`; `"auto"` shares the machine's memory out evenly.
    dashboard : bool
        Whether to serve dask's dashboard, on loopback.

    Raises
    ------
    EnvironmentProblem
        If the processes do not start.
    """
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            # Always with an address: without one, dask's scheduler serves its other pages on all networks.
            dashboard_address=f"{LOOPBACK}:{_free_port(DASHBOARD_PORT) if dashboard else 0}",
            scheduler_kwargs={"dashboard": dashboard},
            worker_class=LeanNanny,
            memory_limit=memory_limit,
            env={"OPENCV_FOR_THREADS_NUM": "1"},
            preload=["daskimg.clusters._on_worker"],
        )
    except (RuntimeError, OSError, TimeoutError) as error:
        raise EnvironmentProblem(
            f"the worker processes did not start: {error}. In a script, what starts a cluster belongs under "
            "`if __name__ == '__main__':`, because each worker imports the script"
        ) from error


class LeanNanny(Nanny):
    """Is dask's nanny for processes that keep memory and hear no Ctrl-C; those that `scale` adds later too.

    dask sets MALLOC_TRIM_THRESHOLD_ for workers, which makes the C library give memory back after every large array.
    Images are large arrays that come and go, and that costs 18 % of the time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked = self.pre_spawn_env.pop("MALLOC_TRIM_THRESHOLD_", None)
        # A nanny of dask's own, before, has left it in this process, which workers inherit from.
        if asked is not None and os.environ.get("MALLOC_TRIM_THRESHOLD_") == str(asked):
            del os.environ["MALLOC_TRIM_THRESHOLD_"]
        self.env.pop("MALLOC_TRIM_THRESHOLD_", None)
        # A terminal sends Ctrl-C to every process. One that is still importing would die with a traceback, before
        # _on_worker can say that it is to be ignored. Processes inherit what this thread, dask's event loop, blocks.
        if hasattr(signal, "pthread_sigmask") and threading.current_thread() is not threading.main_thread():
            resource_tracker.ensure_running()  # the first to start it would have the signal unblocked
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _free_port(wanted: int) -> int:
    """Return the port if nobody has it, else 0, which means any; dask itself would take any too, but with a warning."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return 0
    return wanted
