"""`@operation`: one short function on one image becomes a step, a lazy form, a command, a schema and a help page.

    @operation(reach=lambda p, dtype: p.ksize // 2, dtypes="uint8 uint16 float32")
    def gaussian_blur(image, *, ksize: Annotated[int, Odd(1, 99), Unit("px")] = 5):
        '''Smooth with a Gaussian kernel.'''
        return cv2.GaussianBlur(image, (ksize, ksize), 0)

The function gets one native, two-dimensional image, or one with channels last, and returns a new one. It never writes
into what it gets.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
import threading
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeAlias, TypeVar, overload

import cv2
import numpy as np
from dask.utils import Dispatch

from daskimg import registry
from daskimg.errors import ArrayError, DtypeError, OperationError, ParameterError, UnknownNameError, suggest
from daskimg.kinds import ANYWHERE, Array, Kind, TwoPass, Window
from daskimg.parameters import BoundImage, ImageOutline, Parameter, documented_parameters, parameter_from
from daskimg.pipeline import MeasuredStep, Step, apply
from daskimg.syntax import Word, read_word

__all__ = ["ANYWHERE", "Array", "Operation", "Window", "operation"]

P = ParamSpec("P")
A = TypeVar("A")
Reach: TypeAlias = "int | tuple[int, int]"
Channels = Literal["each", "joint", "convert"]
Missing = Literal["point", "weigh", "lowest", "highest", "spread", "background", "refuse"]

_SIMPLE = (int, float, bool, str, type(None))  # parameters that are equal only if they are the same
_MOST_STEPS = 256

ALL_DTYPES = "uint8 uint16 int16 float32 float64"


@dataclass(frozen=True)
class Declaration:
    """Holds what an author declares of an operation, beside its function. See `operation`."""

    kind: Kind | None = None
    reach: Callable[[Any, np.dtype[Any]], Reach] | None = None
    dtypes: str | Callable[[Any], str] = ALL_DTYPES
    channels: Channels | Callable[[Any], Channels] = "each"
    accepts: tuple[int, ...] = (1, 2, 3, 4)
    alpha: Literal["filter", "keep"] = "filter"
    gain: Callable[[Any, np.dtype[Any]], float] | None = None
    levels: Callable[[Any, np.dtype[Any]], int] | int = 0
    lanes: Callable[[Any, np.dtype[Any]], int] | int = 1
    missing: Missing | Callable[..., Any] | None = None
    version: int = 1


class Operation(Generic[P]):
    """Is a registered operation: call it with an image to apply it, without one to get a `Step`.

    Attributes
    ----------
    name, topic, summary : str
        Its name, the module that it lives in, and the first sentence of its help.
    parameters : mapping of str to Parameter
        Its parameters, derived from the function's signature.
    """

    def __init__(self, function: Callable[..., Array], declaration: Declaration, name: str | None = None) -> None:
        self.function = function
        self.declaration = declaration
        self.name = name or function.__name__
        self.__name__ = self.name
        self.__module__ = function.__module__
        self.__qualname__ = self.name
        self.__doc__ = inspect.getdoc(function) or ""
        self.__wrapped__ = function
        self.topic = function.__module__.rpartition(".")[2]
        self.summary = self.__doc__.split("\n\n")[0].replace("\n", " ")
        hints = typing.get_type_hints(function, include_extras=True)
        texts = documented_parameters(self.__doc__)
        if not inspect.signature(function).parameters:
            raise TypeError(f"{self.name} must take an image as its first argument")
        image, *others = inspect.signature(function).parameters.values()
        self.takes_window = any(one.name == "where" for one in others)
        others = [one for one in others if one.name != "where"]
        for one in others:
            if one.kind is not inspect.Parameter.KEYWORD_ONLY:
                raise TypeError(f"{self.name}: parameter {one.name!r} must be keyword-only: write `*` after `image`")
            if one.name not in hints:
                raise TypeError(f"{self.name}: parameter {one.name!r} needs an annotation, such as `: int`")
        self.parameters: Mapping[str, Parameter] = {
            one.name: parameter_from(
                one.name,
                hints[one.name],
                Parameter.required if one.default is inspect.Parameter.empty else one.default,
                texts.get(one.name, ""),
            )
            for one in others
        }
        marked = {name: parameter.image for name, parameter in self.parameters.items() if parameter.image}
        self.images = tuple(marked)
        self.is_aligned = any(image.aligned for image in marked.values())
        if self.is_aligned and (
            declaration.reach or self.takes_window or not all(image.aligned for image in marked.values())
        ):
            raise TypeError(f"{self.name}: beside an aligned image there can be no reach, no `where`, no other images")
        kind = declaration.kind
        if kind and (self.takes_window or (self.images and not kind.takes_images)):
            raise TypeError(f"{self.name}: an operation of this kind takes no second images and no `where`")
        plain = typing.get_type_hints(function)
        self.__signature__ = inspect.Signature(
            [
                image.replace(default=None, annotation=inspect.Parameter.empty),
                *(one.replace(annotation=plain[one.name]) for one in others),
            ]
        )
        self._declared_dtypes: dict[str, frozenset[str]] = {}
        self._steps: dict[Any, Step] = {}
        self._sent = b""  # as what it came here from another process

    def changed(self, **declared: Any) -> Operation[P]:
        """Return an unregistered twin with other declarations, as tests of a declaration need it."""
        return Operation(self.function, replace(self.declaration, **declared), self.name)

    # Calling

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Step: ...

    @overload
    def __call__(self, image: A, /, *args: P.args, **kwargs: P.kwargs) -> A: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # P is keyword-only, checked above
        """Apply to an image, or return a `Step` where no image is given."""
        if len(args) > 1:
            raise TypeError(f"{self.name} takes its parameters by name: {self.name}(image, {self._example()})")
        if args:
            return apply(args[0], (self.step(kwargs),))
        if "image" in kwargs:
            return apply(kwargs.pop("image"), (self.step(kwargs),))
        return self.step(kwargs)

    def _example(self) -> str:
        return next((f"{name}=..." for name in self.parameters), "")

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # As functions do: bound in a class body; and `help()` shows the signature as it does for a function.
        return self if instance is None else functools.partial(self, instance)

    def step(self, arguments: Mapping[str, Any]) -> Step:
        """Return the step with these parameters, checked, and the defaults of the others.

        Raises
        ------
        UnknownNameError, ParameterError
            If a parameter does not exist, is missing, or its value is not allowed.
        """
        # Small photos are processed in less time than their parameters are checked in.
        key = tuple([(name, type(value), value) for name, value in arguments.items()])
        try:
            return self._steps[key]
        except (KeyError, TypeError):
            step = Step(self, self._checked(arguments))
        if all(kind in _SIMPLE for _, kind, _ in key):
            if len(self._steps) >= _MOST_STEPS:
                self._steps.clear()
            self._steps[key] = step
        return step

    def _checked(self, arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        items = []
        found = 0
        for name, parameter in self.parameters.items():
            if name in arguments:
                found += 1
                items.append((name, parameter.validate(arguments[name], self.name)))
            elif parameter.default is Parameter.required:
                raise ParameterError(f"{self.name} needs {name}: {parameter.describe()}")
            else:
                items.append((name, parameter.default))
        if found < len(arguments):
            unknown = next(name for name in arguments if name not in self.parameters)
            known = " ".join(self.parameters) or "none"
            raise UnknownNameError(
                f"{self.name} has no parameter {unknown!r}.{suggest(unknown, self.parameters)} It has: {known}"
            )
        return tuple(items)

    def read_words(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments of the text form with bare words read as numbers where the parameter is no text."""
        read = {}
        for name, value in arguments.items():
            parameter = self.parameters.get(name)
            as_text = parameter is not None and parameter.kind in ("string", "choice", "image")
            if isinstance(value, Word):
                nothing = parameter is not None and parameter.nullable and read_word(value) is None
                value = None if nothing else str(value) if as_text else read_word(value)
            read[name] = value
        return read

    # What is declared

    @functools.cached_property
    def is_own(self) -> bool:
        """Whether the operation comes with daskimg."""
        return self.__module__.partition(".")[0] == "daskimg"

    def reach(self, step: Step, dtype: np.dtype[Any]) -> tuple[int, int]:
        """Return how many rows and columns away a pixel of the input can still matter."""
        if self.declaration.reach is None:
            return 0, 0
        reach = self.declaration.reach(step.arguments, dtype)
        return reach if isinstance(reach, tuple) else (reach, reach)

    def lanes(self, step: Step, dtype: np.dtype[Any]) -> int:
        """Return to which multiple of columns OpenCV's windows must be aligned for its very roundings."""
        lanes = self.declaration.lanes
        return lanes if isinstance(lanes, int) else lanes(step.arguments, dtype)

    def channels(self, step: Step) -> Channels:
        """Return whether the step works on each channel, on all together, or changes their number."""
        channels = self.declaration.channels
        return channels if isinstance(channels, str) else channels(step.arguments)

    def allowed_dtypes(self, step: Step) -> frozenset[str]:
        """Return the names of the data types that the step takes."""
        dtypes = self.declaration.dtypes
        text = dtypes if isinstance(dtypes, str) else dtypes(step.arguments)
        if text not in self._declared_dtypes:
            self._declared_dtypes[text] = frozenset(text.split())
        return self._declared_dtypes[text]

    def check(self, step: Step, dtype: np.dtype[Any], channels: int) -> None:
        """Raise where OpenCV could not take the data type or number of channels, before anything is computed.

        Raises
        ------
        DtypeError, ArrayError
            Naming what the operation takes and what to do.
        """
        if _name(dtype) not in self.allowed_dtypes(step):
            allowed = self.allowed_dtypes(step)
            names = " ".join(sorted(allowed, key=lambda name: f"{ALL_DTYPES} {name}".index(name)))
            raise DtypeError(f"{step!r} takes {names}, not {dtype}; {_dtype_remedy(dtype, names)}")
        if channels not in self.declaration.accepts:
            takes = " or ".join(map(str, self.declaration.accepts))
            remedy = "put to_gray before it" if self.declaration.accepts == (1,) else "put to_rgb before it"
            raise ArrayError(f"{step!r} takes images of {takes} channels, not {channels}; {remedy}")

    def schema(self) -> dict[str, Any]:
        """Return the parameters as JSON schema, for forms and for validation by others."""
        required = [name for name, one in self.parameters.items() if one.default is Parameter.required]
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.summary,
            "type": "object",
            "properties": {name: parameter.schema() for name, parameter in self.parameters.items()},
            "required": required,
            "additionalProperties": False,
        }

    def sample(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a few pixels to try a step on."""
        return np.arange(np.prod(shape)).astype(dtype).reshape(shape)

    # Running

    def on_whole(self, image: Array, step: Step) -> Array:
        """Apply a step to a whole image in memory: OpenCV's own result."""
        image = as_image(image, self.name)
        channels = image.shape[2] if image.ndim == 3 else 1
        self.check(step, image.dtype, channels)
        images = tuple(map(_in_memory, step.images.values()))
        return self.run(image, step, Window(0, 0, image.shape[0], image.shape[1]), images)

    def run(self, image: Array, step: Step, where: Window, images: tuple[Array, ...] = ()) -> Array:
        """Apply a step to one native array that lies at `where` in the whole image; its kind is not checked any more.

        Raises
        ------
        OperationError
            If OpenCV refuses, or the function returns anything but an array of the same rows and columns.
        """
        if image.size == 0:
            return self._run_on_nothing(image, step, images)
        kind = self.declaration.kind
        if isinstance(step, MeasuredStep) and isinstance(kind, TwoPass):
            apply_kind, (measured,) = kind.apply, images

            def call(image: Array) -> Array:
                return apply_kind(image, measured, step.arguments, where)
        else:
            arguments = dict(step.items)
            if images:
                arguments.update(zip(step.images, images, strict=True))
            if self.takes_window:
                arguments["where"] = where
            call = functools.partial(self.function, **arguments)
        return self.carry_out(image, step, call)

    def carry_out(self, image: Array, step: Step, call: Callable[[Array], Array]) -> Array:
        """Return what `call`, which does a step, makes of what the step's function sees of an image.

        Raises
        ------
        OperationError
            As `run` does.
        """
        # A chunk may be needed by other tasks, so that not even by mistake anything is written into it.
        # Our own functions are tested not to.
        if not self.is_own:
            image = image.view()
            image.flags.writeable = False
        try:
            result = self._call(image, call)
        except cv2.error as error:
            raise OperationError(f"OpenCV refused {step!r} on {image.dtype} {image.shape}: {_reason(error)}") from error
        borrowed = (result is image or result.base is not None) and np.may_share_memory(result, image)
        return result.copy() if borrowed else result

    def colors(self, image: Array) -> Array:
        """Return what the function sees of an image: two axes where there is one channel, no alpha that it keeps."""
        if image.ndim == 3 and self.declaration.channels != "convert":
            if image.shape[2] == 1:
                return image[:, :, 0]
            if image.shape[2] == 4 and self.declaration.alpha == "keep":
                return np.ascontiguousarray(image[:, :, :3])
        return image

    def _call(self, image: Array, function: Callable[[Array], Array]) -> Array:
        result = self._returned(self.colors(image), function)
        if image.ndim == 3 and self.declaration.channels != "convert":
            if image.shape[2] == 1:
                return _as_three(result)
            if image.shape[2] == 4 and self.declaration.alpha == "keep":
                return np.dstack((result, _saturated(image[:, :, 3], result.dtype)))
        return result

    def _returned(self, image: Array, function: Callable[[Array], Array]) -> Array:
        result = function(image)
        resizes = self.declaration.kind is not None and not self.declaration.kind.keeps_size
        if (
            isinstance(result, np.ndarray)
            and result.ndim in (2, 3)
            and (resizes or result.shape[:2] == image.shape[:2])
        ):
            return result
        what = f"shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise OperationError(f"{self.name} must return an array with the rows and columns that it gets, not {what}")

    def _run_on_nothing(self, image: Array, step: Step, images: tuple[Array, ...]) -> Array:
        if self.declaration.kind is not None and not self.declaration.kind.keeps_size:
            raise ArrayError(f"{step!r} needs at least one pixel, and the image has the shape {image.shape}")
        sample = np.zeros((1, 1, *image.shape[2:]), image.dtype)
        if self.is_aligned:
            images = tuple(np.zeros((1, 1, *one.shape[2:]), one.dtype) for one in images)
        result = self.run(sample, step, Window(0, 0, 1, 1), images)
        return np.zeros((*image.shape[:2], *result.shape[2:]), result.dtype)

    # Travelling

    def __reduce__(self) -> Any:
        # What workers have installed is pickled by name, anything else (a notebook cell, a script) by value.
        module = sys.modules.get(self.__module__)
        if registry.is_installed(self.__module__) and getattr(module, self.name, None) is self:
            return self.__qualname__
        return _arrived, (self._pickled(), self.name)

    def _pickled(self) -> bytes:
        # Not kept: what the function calls may be defined anew in the next cell of a notebook.
        return self._sent or _by_value((self.function, self.declaration), self.__module__)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Operation) and self.__dask_tokenize__() == other.__dask_tokenize__())

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def is_installed(self) -> bool:
        """Whether it is daskimg's or a plug-in's, so that its name and version say what it does."""
        return registry.is_installed(self.__module__) and registry.find(self.name) is self

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.__module__, self.name, self.declaration.version, "" if self.is_installed else self._pickled())

    def __repr__(self) -> str:
        return f"<operation {self.name}{self.__signature__}>"


