"""Whether the declared reach is the true one: a pixel less must show somewhere."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np

from daskimg.operation import Operation
from daskimg.parameters import Parameter
from daskimg.pipeline import Step
from daskimg.testing.cases import CONTENTS, Case, cases, content_image
from daskimg.testing.checks import allowed_deviation, deviation
from daskimg.testing.report import OperationReport

__all__: list[str] = []


def with_reach_cut(step: Step, axis: int, by: int = 1) -> Step:
    """Return the step of a twin whose reach is one pixel less along an axis: what the suite must catch."""
    declared = step.operation

    def cut(arguments: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
        reach = list(declared.reach(step, dtype))
        reach[axis] = max(0, reach[axis] - by)
        return reach[0], reach[1]

    return Step(declared.changed(reach=cut, lanes=1), step.items)


def catches_cut(case: Case, axis: int) -> bool:
    """Return whether a case shows wrong pixels when the reach is cut by one along an axis, and right ones when not."""
    reference = case.reference()
    allowed = allowed_deviation(case.step, case.image, reference.dtype)
    results = (dataclasses.replace(case, step=with_reach_cut(case.step, axis, by)).result() for by in (0, 1))
    uncut, cut = (deviation(result, reference) for result in results)
    return uncut <= allowed < cut


def cases_of_cut(case: Case, axis: int) -> Iterator[Case]:
    """Yield cases of the same step and type in which an image is cut in the middle, with the whole reach around.

    Images are as small as they can be, of each kind of content: which one shows that a reach is too short depends on
    the operation.
    """
    step, image = case.step, case.image
    reach = step.operation.reach(step, image.dtype)
    size = [2 * one + 3 for one in reach]
    size[1 - axis] = min(size[1 - axis], 24)
    chunks: list[tuple[int, ...]] = [(size[0],), (size[1],)]
    chunks[axis] = (reach[axis] + 1, reach[axis] + 2)
    for seed, content in itertools.product(range(3), CONTENTS):
        pixels = content_image(content, (*size, *image.shape[2:]), image.dtype, seed)
        yield Case(step, pixels, (chunks[0], chunks[1]), content)


def shows_cut(case: Case, axis: int) -> bool:
    """Return what `catches_cut` does for a case of `cases_of_cut`, many times faster: without a graph."""
    step = case.step
    reach, middle = step.operation.reach(step, case.image.dtype)[axis], case.chunks[axis][0]
    image = np.moveaxis(case.image, axis, 0)
    reference = np.moveaxis(case.reference(), axis, 0)
    allowed = allowed_deviation(step, case.image, reference.dtype)
    for window, part, whole in (
        (image[: middle + reach - 1], slice(None, middle), reference[:middle]),
        (image[middle - reach + 1 :], slice(reach - 1, None), reference[middle:]),
    ):
        result = np.moveaxis(step(np.ascontiguousarray(np.moveaxis(window, 0, axis))), axis, 0)
        if deviation(result[part], whole) > allowed:
            return True
    return False


def measured_reach(step: Step, dtype: np.dtype[Any], channels: int | None, tries: int = 12) -> tuple[int, int]:
    """Return how far a changed pixel is seen to matter, in rows and columns: at most the true reach."""
    declared = step.operation.reach(step, dtype)
    rows, columns = (2 * reach + 9 for reach in declared)
    shape = (rows, columns) if channels is None else (rows, columns, channels)
    furthest = [0, 0]
    for number in range(tries):
        image = content_image(CONTENTS[number % len(CONTENTS)], shape, dtype, number)
        changed = image.copy()
        middle = (rows // 2, columns // 2)
        info = np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (info.min, info.max) if info else (0, 1)
        changed[middle] = np.where(image[middle] > (low + high) / 2, low, high)
        where = np.argwhere((step(image) != step(changed)).reshape(rows, columns, -1).any(axis=2))
        for axis in (0, 1) if len(where) else ():
            furthest[axis] = max(furthest[axis], int(np.abs(where[:, axis] - middle[axis]).max()))
    return furthest[0], furthest[1]


def check_reach(operation: Operation[Any], report: OperationReport, options: Any, most: int) -> None:
    search = hypothesis.settings(options, max_examples=300)
    for axis, name in enumerate(("rows", "columns")):
        caught: list[Case] = []

        def is_caught(case: Case, axis: int = axis, caught: list[Case] = caught) -> bool:
            reach = operation.reach(case.step, case.image.dtype)
            if reach[axis] > 0 and max(reach) <= 16:
                shown = (one for one in cases_of_cut(case, axis) if shows_cut(one, axis) and catches_cut(one, axis))
                caught.extend(itertools.islice(shown, 1))
            return bool(caught)

        try:
            hypothesis.find(cases(operation, most), is_caught, settings=search)
            report.caught[name] = repr(caught[0])
        except hypothesis.errors.NoSuchExample:
            report.problems.append(
                f"a reach one pixel less along {name} gives the same pixels in all cases: it is declared too large"
            )
    if any(parameter.default is Parameter.required for parameter in operation.parameters.values()):
        return
    step, channels = operation.step({}), operation.declaration.accepts[0]
    dtype = np.dtype(min(operation.allowed_dtypes(step), key=lambda name: (name != "uint8", name)))
    declared = operation.reach(step, dtype)
    measured = measured_reach(step, dtype, None if channels == 1 else channels)
    report.reach, report.reach_of = (declared, measured), f"{step!r} on {dtype}"
    if measured[0] > declared[0] or measured[1] > declared[1]:
        report.problems.append(f"the reach of {step!r} is declared as {declared}, but {measured} was measured")
