"""`daskimg retry`: tries the images again that failed in the last run into a folder."""

from __future__ import annotations

from typing import Any

import click

from daskimg.cli.batches import place_options, run_batch

__all__ = ["retry"]


@click.command(epilog="Example: daskimg retry results --retries 2")
@click.argument("folder", type=click.Path())
@place_options
@click.pass_context
def retry(ctx: click.Context, /, folder: str, **options: Any) -> int:
    """Try the images again that failed in the last run into FOLDER, with the same pipeline and options."""

    def work(**how: Any) -> Any:
        from daskimg.batch import retry_images

        return retry_images(folder, **how)

    return run_batch(ctx, work, **options)
