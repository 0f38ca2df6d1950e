"""What a parameter of an operation may be: markers for annotations, validation, JSON schema.

An author annotates (`ksize: Annotated[int, Odd(1, 99), Unit("px")] = 5`); checks, help texts, the command line,
the JSON schema and widgets all follow from that one place.
"""

from __future__ import annotations

import base64
import io
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np

from daskimg.errors import ParameterError, suggest

__all__ = ["BoundImage", "Choice", "Image", "Kernel", "Odd", "Parameter", "Range", "Sides", "Unit", "Vector"]

# What authors write for parameters that hold several numbers. Lists and arrays are accepted and become tuples.
Vector = tuple[float, ...]
Kernel = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Range:
    """Limits a number to `minimum <= value <= maximum` (`None`: no limit).

    >>> Range(0, 10).problem(11)
    'at most 10'
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  # exclusive lower limit

    def problem(self, value: float) -> str:
        """Return what is allowed where `value` is not, else an empty string."""
        if self.minimum is not None and value < self.minimum:
            return f"at least {self.minimum}"
        if self.above is not None and value <= self.above:
            return f"more than {self.above}"
        if self.maximum is not None and value > self.maximum:
            return f"at most {self.maximum}"
        return ""

    def describe(self) -> str:
        """Return the limits in words, such as `0 to 10`."""
        low = f"more than {self.above}" if self.above is not None else self.minimum
        if low is not None and self.maximum is not None:
            return f"{low} to {self.maximum}"
        if low is not None:
            return f"{low}" if self.above is not None else f"{low} or more"
        return "any" if self.maximum is None else f"{self.maximum} or less"

    def schema(self) -> dict[str, Any]:
        """Return the limits as JSON schema."""
        limits = {"minimum": self.minimum, "exclusiveMinimum": self.above, "maximum": self.maximum}
        return {key: value for key, value in limits.items() if value is not None}


@dataclass(frozen=True)
class Odd(Range):
    """Limits an integer to odd values in a range, as the sizes of centred kernels are.

    >>> Odd(1, 9).problem(4)
    'odd: 3 or 5'
    """

    def problem(self, value: float) -> str:
        """Return what is allowed where `value` is not, else an empty string."""
        outside = super().problem(value)
        if outside or value % 2:
            return outside
        near = [number for number in (int(value) - 1, int(value) + 1) if not super(Odd, self).problem(number)]
        return "odd: " + " or ".join(map(str, near))

    def describe(self) -> str:
        """Return the limits in words."""
        return f"odd, {super().describe()}"

    def schema(self) -> dict[str, Any]:
        """Return the limits as JSON schema."""
        return {**super().schema(), "not": {"multipleOf": 2}}


@dataclass(frozen=True)
class Choice:
    """Limits a string to names that are computed, where a `Literal` cannot list them."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """Names the unit of a number: `px`, `degrees`, `gray levels`."""

    name: str


@dataclass(frozen=True)
class Sides:
    """Limits a matrix to a number of rows and columns."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Image:
    """Marks a parameter that is itself an image: a NumPy or dask array, or a URL.

    `aligned` images have the rows and columns of the main image, or of the result where its size is another one, and
    are cut along its chunks; others travel whole. `coordinates` are positions in the main image.
    """

    aligned: bool = False
    coordinates: bool = False


class BoundImage:
    """Holds an array that was bound to a parameter, comparable and hashable by its content."""

    __slots__ = ("array", "token")
    array: Any
    token: str
    prefix = "data:application/x-npy;base64,"  # of the URL that embeds a small one in a text form

    def __init__(self, array: Any) -> None:
        from dask.tokenize import tokenize

        self.array = array
        self.token = tokenize(array)

    def outline(self) -> ImageOutline:
        """Return what tasks and caches may keep of it: all but the pixels."""
        return ImageOutline(self.token, tuple(self.array.shape), self.array.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundImage) and other.token == self.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __repr__(self) -> str:
        return f"<image {'x'.join(map(str, self.array.shape))} {self.array.dtype}>"

    def __dask_tokenize__(self) -> str:
        return self.token

    def __reduce__(self) -> tuple[type[BoundImage], tuple[Any]]:
        return BoundImage, (self.array,)


class ImageOutline(NamedTuple):
    """Stands for a bound image where its pixels are not needed, or come another way."""

    token: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


Kind = Literal["boolean", "integer", "number", "string", "choice", "vector", "matrix", "image"]


