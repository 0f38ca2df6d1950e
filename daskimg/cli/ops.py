"""`daskimg ops`: lists the operations, or explains one."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from daskimg.cli import debug_option
from daskimg.cli.completion import OperationName
from daskimg.operation import ALL_DTYPES
from daskimg.parameters import Parameter

__all__ = ["ops"]

_HEADING = re.compile(r"^(\S[^\n]*)\n-{3,}\n", re.MULTILINE)
_SHOWN = ("Notes", "References", "See Also")  # the other sections of a docstring speak of Python


@click.command(epilog="Example: daskimg ops gaussian_blur")
@click.argument("name", required=False, type=OperationName())
@click.option("--json", "as_json", is_flag=True, help="Write the parameters as JSON schema.")
@debug_option
def ops(name: str | None, as_json: bool) -> None:
    """List the operations by topic, or explain the one called NAME."""
    import daskimg  # registers its operations

    if name is not None:
        operation = daskimg.get_operation(name)
        click.echo(json.dumps(operation.schema(), indent=2) if as_json else explain(operation))
        return
    known = daskimg.list_operations()
    if as_json:
        click.echo(json.dumps({name: one.schema() for name, one in known.items()}, indent=2))
    else:
        click.echo(table(known))


def _width() -> int:
    return max(60, min(120, shutil.get_terminal_size((100, 24)).columns))


def table(known: Mapping[str, Any]) -> str:
    """Return the operations with what they do, a block for each topic."""
    column = max(map(len, known), default=0) + 4
    topics: dict[str, list[str]] = {}
    for name, one in known.items():
        summary = textwrap.shorten(one.summary, _width() - column, placeholder=" ...")
        topics.setdefault(one.topic, []).append(f"  {name:<{column - 2}}{summary}")
    blocks = [f"{click.style(topic, bold=True)}\n" + "\n".join(lines) for topic, lines in sorted(topics.items())]
    blocks.append("Explain one: daskimg ops NAME")
    return "\n\n".join(blocks)


def explain(operation: Any) -> str:
    """Return what an operation does, its parameters with what is allowed, and an example to copy."""
    arguments = []
    rows = []
    for name, one in operation.parameters.items():
        needed = one.default is Parameter.required
        arguments.append(name if needed else f"{name}={_text(one.default)}")
        allowed = one.describe() + ("; required" if needed else f"; default {_text(one.default)}")
        rows += [f"  {click.style(name, bold=True)}: {allowed}"]
        rows += textwrap.wrap(one.help, _width(), initial_indent="      ", subsequent_indent="      ")
    docs = re.split(_HEADING, operation.__doc__)
    sections = [
        f"{click.style(operation.name, bold=True)} {' '.join(arguments)}".rstrip() + f"   ({operation.topic})",
        docs[0].strip(),
    ]
    if rows:
        sections.append("Parameters\n" + "\n".join(rows))
    sections.append(f"Takes\n  {_takes(operation)}")
    sections += [
        f"{heading}\n" + textwrap.indent(text.strip(), "  ")
        for heading, text in zip(docs[1::2], docs[2::2], strict=True)
        if heading in _SHOWN
    ]
    sections.append(f"Example\n  daskimg run {_quoted(example(operation))} photos --to results")
    return "\n\n".join(sections)


def _text(value: Any) -> str:
    from daskimg import syntax

    return syntax.write(value)


def _quoted(pipeline: str) -> str:
    # Double quotes work in every shell, Windows' too; texts with double quotes inside need the others.
    return f"'{pipeline}'" if '"' in pipeline else f'"{pipeline}"'


def _takes(operation: Any) -> str:
    channels = " or ".join(map(str, operation.declaration.accepts))
    try:
        dtypes = operation.allowed_dtypes(operation.step(_sample(operation)))
        names = " ".join(name for name in ALL_DTYPES.split() if name in dtypes)
    except LookupError:
        names = ""
    return f"{names} images of {channels} channels".lstrip()


def _sample(operation: Any) -> dict[str, Any]:
    """Return values for the parameters that an operation needs."""
    simple = {
        "boolean": True,
        "integer": 1,
        "number": 1.0,
        "string": "text",
        "vector": [1, 2, 1],
        "matrix": [[0, 1, 0], [1, 4, 1], [0, 1, 0]],
        "image": "other.png",
    }
    values = {}
    for name, one in operation.parameters.items():
        if one.default is not Parameter.required:
            continue
        if one.choices:
            values[name] = one.choices[0]
        elif one.sides:
            values[name] = [
                [float(row == column) for column in range(one.sides.columns)] for row in range(one.sides.rows)
            ]
        elif one.kind in ("integer", "number"):
            limits = one.limits
            low = limits.minimum if limits.minimum is not None else limits.above
            values[name] = 1 if low is None or low < 1 else low
        elif one.scalar:
            values[name] = 1
        else:
            values[name] = simple[one.kind]
    return values


def example(operation: Any) -> str:
    """Return a pipeline of this operation that parses: what it needs, and its first parameter spelled out."""
    values = _sample(operation)
    words = [operation.name, *(f"{name}={_text(value)}" for name, value in values.items())]
    if not values:
        first = next((one for one in operation.parameters.values() if one.default is not None), None)
        if first is not None:
            words.append(f"{first.name}={_text(first.default)}")
    return " ".join(words)
