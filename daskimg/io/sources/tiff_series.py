"""The images in a TIFF file, as tifffile's series tell: their levels, their planes, and what their axes mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskimg.errors import ImageFileError, ParameterError
from daskimg.io.sources.tiff_pages import YCC_JPEG2000, Planes
from daskimg.io.stored import Level
from daskimg.io.tiff import grey_alpha

__all__ = ["Axes", "Picture", "decodable", "pictures", "plane_of_frame", "planes_of"]

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_JPEG = 7
_SLIDES = ("svs", "ndpi", "philips", "scn", "bif", "qpi", "avs")
_PLAIN = ("generic", "shaped", "uniform")
_NAMES = {"T": "t", "C": "c", "Z": "z", "I": "page", "Q": "page"}
_ODD = 2  # pixels that a reduced level's side may differ by from what its other side says


@dataclass(frozen=True)
class Picture:
    """Is one image in a file: tifffile's series of each level.

    Attributes
    ----------
    name : str
        Its name, as users choose it.
    levels : tuple of tifffile.TiffPageSeries
        From the finest on.
    slide : bool
        The file is a whole slide: what is beside the first image is its label and overview.
    """

    name: str
    levels: tuple[Any, ...]
    slide: bool


def pictures(tiff: Any) -> list[Picture]:
    """Return the images in a file, without masks and previews; pages of one kind are one image."""
    groups: list[list[Any]] = []
    for series in tiff.series:
        levels = list(series.levels)
        key = levels[0].keyframe
        if key.is_mask or series.transform is not None:
            continue
        if series.kind in _PLAIN:
            # By their sizes alone pages are no levels of one image.
            loose = [one for one in levels[1:] if not (one.keyframe.is_reduced or one.keyframe.is_subifd)]
            if key.is_reduced or key.is_subifd:
                base = next((group for group in groups if _reduces(levels[0], group[-1])), None)
                if base is not None:
                    base.extend(levels)
                continue
            groups.append([one for one in levels if not any(one is other for other in loose)])
            groups.extend([one] for one in loose)
        else:
            groups.append(levels)
    slide = bool(groups) and groups[0][0].kind in _SLIDES
    names = [str(group[0].name or "") for group in groups]
    named = [name if name and names.count(name) == 1 else f"{name or 'Image'} {at}" for at, name in enumerate(names)]
    return [Picture(name, tuple(group), slide) for name, group in zip(named, groups, strict=True)]


def _reduces(series: Any, finer: Any) -> bool:
    """Tell whether a series is the same image at a lower resolution."""
    one, other = series.keyframe, finer.keyframe
    same = one.dtype == other.dtype and one.samplesperpixel == other.samplesperpixel and len(series) == len(finer)
    if not same or not 0 < one.imagewidth < other.imagewidth or not 0 < one.imagelength < other.imagelength:
        return False
    ratio = other.imagewidth / one.imagewidth
    return bool(abs(other.imagelength / ratio - one.imagelength) <= _ODD)


def plane_of_frame(found: Sequence[Picture], frame: int, shown: str) -> tuple[int, int]:
    """Return which picture a page belongs to, and which of its planes it is."""
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
        raise ParameterError(f"frame must be a whole number from 0, got {frame!r}.")
    planes = []
    for number, picture in enumerate(found):
        axes = Axes.of(picture.levels[0], None)
        count = axes.planes if axes is not None else len(picture.levels[0])
        for plane in range(count):
            page = picture.levels[0][plane if len(picture.levels[0]) == count else 0]
            planes.append(((page.index if page is not None else 0, plane), (number, plane)))
    if frame >= len(planes):
        raise ImageFileError(f"{shown} has no frame {frame}: its frames are 0 to {len(planes) - 1}.")
    return sorted(planes)[frame][1]


def planes_of(series: Any, count: int) -> Planes | None:
    """Return which pages the planes of a level are; None where that cannot be told.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
        The level.
    count : int
        How many planes the image has.
    """
    key = series.keyframe
    if count > 1 and len(series) == 1:
        return Planes((int(key.index),), None, True) if key.is_final else None
    if len(series) != count:
        return None
    found = [-1 if page is None else int(page.treeindex[0]) for page in series]
    sub = None
    if len(key.treeindex) > 1:
        parent = key.parent.pages.get(key.treeindex[0], aspage=True)
        subs = [int(offset) for offset in parent.subifds or ()]
        if key.offset not in subs:
            return None
        sub = subs.index(key.offset)
    step = found[1] - found[0] if len(found) > 1 else 1
    regular = range(found[0], found[0] + step * len(found), step) if step else range(0)
    return Planes(regular if found[0] >= 0 and list(regular) == found else tuple(found), sub)


@dataclass(frozen=True)
class Axes:
    """Says how planes, and the samples in them, become the axes of an image.

    Attributes
    ----------
    leading : tuple of pairs
        The names and lengths of the axes that planes are numbered along.
    color : tuple or None
        The name and length of the last axis, where there is one behind `x`.
    samples : tuple or None
        The name and length of the axis before `y`, where samples lie apart and are no colors.
    dtype : dtype
        The type of the samples.
    plane : int or None
        The one plane that is meant.
    """

    leading: tuple[tuple[str, int], ...]
    color: tuple[str, int] | None
    samples: tuple[str, int] | None
    dtype: np.dtype[Any]
    plane: int | None

    @classmethod
    def of(cls, series: Any, plane: int | None) -> Axes | None:
        """Return the axes of a series; None where its samples are none that become an image."""
        page = series.keyframe
        letters, count = series.axes, page.samplesperpixel
        sizes = dict(enumerate(series.shape))
        if page.dtype is None or page.dtype.kind not in "buif" or not letters.replace("S", "").endswith("YX"):
            return None
        kept = [(letter, sizes[at]) for at, letter in enumerate(letters) if letter not in "YXS"]
        names = _unique([_NAMES.get(letter) or _spelled(letter) for letter, _ in kept])
        leading = [(name, size) for name, (_, size) in zip(names, kept, strict=True)]
        color = samples = None
        if count > 1 and "S" not in letters:
            if letters[-3:-2] != "C" or page.planarconfig != 2 or leading[-1][1] != count:
                return None
            samples = leading.pop()
        else:
            found = _colors(page)
            if found is None:
                return None
            if found:
                name, length = found
                if page.planarconfig == 2 and name != "channel":
                    samples = found
                else:
                    color = (name, length)
        if page.photometric == _PALETTE or page.dtype.kind == "b":
            dtype = np.dtype(np.uint8)
        else:
            dtype = page.dtype.newbyteorder("=")
        leading = [(name, size) for name, size in leading if not (size == 1 and name.startswith("page"))]
        axes = cls(tuple(leading), color, samples, dtype, plane)
        return axes if math.prod(series.shape) == axes.planes * page.imagelength * page.imagewidth * count else None

    @property
    def planes(self) -> int:
        """How many planes there are."""
        return math.prod(size for _, size in self.leading)

    @property
    def spatial(self) -> int:
        """How many axes come last: `y`, `x`, and colors where there are some."""
        return 2 if self.color is None else 3

    @property
    def _before(self) -> tuple[tuple[str, int], ...]:
        kept = self.leading if self.plane is None else ()
        return kept if self.samples is None else (*kept, self.samples)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of all axes."""
        before = tuple(name for name, _ in self._before)
        return (*before, "y", "x") if self.color is None else (*before, "y", "x", self.color[0])

    def length(self, name: str) -> int:
        """Return the length of an axis other than `y` and `x`."""
        return dict((*self._before, *([self.color] if self.color else [])))[name]

    def level(self, size: tuple[int, int], tile: tuple[int, int]) -> Level:
        """Return a level of so many rows and columns."""
        before = tuple(length for _, length in self._before)
        last = () if self.color is None else (self.color[1],)
        return Level((*before, *size, *last), (*(1 for _ in before), *tile, *last))

    def locate(self, at: Sequence[int]) -> tuple[int, int | None]:
        """Return the plane and the sample, if samples lie apart, of a place along the first axes."""
        sample = None
        if self.samples is not None:
            *at, sample = at
        if self.plane is not None:
            return self.plane, sample
        plane = 0
        for number, (_, length) in zip(at, self.leading, strict=True):
            plane = plane * length + number
        return plane, sample


