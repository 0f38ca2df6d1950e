"""Pixels without data: what becomes of them in each step, and what they leave alone.

An image that has such pixels passes through a pipeline together with its validity, as one array whose entries hold a
`value` and whether it is `valid`. So it stays known which pixels are valid where a result happens to equal nodata, and
the engine that cuts images into chunks needs to know nothing of it: `masked` turns a step on values into one on both.

A rule says what a step gives, `(masked) -> (result, valid)`. Where all pixels within its reach are valid, each gives
OpenCV's own result, bit for bit. In a picture with channels a pixel is missing where all its colors are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeAlias

import cv2
import numpy as np

from daskimg.kinds import Geometric, TwoPass, Window
from daskimg.operation import Array, Declaration, Operation
from daskimg.operations.kernels import LANES, to_integers
from daskimg.operations.tone import as_type
from daskimg.pipeline import MeasuredStep, Step

__all__: list[str] = []

Size: TypeAlias = tuple[int, int]

FAINT = 1e-6  # of a whole pixel's weight: less is the noise of sums


# Values together with their validity


# OpenCV takes two channels of these apart several times faster than NumPy copies a field.
_PLANES: Mapping[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}


def packed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the data type of values together with whether they are valid: 1 or 0, in as many bytes."""
    return np.dtype([("value", dtype), ("valid", f"u{dtype.itemsize}")])


def join(values: Array, valid: Any) -> Array:
    """Return values together with their validity, which may lack the channels."""
    valid = valid[:, :, np.newaxis] if np.ndim(valid) == 2 and values.ndim == 3 else valid
    both = np.empty(values.shape, packed_dtype(values.dtype.newbyteorder("=")))
    if values.ndim == 2 and values.size and values.flags.c_contiguous and values.dtype.isnative:
        flags = np.broadcast_to(valid, values.shape).astype(both.dtype["valid"])
        plane = _PLANES[values.itemsize]
        cv2.merge([values.view(plane), flags.view(plane)], both.view(plane).reshape(*values.shape, 2))
        return both
    both["value"] = values
    both["valid"] = valid
    return both


def apart(both: Array) -> tuple[Array, Array]:
    """Return values and their validity, each by itself."""
    plane = _PLANES[both.dtype["value"].itemsize]
    if both.ndim == 2 and both.size and both.strides[1] == both.itemsize:
        values, flags = cv2.split(both.view(plane).reshape(*both.shape, 2))
        unsigned = flags.view(both.dtype["valid"])
        return values.view(both.dtype["value"]), unsigned.view(bool) if unsigned.itemsize == 1 else unsigned != 0
    return np.ascontiguousarray(both["value"]), both["valid"] != 0


def differs(values: Array, nodata: float) -> Array:
    """Return where values are not nodata, which may be NaN."""
    return ~np.isnan(values) if math.isnan(nodata) else values != values.dtype.type(nodata)


def filled(both: Array, nodata: float | None) -> Array:
    """Return the values, with nodata (if there is such a value) where they are not valid."""
    values, valid = apart(both)
    if nodata is not None and not valid.all():
        values[~valid] = nodata
    return values


