"""Renditions: what is made of each image of a batch, all from one decoding, and what the files are called."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from daskimg.errors import ParameterError, suggest
from daskimg.io.encode import Options
from daskimg.io.formats import FORMATS, PARTWISE, STREAMED, Format, format_named, streamed_by_name, suffix_of
from daskimg.pipeline import Pipeline, Step, as_pipeline

__all__ = ["Output", "as_outputs"]

FALLBACK = FORMATS["png"]  # for inputs in a format that is only read, or without a suffix
LONGEST_NAME = 255  # bytes that file systems take

_BY_SUFFIX = {suffix: one for one in FORMATS.values() for suffix in one.suffixes}
_PLACES = ("stem", "suffix", "folder", "number", "output")
_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Output:
    """Is one rendition of each image: what to do, and how and under which name to write the result.

    Parameters
    ----------
    pipeline : Pipeline, Step or str
        What to do; its text and JSON forms too. An empty `Pipeline()` only converts.
    format : str, optional
        The format of the results, such as `"webp"`, `"ome-zarr"` or `"cog"`. Without it each keeps that of its source;
        what can only be read (GIF, HEIC, JPEG XL), and what has no suffix, becomes PNG; NPY, CZI, ND2 and LIF TIFF.
    name : str
        The names of the results without suffix: `"{stem}-half"` makes `cat.jpg` become `cat-half.jpg`. It may hold
        `{stem}`; `{suffix}`, that of the source without its dot; `{folder}`, the source's folder below the one that
        was named, with `-` for each slash, and the results then lie side by side; `{number}`, the position among the
        images in six digits, from 000001; `{output}`, the position among the outputs, from 1.
    quality : int, optional
        From 1 to 100, for JPEG, WebP and AVIF.
    lossless : bool
        Write WebP bit for bit.
    compression : str or int, optional
        Of PNG and TIFF, as `save_image` takes it.
    folder : str, optional
        A folder below that of the batch, for these results.

    Raises
    ------
    ParameterError, PipelineSyntaxError, UnknownNameError
        If the pipeline, the name, the format or an option is not allowed.

    Examples
    --------
    >>> Output("resize scale=0.5", name="{stem}-half", format="webp").name_of("2024/cat.jpg", number=1, output=1)
    '2024/cat-half.webp'
    """

    pipeline: Pipeline
    format: str | None = None
    name: str = "{stem}"
    quality: int | None = None
    lossless: bool = False
    compression: str | int | None = None
    folder: str | None = None

    def __init__(
        self,
        pipeline: Pipeline | Step | str,
        *,
        format: str | None = None,
        name: str = "{stem}",
        quality: int | None = None,
        lossless: bool = False,
        compression: str | int | None = None,
        folder: str | None = None,
    ) -> None:
        given = (as_pipeline(pipeline), format, name, quality, lossless, compression, folder)
        for field, value in zip(fields(self), given, strict=True):
            object.__setattr__(self, field.name, value)
        _check_name(name)
        if folder is not None:
            _check_folder(folder)
        if format is not None:
            self.options.check(format_named(format, ""))

    @property
    def options(self) -> Options:
        """How the format is written."""
        return Options(self.quality, self.lossless, self.compression)

    def name_of(self, below: str, *, number: int, output: int) -> str:
        """Return the path of a result below the batch's folder, with slashes.

        Parameters
        ----------
        below : str
            The source's path below what the user named, with slashes.
        number, output : int
            The position among the images and among the outputs, from 1.

        Raises
        ------
        ParameterError
            If the name is longer than file systems take.
        """
        folders, _, last = below.rpartition("/")
        suffix = suffix_of(last)
        current = streamed_by_name(last) or _BY_SUFFIX.get(suffix)
        if current is not None and current.name in STREAMED:
            suffix = next(one for one in current.suffixes if last.lower().endswith(one))
        elif current is None and suffix not in PARTWISE:  # "scan.v2" has no suffix that means an image: it is the name
            suffix = ""
        stem, own = last[: len(last) - len(suffix)], last[len(last) - len(suffix) :]
        words = {
            "stem": stem,
            "suffix": own[1:],
            "folder": folders.replace("/", "-"),
            "number": f"{number:06}",
            "output": str(output),
        }
        name = _FIELD.sub(lambda found: words[found[1]], self.name) + self._suffix(current, own)
        size = len(os.fsencode(name))
        if size > LONGEST_NAME:
            raise ParameterError(
                f"the result of {below!r} would be called {name[:40]!r}..., {size} bytes long, and file systems take "
                f"{LONGEST_NAME}; choose a shorter name, such as name='{{number}}'"
            )
        parents = (self.folder, "" if "{folder}" in self.name else folders)
        return "/".join(part for part in (*parents, name) if part)

    def _suffix(self, current: Format | None, own: str) -> str:
        if self.format is not None:
            wanted = format_named(self.format, "")
            return own if current is wanted else wanted.suffixes[0]
        if own in PARTWISE:
            return ".tif"
        return own if current is not None and current.dtypes else FALLBACK.suffixes[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what makes it again, as JSON can hold it."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"pipeline": self.pipeline.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Output:
        """Make it from what `to_dict` returned."""
        return cls(**{**document, "pipeline": Pipeline.from_json(document["pipeline"])})


def as_outputs(
    pipeline: Any, outputs: Sequence[Output | Mapping[str, Any]] | None, **options: Any
) -> tuple[Output, ...]:
    """Return the renditions of a batch: the one of a pipeline with its options, or those given.

    Parameters
    ----------
    pipeline : Pipeline, Step, str or None
        What to do, where there is one rendition.
    outputs : sequence of Output or mapping, optional
        The renditions otherwise; a mapping holds the arguments of `Output`.
    **options
        Those of `Output`, for the one of `pipeline`.

    Raises
    ------
    ParameterError
        If both are given, or none.
    """
    if outputs is None:
        if pipeline is None:
            raise ParameterError("say what to do: a pipeline, or outputs=[Output(...), ...] for several renditions")
        return (Output(pipeline, **options),)
    set_too = [name for name, value in options.items() if value != getattr(Output, name, None)]
    if pipeline is not None or set_too:
        what = " and ".join(["pipeline"] * (pipeline is not None) + set_too)
        raise ParameterError(f"{what} beside outputs: each output has its own; leave one of them out")
    if isinstance(outputs, Output | Mapping | str) or not outputs:
        raise ParameterError("outputs is a list, such as [Output('resize scale=0.5', name='{stem}-half')]")
    return tuple(one if isinstance(one, Output) else _from_mapping(one) for one in outputs)


def _from_mapping(given: Any) -> Output:
    if not isinstance(given, Mapping):
        raise ParameterError(f"an output is an Output or a dict of its arguments, not {type(given).__name__}")
    known = [field.name for field in fields(Output)]
    for name in given:
        if name not in known:
            raise ParameterError(f"an output has no {name!r}.{suggest(str(name), known)} It has: {' '.join(known)}")
    if "pipeline" not in given:
        raise ParameterError("an output needs a pipeline, such as {'pipeline': 'resize scale=0.5'}")
    return Output(**given)


def _check_name(name: str) -> None:
    found = _FIELD.findall(name) if isinstance(name, str) else []
    allowed = ", ".join(f"{{{one}}}" for one in _PLACES)
    for one in found:
        if one not in _PLACES:
            raise ParameterError(
                f"name={name!r} holds {{{one}}}, which means nothing.{suggest(one, _PLACES)} {allowed}"
            )
    rest = _FIELD.sub("", name) if found else ""
    plain = not any(letter in rest for letter in "/\\{}\0") and (found or rest)
    if not plain or not {"stem", "number"} & set(found):
        raise ParameterError(
            f"name={name!r} is not allowed; name is a file name with {{stem}} or {{number}} in it, such as "
            f"'{{stem}}-edges', and may hold {allowed}; folder= puts results into a folder"
        )


def _check_folder(folder: str) -> None:
    parts = folder.split("/") if isinstance(folder, str) else [""]
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part or ":" in part for part in parts):
        raise ParameterError(
            f"folder={folder!r} is not allowed; it is one below that of the results, such as 'small' or 'web/small'"
        )
