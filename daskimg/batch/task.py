"""What happens to images, all of it in one place, so that pixels never travel."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from daskimg.batch.loading import ChangedError, loaded
from daskimg.batch.needs import bytes_needed
from daskimg.batch.outputs import Output
from daskimg.batch.reduced import Levels, reduced_pipelines
from daskimg.batch.targets import Job
from daskimg.chunked.allocation import keep_freed_memory
from daskimg.chunked.strips import one_cv2_thread
from daskimg.errors import DaskimgError, ImageFileError, ParameterError, UnavailableError
from daskimg.io import color
from daskimg.io.boundary import translated
from daskimg.io.decode import can_reduce
from daskimg.io.encode import check_image, encode
from daskimg.io.formats import PARTWISE, STREAMED, format_named, streamed_by_name, suffix_of
from daskimg.io.metadata import ImageMetadata
from daskimg.io.photo import Photo
from daskimg.io.probe import Header, pixel_limit
from daskimg.io.urls import Location, locate
from daskimg.kinds import Array
from daskimg.pipeline import Pipeline

__all__ = ["Kept", "Outcome", "Work", "do", "do_group", "failed"]

BY_CHUNK = 1 << 29  # bytes of a decoded TIFF from which on it is done by chunk, though it would fit
TOGETHER = 1 << 17  # bytes of a decoded image up to which several are in work at once
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

    @functools.cached_property
    def parts(self) -> list[tuple[int, Pipeline]]:
        """The pipelines with the factor 1: each gets the whole image."""
        return [(1, pipeline) for pipeline in self.pipelines]

    @property
    def notes(self) -> list[str]:
        """What the report says of the results."""
        inexact = "small results of JPEG began with less than the whole image (reduced): their pixels are not exact"
        return [inexact] if self.reduced else []

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


def do(job: Job, work: Work, stop: threading.Event | None = None) -> Outcome:
    """Decode, process and encode one image; what goes wrong is returned, so that it stays this image's own.

    A file that is written to while it is read is read once more.
    """
    return do_group([job], work, stop)[0]


def do_group(jobs: Sequence[Job], work: Work, stop: threading.Event | None = None) -> list[Outcome]:
    """Work through a group of images as `do` does, and return their outcomes in the same order.

    Small ones go through each stage together: a stage's code then stays in the processor's cache, which for icons is
    half of the time that is not OpenCV's. Larger ones are done one after another.
    """
    keep_freed_memory()
    stopped = stop.is_set if stop is not None else bool
    images = [_Image(job, work, stopped) for job in jobs]
    with one_cv2_thread():
        waiting = images
        while waiting:
            waiting = [image for image in waiting if image.go_on()]
    return [image.outcome for image in images]


class _Image:
    """Is an image on its way through the stages."""

    __slots__ = ("again", "job", "outcome", "seconds", "stages", "start")

    def __init__(self, job: Job, work: Work, stopped: Callable[[], bool]) -> None:
        self.job = job
        self.start = functools.partial(_stages, job, work, stopped)
        self.stages = self.start()
        self.again = True
        self.seconds = 0.0

    def go_on(self) -> bool:
        """Do the next stage, or all that are left of a large image; return whether it waits for another."""
        began = time.perf_counter()
        try:
            while next(self.stages) > TOGETHER:
                pass
            return True
        except StopIteration as done:
            self.outcome = done.value
        except ChangedError as error:
            if self.again:
                self.again, self.stages = False, self.start()
                return True
            self.outcome = failed(error, self.job)
        except DaskimgError as error:
            self.outcome = failed(error, self.job)
        except MemoryError:
            self.outcome = Outcome(reason=_NO_MEMORY)
        except Exception as error:
            reason = _told(error, f"{type(error).__name__}: {error}")
            self.outcome = Outcome(reason=reason, details=traceback.format_exc())
        finally:
            self.seconds += time.perf_counter() - began
        self.outcome = self.outcome._replace(seconds=self.seconds)
        return False


_NO_MEMORY = "there is not enough memory for it; use fewer workers or threads, or a larger machine"


def failed(error: DaskimgError, job: Job) -> Outcome:
    """Return the outcome of an image that an error of daskimg's own kept from being done."""
    # The report names the image already, as the user wrote it.
    reason = str(error).removeprefix(locate(job.source).shown).lstrip(": ")
    return Outcome(reason=_told(error, reason), transient=isinstance(error, UnavailableError | ChangedError))


