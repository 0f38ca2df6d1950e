"""Steps and pipelines: operations bound to their parameters, as pure immutable data.

`gaussian_blur(ksize=5)` is a `Step`, `step | step` a `Pipeline`. Both are called with an image. A pipeline has a text,
a JSON and a Python form, and each comes back as an equal pipeline.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from dask.utils import Dispatch

from daskimg import syntax
from daskimg.errors import ArrayError, ParameterError, PipelineSyntaxError
from daskimg.parameters import BoundImage, ImageOutline
from daskimg.registry import get_operation

if TYPE_CHECKING:
    from daskimg.operation import Operation

__all__ = ["Pipeline", "Step", "as_pipeline"]

A = TypeVar("A")

SCHEMA_VERSION = 1
EMBED_LIMIT = 4 << 20  # bytes of a bound image that travel inside a text form

apply = Dispatch("apply")
"""Applies steps to an image by the image's type: `apply(image, steps)`. `chunked` adds dask and xarray."""


def _refuse(image: Any, steps: tuple[Step, ...]) -> Any:
    raise ArrayError(
        f"an image is a NumPy array, a dask array or an xarray.DataArray, not {type(image).__name__}; "
        "convert it with numpy.asarray(image), or open a file with daskimg.open_image(path)"
    )


def _apply_to_numpy(image: np.ndarray[Any, Any], steps: tuple[Step, ...]) -> np.ndarray[Any, Any]:
    for step in steps:
        image = step.operation.on_whole(image, step)
    return image


apply.register(object, _refuse)
apply.register(np.ndarray, _apply_to_numpy)


class Arguments(SimpleNamespace):
    """Holds a step's parameters as attributes, which the author's `reach` and the like read."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a step is immutable; make a new one with another {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a step is immutable; make a new one without {name}")


class Step:
    """Binds an operation to its parameters: immutable, comparable, picklable.

    Calling an operation without an image makes one; call it with an image to apply it.

    >>> import daskimg as di, numpy as np
    >>> step = di.gaussian_blur(ksize=5)
    >>> step
    gaussian_blur(ksize=5)
    >>> step(np.zeros((4, 4), np.uint8)).shape
    (4, 4)
    """

    __slots__ = ("_hash", "arguments", "items", "operation")
    operation: Operation[Any]
    items: tuple[tuple[str, Any], ...]
    arguments: Arguments
    _hash: int

    def __init__(self, operation: Operation[Any], items: tuple[tuple[str, Any], ...]) -> None:
        write = object.__setattr__
        write(self, "operation", operation)
        write(self, "items", items)
        write(self, "arguments", Arguments(**dict(items)))
        write(self, "_hash", hash((operation.name, items)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a step is immutable; make a new one by calling its operation")

    @property
    def params(self) -> Mapping[str, Any]:
        """All parameters, defaults included."""
        return MappingProxyType(dict(self.items))

    @property
    def images(self) -> Mapping[str, Any]:
        """The second images that are given, by parameter."""
        if not self.operation.images:
            return {}
        given = {name: self.params[name] for name in self.operation.images}
        return {name: image for name, image in given.items() if image is not None}

    def outlined(self) -> Step:
        """Return this step without the pixels of second images, as tasks and caches keep it."""
        if not self.images:
            return self
        outlines = [(name, one.outline() if isinstance(one, BoundImage) else one) for name, one in self.items]
        return Step(self.operation, tuple(outlines))

    def __call__(self, image: A) -> A:
        """Apply this step to an image."""
        result: A = apply(image, (self,))
        return result

    def __or__(self, other: Step | Pipeline) -> Pipeline:
        return Pipeline(self) | other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.operation == other.operation and self.items == other.items

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Step], tuple[Any, ...]]:
        return Step, (self.operation, self.items)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.operation.__dask_tokenize__(), self.items)

    def __repr__(self) -> str:
        return f"{self.operation.name}({self._arguments_in_python(lambda value: repr(value))})"

    def changed(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults."""
        parameters = self.operation.parameters
        return {name: value for name, value in self.items if parameters[name].default != value}

    def _arguments_in_python(self, write: Any) -> str:
        return ", ".join(f"{name}={write(value)}" for name, value in self.changed().items())

    def to_text(self) -> str:
        """Return the text form, such as `gaussian_blur ksize=7`."""
        arguments = [f"{name}={syntax.write(_portable(value))}" for name, value in self.changed().items()]
        return " ".join([self.operation.name, *arguments])

    def to_python(self) -> str:
        """Return Python code that makes this step where `daskimg` is imported as `di`."""
        name = self.operation.name
        function = f"di.{name}" if self.operation.is_own else f"di.get_operation({name!r})"
        return f"{function}({self._arguments_in_python(lambda value: repr(_portable(value)))})"