def _colors(page: Any) -> tuple[str, int] | tuple[()] | None:
    """Return the name and length of the axis that samples become; empty for one sample, None if they become none."""
    count, photometric = page.samplesperpixel, page.photometric
    if photometric == _PALETTE:
        return ("channel", 3) if count == 1 and np.ndim(page.colormap) == 2 else None
    if photometric == _SEPARATED:
        return ("channel", 3) if count == 4 and page.dtype == np.uint8 else None
    if photometric not in (_MINISWHITE, _MINISBLACK, _RGB, _YCBCR):
        return None
    if photometric == _YCBCR and page.compression not in (_JPEG, YCC_JPEG2000):
        return None
    if count == 1:
        return ()
    if grey_alpha(page):
        return ("channel", 4)
    if count > 4 or (page.is_geotiff and photometric == _MINISBLACK):
        return ("band" if page.is_geotiff else "c", count)
    return ("channel", count)


def decodable(page: Any) -> bool:
    """Tell whether tifffile decodes a page with what is installed."""
    import tifffile

    if page.compression != 1 and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        return False
    return page.predictor == 1 or page.predictor in tifffile.TIFF.UNPREDICTORS


def _spelled(letter: str) -> str:
    import tifffile

    return str(tifffile.TIFF.AXES_NAMES.get(letter, letter.lower())).lower()


def _unique(names: Sequence[str]) -> list[str]:
    """Number the names that come again."""
    return [
        name if names[:at].count(name) == 0 else f"{name}{names[:at].count(name) + 1}" for at, name in enumerate(names)
    ]
