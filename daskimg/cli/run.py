"""`daskimg run`: puts image files through a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from daskimg.cli.batches import place_options, run_batch
from daskimg.cli.completion import PipelineText

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
    help="The names of the results, without suffix: '{stem}-edges' makes cat-edges.jpg of cat.jpg. Also {suffix}, "
    "{folder}, {number}.",
)
@click.option(
    "--overwrite/--no-overwrite", help="Replace results that exist. Inputs are never replaced. Default: refuse."
)
@click.option("--skip-existing", is_flag=True, help="Leave out images whose results exist.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Do only what earlier runs into this folder left, or all of it anew.",
)
@click.option(
    "--recursive", is_flag=True, help="Look into the folders inside folders, and keep them apart in the results."
)
@click.option("--frame", type=click.IntRange(min=0), help="Which frame of animations or page of TIFF files, from 0.")
@click.option(
    "--metadata",
    type=click.Choice(["keep", "public", "none"]),
    default="keep",
    show_default=True,
    help="What results keep of Exif data and resolution; public leaves out place, owner and serial numbers.",
)
@click.option(
    "--color-profile",
    type=click.Choice(["srgb", "keep", "ignore"]),
    default="srgb",
    show_default=True,
    help="Convert pixels to sRGB, or keep them with their ICC profile, or drop it.",
)
@click.option("--reduced", is_flag=True, help="Begin small results of JPEG with less of it: faster, not exact.")
@place_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    pipeline: str | None,
    inputs: tuple[str, ...],
    to: str,
    pipeline_file: str | None,
    overwrite: bool,
    skip_existing: bool,
    **options: Any,
) -> int:
    """Put image files through PIPELINE, such as "gaussian_blur ksize=5 | sharpen".

    INPUTs are files, folders, patterns (quote them), ZIP archives, @LIST files and URLs. `daskimg ops` lists the
    operations. An image that cannot be read or processed is named at the end, and the others are done. Files whose
    names begin with a dash go behind --.

    What was done is noted beside the results: the same command again does only what is left.
    """
    if pipeline_file is not None:
        inputs = (*((pipeline,) if pipeline is not None else ()), *inputs)
        pipeline = _from_file(pipeline_file)
    elif pipeline is None:
        raise click.UsageError('Missing the pipeline, such as "gaussian_blur ksize=5 | sharpen".', ctx)
    if not inputs:
        raise click.UsageError("Missing the images: files, folders, patterns or URLs, after the pipeline.", ctx)
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other; leave one out.", ctx)

    def work(**how: Any) -> Any:
        from daskimg.batch import process_images  # after Ctrl-C is caught: this takes a while

        return process_images(inputs, pipeline, to, overwrite="skip" if skip_existing else overwrite, **how)

    return run_batch(ctx, work, **options)


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