@overload
def operation(function: Callable[Concatenate[Any, P], Any], /) -> Operation[P]: ...


@overload
def operation(
    *,
    name: str | None = None,
    kind: Kind | None = None,
    reach: Callable[[Any, np.dtype[Any]], Reach] | None = None,
    dtypes: str | Callable[[Any], str] = ALL_DTYPES,
    channels: Channels | Callable[[Any], Channels] = "each",
    accepts: tuple[int, ...] = (1, 2, 3, 4),
    alpha: Literal["filter", "keep"] = "filter",
    gain: Callable[[Any, np.dtype[Any]], float] | None = None,
    levels: Callable[[Any, np.dtype[Any]], int] | int = 0,
    lanes: Callable[[Any, np.dtype[Any]], int] | int = 1,
    missing: Missing | Callable[..., Any] | None = None,
    version: int = 1,
) -> Callable[[Callable[Concatenate[Any, P], Any]], Operation[P]]: ...


def operation(function: Callable[..., Any] | None = None, /, *, name: str | None = None, **declared: Any) -> Any:
    """Register a function on one image as an operation.

    Parameters
    ----------
    function : callable
        Takes an array `(rows, columns)` or `(rows, columns, channels)` and keyword-only, annotated parameters;
        returns a new array with the same rows and columns. Its docstring is the operation's help.
    name : str
        Another name than the function's.
    kind : Kind
        How the pixels come from chunks where no reach makes them right (`daskimg.kinds`): None for local operations.
    reach : callable
        `(parameters, dtype) -> pixels`, or `-> (rows, columns)`: how far away a pixel can still matter.
        None for operations that look at one pixel only.
    dtypes : str or callable
        The data types that OpenCV takes here, as names separated by spaces; or `(parameters) -> names`.
    channels : {"each", "joint", "convert"} or callable
        Whether each channel is worked on by itself, all together, or the number of channels changes. Where parameters
        decide whether it is "each" or "joint": `(parameters) -> name`.
    accepts : tuple of int
        The numbers of channels that are accepted.
    alpha : {"filter", "keep"}
        Whether a fourth channel is treated as the others or set aside and put back unchanged.
    gain : callable
        `(parameters, dtype) -> sum of the kernel's absolute values`, where float results depend on the order of
        additions: they may deviate by `8 * eps * gain * max|image|`. None: floats are exact too.
    levels : int or callable
        By how many levels an integer result may deviate where OpenCV's own depends on where a pixel lies in memory.
    lanes : int or callable
        How many columns OpenCV's vector code takes at once, at most, where what is left over at a row's end is rounded
        otherwise: windows then begin at multiples of it and the ends of their rows are left out, so that results are
        the whole image's bit for bit. 64 serves every processor; it costs as many columns of reach.
    missing : {"point", "weigh", "lowest", "highest", "spread", "background", "refuse"} or callable
        What becomes of pixels without data, where an image has such: "point" leaves them out of the result; "weigh"
        divides the sum over a neighbourhood by the weight of its valid pixels; "lowest" and "highest" put what never
        is a maximum, or minimum, in their place; "spread" leaves out all that they could reach; "background" takes
        them for 0. Or `(masked) -> (result, valid)`, see `daskimg.operations.missing`. None: "point" without a reach,
        "spread" with one, "refuse" for a kind, save that a two-pass operation measures valid pixels only.
    version : int
        Raise it when the same parameters give other pixels than before: fingerprints include it.

    Raises
    ------
    TypeError
        If a parameter is not keyword-only or its annotation is unknown.
    ParameterError
        If another module's operation has the name.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> @di.operation
    ... def halve(image, *, offset: int = 0):
    ...     "Halve all values."
    ...     return image // 2 + np.asarray(offset, image.dtype)
    >>> halve(np.array([[8]], np.uint8), offset=1)
    array([[5]], dtype=uint8)
    >>> halve(offset=1) | di.invert()
    halve(offset=1) | invert()
    """

    def register(function: Callable[..., Any]) -> Operation[Any]:
        new: Operation[Any] = Operation(function, Declaration(**declared), name)
        registry.register(new)
        return new

    return register if function is None else register(function)


