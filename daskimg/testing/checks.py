"""What holds for every operation: one assertion each, on one case."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import dask
import dask.array as da
import numpy as np

from daskimg.chunked.layer import LocalLayer
from daskimg.errors import ParameterError
from daskimg.operation import ALL_DTYPES, Array, Declaration, Operation
from daskimg.pipeline import Pipeline, Step
from daskimg.testing.cases import Case
from daskimg.testing.report import OperationReport

__all__: list[str] = []


def no_compute(graph: Any, keys: Any, **options: Any) -> Any:
    """Be a dask scheduler that raises: whatever is built under it is lazy, or the test fails."""
    raise AssertionError("something was computed while a graph was built")


def allowed_deviation(step: Step, image: Array, result_dtype: np.dtype[Any]) -> float:
    """Return by how much chunked and whole results may differ: the bound that the operation declares.

    For floats it is `8 * eps * sum|kernel| * max|image|`, the error of summing products in another order.
    """
    declaration = step.operation.declaration
    if result_dtype.kind != "f":
        levels = declaration.levels
        return levels if isinstance(levels, int) else levels(step.arguments, image.dtype)
    if declaration.gain is None:
        return 0.0
    largest = float(np.abs(image.astype(np.float64)).max(initial=0))
    # OpenCV sums in single precision wherever the image is not float64.
    eps = np.finfo(np.float64 if image.dtype == np.float64 else np.float32).eps
    return float(8 * eps * declaration.gain(step.arguments, image.dtype) * largest)


def deviation(result: Array, reference: Array) -> float:
    """Return the largest difference of two arrays of the same kind; infinite where their kinds differ."""
    if result.shape != reference.shape or result.dtype != reference.dtype:
        return math.inf
    if result.tobytes() == reference.tobytes():
        return 0.0
    difference = np.abs(result.astype(np.float64) - reference.astype(np.float64))
    same = (result == reference) | (np.isnan(result.astype(float)) & np.isnan(reference.astype(float)))
    return float(np.where(same, 0, np.nan_to_num(difference, nan=math.inf)).max(initial=0))


def assert_exact(case: Case, report: OperationReport | None = None) -> None:
    """Assert that a case's lazy result is the whole image's, within what the operation declares."""
    before = case.image.copy()
    with dask.config.set(scheduler=no_compute):
        lazy = case.step(case.lazy())
    reference = case.reference()
    assert deviation(case.reference(), reference) == 0, f"{case!r}: the same image twice gives different pixels"
    assert lazy.shape == reference.shape, f"{case!r}: lazy shape {lazy.shape}, whole {reference.shape}"
    assert lazy.dtype == reference.dtype, f"{case!r}: lazy dtype {lazy.dtype}, whole {reference.dtype}"
    layer = lazy.dask.layers[lazy.name]
    chunks = math.prod(lazy.numblocks)
    if isinstance(layer, LocalLayer):
        assert len(layer) <= 2 * chunks, f"{case!r}: {len(layer)} tasks for {chunks} chunks"
    result = case.result()
    assert case.image.tobytes() == before.tobytes(), f"{case!r}: the operation writes into the image that it gets"
    allowed = allowed_deviation(case.step, case.image, reference.dtype)
    found = deviation(result, reference)
    if report is not None:
        report.examples += 1
        name = case.image.dtype.name
        report.deviations[name] = max(report.deviations.get(name, 0.0), found)
    assert found <= allowed, f"{case!r}: deviates by {found:.3g}, allowed {allowed:.3g}"
    if allowed:
        whole = dataclasses.replace(case, chunks=tuple((size,) for size in case.image.shape[:2]), thin=False)
        found = deviation(result, whole.result())
        assert found <= allowed, f"{case!r}: another chunking differs by {found:.3g}, allowed {allowed:.3g}"


def assert_channels_apart(case: Case) -> None:
    """Assert that an operation on "each" channel treats each as if it were alone, save that alpha may be set aside."""
    step, image = case.step, case.image
    if step.operation.channels(step) != "each" or image.ndim == 2 or image.shape[2] == 1 or step.operation.images:
        return
    result = step(image)
    kind = step.operation.declaration.kind
    shape = image.shape if kind is None or kind.keeps_size else (*result.shape[:2], *image.shape[2:])
    assert result.shape == shape, f"{case!r}: the result has the shape {result.shape}; is it channels='convert'?"
    # OpenCV's loops over one and over several channels may round differently.
    allowed = allowed_deviation(step, image, result.dtype) + (result.dtype.kind in "iu")
    for channel in range(min(3, image.shape[2])):
        try:
            alone = step(np.ascontiguousarray(image[:, :, channel]))
        except ParameterError:  # a parameter has a number for each channel
            return
        found = deviation(result[:, :, channel], alone)
        assert found <= allowed, f"{case!r}: channel {channel} alone deviates by {found:.3g}; is it channels='joint'?"


def assert_keeps_bits(case: Case) -> None:
    """Assert that 64-bit integers are not read as 32-bit ones, as OpenCV does without a word."""
    image = case.image
    if image.dtype.kind not in "iu" or image.dtype.itemsize < 8 or case.step.operation.images:
        return
    high = np.random.default_rng(0).integers(1, 1 << 10, image.shape).astype(image.dtype) << image.dtype.type(32)
    first, second = case.step(image), case.step(image ^ high)
    assert deviation(first, second) > 0, f"{case!r}: only the low 32 bits of {image.dtype} count"


def assert_fuses(case: Case, before: Step) -> None:
    """Assert that calling steps one after another gives the very graph of the pipeline."""
    image = case.lazy()
    piped = (before | case.step)(image)
    called = case.step(before(image))
    assert called.name == piped.name
    if case.step.operation.declaration.kind is None and isinstance(called.dask.layers[called.name], LocalLayer):
        assert before(image).name not in called.dask.layers


def assert_stacks(case: Case) -> None:
    """Assert that a labelled stack is worked on plane by plane: ten bands last, and t, c, z, y, x."""
    import xarray

    step, image = case.step, case.image
    if image.ndim == 3 or step.operation.images:
        return
    planes = np.stack([np.roll(image, shift, axis=1) for shift in range(12)])
    if step.operation.channels(step) == "each":
        expected = np.stack([step(plane) for plane in planes])
        five = xarray.DataArray(
            da.from_array(planes.reshape(2, 3, 2, *image.shape), chunks=(1, 2, 1, *case.chunks)), dims=list("tczyx")
        )
        result = step(five)
        assert result.dims == five.dims
        _same(result.values, expected.reshape(2, 3, 2, *expected.shape[1:]), case)
        bands = xarray.DataArray(
            da.from_array(np.moveaxis(planes[:10], 0, -1), chunks=(*case.chunks, 4)), dims=("y", "x", "band")
        )
        _same(step(bands).values, np.moveaxis(expected[:10], 0, -1), case)


def assert_colors_bind(case: Case) -> None:
    """Assert that an operation which mixes colors finds its channel axis wherever it stands."""
    import xarray

    step, image = case.step, case.image
    if image.ndim != 3 or step.operation.channels(step) == "each" or step.operation.images:
        return
    chunks = (1, *case.chunks)  # even a chunked channel axis is right
    labelled = xarray.DataArray(da.from_array(np.moveaxis(image, -1, 0), chunks=chunks), dims=("c", "y", "x"))
    expected, result = step(image), step(labelled)
    _same(result.transpose("y", "x", ...).values, expected, case)


def _same(result: Array, expected: Array, case: Case) -> None:
    found = deviation(result, expected)
    allowed = allowed_deviation(case.step, case.image, expected.dtype)
    assert found <= allowed, f"{case!r}, as a labelled stack: deviates by {found:.3g}, allowed {allowed:.3g}"


def assert_forms_round_trip(step: Step) -> None:
    """Assert that the text, JSON and Python forms of a step come back as the same pipeline."""
    import daskimg

    pipeline = Pipeline(step)
    assert Pipeline.from_text(pipeline.to_text()) == pipeline
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    assert eval(pipeline.to_python(), {"di": daskimg}) == pipeline


def _pass(image: Any) -> Any:
    return image.copy()


_pass.__name__ = "unchanged"
UNCHANGED = Step(Operation(_pass, Declaration(dtypes="bool int8 int32 int64 uint32 uint64 float16 " + ALL_DTYPES)), ())
