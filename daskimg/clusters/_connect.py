"""Turns what a user names a cluster by into a client of it whose workers are known to fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from daskimg.clusters._checks import check_versions
from daskimg.errors import EnvironmentProblem, ParameterError

__all__ = ["connected"]

ANSWER_WITHIN = 10  # seconds for a scheduler that is there to answer


@contextlib.contextmanager
def connected(cluster: Any) -> Iterator[Any]:
    """Yield a client whose workers have this process's software; close it afterwards if it was made here.

    Parameters
    ----------
    cluster : distributed.Client, cluster object or str
        A client, dask's own cluster object, or the address of a scheduler such as `tcp://10.0.0.1:8786`.

    Raises
    ------
    EnvironmentProblem
        If nobody answers there, there is no worker, or the versions differ.
    ParameterError
        If it is none of these.
    """
    from distributed import Client

    if isinstance(cluster, Client):
        if cluster.asynchronous:
            raise ParameterError(
                "an asynchronous client cannot wait for images; pass a Client without asynchronous=True"
            )
        check_versions(cluster)
        yield cluster
        return
    if not isinstance(cluster, str) and not hasattr(cluster, "scheduler_address"):
        raise ParameterError(
            f"cluster={cluster!r} is not allowed; cluster is a dask Client, a cluster object such as "
            "start_cluster() returns, or the address of a scheduler such as 'tcp://10.0.0.1:8786'"
        )
    address = cluster if isinstance(cluster, str) else cluster.scheduler_address
    try:
        client = Client(cluster, timeout=ANSWER_WITHIN, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise EnvironmentProblem(
            f"no scheduler answers at {address!r} within {ANSWER_WITHIN} seconds; is it running, and may this machine "
            f"reach it? An address looks like tcp://10.0.0.1:8786 ({type(error).__name__})"
        ) from error
    with client:
        check_versions(client)
        yield client