@dataclass(frozen=True)
class Parameter:
    """Describes one parameter of an operation, as derived from its annotation, default and docstring.

    Attributes
    ----------
    name, help : str
        The name in Python and the sentence that explains it.
    kind : str
        `boolean integer number string choice vector matrix image`.
    default : object
        The default; `Parameter.required` where there is none.
    nullable : bool
        Whether `None` is a value of its own.
    scalar : bool
        Whether a vector may also be given as one number, which then counts for every channel.
    limits, choices, unit, image, sides
        What the markers said.
    """

    required = object()

    name: str
    kind: Kind
    default: Any = field(default=required)
    nullable: bool = False
    scalar: bool = False
    whole: bool = False
    limits: Range = field(default_factory=Range)
    choices: tuple[str, ...] = ()
    unit: str = ""
    image: Image | None = None
    sides: Sides | None = None
    help: str = ""

    def validate(self, value: Any, operation: str) -> Any:
        """Return `value` in its canonical, immutable form.

        Raises
        ------
        ParameterError
            If the value is not allowed; the message names the operation, the value and what is allowed.
        """
        if value is None and self.nullable:
            return None
        canonical, problem = _CHECKS[self.kind](self, value)
        if problem:
            raise ParameterError(f"{operation}: {self.name}={_short(value)} is not allowed; {self.name} is {problem}")
        return canonical

    def describe(self) -> str:
        """Return in words what is allowed.

        >>> Parameter("ksize", "integer", 5, limits=Odd(1, 9), unit="px").describe()
        'a whole number, odd, 1 to 9, in px'
        """
        if self.kind == "choice":
            words = "one of " + " ".join(self.choices)
        else:
            words = _WORDS[self.kind]
            if self.sides:
                words = f"{self.sides.rows} rows of {self.sides.columns} numbers"
            limits = self.limits.describe()
            words += f", {limits}" if limits != "any" else ""
        if self.scalar:
            words += ", or one number for all channels"
        words += f", in {self.unit}" if self.unit else ""
        return words + (", or none" if self.nullable else "")

    def schema(self) -> dict[str, Any]:
        """Return this parameter as JSON schema."""
        number: dict[str, Any] = {"type": "integer" if self.whole else "number", **self.limits.schema()}
        schema: dict[str, Any]
        if self.kind == "choice":
            schema = {"enum": list(self.choices)}
        elif self.kind in ("vector", "matrix"):
            schema = {"type": "array", "items": number, "minItems": 1}
            if self.kind == "matrix":
                schema = {"type": "array", "items": schema, "minItems": 1}
            if self.sides:
                schema.update(minItems=self.sides.rows, maxItems=self.sides.rows)
                schema["items"].update(minItems=self.sides.columns, maxItems=self.sides.columns)
            if self.scalar:
                schema = {"anyOf": [number, schema]}
        elif self.kind == "image":
            schema = {"type": "string", "format": "uri-reference"}
        else:
            schema = {"type": self.kind, **self.limits.schema()}
        if self.nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
        schema["description"] = self.help
        if self.default is not Parameter.required:
            schema["default"] = self.default
        if self.unit:
            schema["unit"] = self.unit
        return schema


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _number(parameter: Parameter, value: Any, whole: bool) -> tuple[Any, str]:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value, parameter.describe()
    try:
        number = int(value) if whole else float(value)
    except (OverflowError, ValueError):  # infinity or NaN as an integer, an integer that is too large for a float
        return value, parameter.describe()
    if not (number == value and abs(number) < 1 << 63 if whole else math.isfinite(number)):
        return value, parameter.describe()
    value = number
    problem = parameter.limits.problem(value)
    if not problem:
        return value, ""
    allowed = parameter.describe()
    return value, f"{allowed} (here {problem})" if problem not in allowed else allowed


def _check_integer(parameter: Parameter, value: Any) -> tuple[Any, str]:
    return _number(parameter, value, whole=True)


def _check_number(parameter: Parameter, value: Any) -> tuple[Any, str]:
    return _number(parameter, value, whole=False)


def _check_boolean(parameter: Parameter, value: Any) -> tuple[Any, str]:
    if isinstance(value, (bool, np.bool_)):
        return bool(value), ""
    return value, parameter.describe()


def _check_string(parameter: Parameter, value: Any) -> tuple[Any, str]:
    return value, "" if isinstance(value, str) else parameter.describe()


def _check_choice(parameter: Parameter, value: Any) -> tuple[Any, str]:
    if isinstance(value, int) and str(value) in parameter.choices:  # connectivity=8 means "8"
        return str(value), ""
    if isinstance(value, str) and value in parameter.choices:
        return value, ""
    hint = suggest(value, parameter.choices) if isinstance(value, str) else ""
    return value, parameter.describe() + "." * bool(hint) + hint


def _check_vector(parameter: Parameter, value: Any) -> tuple[Any, str]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if parameter.scalar and not isinstance(value, (list, tuple)):
        return _number(parameter, value, parameter.whole)
    if not isinstance(value, (list, tuple)) or not value:
        return value, parameter.describe()
    numbers = [_number(parameter, item, parameter.whole) for item in value]
    return tuple(item for item, _ in numbers), next((problem for _, problem in numbers if problem), "")


