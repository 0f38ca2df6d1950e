"""`daskimg plan`: says what a piece of work will take, before it begins."""

from __future__ import annotations

import click

from daskimg.cli import REFUSED, debug_option
from daskimg.cli.completion import PipelineText

__all__ = ["plan"]


@click.command(
    epilog="\b\nExample:\n"
    "  daskimg plan 'gaussian_blur ksize=5 | canny low=50 high=120' slide.ome.tif --to edges.ome.zarr"
)
@click.argument("pipeline", type=PipelineText())
@click.argument("image", type=click.Path())
@click.option("--to", metavar="OUTPUT", type=click.Path(), help="Where the result goes: is there room for it?")
@click.option("--memory", metavar="SIZE", help="What a process may take, such as '2 GiB'. Default: what there is.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Work on this many threads. Default: one for each processor."
)
@debug_option
def plan(pipeline: str, image: str, to: str | None, memory: str | None, threads: int | None) -> int:
    """Say what PIPELINE on IMAGE will take: chunks, tasks, bytes read and written, memory.

    Exit code 2 says that it won't fit, and the lines called "problem" say what to do.
    """
    from daskimg.planning import plan as make_plan

    found = make_plan(image, pipeline, to, memory=memory, threads=threads)
    click.echo(str(found))
    return 0 if found.fits else REFUSED