def _told(error: Exception, reason: str) -> str:
    """Put the rendition that failed, if it is one of several, before the reason."""
    return ": ".join([*getattr(error, "__notes__", []), reason])


def _stages(job: Job, work: Work, stopped: Callable[[], bool]) -> Generator[int, None, Outcome]:
    """Yield after each stage about how many bytes the image takes; return what came of it."""
    if stopped():
        return Outcome(skipped=True)
    photo = work.photo(locate(job.source, work.storage_options))
    if _is_streamed(photo.place.url, job, work):
        return Outcome(too_large=True)
    parts = work.parts
    with loaded(photo.place) as source:
        header = photo.checked(source.file)
        rows, columns = header.shape[:2]
        if work.reduced and can_reduce(header):
            parts = reduced_pipelines(header.shape, work.pipelines)
        factor = min(factor for factor, _ in parts)
        size = rows * columns * header.channels
        by_chunk = header.format == "tiff" and size * header.dtype.itemsize > BY_CHUNK
        if work.share is not None and (by_chunk or _needs(header, factor, parts) > work.share):
            return Outcome(too_large=True, version=source.version)
        yield size
        pixels = photo.decoded(source.file, header, reduced=factor)
        source.check()
    yield size
    levels = Levels(pixels, factor)
    results = []
    for number, (factor, pipeline) in enumerate(parts):
        if stopped():
            return Outcome(skipped=True)
        with _naming(number, job):
            results.append(pipeline(levels.at(factor)))
    yield size
    metadata = _kept(header, work, photo.color_profile)
    encoded = []
    for number, output in enumerate(work.outputs):
        with _naming(number, job):
            encoded.append(_encoded(results[number], job.targets[number], output, metadata))
    # Nothing is written before all renditions are made.
    del pixels, levels, results
    yield size
    if stopped():
        return Outcome(skipped=True)
    places = [locate(target, work.storage_options) for target in job.targets]
    for number, place in enumerate(places):
        try:
            with _naming(number, job):
                _write(place, encoded[number], job.replace)
        except BaseException:
            # All results of an image or none; what stood there before was ours.
            for other in places[:number] if not job.replace else ():
                _remove(other)
            raise
    return Outcome(pixels=rows * columns, sizes=tuple(map(len, encoded)), version=source.version)


def _is_streamed(source: str, job: Job, work: Work) -> bool:
    """Return whether an image is never decoded whole, or a result of it is written in parts."""
    if suffix_of(source) in PARTWISE or suffix_of(source) == ".zarr":
        return True
    formats = (output.format for output in work.outputs)
    return any(one in STREAMED for one in formats) or any(map(streamed_by_name, job.targets))


def _needs(header: Header, factor: int, parts: Sequence[tuple[int, Pipeline]]) -> int:
    shape = (*(side // factor or 1 for side in header.shape[:2]), *header.shape[2:])
    return bytes_needed(shape, header.dtype, [pipeline for _, pipeline in parts])


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


def _encoded(image: Array, target: str, output: Output, metadata: ImageMetadata) -> bytes | memoryview:
    wanted = format_named(None, target)
    check_image(image.shape, image.dtype, wanted)
    with translated("it", "written"):
        return encode(image, wanted, output.options, metadata)


def _write(place: Location, data: bytes | memoryview, replace: bool) -> None:
    try:
        # A batch may be many thousand files, and one that was lost with the power is done again.
        place.write(data, overwrite=replace, durable=False)
    except ImageFileError:
        # A task that runs again, since its worker died, meets what it wrote itself.
        if replace or not _holds(place, data):
            raise


def _holds(place: Location, data: bytes | memoryview) -> bool:
    try:
        with place.open() as stream:
            return bool(stream.read(len(data) + 1) == data)
    except ImageFileError:
        return False


def _remove(place: Location) -> None:
    with contextlib.suppress(OSError):
        fs, path = (None, place.url) if place.local else place.filesystem()
        os.unlink(path) if fs is None else fs.rm_file(path)


class _naming:
    """Notes in an error which of several renditions it comes from."""

    __slots__ = ("job", "number")

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and len(self.job.targets) > 1:
            error.add_note(f"output {self.number + 1}, {os.path.basename(self.job.targets[self.number])}")
