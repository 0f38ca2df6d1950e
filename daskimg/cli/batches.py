"""What the commands that run a batch have in common: where they work, what they say, how they end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from daskimg.cli import FAILED, debug_option
from daskimg.cli.stopping import stop_on_signals
from daskimg.progress import ProgressBar

__all__ = ["place_options", "run_batch"]


def _storage_option(text: str) -> tuple[str, Any]:
    """Take an option apart; its value is JSON, or a text where it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is no NAME=VALUE, such as anon=true.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


_OPTIONS = [
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="How often images that failed are tried again, at the end.",
    ),
    click.option(
        "--group", type=click.IntRange(min=1), help="Images in a task. Default: more where they are done quickly."
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Work on this many threads. Default: one for each processor."
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Work in this many processes, with dask's dashboard."),
    click.option(
        "--scheduler-address",
        metavar="ADDRESS",
        help="Work on the cluster whose dask scheduler is there, such as tcp://10.0.0.1:8786.",
    ),
    click.option(
        "--staging",
        metavar="URL",
        help="Where files pass to workers that do not see this machine's, such as s3://bucket/tmp.",
    ),
    click.option(
        "--storage-option",
        "storage_options",
        multiple=True,
        metavar="NAME=VALUE",
        callback=lambda _context, _option, texts: dict(map(_storage_option, texts)),
        help="An option of the file systems of URLs, such as anon=true or requester_pays=true.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Say nothing but what failed."),
    debug_option,
]


def place_options(command: Any) -> Any:
    """Let a command take the options that say where and how a batch runs."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_batch(
    ctx: click.Context,
    work: Callable[..., Any],
    *,
    workers: int | None,
    threads: int | None,
    scheduler_address: str | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Call `work` with where it is to run and who is told, print its report, and return the exit code."""
    places = {"--threads": threads, "--workers": workers, "--scheduler-address": scheduler_address}
    chosen = [option for option, value in places.items() if value is not None]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} exclude each other; leave out all but one.", ctx)
    with stop_on_signals() as stop, ProgressBar() as bar:
        report = work(
            cluster=scheduler_address if workers is None else _cluster_of(workers, quiet),
            threads=threads,
            progress=not quiet and bar,
            cancel=stop,
            **options,
        )
    if not quiet:
        click.echo(report.headline)
        for note in report.notes:
            click.echo(note)
    _say_failures(report, ctx.ensure_object(dict).get("debug", False))
    return stop.code or (0 if report.ok else FAILED)


def _cluster_of(workers: int, quiet: bool) -> Any:
    """Return what starts a local cluster once everything else is checked."""

    @contextlib.contextmanager
    def start() -> Iterator[Any]:
        from daskimg.clusters import start_cluster

        if not quiet:
            click.echo(f"Starting {workers} worker process{'es' * (workers != 1)} ...", err=True)
        with start_cluster("local", workers=workers) as cluster:
            if not quiet and cluster.dashboard_link:
                click.echo(f"Dashboard: {cluster.dashboard_link}", err=True)
            yield cluster

    return start


def _say_failures(report: Any, debug: bool) -> None:
    for failure in report.failures:
        click.echo(f"failed: {failure.source}: {failure.reason}", err=True)
        if debug and failure.source in report.details:
            click.echo(report.details[failure.source], err=True)
    more = report.failed - len(report.failures)
    if more:
        click.echo(f"and {more} more; {report.manifest} has them all", err=True)
