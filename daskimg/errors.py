"""The tree of errors that users see.

Every error that daskimg raises on purpose is a `DaskimgError`. Each also derives from the builtin that fits, so
`except ValueError` keeps working. A message says what was given, what is allowed and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArrayError",
    "DaskimgError",
    "DtypeError",
    "EnvironmentProblem",
    "ImageFileError",
    "ImageTooLargeError",
    "OperationError",
    "ParameterError",
    "PipelineSyntaxError",
    "UnavailableError",
    "UnknownNameError",
    "suggest",
]


class DaskimgError(Exception):
    """Is the root of every error that daskimg raises on purpose."""


class ParameterError(DaskimgError, ValueError):
    """Says that a parameter's value is outside what the operation or function allows."""


class UnknownNameError(DaskimgError, LookupError):
    """Says that no operation, parameter, format or kind has this name, and which name may be meant."""


class PipelineSyntaxError(DaskimgError, ValueError):
    """Says where the text or JSON of a pipeline does not parse and what was expected there.

    Attributes
    ----------
    position : int
        Offset of the offending character in the text, from 0.
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position

    def __reduce__(self) -> tuple[type[PipelineSyntaxError], tuple[str, int]]:
        return type(self), (str(self), self.position)


class ArrayError(DaskimgError, ValueError):
    """Says that an array's shape, axes or chunks don't fit an operation."""


class DtypeError(DaskimgError, TypeError):
    """Says that an operation lacks a data type, and which it has."""


class OperationError(DaskimgError, RuntimeError):
    """Says that OpenCV refused a call, in the operation's own terms, or that an operation broke its own declaration."""


class ImageFileError(DaskimgError, OSError):
    """Says that a file could not be read or written as an image, and why."""


class ImageTooLargeError(ImageFileError):
    """Says that an image declares more pixels than the limit, before any memory is taken for it."""


class UnavailableError(ImageFileError):
    """Says that a server or a disk did not do now what it may do later: it is busy, or the connection broke."""


class EnvironmentProblem(DaskimgError, RuntimeError):
    """Says that the installation or the configuration stands in the way, and how to mend it."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the known name nearest to `name`, or an empty string.

    >>> suggest("gausian_blur", ["gaussian_blur", "median_blur"])
    " Did you mean 'gaussian_blur'?"
    """
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
