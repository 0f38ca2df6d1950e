"""The command line: `daskimg run`, `daskimg retry`, `daskimg ops`, `daskimg demo`, `daskimg completion`.

Exit codes: 0 all done; 1 some images failed, the others are done; 2 the command, the pipeline, the inputs or the output
were refused before anything was started; 3 the installation or the cluster stands in the way; 4 a fault in daskimg;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import click

from daskimg.errors import DaskimgError, EnvironmentProblem
from daskimg.version import __version__

__all__ = ["main"]

FAILED, REFUSED, ENVIRONMENT, FAULT, INTERRUPTED = 1, 2, 3, 4, 130


class LazyGroup(click.Group):
    """Imports a subcommand when it is used, so that `--help` and `--version` answer at once."""

    commands_at: ClassVar = {
        "completion": ("daskimg.cli.completion", "Print the script that lets a shell complete commands."),
        "describe": ("daskimg.cli.describe", "Say what images are: shape, chunks, levels, size in memory."),
        "demo": ("daskimg.cli.demo", "Show daskimg at work on sample photos, on this machine."),
        "ops": ("daskimg.cli.ops", "List the operations, or explain one."),
        "plan": ("daskimg.cli.plan", "Say what a piece of work will take, before it begins."),
        "retry": ("daskimg.cli.retry", "Try the images again that failed in the last run into a folder."),
        "run": ("daskimg.cli.run", "Put image files through a pipeline."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it."""
        if cmd_name not in self.commands_at:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(self.commands_at[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and what they do, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_at.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all done, 1 some images failed, 2 refused before anything was started, 3 the installation or "
    "the cluster stands in the way, 4 a fault in daskimg, 130 stopped by Ctrl-C.",
)
@click.version_option(__version__, prog_name="daskimg", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """OpenCV over images of any size, on any number of processors."""
    ctx.ensure_object(dict)["debug"] = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are said in words, without a traceback.

    Parameters
    ----------
    arguments : sequence of str
        What follows the command's name; those of this process if None.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an old Windows console lacks letters: better a ? than an error
            stream.reconfigure(errors="replace")
    state: dict[str, Any] = {}
    try:
        # Windows' shells leave patterns to the program; ours are matched where all systems match them.
        code = cli.main(arguments, prog_name="daskimg", standalone_mode=False, obj=state, windows_expand_args=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted. What was written is whole.", err=True)
        return INTERRUPTED
    except Exception as error:
        return _explain(error, state.get("debug", False))
    return int(code or 0)


def _explain(error: Exception, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    elif isinstance(error, DaskimgError):
        click.echo(f"daskimg: {error}", err=True)
    else:
        click.echo(
            f"daskimg: a fault in daskimg: {type(error).__name__}: {error}\nPlease report it with what --debug shows.",
            err=True,
        )
    if isinstance(error, EnvironmentProblem):
        return ENVIRONMENT
    return REFUSED if isinstance(error, DaskimgError) else FAULT


def debug_option(command: Any) -> Any:
    """Let a command take `--debug` too, since people add it at the end of what failed."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.ensure_object(dict)["debug"] = True

    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )(command)
