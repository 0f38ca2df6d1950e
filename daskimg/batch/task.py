"""What happens to one image, all of it in one place, so that pixels never travel."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from daskimg.batch.loading import ChangedError, loaded
from daskimg.batch.needs import bytes_needed
from daskimg.batch.outputs import Output
from daskimg.batch.reduced import reduced_pipelines
from daskimg.batch.targets import Job
from daskimg.chunked.allocation import keep_freed_memory
from daskimg.chunked.strips import one_cv2_thread
from daskimg.errors import DaskimgError, ParameterError, UnavailableError
from daskimg.io import color
from daskimg.io.boundary import translated
from daskimg.io.decode import can_reduce
from daskimg.io.encode import check_image, encode
from daskimg.io.formats import format_named
from daskimg.io.metadata import ImageMetadata
from daskimg.io.photo import Photo
from daskimg.io.probe import Header, pixel_limit
from daskimg.io.urls import Location, locate
from daskimg.kinds import Array
from daskimg.pipeline import Pipeline

__all__ = ["Kept", "Outcome", "Work", "do", "do_group", "failed"]

#: What of a source's metadata its results keep: all, what `ImageMetadata.without_private` leaves, or nothing.
Kept: TypeAlias = Literal["keep", "public", "none"]


@dataclass(frozen=True)
class Work:
    """Is what all images of a batch have in common.

    Attributes
    ----------
    outputs : tuple of Output
        The renditions of each image.
    reading : mapping
        How files are read: `frame`, `color_profile`, `max_pixels` and `strict` of `open_image`.
    metadata : {"keep", "public", "none"}
        What results keep of their source's Exif and resolution; "keep" and "public" also its color profile, where
        `reading` says `color_profile="keep"`.
    reduced : bool
        Decode JPEG smaller where all outputs begin with a resize to less; the results differ from exact ones.
    share : int, optional
        Bytes of memory that one image may take where it is processed.
    storage_options : mapping
        Options of the file systems of URLs. They may hold secrets and are neither shown nor written down.
    """

    outputs: tuple[Output, ...]
    reading: Mapping[str, Any] = field(default_factory=dict)
    metadata: Kept = "keep"
    reduced: bool = False
    share: int | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.metadata not in get_args(Kept):
            raise ParameterError(f"metadata={self.metadata!r} is not allowed; it is one of {', '.join(get_args(Kept))}")

    def photo(self, place: Location) -> Photo:
        """Return what reads an image."""
        frame, profile, limit, strict = self._read_by
        return Photo(place, frame, limit, profile, strict)

    @functools.cached_property
    def _read_by(self) -> tuple[Any, ...]:
        given = {"frame": None, "color_profile": "srgb", "max_pixels": "default", "strict": True, **self.reading}
        return given["frame"], given["color_profile"], pixel_limit(given["max_pixels"]), given["strict"]

    @functools.cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Those of the outputs."""
        return tuple(one.pipeline for one in self.outputs)

    def _plain(self) -> dict[str, Any]:
        return {"reading": dict(self.reading), "metadata": self.metadata, "reduced": self.reduced}

    @property
    def fingerprint(self) -> str:
        """A digest of all that results depend on beside their sources."""
        made = [(one.pipeline.fingerprint, one.quality, one.lossless, one.compression) for one in self.outputs]
        document = json.dumps([made, self._plain()], sort_keys=True, default=str)
        return hashlib.sha256(document.encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Return it as text, which the manifest keeps for another try."""
        return json.dumps({"outputs": [one.to_dict() for one in self.outputs], **self._plain()})

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Make it from what `to_json` returned."""
        parts = json.loads(text)
        return cls(**{**parts, "outputs": tuple(map(Output.from_dict, parts["outputs"]))})


class Outcome(NamedTuple):
    """Says what came of one image.

    `pixels` it had, in `seconds` it was done, `sizes` are the bytes of its results in the order of its targets, and
    `version` is that of the source which was read, where it is known. Or why it failed: `reason`, with a traceback in
    `details` if daskimg did not raise it; `transient` where the same may work later, such as a server that was busy.
    `skipped`: it was not begun. `too_large`: it needs more than this worker's share of memory, nothing was done.
    """

    pixels: int = 0
    reason: str = ""
    details: str = ""
    skipped: bool = False
    too_large: bool = False
    transient: bool = False
    seconds: float = 0.0
    sizes: tuple[int, ...] = ()
    version: str = ""


def do_group(jobs: Sequence[Job], work: Work, stop: threading.Event | None = None) -> list[Outcome]:
    """Work through a small group of images and return their outcomes in the same order."""
    with one_cv2_thread():
        return [do(job, work, stop) for job in jobs]


def do(job: Job, work: Work, stop: threading.Event | None = None) -> Outcome:
    """Decode, process and encode one image; what goes wrong is returned, so that it stays this image's own.

    A file that is written to while it is read is read once more.
    """
    began = time.perf_counter()
    keep_freed_memory()
    stopped = stop.is_set if stop is not None else bool
    with one_cv2_thread():
        try:
            try:
                outcome = _done(job, work, stopped)
            except ChangedError:
                outcome = _done(job, work, stopped)
        except DaskimgError as error:
            outcome = failed(error, job)
        except MemoryError:
            outcome = Outcome(reason=_NO_MEMORY)
        except Exception as error:
            outcome = Outcome(reason=_told(error, f"{type(error).__name__}: {error}"), details=traceback.format_exc())
    return outcome._replace(seconds=time.perf_counter() - began)


_NO_MEMORY = "there is not enough memory for it; use fewer workers or threads, or a larger machine"


def failed(error: DaskimgError, job: Job) -> Outcome:
    """Return the outcome of an image that an error of daskimg's own kept from being done."""
    # The report names the image already, as the user wrote it.
    reason = str(error).removeprefix(locate(job.source).shown).lstrip(": ")
    return Outcome(reason=_told(error, reason), transient=isinstance(error, UnavailableError | ChangedError))


def _told(error: Exception, reason: str) -> str:
    """Put the rendition that failed, if it is one of several, before the reason."""
    return ": ".join([*getattr(error, "__notes__", []), reason])


def _done(job: Job, work: Work, stopped: Callable[[], bool]) -> Outcome:
    if stopped():
        return Outcome(skipped=True)
    photo = work.photo(locate(job.source, work.storage_options))
    pipelines: Sequence[Pipeline] = work.pipelines
    with loaded(photo.place) as source:
        header = photo.checked(source.file)
        factor = 1
        if work.reduced and can_reduce(header):
            factor, pipelines = reduced_pipelines(header.shape, pipelines)
        if work.share is not None and _needs(header, factor, pipelines) > work.share:
            return Outcome(too_large=True, version=source.version)
        pixels = photo.decoded(source.file, header, reduced=factor)
        source.check()
    metadata = _kept(header, work, photo.color_profile)
    encoded = []
    for output, pipeline, target in zip(work.outputs, pipelines, job.targets, strict=True):
        if stopped():
            return Outcome(skipped=True)
        with _named(output, target, work):
            encoded.append(_rendition(pixels, pipeline, output, target, metadata))
    # Nothing is written before all renditions are made.
    if stopped():
        return Outcome(skipped=True)
    for output, target, data in zip(work.outputs, job.targets, encoded, strict=True):
        with _named(output, target, work):
            _write(locate(target, work.storage_options), data, job.replace)
    rows, columns = header.shape[:2]
    return Outcome(pixels=rows * columns, sizes=tuple(map(len, encoded)), version=source.version)


def _needs(header: Header, factor: int, pipelines: Sequence[Pipeline]) -> int:
    shape = (*(-(-side // factor) for side in header.shape[:2]), *header.shape[2:])
    return bytes_needed(shape, header.dtype, pipelines)


def _kept(header: Header, work: Work, color_profile: str) -> ImageMetadata:
    """Return what the results say beside their pixels, which stand upright and are sRGB unless the profile is kept."""
    if work.metadata == "none":
        return _NOTHING
    icc = header.icc if color_profile == "keep" and color.profile_fits(header.icc, header.grey) else None
    if header.exif is None and icc is None and header.dpi is None:
        return _NOTHING
    kept = ImageMetadata(header.exif, icc, header.dpi)
    return kept if work.metadata == "keep" else kept.without_private()


_NOTHING = ImageMetadata()


def _rendition(
    pixels: Array, pipeline: Pipeline, output: Output, target: str, metadata: ImageMetadata
) -> bytes | memoryview:
    image = pipeline(pixels)
    wanted = format_named(None, target)
    check_image(image.shape, image.dtype, wanted)
    with translated(repr(target), "written"):
        return encode(image, wanted, output.options, metadata)


def _write(place: Location, data: bytes | memoryview, replace: bool) -> None:
    if not place.local or not os.path.isdir(os.path.dirname(place.url)):
        place.check_writable(overwrite=replace)
    # A batch may be many thousand files, and one that was lost with the power is done again.
    place.write(data, overwrite=replace, durable=False)


@contextmanager
def _named(output: Output, target: str, work: Work) -> Iterator[None]:
    """Note in an error which of several renditions it comes from."""
    try:
        yield
    except Exception as error:
        if len(work.outputs) > 1:
            error.add_note(f"output {work.outputs.index(output) + 1}, {os.path.basename(target)}")
        raise
