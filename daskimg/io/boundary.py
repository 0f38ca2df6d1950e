"""The one place where the errors of Pillow, cv2, tifffile and fsspec become daskimg's own."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn

from daskimg.errors import DaskimgError, EnvironmentProblem, ImageFileError, ImageTooLargeError, UnavailableError
from daskimg.io.formats import FORMATS
from daskimg.io.remote import trouble, without_secrets

__all__ = ["extra_missing", "translated"]


class translated:
    """Turns whatever a decoder, an encoder or a file system raises inside into an error of daskimg.

    A context manager; it is entered several times for each of many small files.

    Parameters
    ----------
    shown : str
        How messages call the file.
    doing : str
        What was going on: ``"read"`` or ``"written"``.

    Raises
    ------
    UnavailableError
        The same may work later: a server is busy, a connection broke.
    ImageFileError, ImageTooLargeError, EnvironmentProblem
        Anything else.
    """

    __slots__ = ("doing", "shown")

    def __init__(self, shown: str, doing: str) -> None:
        self.shown = shown
        self.doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Hostile bytes make decoders raise anything, from struct.error to RecursionError.
        if isinstance(error, Exception) and not isinstance(error, DaskimgError | MemoryError):
            _translate(error, self.shown, self.doing)


def _translate(error: Exception, shown: str, doing: str) -> NoReturn:
    if isinstance(error, ImportError):
        raise EnvironmentProblem(f"{shown} cannot be {doing} with what is installed: {error}.") from error
    text = " ".join(str(error).split())
    reason = without_secrets(text) or type(error).__name__
    cause = error if reason == text else None  # what a traceback shows may hold a signature
    if found := trouble(error):
        kind = UnavailableError if found.passing else ImageFileError
        raise kind(f"{shown} cannot be {doing}: {found.reason}.") from cause
    if isinstance(error, FileNotFoundError):
        raise ImageFileError(f"{shown}: there is no such file.") from cause
    if isinstance(error, PermissionError):
        raise ImageFileError(f"{shown} may not be {doing}: permission denied.") from cause
    if "CV_IO_MAX_IMAGE" in reason:
        raise ImageTooLargeError(
            f"{shown} passes OpenCV's own limit: {reason}. Set OPENCV_IO_MAX_IMAGE_PIXELS (and ..._WIDTH, "
            "..._HEIGHT) in the environment before Python starts."
        ) from error
    if "INSUFFICIENT_SPACE" in reason:  # of imagecodecs, which gives a decoder no more room than the image takes
        raise ImageTooLargeError(f"{shown} has a part that inflates beyond its size: {reason}") from error
    raise ImageFileError(f"{shown} cannot be {doing}: {reason}") from cause


def extra_missing(shown: str, name: str) -> EnvironmentProblem:
    """Return the error that says which extra brings a format."""
    return EnvironmentProblem(
        f"{shown} is {name.upper()}, which needs a decoder that is not installed: "
        f"pip install 'daskimg[{FORMATS[name].extra}]'"
    )
