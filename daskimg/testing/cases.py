"""Cases that Hypothesis draws from an operation's own declaration."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import hypothesis
import numpy as np
from hypothesis import strategies as st

from daskimg.chunked import strips
from daskimg.chunked.again import HELD
from daskimg.errors import ArrayError, ParameterError
from daskimg.kinds import Geometric
from daskimg.operation import Array, Operation, second_image
from daskimg.parameters import Image, Parameter
from daskimg.pipeline import Step

__all__: list[str] = []

MOST_PIXELS = 1 << 16  # of a result; what makes larger ones of small images is not drawn
MOST_REACH = 48  # pixels; larger parameters are not drawn


@dataclass(frozen=True)
class Case:
    """Holds one drawn case: a step, an image, how it is cut into chunks, and whether these into strips of one row.

    With `afresh` nothing is held between two passes.
    """

    step: Step
    image: Array = field(repr=False)
    chunks: tuple[tuple[int, ...], ...]
    content: str
    thin: bool = False
    afresh: bool = False

    def __repr__(self) -> str:
        cut = f"in chunks {self.chunks}" + " and thin strips" * self.thin
        cut += " with nothing held" * self.afresh
        return f"{self.step!r} on {self.content} {self.image.dtype} {self.image.shape} {cut}"

    def lazy(self) -> da.Array:
        """Return the image as a dask array."""
        chunks = (*self.chunks, *((size,) for size in self.image.shape[2:]))
        lazy: da.Array = da.from_array(self.image, chunks=chunks)
        # A source that must be read, rather than chunks that are there.
        return da.map_blocks(np.copy, lazy, dtype=lazy.dtype) if self.afresh else lazy

    def result(self) -> Array:
        """Return the step's result on the chunked image."""
        held = {HELD: "0"} if self.afresh else {}
        with thin_strips() if self.thin else contextlib.nullcontext(), dask.config.set(held):
            result: Array = self.step(self.lazy()).compute(scheduler="synchronous")
        return result

    def reference(self) -> Array:
        """Return the step's result on the whole image."""
        return self.step(self.image)


@contextlib.contextmanager
def thin_strips() -> Iterator[None]:
    """Let the engine cut chunks into strips of one row, so that small images show what many strips do to large ones."""
    before = strips.STRIP_BYTES, strips.STRIP_REACHES
    strips.STRIP_BYTES, strips.STRIP_REACHES = 1, 0
    try:
        yield
    finally:
        strips.STRIP_BYTES, strips.STRIP_REACHES = before