def _check_matrix(parameter: Parameter, value: Any) -> tuple[Any, str]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value:
        return value, parameter.describe()
    rows = [_check_vector(parameter, row) for row in value]
    problem = next((problem for _, problem in rows if problem), "")
    if not problem and len({len(row) for row, _ in rows}) != 1:
        problem = f"{parameter.describe()}, with rows of equal length"
    sides = parameter.sides
    if not problem and sides and (len(rows), len(rows[0][0])) != (sides.rows, sides.columns):
        problem = parameter.describe()
    return tuple(row for row, _ in rows), problem


def _check_image(parameter: Parameter, value: Any) -> tuple[Any, str]:
    if isinstance(value, str) and value.startswith(BoundImage.prefix):
        try:
            encoded = io.BytesIO(base64.b64decode(value.removeprefix(BoundImage.prefix), validate=True))
            return BoundImage(np.lib.format.read_array(encoded, allow_pickle=False)), ""
        except (ValueError, EOFError, MemoryError):
            return value, "an embedded image in NumPy's format, and this one is damaged"
    if isinstance(value, (str, BoundImage)):
        return value, ""
    if hasattr(value, "dims") and {"y", "x"} <= set(value.dims):  # an xarray.DataArray, whatever its order
        value = value.transpose("y", "x", ...).data
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return BoundImage(value), ""
    return value, parameter.describe()


_CHECKS: Mapping[str, Callable[[Parameter, Any], tuple[Any, str]]] = {
    "boolean": _check_boolean,
    "integer": _check_integer,
    "number": _check_number,
    "string": _check_string,
    "choice": _check_choice,
    "vector": _check_vector,
    "matrix": _check_matrix,
    "image": _check_image,
}
_WORDS: Mapping[str, str] = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "vector": "a list of numbers",
    "matrix": "a list of rows of numbers",
    "image": "an image (a NumPy or dask array) or its URL",
}


def parameter_from(name: str, annotation: Any, default: Any, documentation: str) -> Parameter:
    """Derive a `Parameter` from its annotation, default and help text.

    Raises
    ------
    TypeError
        If the annotation is none that daskimg knows; the author of the operation sees it at once.
    """
    markers: list[Any] = []
    if get_origin(annotation) is typing.Annotated:
        annotation, *markers = get_args(annotation)
    alternatives = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    nullable = type(None) in alternatives
    alternatives = tuple(one for one in alternatives if one is not type(None))
    found = {type(marker): marker for marker in markers}
    choices: tuple[str, ...] = found[Choice].values if Choice in found else ()
    scalar = whole = False
    kind: Kind
    if Image in found:
        kind = "image"
    elif choices or get_origin(alternatives[0]) is Literal:
        kind, choices = "choice", choices or get_args(alternatives[0])
        if not all(isinstance(choice, str) for choice in choices):
            raise TypeError(f"parameter {name!r}: the choices {choices} must be texts")
    else:
        simple: dict[Any, Kind] = {bool: "boolean", int: "integer", float: "number", str: "string"}
        several = [one for one in alternatives if get_origin(one) is tuple]
        if several:
            item = get_args(several[0])[0]
            nested = get_origin(item) is tuple
            kind = "matrix" if nested else "vector"
            whole = (get_args(item)[0] if nested else item) is int
            scalar = len(alternatives) > 1
        elif len(alternatives) == 1 and alternatives[0] in simple:
            kind = simple[alternatives[0]]
            whole = kind == "integer"
        else:
            raise TypeError(
                f"parameter {name!r} has the annotation {annotation!r}; use int, float, bool, str, Literal[...], "
                "Vector, Kernel or Annotated[Any, Image()], each optionally `| None`"
            )
    limits = next((marker for marker in markers if isinstance(marker, Range)), Range())
    parameter = Parameter(
        name=name,
        kind=kind,
        nullable=nullable,
        scalar=scalar,
        whole=whole,
        limits=limits,
        choices=choices,
        unit=found[Unit].name if Unit in found else "",
        image=found.get(Image),
        sides=found.get(Sides),
        help=documentation,
    )
    if default is not Parameter.required:
        parameter = Parameter(**{**parameter.__dict__, "default": parameter.validate(default, "the default")})
    return parameter


def documented_parameters(docstring: str) -> dict[str, str]:
    """Return the sentences of a numpydoc `Parameters` section by name.

    >>> documented_parameters("Blur.\\n\\nParameters\\n----------\\nksize : int\\n    The size.\\n")
    {'ksize': 'The size.'}
    """
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}|\Z)", docstring, re.MULTILINE | re.DOTALL)
    if not section:
        return {}
    texts: dict[str, str] = {}
    for entry in re.finditer(r"^(\S[^:\n]*?)\s*(?::[^\n]*)?\n((?:[ \t]+[^\n]*\n?|\n)*)", section[1], re.MULTILINE):
        for name in entry[1].split(","):
            texts[name.strip()] = " ".join(entry[2].split())
    return texts
