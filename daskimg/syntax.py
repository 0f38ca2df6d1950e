"""The text form of pipelines: `gaussian_blur ksize=5 | threshold value=100`.

Its grammar::

    pipeline = [step {"|" step}]        step = name {name "=" value}
    value    = number | true | false | none | word | "text" | 'text' | [JSON list]
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from daskimg.errors import PipelineSyntaxError

__all__: list[str] = []

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"""[^\s|"'=\[\]{}]+""")
_SINGLE_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.)*'")
_QUOTE_OR_ESCAPE = re.compile(r"""\\.|['"]""")
_IN_JSON = {"'": '"', '"': '\\"', r"\'": "'"}  # a text in single quotes as JSON has it
_KEYWORDS = {"true": True, "false": False, "none": None, "null": None}


class Word(str):
    """A value that was written without quotes; numbers and keywords among them are read by `read_word`."""

    __slots__ = ()


class ParsedStep(NamedTuple):
    """One step as it was written: its name and its arguments, not yet checked."""

    name: str
    arguments: dict[str, Any]


def read_word(word: str) -> Any:
    """Return the number or keyword that a bare word means, else the word itself.

    >>> read_word("5"), read_word("1.5"), read_word("true"), read_word("hsv")
    (5, 1.5, True, 'hsv')
    """
    if word.lower() in _KEYWORDS:
        return _KEYWORDS[word.lower()]
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return str(word)


def write(value: Any) -> str:
    """Return a parameter's value as the text form has it.

    >>> write((1.0, 2.0)), write(None), write("hsv"), write("5 px")
    ('[1.0,2.0]', 'none', 'hsv', '"5 px"')
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        bare = _WORD.fullmatch(value) and isinstance(read_word(value), str)
        return value if bare else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, separators=(",", ":"))


def parse(text: str) -> list[ParsedStep]:
    """Split the text of a pipeline into its steps.

    Raises
    ------
    PipelineSyntaxError
        With the position and what was expected there.

    Examples
    --------
    >>> parse("gaussian_blur ksize=5 | invert")
    [ParsedStep(name='gaussian_blur', arguments={'ksize': '5'}), ParsedStep(name='invert', arguments={})]
    """
    steps: list[ParsedStep] = []
    position = _skip(text, 0)
    while position < len(text) or steps:
        name, position = _name(text, position, "the name of an operation")
        arguments: dict[str, Any] = {}
        position = _skip(text, position)
        while position < len(text) and text[position] != "|":
            start = position
            parameter, position = _name(text, position, "a parameter such as ksize=5, or | before the next operation")
            position = _skip(text, position)
            if text[position : position + 1] != "=":
                raise _error(text, position, f"= and a value for {parameter!r}")
            if parameter in arguments:
                raise _error(text, start, f"another parameter, since {parameter!r} is already given")
            arguments[parameter], position = _value(text, _skip(text, position + 1))
            position = _skip(text, position)
        steps.append(ParsedStep(name, arguments))
        if position >= len(text):
            break
        position = _skip(text, position + 1)
    return steps


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _name(text: str, position: int, expected: str) -> tuple[str, int]:
    match = _NAME.match(text, position)
    if not match:
        raise _error(text, position, expected)
    return match[0], match.end()


def _value(text: str, position: int) -> tuple[Any, int]:
    first = text[position : position + 1]
    if first in ('"', "["):
        expected = "a text in quotes" if first == '"' else "a JSON list such as [1,2,3]"
        try:
            return json.JSONDecoder().raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _error(text, min(error.pos, len(text)), expected) from None
        except (ValueError, RecursionError):  # numbers too long to convert, lists too deep to follow
            raise _error(text, position, expected) from None
    if first == "'" and (match := _SINGLE_QUOTED.match(text, position)):
        in_json = _QUOTE_OR_ESCAPE.sub(lambda found: _IN_JSON.get(found[0], found[0]), match[0])
        try:
            return json.loads(in_json), match.end()
        except json.JSONDecodeError as error:
            raise _error(text, position + error.pos, "a text in quotes") from None
    if match := _WORD.match(text, position):
        return Word(match[0]), match.end()
    raise _error(text, position, "a closing quote" if first == "'" else "a value")


def _error(text: str, position: int, expected: str) -> PipelineSyntaxError:
    start, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
    start, end = max(start, position - 60), min(end if end >= 0 else len(text), position + 60)
    line = text[start:end]
    found = repr(text[position]) if position < len(text) else "the end"
    return PipelineSyntaxError(
        f"the pipeline does not parse at position {position}: expected {expected}, found {found}\n"
        f"  {line}\n  {' ' * (position - start)}^",
        position,
    )