def arguments(operation: Operation[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the parameters of an operation, save second images, from their declarations."""
    plain = {name: one for name, one in operation.parameters.items() if not one.image}
    return st.fixed_dictionaries({name: _values(one) for name, one in plain.items()})


def _values(parameter: Parameter) -> st.SearchStrategy[Any]:
    limits = parameter.limits
    low = limits.minimum if limits.minimum is not None else limits.above
    drawn: st.SearchStrategy[Any]
    integers = st.integers(
        math.ceil(-30 if low is None else low), math.floor(min(_infinite(limits.maximum), (low or 0) + 30))
    )
    floats = st.floats(
        -300 if low is None else low,
        min(_infinite(limits.maximum), max(300.0, (low or 0) + 1)),
        allow_nan=False,
        exclude_min=limits.above is not None,
    )
    small = st.floats(
        -5 if low is None else low, min(_infinite(limits.maximum), 5.0), exclude_min=limits.above is not None
    )
    numbers = (integers if parameter.whole else floats | small).filter(lambda number: not limits.problem(number))
    if parameter.kind == "boolean":
        drawn = st.booleans()
    elif parameter.kind in ("integer", "number"):
        drawn = numbers
    elif parameter.kind == "choice":
        drawn = st.sampled_from(parameter.choices)
    elif parameter.kind == "string":
        drawn = st.text("abcXYZ 019", min_size=1, max_size=6)
    elif parameter.kind == "vector":
        drawn = st.sampled_from([1, 2, 3, 4, 5, 7]).flatmap(
            lambda size: st.lists(numbers, min_size=size, max_size=size)
        )
        if parameter.scalar:
            drawn = numbers | drawn
        elif parameter.default is Parameter.required:
            drawn = drawn | _tables()
    elif parameter.kind == "matrix":
        sides = st.tuples(st.integers(1, 6), st.integers(1, 6))
        if parameter.sides:
            sides = st.just((parameter.sides.rows, parameter.sides.columns))
        drawn = sides.flatmap(
            lambda size: st.lists(
                st.lists(st.integers(-4, 4) | small, min_size=size[1], max_size=size[1]),
                min_size=size[0],
                max_size=size[0],
            )
        )
    else:
        raise AssertionError(parameter.kind)
    if parameter.nullable:
        drawn = st.none() | drawn
    return drawn if parameter.default is Parameter.required else st.just(parameter.default) | drawn


def _infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _tables() -> st.SearchStrategy[list[int]]:
    return st.integers(0, 1 << 16).map(lambda seed: np.random.default_rng(seed).integers(0, 256, 256).tolist())


def _second_images(image: Array, marker: Image) -> st.SearchStrategy[Array]:
    if marker.coordinates:  # of the result's size, which then is any
        beyond = max(image.shape[:2]) + 5
        return st.integers(0, 1 << 16).map(
            lambda seed: np.random.default_rng(seed).uniform(-5, beyond, image.shape[:2]).astype(np.float32)
        )
    if marker.aligned:
        return st.integers(0, 1 << 16).map(lambda seed: content_image("noise", image.shape, image.dtype, seed))
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([(), (3,), (4,)]))
    return st.tuples(shapes, st.integers(0, 1 << 16)).map(
        lambda drawn: content_image("noise", (*drawn[0][:2], *drawn[0][2]), image.dtype, drawn[1])
    )


CONTENTS = ("noise", "binary noise", "impulses", "shapes", "ramp", "extremes")


def content_image(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> Array:
    """Return an image of that content: what one kind of reach does not touch, another does."""
    rng = np.random.default_rng(seed)
    floating = dtype.kind == "f"
    low, high = (0.0, 1.0) if floating or dtype == bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if dtype.itemsize == 8 and not floating:
        low, high = max(low, -(1 << 53)), 1 << 53  # what the float64 of the random numbers holds
    if kind == "noise":
        image = rng.uniform(low, high, shape)
    elif kind == "binary noise":
        image = np.where(rng.random(shape) < rng.choice([0.02, 0.5, 0.98]), high, low)
    elif kind == "impulses":
        image = np.where(rng.random(shape) < 3 / max(1, math.prod(shape[:2])), high, low)
    elif kind == "shapes":
        image = np.full(shape, low, float)
        for _ in range(3):
            row, column = rng.integers(0, shape[0]), rng.integers(0, shape[1])
            image[row : row + rng.integers(1, 9), column : column + rng.integers(1, 9)] = high
    elif kind == "ramp":
        image = np.broadcast_to(np.linspace(low, high, shape[1]).reshape((1, -1) + (1,) * (len(shape) - 2)), shape)
    else:
        image = rng.choice([low, high, 0.5 if floating else (low + high) // 2], shape)
    return np.ascontiguousarray(image > 0.5 if dtype == bool else image.astype(dtype))


@st.composite
def _cuts(draw: Any, size: int) -> tuple[int, ...]:
    """Draw how an axis is cut: whole, evenly, raggedly, or with single pixels; now and then a chunk is empty."""
    how = draw(st.sampled_from(["ragged", "even", "whole", "pixels", "empty"]))
    if how == "whole" or size < 2:
        return (size,)
    if how == "even":
        step = draw(st.integers(max(1, size // 6), size))
        return tuple(min(step, size - start) for start in range(0, size, step))
    if how == "pixels":
        first = draw(st.integers(0, size - 1))
        inner = set(range(max(1, first), min(size, first + 5)))
    else:
        inner = draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=4))
    edges = [0, *sorted(inner), size]
    if how == "empty":
        edges = sorted([*edges, draw(st.sampled_from(edges))])
    return tuple(after - before for before, after in itertools.pairwise(edges))


@st.composite
def cases(draw: Any, operation: Operation[Any], most: int = 40) -> Case:
    """Draw a case that the operation accepts; `most` is the longest side, in pixels.

    >>> from hypothesis import find
    >>> import daskimg as di
    >>> find(cases(di.invert), lambda case: case.image.dtype == "uint8").image.shape
    (1, 1)
    """
    given = draw(arguments(operation))
    try:
        step = operation.step(given | dict.fromkeys(operation.images, "drawn below"))
        dtype = np.dtype(draw(st.sampled_from(sorted(operation.allowed_dtypes(step)))))
        channels = draw(st.sampled_from([None, *operation.declaration.accepts]))
        rows, columns = draw(st.integers(1, most)), draw(st.integers(1, most))
        shape = (rows, columns) if channels is None else (rows, columns, channels)
        content = draw(st.sampled_from(CONTENTS))
        image = content_image(content, shape, dtype, draw(st.integers(0, 1 << 16)))
        for name in operation.images:
            marker = operation.parameters[name].image
            assert marker is not None
            second = _second_images(image, marker)
            given[name] = draw(st.none() | second if operation.parameters[name].nullable else second)
        step = operation.step(given)
        hypothesis.assume(max(operation.reach(step, dtype)) <= MOST_REACH)
        kind = operation.declaration.kind
        if isinstance(kind, Geometric):
            seconds = {name: second_image(value) for name, value in step.images.items()}
            parameters = SimpleNamespace(**{**dict(step.items), **seconds})
            hypothesis.assume(math.prod(kind.size(image.shape[:2], parameters)) <= MOST_PIXELS)
            step(image)
        else:
            step(image if operation.images or operation.declaration.kind else image[:2, :2])
    except (ParameterError, ArrayError):  # the declaration alone does not tell which values go together
        hypothesis.reject()
    return Case(
        step, image, (draw(_cuts(rows)), draw(_cuts(columns))), content, *draw(st.tuples(st.booleans(), st.booleans()))
    )