def as_image(image: Array, name: str) -> Array:
    """Return an array as operations take it: plain, native byte order, two or three axes.

    Raises
    ------
    ArrayError
        If the array is masked, empty of channels, or a stack whose axes are unclear.
    """
    if isinstance(image, np.ma.MaskedArray):
        raise ArrayError(f"{name}: OpenCV ignores masks; fill the masked pixels first: image.filled(0)")
    check_axes(image.shape)
    if not image.dtype.isnative:
        image = image.astype(image.dtype.newbyteorder("="))
    # cv2 takes rows that are apart in memory, but misreads columns that are not next to each other.
    if image.strides[-1] != image.itemsize or (image.ndim == 3 and image.strides[1] != image.itemsize * image.shape[2]):
        image = np.ascontiguousarray(image)
    return image


def check_axes(shape: tuple[int, ...]) -> None:
    """Raise `ArrayError` unless a shape is `(rows, columns)` or `(rows, columns, 1 to 4 channels)`."""
    if len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= 4):
        return
    raise ArrayError(
        f"an array of shape {shape} is ambiguous: images are (rows, columns) or (rows, columns, channels) with 1 to 4 "
        "channels last; name the axes of a stack: xarray.DataArray(image, dims=('band', 'y', 'x'))"
    )


def outcome(step: Step, dtype: np.dtype[Any], channels: int | None) -> tuple[np.dtype[Any], int | None]:
    """Return data type and channels (None: no such axis) of a step's result, by trying it on a few pixels.

    Raises
    ------
    DtypeError, ArrayError, OperationError
        What the step would raise on an image of this kind; so errors come when a graph is built, not on a worker.
    """
    kind = step.operation.declaration.kind
    if kind is not None and kind.keeps_type:
        step.operation.check(step, dtype, channels or 1)
        return dtype, channels
    if isinstance(step, MeasuredStep):
        step = Step(step.operation, step.items)
    # What is not installed may be defined anew at any time.
    try_out = _outcome_kept if step.operation.is_installed else _outcome
    return try_out(step.outlined(), dtype, channels)