class MeasuredStep(Step):
    """Is a step of a two-pass operation together with what was measured, which its tasks get as a second image."""

    __slots__ = ("measured",)
    measured: BoundImage | ImageOutline

    def __init__(self, step: Step, measured: BoundImage | ImageOutline) -> None:
        super().__init__(step.operation, step.items)
        object.__setattr__(self, "measured", measured)

    @property
    def images(self) -> Mapping[str, Any]:
        """What was measured."""
        return {"measured": self.measured}

    def outlined(self) -> MeasuredStep:
        """Return this step without what was measured, as tasks and caches keep it."""
        outline = self.measured.outline() if isinstance(self.measured, BoundImage) else self.measured
        return MeasuredStep(self, outline)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeasuredStep) and super().__eq__(other) and self.measured == other.measured

    __hash__ = Step.__hash__

    def __reduce__(self) -> Any:
        return MeasuredStep, (Step(self.operation, self.items), self.measured)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.measured)


class Pipeline:
    """Holds steps that are applied one after another: immutable, comparable, picklable.

    Parameters
    ----------
    *steps : Step or Pipeline
        What to do, in order. None at all is the pipeline that changes nothing.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> pipeline = di.gaussian_blur(ksize=5) | di.threshold(value=100)
    >>> pipeline(np.full((4, 4), 200, np.uint8)).max()
    np.uint8(255)
    >>> Pipeline.from_text("gaussian_blur ksize=5 | threshold value=100") == pipeline
    True
    """

    __slots__ = ("steps",)
    steps: tuple[Step, ...]
    schema_version = SCHEMA_VERSION

    def __init__(self, *steps: Step | Pipeline) -> None:
        flat: list[Step] = []
        for one in steps:
            if isinstance(one, Pipeline):
                flat.extend(one.steps)
            elif isinstance(one, Step):
                flat.append(one)
            else:
                raise ParameterError(
                    f"a pipeline is made of steps, not of {one!r}; a step is an operation called without an image, "
                    "such as gaussian_blur(ksize=5)"
                )
        object.__setattr__(self, "steps", tuple(flat))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a pipeline is immutable; make a new one with `|`")

    def __call__(self, image: A) -> A:
        """Apply the steps to an image: NumPy in, NumPy out; dask in, dask out (lazy, exact, fused)."""
        result: A = apply(image, self.steps)
        return result

    def __or__(self, other: Step | Pipeline) -> Pipeline:
        return Pipeline(self, other) if isinstance(other, (Step, Pipeline)) else NotImplemented

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> Pipeline: ...

    def __getitem__(self, index: int | slice) -> Step | Pipeline:
        return Pipeline(*self.steps[index]) if isinstance(index, slice) else self.steps[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __reduce__(self) -> tuple[type[Pipeline], tuple[Step, ...]]:
        return Pipeline, self.steps

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("daskimg.Pipeline", self.steps)

    def __repr__(self) -> str:
        if len(self.steps) > 1:
            return " | ".join(map(repr, self.steps))
        return f"Pipeline({', '.join(map(repr, self.steps))})"

    def __str__(self) -> str:
        return " | ".join(step.to_text() for step in self.steps)

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{number}</td><td><b>{escape(step.operation.name)}</b></td>"
            f"<td>{escape(', '.join(f'{name}={value!r}' for name, value in step.items))}</td>"
            f"<td>{escape(step.operation.summary)}</td></tr>"
            for number, step in enumerate(self.steps, 1)
        )
        return f"<table><tr><th></th><th>operation</th><th>parameters</th><th></th></tr>{rows}</table>"

    # Forms

    def to_text(self) -> str:
        """Return the text form, which the command line speaks; parameters at their default are left out."""
        return str(self)

    def to_python(self) -> str:
        """Return Python code that makes this pipeline where `daskimg` is imported as `di`."""
        if len(self.steps) > 1:
            return " | ".join(step.to_python() for step in self.steps)
        return f"di.Pipeline({', '.join(step.to_python() for step in self.steps)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form as a dict, with every parameter."""
        return {
            "daskimg": SCHEMA_VERSION,
            "steps": [
                {
                    "operation": step.operation.name,
                    "parameters": {name: _portable(value) for name, value in step.items},
                }
                for step in self.steps
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return the JSON form, with every parameter and the version of its schema."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_text(cls, text: str) -> Pipeline:
        """Make a pipeline from its text form.

        Raises
        ------
        PipelineSyntaxError
            If the text does not parse; the message shows the position and what was expected.
        UnknownNameError, ParameterError
            If an operation or parameter is unknown, or a value is not allowed.

        Examples
        --------
        >>> len(Pipeline.from_text("gaussian_blur ksize=5 | sobel dx=1 | absolute"))
        3
        """
        steps = []
        for parsed in syntax.parse(text):
            operation = get_operation(parsed.name)
            steps.append(operation.step(operation.read_words(parsed.arguments)))
        return cls(*steps)

    @classmethod
    def from_json(cls, document: str | Mapping[str, Any]) -> Pipeline:
        """Make a pipeline from its JSON form, given as text or as the dict that it holds.

        Raises
        ------
        PipelineSyntaxError
            If it is no JSON, or not a pipeline of a schema version that this daskimg knows.
        UnknownNameError, ParameterError
            If an operation or parameter is unknown, or a value is not allowed.
        """
        if isinstance(document, str):
            try:
                document = json.loads(document)
            except (ValueError, RecursionError) as error:  # also numbers too long and lists too deep
                raise PipelineSyntaxError(f"this is no JSON: {error}", getattr(error, "pos", 0)) from None
        example = '{"daskimg": 1, "steps": [{"operation": "gaussian_blur", "parameters": {"ksize": 5}}]}'
        if not isinstance(document, Mapping) or not isinstance(document.get("steps"), list):
            raise PipelineSyntaxError(f"a pipeline in JSON looks like this: {example}")
        if document.get("daskimg") != SCHEMA_VERSION:
            raise PipelineSyntaxError(
                f"the pipeline has schema version {document.get('daskimg')!r}, this daskimg reads {SCHEMA_VERSION}; "
                "a newer daskimg may read it: pip install --upgrade daskimg"
            )
        steps = []
        for entry in document["steps"]:
            parameters = entry.get("parameters", {}) if isinstance(entry, Mapping) else None
            if not isinstance(parameters, Mapping) or not isinstance(entry.get("operation"), str):
                raise PipelineSyntaxError(f"each step needs an operation and its parameters: {example}")
            steps.append(get_operation(entry["operation"]).step(parameters))
        return cls(*steps)

    @property
    def fingerprint(self) -> str:
        """A digest of the steps, the versions of their operations and of OpenCV: equal means the same pixels."""
        import cv2
        from dask.tokenize import tokenize

        versions = [tokenize(step) for step in self.steps]
        return hashlib.sha256(json.dumps([SCHEMA_VERSION, cv2.__version__, versions]).encode()).hexdigest()[:32]


def as_pipeline(pipeline: Any) -> Pipeline:
    """Return a pipeline given as one, as a step, or in its text or JSON form.

    >>> as_pipeline("invert")
    Pipeline(invert())
    """
    if isinstance(pipeline, str):
        return Pipeline.from_json(pipeline) if pipeline.lstrip().startswith("{") else Pipeline.from_text(pipeline)
    return Pipeline(pipeline)


def _portable(value: Any) -> Any:
    """Return a parameter's value as text, JSON and Python can hold it: a bound image as a `data:` URL."""
    if not isinstance(value, BoundImage):
        return value
    if not isinstance(value.array, np.ndarray) or value.array.nbytes > EMBED_LIMIT:
        raise ParameterError(
            f"{value!r} is bound in Python and too large for a text form; save it and bind its URL instead"
        )
    buffer = io.BytesIO()
    np.save(buffer, value.array, allow_pickle=False)
    return BoundImage.prefix + base64.b64encode(buffer.getvalue()).decode()
