"""Where each result goes, decided and checked before any work."""

from __future__ import annotations

import os
import sys
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from daskimg.batch.outputs import Output
from daskimg.batch.sources import Source, is_url
from daskimg.errors import ImageFileError, ParameterError
from daskimg.io.formats import FORMATS, format_named, streamed_by_name, suffix_of

__all__ = ["Job", "comparable", "make_folders", "names_file", "plan_targets"]


class Job(NamedTuple):
    """Is one image to do.

    `source` is where it is, `targets` where its results go, `shown` how messages call it. `version` tells this content
    from another at the same place: size and time, or entity tag; nothing if unknown. `replace` says that results which
    exist may be replaced.
    """

    source: str
    targets: tuple[str, ...]
    shown: str
    version: str = ""
    replace: bool = False


def names_file(to: str) -> bool:
    """Return whether `to` means one file rather than a folder: it ends like an image and is no folder."""
    if streamed_by_name(to) is not None:  # a Zarr is a folder, and yet one image
        return True
    known = any(suffix_of(to) in one.suffixes for one in FORMATS.values())
    return known and not to.endswith(("/", os.sep)) and not os.path.isdir(to)


def plan_targets(sources: Iterable[Source], to: str, outputs: Sequence[Output]) -> Iterator[Job]:
    """Yield the jobs: each source with its targets, which are as many as the outputs; none of them is kept.

    Raises
    ------
    ParameterError
        If one file is to hold several images, two outputs of an image share a target, a name is too long, or a format
        lacks an option of its output.
    UnknownNameError
        If the format is none that can be written.
    """
    if not to:
        raise ParameterError("say where the results go: a folder, or a file for a single image")
    place = to if is_url(to) else os.path.abspath(os.path.expanduser(to))
    if names_file(to):
        return _one_file(sources, to, place, outputs)
    return _in_folder(sources, place, outputs)


def _one_file(sources: Iterable[Source], to: str, place: str, outputs: Sequence[Output]) -> Iterator[Job]:
    if len(outputs) > 1:
        raise ParameterError(f"{to!r} names one file, but there are {len(outputs)} outputs; name a folder")
    (output,) = outputs
    wanted = format_named(None, to)
    if output.format is not None and format_named(output.format, "") is not wanted:
        raise ParameterError(f"format={output.format!r} contradicts the name {to!r}; leave one of them out")
    output.options.check(wanted)
    for number, source in enumerate(sources, 1):
        if number > 1:
            raise ParameterError(f"{to!r} names one file, but there are several images; name a folder")
        yield Job(source.url, (place,), source.shown, source.version)


def _in_folder(sources: Iterable[Source], place: str, outputs: Sequence[Output]) -> Iterator[Job]:
    base = f"{place.rstrip('/')}/" if is_url(place) else place.rstrip(os.sep) + os.sep
    local = not is_url(place)
    checked: set[tuple[int, str]] = set()
    for number, source in enumerate(sources, 1):
        targets: list[str] = []
        for position, output in enumerate(outputs, 1):
            target = base + output.name_of(source.below, number=number, output=position)
            if local:
                target = _inside(base, target)
            suffix = target[target.rfind(".") :]
            if (position, suffix) not in checked:
                output.options.check(format_named(None, target))
                checked.add((position, suffix))
            targets.append(target)
        if len(targets) > 1 and len({comparable(target) for target in targets}) < len(targets):
            raise ParameterError(
                f"outputs of {source.shown!r} would have one name ({', '.join(targets)}); tell them apart with name=, "
                "such as '{stem}-{output}', or with folder="
            )
        yield Job(source.url, tuple(targets), source.shown, source.version)


def _inside(base: str, target: str) -> str:
    plain = os.path.normpath(target)
    if not plain.startswith(base):
        raise ParameterError(f"the result {target!r} would leave the folder {base!r}; rename the image")
    return plain


def comparable(target: str) -> str:
    """Return a target so that two which are one file compare equal: Windows and macOS ignore case."""
    if is_url(target) or sys.platform not in ("win32", "darwin"):
        return target
    return unicodedata.normalize("NFC", target).casefold()


def make_folders(folders: Iterable[str]) -> str | None:
    """Make the local folders of targets and try to write in each; return the topmost.

    Raises
    ------
    ImageFileError
        If one cannot be made or written to.
    """
    ordered = sorted(folders, key=len)
    for folder in ordered:
        probe = os.path.join(folder, f".{uuid.uuid4().hex}.probe")
        try:
            os.makedirs(folder, exist_ok=True)
            # Asking for permissions is not enough: disks are full or mounted read-only, and Windows answers wrongly.
            with open(probe, "xb"):
                pass
            os.unlink(probe)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageFileError(
                f"the output folder {folder!r} cannot be written to: {reason}; choose another"
            ) from error
    return ordered[0] if ordered else None