def _outcome(step: Step, dtype: np.dtype[Any], channels: int | None) -> tuple[np.dtype[Any], int | None]:
    operation = step.operation
    operation.check(step, dtype, channels or 1)
    shape = (8, 8) if channels is None else (8, 8, channels)
    sample = operation.sample(shape, dtype)
    images = tuple(
        np.zeros((8, 8, *value.shape[2:]), value.dtype) if isinstance(value, ImageOutline) else sample
        for value in step.images.values()
    )
    result = operation.run(sample, step, Window(0, 0, 8, 8), images)
    return result.dtype, None if result.ndim == 2 else result.shape[2]


_outcome_kept = functools.lru_cache(maxsize=4096)(_outcome)


def _as_three(image: Array) -> Array:
    return image[:, :, np.newaxis] if image.ndim == 2 else image


def _saturated(values: Array, dtype: np.dtype[Any]) -> Array:
    if not np.can_cast(values.dtype, dtype) and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(dtype, copy=False)


second_image = Dispatch("second_image")
"""Returns the array that the value of an image parameter means. `io` adds how a URL is opened."""


second_image.register(BoundImage, lambda value: value.array)


def _in_memory(value: Any) -> Array:
    array = second_image(value)
    return np.asarray(array.compute() if hasattr(array, "compute") else array)


