"""`daskimg demo`: shows daskimg at work on this machine."""

from __future__ import annotations

import click

from daskimg.cli import debug_option
from daskimg.cli.stopping import stop_on_signals

__all__ = ["demo"]


@click.command()
@click.option("--to", default="demo-output", show_default=True, type=click.Path(), help="The folder for the results.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Processes of the cluster.")
@click.option("--side", default=8192, show_default=True, type=click.IntRange(64, 32768), help="Of the large image, px.")
@debug_option
def demo(to: str, workers: int, side: int) -> int:
    """Show daskimg at work: sample photos on a local cluster, one large image on threads, a sheet to look at."""
    with stop_on_signals() as stop:
        from daskimg.demo import demo as show

        show(to, workers=workers, side=side, say=click.echo, cancel=stop)
    return stop.code
