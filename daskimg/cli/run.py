"""`daskimg run`: puts image files through a pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from daskimg.cli import FAILED, debug_option
from daskimg.cli.completion import PipelineText
from daskimg.cli.stopping import stop_on_signals
from daskimg.progress import ProgressBar

__all__ = ["run"]

_EPILOG = """
\b
Examples:
  daskimg run "gaussian_blur ksize=5 | sobel dx=1 | absolute" photo.jpg --to edges.png
  daskimg run "sharpen" "photos/*.jpg" scans --recursive --to results --format webp --quality 80
  daskimg run --pipeline-file edges.json https://example.org/cat.jpg --to results --workers 4

\b
Exit codes: 0 all done, 1 some images failed, 2 refused before anything was started, 3 the installation
or the cluster stands in the way, 4 a fault in daskimg, 130 stopped by Ctrl-C.
"""


@click.command(epilog=_EPILOG)
@click.argument("pipeline", type=PipelineText(), required=False)
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path())
@click.option(
    "--to",
    required=True,
    metavar="OUTPUT_OR_FOLDER",
    type=click.Path(),
    help="A folder, made if missing; for a single image also a file.",
)
@click.option(
    "--pipeline-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Read the pipeline from a file, as text or JSON; all arguments are inputs then.",
)
@click.option(
    "--format",
    help="The format of the results, such as webp. Default: that of each input; PNG for GIF, HEIC and JPEG XL.",
)
@click.option("--quality", type=int, help="1 to 100, for JPEG, WebP and AVIF.")
@click.option("--lossless", is_flag=True, help="Write WebP bit for bit.")
@click.option(
    "--name",
    default="{stem}",
    show_default=True,
    help="The names of the results, without suffix: '{stem}-edges' makes cat-edges.jpg of cat.jpg.",
)
@click.option(
    "--overwrite/--no-overwrite", help="Replace results that exist. Inputs are never replaced. Default: refuse."
)
@click.option(
    "--recursive", is_flag=True, help="Look into the folders inside folders, and keep them apart in the results."
)
@click.option("--frame", type=click.IntRange(min=0), help="Which frame of animations or page of TIFF files, from 0.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Work on this many threads. Default: one for each processor."
)
@click.option("--workers", type=click.IntRange(min=1), help="Work in this many processes, with dask's dashboard.")
@click.option(
    "--scheduler-address",
    metavar="ADDRESS",
    help="Work on the cluster whose dask scheduler is there, such as tcp://10.0.0.1:8786.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what failed.")
@debug_option
@click.pass_context
def run(
    ctx: click.Context,
    /,
    pipeline: str | None,
    inputs: tuple[str, ...],
    to: str,
    pipeline_file: str | None,
    workers: int | None,
    threads: int | None,
    scheduler_address: str | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Put image files through PIPELINE, such as "gaussian_blur ksize=5 | sharpen".

    INPUTs are files, folders, patterns (quote them) and URLs. `daskimg ops` lists the operations. An image that cannot
    be read or processed is named at the end, and the others are done. Files whose names begin with a dash go behind --.
    """
    if pipeline_file is not None:
        inputs = (*((pipeline,) if pipeline is not None else ()), *inputs)
        pipeline = _from_file(pipeline_file)
    elif pipeline is None:
        raise click.UsageError('Missing the pipeline, such as "gaussian_blur ksize=5 | sharpen".', ctx)
    if not inputs:
        raise click.UsageError("Missing the images: files, folders, patterns or URLs, after the pipeline.", ctx)
    places = {"--threads": threads, "--workers": workers, "--scheduler-address": scheduler_address}
    chosen = [option for option, value in places.items() if value is not None]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} exclude each other; leave out all but one.", ctx)

    with stop_on_signals() as stop, ProgressBar() as bar:
        from daskimg.batch import process_images  # after Ctrl-C is caught: this takes a while

        report = process_images(
            inputs,
            pipeline,
            to,
            cluster=scheduler_address if workers is None else _cluster_of(workers, quiet),
            threads=threads,
            progress=not quiet and bar,
            cancel=stop,
            **options,
        )
    if not quiet:
        click.echo(report.headline)
    if report.failures:
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


def _from_file(path: str) -> str:
    """Return the pipeline that a file holds; in text, lines that begin with # are remarks."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: cannot be read as text: {error}") from error
    if text.lstrip().startswith("{"):
        return text
    # Remarks become blanks, so that positions in messages stay those of the file.
    return "\n".join(" " * len(line) if line.lstrip().startswith("#") else line for line in text.splitlines())


def _say_failures(report: Any, debug: bool) -> None:
    for failure in report.failures:
        click.echo(f"failed: {failure.source}: {failure.reason}", err=True)
        if debug and failure.source in report.details:
            click.echo(report.details[failure.source], err=True)
