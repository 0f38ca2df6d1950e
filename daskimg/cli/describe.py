"""`daskimg describe`: says what images are."""

from __future__ import annotations

import click

from daskimg.cli import FAILED, debug_option
from daskimg.errors import DaskimgError

__all__ = ["describe"]


@click.command(epilog="Example: daskimg describe slide.svs photos/*.jpg s3://bucket/image.zarr")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--scene", help="Which of several images in a file, by its number or name.")
@debug_option
def describe(paths: tuple[str, ...], scene: str | None) -> int:
    """Say what images are: shape, data type, chunks, levels, size in memory. Only headers are read."""
    import daskimg

    chosen = int(scene) if scene is not None and scene.isdecimal() else scene
    failed = False
    for number, path in enumerate(paths):
        if number:
            click.echo()
        try:
            click.echo(daskimg.describe(path, scene=chosen))
        except DaskimgError as error:
            if len(paths) == 1:
                raise
            click.echo(f"daskimg: {error}", err=True)
            failed = True
    return FAILED if failed else 0