@functools.lru_cache
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name  # NumPy puts it together anew each time


def _dtype_remedy(dtype: np.dtype[Any], names: str) -> str:
    if dtype == bool:
        return 'turn a mask into an image with image.astype("uint8") * 255'
    to = "uint8" if "uint8" in names.split() else names.split()[0]
    if {dtype.name, to} <= set(ALL_DTYPES.split()):
        return f'put rescale(to="{to}") before it, or image.astype("{to}") where the values fit'
    return f'convert it first: image.astype("{"float32" if "float32" in names.split() else to}")'


def _reason(error: cv2.error) -> str:
    return str(getattr(error, "err", "") or error).strip().rstrip(".")


_pickling = threading.RLock()  # cloudpickle's list of modules belongs to the whole process


def _by_value(thing: Any, module_name: str) -> bytes:
    """Pickle functions with their code, so that they arrive where their module cannot be imported."""
    import cloudpickle

    package = module_name.partition(".")[0]  # with the author's other modules, which are not there either
    name = package if package in sys.modules and package != "daskimg" else module_name
    with _pickling:
        module = sys.modules.get(name)
        if module is None or name == "__main__" or name in cloudpickle.list_registry_pickle_by_value():
            return bytes(cloudpickle.dumps(thing))
        cloudpickle.register_pickle_by_value(module)
        try:
            return bytes(cloudpickle.dumps(thing))
        finally:
            cloudpickle.unregister_pickle_by_value(module)


@functools.lru_cache(maxsize=256)
def _arrived(pickled: bytes, name: str) -> Operation[Any]:
    """Make the operation again from what `__reduce__` sent."""
    function, declaration = pickle.loads(pickled)
    operation: Operation[Any] = Operation(function, declaration, name)
    operation._sent = pickled  # so that it equals the one that was sent
    return operation
