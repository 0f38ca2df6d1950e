"""`daskimg completion`, and what can be completed: names of operations, their parameters and values in a pipeline."""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from daskimg.errors import EnvironmentProblem

__all__ = ["OperationName", "PipelineText", "completion"]

_SHELLS = {
    "bash": '~/.bashrc:  eval "$(daskimg completion bash)"',
    "fish": "~/.config/fish/config.fish:  daskimg completion fish | source",
    "zsh": '~/.zshrc:  eval "$(daskimg completion zsh)"',
}


@click.command(
    epilog="To have it in every new shell, put into "
    + "; or into ".join(_SHELLS.values())
    + ". It completes commands, files, and operations and parameters inside a pipeline."
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands."""
    from daskimg.cli import cli

    found = get_completion_class(shell)
    if found is None:
        raise EnvironmentProblem(f"this version of click cannot complete for {shell}: pip install --upgrade click")
    click.echo(found(cli, {}, "daskimg", "_DASKIMG_COMPLETE").source())


class OperationName(click.types.StringParamType):
    """Is the name of an operation."""

    name = "operation"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the operations whose names begin like this."""
        return [
            CompletionItem(name, help=one.summary) for name, one in _operations().items() if name.startswith(incomplete)
        ]


class PipelineText(click.types.StringParamType):
    """Is the text form of a pipeline; its end is completed."""

    name = "pipeline"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the text with its last word completed in each way that makes sense."""
        before, bar, step = incomplete.rpartition("|")
        match = re.fullmatch(r"(\s*)(\w*)", step)
        if match:  # the name of an operation
            space, begun = match[1] or " " * bool(bar), match[2]
            return [
                CompletionItem(f"{before}{bar}{space}{name}", help=one.summary)
                for name, one in _operations().items()
                if name.startswith(begun)
            ]
        operation = _operations().get(step.split()[0])
        if operation is None:
            return []
        stem, _, word = incomplete.rpartition(" ")
        if "=" in word:
            name, _, value = word.partition("=")
            parameter = operation.parameters.get(name)
            choices = parameter.choices if parameter else ()
            if parameter and parameter.kind == "boolean":
                choices = ("true", "false")
            return [CompletionItem(f"{stem} {name}={one}") for one in choices if one.startswith(value)]
        return [
            CompletionItem(f"{stem} {name}=", help=parameter.help)
            for name, parameter in operation.parameters.items()
            if name.startswith(word) and f" {name}=" not in step
        ]


def _operations() -> Any:
    import daskimg  # registers its operations

    return daskimg.list_operations()