class Inner(Operation[Any]):
    """Is an operation that pipelines use themselves: it has no name of its own, and takes what it is given."""

    is_installed = True

    def check(self, step: Step, dtype: np.dtype[Any], channels: int) -> None:
        """Take any type: what is given has been checked."""

    def sample(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a few pixels, all valid."""
        values = super().sample(shape, dtype["value"] if dtype.names else dtype)
        return join(values, True) if dtype.names else values


def _pack(image: Array, *, nodata: float) -> Array:
    return join(image, differs(image, nodata))


def _unpack(image: Array, *, nodata: float | None) -> Array:
    return filled(image, nodata)


pack = Inner(_pack, Declaration(channels="convert"), "pack")
unpack = Inner(_unpack, Declaration(channels="convert"), "unpack")


# Rules


@dataclass(frozen=True)
class Masked:
    """Is what a rule gets: an image whose missing pixels are 0, which are `valid`, and how the operation runs.

    Attributes
    ----------
    image : ndarray
        `(rows, columns)` or with 2 to 4 channels.
    valid : ndarray of bool
        `(rows, columns)`.
    p : object
        The step's parameters, as attributes.
    reach : tuple of int
        How far away a pixel can matter, in rows and columns.
    run : callable
        Applies the operation to an image of the same rows and columns, and gives what it gives without any mask.
    """

    image: Array
    valid: Array
    p: Any
    reach: Size
    run: Callable[[Array], Array]

    @functools.cached_property
    def complete(self) -> Array:
        """Where all pixels within reach are valid."""
        rows, columns = self.reach
        size = 2 * columns + 1, 2 * rows + 1
        missing = (~self.valid).astype(np.uint8)
        beyond = cv2.BORDER_CONSTANT  # what a border rule repeats lies within reach anyway
        return cv2.boxFilter(missing, cv2.CV_32F, size, normalize=False, borderType=beyond) < 0.5

    def with_missing(self, value: float) -> Array:
        """Return the image with a value in place of missing pixels."""
        return put(self.image, ~self.valid, value)

    def extreme(self, name: str) -> float:
        """Return the "lowest" or "highest" value of the image's type."""
        if self.image.dtype.kind == "f":
            return -math.inf if name == "lowest" else math.inf
        limits = np.iinfo(self.image.dtype)
        return limits.min if name == "lowest" else limits.max


Rule: TypeAlias = Callable[[Masked], tuple[Array, Array]]


def put(image: Array, where: Array, value: float) -> Array:
    """Return a copy of an image with a value at some pixels, in all channels."""
    result = image.copy()
    result[where] = value
    return result


def point(masked: Masked) -> tuple[Array, Array]:
    """Leave missing pixels out: what is missing does not matter to others."""
    return masked.run(masked.image), masked.valid


def lowest(masked: Masked) -> tuple[Array, Array]:
    """Put the lowest value in place of missing pixels, which therefore never are a maximum."""
    return masked.run(masked.with_missing(masked.extreme("lowest"))), masked.valid


def highest(masked: Masked) -> tuple[Array, Array]:
    """Put the highest value in place of missing pixels, which therefore never are a minimum."""
    return masked.run(masked.with_missing(masked.extreme("highest"))), masked.valid


def spread(masked: Masked) -> tuple[Array, Array]:
    """Leave out all that missing pixels could reach: a derivative beside them would be that of their outline."""
    return masked.run(masked.image), masked.complete


def mean_of_valid(masked: Masked, smooth: Callable[[Array], Array], total: float = 1.0) -> tuple[Array, Array]:
    """Return `smooth(image * valid) / smooth(valid)` in double precision, and where there is any weight.

    `total` is what `smooth` makes of ones, and what lies beyond the border counts as it does without a mask.
    """
    valid = masked.valid.astype(np.float64)
    weights = smooth(valid)
    full = smooth(np.ones_like(valid)) / total
    full[np.abs(full - 1) < 1e-9] = 1
    known = weights > 1e-9 * total  # Fourier transforms leave noise
    factor = np.divide(full, weights, out=np.zeros_like(full), where=known)
    sums = smooth(masked.image.astype(np.float64)).reshape(masked.image.shape)
    return sums * (factor[:, :, np.newaxis] if sums.ndim == 3 else factor), known


@dataclass(frozen=True)
class Weigh:
    """Divides the weighted sum over a neighbourhood by the weight of its valid pixels: `smooth(x * v) / smooth(v)`.

    Computed in double precision and rounded half to even.

    Attributes
    ----------
    smooth : callable
        `(float64 image, parameters, data type of the original) -> float64 image`: the linear operation; without it
        the operation itself.
    total : callable
        `(parameters, data type) -> number`: what it makes of ones, where that is not 1.
    """

    smooth: Callable[[Array, Any, np.dtype[Any]], Array] | None = None
    total: Callable[[Any, np.dtype[Any]], float] | None = None

    def mean(self, masked: Masked) -> tuple[Array, Array]:
        """Return the mean of valid pixels as float64, and where there are any."""
        p, dtype, own = masked.p, masked.image.dtype, self.smooth
        smooth = masked.run if own is None else lambda image: own(image, p, dtype)
        return mean_of_valid(masked, smooth, 1.0 if self.total is None else self.total(p, dtype))

    def __call__(self, masked: Masked) -> tuple[Array, Array]:
        """Return the result and where it is valid."""
        result = masked.run(masked.image)
        beside = masked.valid & ~masked.complete
        if not beside.any():
            return result, masked.valid
        mean, known = self.mean(masked)
        found = mean[beside]
        result[beside] = found if result.dtype.kind == "f" else to_integers(found, result.dtype)
        return result, masked.valid & (known | ~beside)


MOST_GATHERED = 1 << 22  # values of neighbourhoods that are sorted at once


def median_beside(image: Array, valid: Array, beside: Array, ksize: int) -> Array:
    """Return the medians of the valid pixels of squares around those `beside`; beyond the image its edge repeats."""
    rows, columns = np.nonzero(beside)
    half = ksize // 2
    top, left = max(0, rows.min() - half), max(0, columns.min() - half)
    part = np.s_[top : rows.max() + half + 1, left : columns.max() + half + 1]
    image, valid, beside = image[part], valid[part], beside[part]
    if ksize > 5:
        return _median_by_levels(image, valid, ksize)[beside]
    square = (ksize, ksize)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, half, mode="edge"), square)
    masks = np.lib.stride_tricks.sliding_window_view(np.pad(valid, half, mode="edge"), square)
    rows, columns = rows - top, columns - left
    result = np.empty(len(rows), np.float64)
    for first in range(0, len(rows), MOST_GATHERED // ksize**2):
        at = np.s_[first : first + MOST_GATHERED // ksize**2]
        values = windows[rows[at], columns[at]].reshape(-1, ksize * ksize).astype(np.float64)
        seen = masks[rows[at], columns[at]].reshape(values.shape)
        count = seen.sum(axis=1, keepdims=True)
        unknown = (seen & np.isnan(values)).any(axis=1)
        ordered = np.sort(np.where(seen, values, np.inf), axis=1)
        middle = [np.take_along_axis(ordered, number, axis=1)[:, 0] for number in ((count - 1) // 2, count // 2)]
        result[at] = np.where(unknown, np.nan, middle[0] / 2 + middle[1] / 2)
    return result.astype(image.dtype) if image.dtype.kind == "f" else to_integers(result, image.dtype)


def _median_by_levels(image: Array, valid: Array, ksize: int) -> Array:
    """Return the medians of the valid pixels of squares: one box sum for each gray level, whatever the size."""

    def count(pixels: Array) -> Array:
        size = (ksize, ksize)
        border = cv2.BORDER_REPLICATE
        return cv2.boxFilter(pixels.astype(np.uint8), cv2.CV_32F, size, normalize=False, borderType=border)

    total = count(valid)
    lower, upper = np.zeros(image.shape), np.zeros(image.shape)
    for level in np.unique(image[valid])[::-1]:
        # A middle one is the highest level that has no more pixels below it than the middle one has before it.
        below = total - count(valid & (image >= level))
        for middle, before in ((lower, (total - 1) // 2), (upper, total // 2)):
            np.putmask(middle, (middle == 0) & (below <= before), float(level) + 1)
    return to_integers((lower + upper) / 2 - 1, image.dtype)


RULES: Mapping[str, Rule] = {
    "point": point,
    "weigh": Weigh(),
    "lowest": lowest,
    "highest": highest,
    "spread": spread,
    "background": point,
}


def rule_name(operation: Operation[Any]) -> str:
    """Return the name of the rule that an operation declares, or "own" where it has its own."""
    declared = operation.declaration
    if declared.missing is not None:
        return declared.missing if isinstance(declared.missing, str) else "own"
    if declared.kind is None:
        return "spread" if declared.reach else "point"
    if isinstance(declared.kind, Geometric):
        return "weigh"
    return "point" if isinstance(declared.kind, TwoPass) and not declared.kind.positional else "refuse"


def rule_in_words(operation: Operation[Any]) -> str:
    """Return what becomes of missing pixels in an operation, as a sentence for its documentation."""
    name, declared = rule_name(operation), operation.declaration.missing
    if name == "refuse":
        return "Images with missing pixels are refused."
    if name == "background":
        return "Take missing pixels for 0; they stay missing."
    rule = declared if callable(declared) else RULES[name]
    return (rule.__doc__ or "").split("\n\n")[0].replace("\n    ", " ")


def keeps_validity(operation: Operation[Any]) -> bool:
    """Return whether the very pixels that are valid before are valid after it."""
    rule = operation.declaration.missing
    if operation.declaration.kind is not None and not operation.declaration.kind.keeps_size:
        return False
    return rule_name(operation) in ("point", "weigh", "lowest", "highest", "background") or isinstance(rule, Weigh)


# Steps on values and validity


class MaskedOperation(Inner):
    """Is an operation on values together with their validity."""

    def __init__(self, original: Operation[Any]) -> None:
        declared = original.declaration
        if isinstance(declared.kind, TwoPass):
            declared = replace(declared, kind=_of_valid_pixels(original, declared.kind))
        super().__init__(original.function, declared, original.name)
        self.original = original
        name = rule_name(original)
        self.rule: Rule = declared.missing if callable(declared.missing) else RULES[name]
        self.adds = name in ("weigh", "own")

    def reach(self, step: Step, dtype: np.dtype[Any]) -> Size:
        """Return the operation's reach."""
        return self.original.reach(step, dtype["value"])

    def lanes(self, step: Step, dtype: np.dtype[Any]) -> int:
        """Return the operation's alignment, and that of sums in double precision."""
        lanes = self.original.lanes(step, dtype["value"])
        return math.lcm(lanes, LANES) if self.adds and self.declaration.reach else lanes

    def check(self, step: Step, dtype: np.dtype[Any], channels: int) -> None:
        """Raise what the operation would raise on the values."""
        self.original.check(step, dtype["value"], channels)

    def colors(self, image: Array) -> Array:
        """Return the image as it is: the operation itself picks its colors."""
        return image

    def run(self, image: Array, step: Step, where: Window, images: tuple[Array, ...] = ()) -> Array:
        """Apply a step by its rule."""
        if image.size == 0:
            return self._run_on_nothing(image, step, images)
        if image.ndim == 3 and image.shape[2] == 1 and self.declaration.channels != "convert":
            return self.run(image[:, :, 0], step, where, images)[:, :, np.newaxis]
        values, valid = pixels(image)
        plain = _plain(step, self.original, images)
        seconds = tuple(_values(one) for one in images) if plain.images else ()

        def run(image: Array) -> Array:
            return self.original.run(image, plain, where, seconds)

        if valid.all():
            return join(run(values), valid)
        masked = Masked(put(values, ~valid, 0), valid, step.arguments, self.reach(step, image.dtype), run)
        result, valid = self.rule(masked)
        if result.shape == values.shape:  # what is not known stays as it was
            result[~valid] = as_type(values[~valid], result.dtype)
        return join(result, valid)

    def carry_out(self, image: Array, step: Step, call: Callable[[Array], Array]) -> Array:
        """Return what a geometric step gives: pixels are mixed by the weight of valid ones, and none lie outside."""
        values, valid = pixels(image)
        plain = Step(self.original, step.items)

        def move(image: Array) -> Array:
            return self.original.carry_out(image, plain, call)

        # Where some weights are negative, few valid pixels would make large numbers of small ones.
        least = 0.5 if getattr(step.arguments, "interpolation", None) in ("cubic", "lanczos") else FAINT
        full = move(np.ones(valid.shape, np.float64))
        if valid.all():
            return join(move(values), full > least)
        values = put(values, ~valid, 0)
        weights, result = move(valid.astype(np.float64)), move(values)
        known = weights > least
        beside = known & (np.abs(full - weights) > FAINT)
        if beside.any():
            sums = move(values.astype(np.float64))[beside]
            factor = full[beside] / weights[beside]
            found = sums * (factor[:, np.newaxis] if sums.ndim == 2 else factor)
            result[beside] = found if result.dtype.kind == "f" else to_integers(found, result.dtype)
        return join(result, known)

    def __reduce__(self) -> Any:
        return masked_operation, (self.original,)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("masked", *self.original.__dask_tokenize__())


def pixels(image: Array) -> tuple[Array, Array]:
    """Return the values, and which pixels of the picture are valid: those with any valid color; alpha is none."""
    values, valid = apart(image)
    return values, valid if valid.ndim == 2 else np.logical_or.reduce(valid[:, :, :3], axis=2)


def count_valid(count: Callable[[Array, Window], Array], both: Array, where: Window) -> Array:
    """Return the counts of the valid pixels, given as an image of one column."""
    values, valid = pixels(both)
    if not valid.any():
        return np.zeros_like(count(np.ascontiguousarray(values[:1, :1]), where))
    return count(np.ascontiguousarray(values[valid][:, np.newaxis]), where)


def _values(image: Any) -> Any:
    """Return a second image, of which a step may be tried out on a sample with validity."""
    return image["value"] if isinstance(image, np.ndarray) and image.dtype.names == ("value", "valid") else image


def _plain(step: Step, original: Operation[Any], images: tuple[Any, ...]) -> Step:
    """Return the step on values alone; without what was measured, where there was nothing to measure."""
    plain = Step(original, step.items)
    if isinstance(step, MeasuredStep) and not any(map(_is_nothing, images)):
        return MeasuredStep(plain, step.measured)
    return plain


@functools.lru_cache(maxsize=256)
def masked_operation(original: Operation[Any]) -> MaskedOperation:
    """Return an operation on values together with their validity."""
    return MaskedOperation(original)


def masked(step: Step) -> Step:
    """Return the step on values together with their validity."""
    return Step(masked_operation(step.operation), step.items)


# Two passes


NOTHING = np.empty(0, np.dtype("V1"))  # what is measured where no pixel is valid


def _is_nothing(measured: Any) -> bool:
    return isinstance(measured, np.ndarray) and measured.dtype == NOTHING.dtype


def _of_valid_pixels(original: Operation[Any], kind: TwoPass) -> TwoPass:
    """Return a kind that measures valid pixels only, given as an image of one column.

    Where it matters where they lie, `measure` gets the block, and as a further parameter which pixels are `valid`.
    """
    part = functools.partial
    return replace(
        kind,
        measure=part(_measure, original, kind),
        combine=part(_combine, kind),
        finish=part(_finish, kind),
    )


def _measure(original: Operation[Any], kind: TwoPass, image: Array, p: Any, where: Window) -> Any:
    if image.dtype.names is None:  # a second image
        return kind.measure(original.colors(image), p, where)
    values, valid = pixels(image)
    if not valid.any():
        return None
    colors = original.colors(values)
    if kind.positional:
        return kind.measure(put(colors, ~valid, 0), SimpleNamespace(**vars(p), valid=valid), where)
    return kind.measure(np.ascontiguousarray(colors[valid][:, np.newaxis]), p, where)


def _combine(kind: TwoPass, first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    return kind.combine(first, second)


def _finish(kind: TwoPass, statistics: Any, p: Any) -> Any:
    return NOTHING if statistics is None else kind.measured(statistics, p)
