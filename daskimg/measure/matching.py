"""Where one image lies in another: places that look like a template, and the shift between two images."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
import scipy

from daskimg.chunked.reduction import as_delayed, reduce_image
from daskimg.chunked.spectral import in_columns, restored_rows, transformed_rows
from daskimg.errors import ArrayError, DtypeError, ParameterError
from daskimg.kinds import Array, Window
from daskimg.measure.regions import plane_of
from daskimg.operations.transform import Method, match_template

__all__ = ["Translation", "find_matches", "phase_correlate"]

# Matches

Own = tuple[slice, slice]


def find_matches(
    image: Any,
    template: Any,
    *,
    method: Method = "ccoeff_normed",
    threshold: float | None = None,
    min_distance: int | None = None,
    mask: Any = None,
    compute: bool = True,
) -> Any:
    """Return the places where an image looks like a template, best first.

    Parameters
    ----------
    image : array
        uint8 or float32, `(rows, columns)` or with channels last.
    template : array
        What is looked for, of the same type and channels.
    method : {"ccoeff_normed", "ccoeff", "ccorr_normed", "ccorr", "sqdiff_normed", "sqdiff"}
        What is scored, as in `match_template`. With "sqdiff" the least is best.
    threshold : float
        The score that a match must reach, or with "sqdiff" not exceed. None: 0.8, or 0.2 with "sqdiff_normed"; methods
        that are not normed need one.
    min_distance : int
        Within so many rows and columns of a match there is no other, in px: only the best counts, the first of equal
        ones. None: half the shorter side of the template, at least 1.
    mask : array
        Which pixels of the template count: those that are not 0. None: all.
    compute : bool
        False gives a `dask.delayed.Delayed` where the image is lazy.

    Returns
    -------
    pandas.DataFrame
        `row` and `column` of the template's first pixel, int64, and `score`, float32; sorted by score, then by row and
        column. The same for any chunks.

    Raises
    ------
    ParameterError, ArrayError, DtypeError
        If a parameter is not allowed or the template does not go with the image.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.zeros((20, 30), np.uint8)
    >>> image[4:7, 11] = image[5, 10:13] = 255
    >>> di.find_matches(image, image[3:8, 9:14].copy())
       row  column  score
    0    3       9    1.0
    """
    lowest = method.startswith("sqdiff")
    if threshold is None:
        if not method.endswith("normed"):
            raise ParameterError(f'find_matches: {method} needs a threshold; or take method="{method}_normed"')
        threshold = 0.2 if lowest else 0.8
    if min_distance is None:
        min_distance = max(1, min(template.shape[:2]) // 2)
    if min_distance < 0:
        raise ParameterError(f"find_matches: min_distance={min_distance} is not allowed; it is 0 or more pixels")
    image = getattr(image, "data", image) if hasattr(image, "dims") else image
    scores: Any = match_template(image, template=template, method=method, **({} if mask is None else {"mask": mask}))
    is_lazy = isinstance(scores, da.Array)
    lazy = scores if is_lazy else da.from_array(scores, chunks=-1)
    lazy = _with_room(lazy, min_distance)
    best = functools.partial(_best, threshold=float(threshold), distance=min_distance, sign=-1 if lowest else 1)
    table = functools.partial(_table, lowest=lowest)
    found = as_delayed(reduce_image(lazy, best, np.concatenate, table, "find-matches", halo=min_distance))
    if not compute and is_lazy:
        return found
    return found.compute() if is_lazy else found.compute(scheduler="synchronous")


def _with_room(image: da.Array, least: int) -> da.Array:
    """Return an image in chunks that are as long as their neighbours look into them."""
    chunks = [
        (sum(sizes),) if sum(sizes) <= least else da.overlap.ensure_minimum_chunksize(max(least, 1), sizes)
        for sizes in image.chunks
    ]
    cut: da.Array = image.rechunk(tuple(chunks))
    return cut


MATCH = np.dtype([("row", np.int64), ("column", np.int64), ("score", np.float32)])


def _best(window: Array, where: Window, own: Own | None = None, *, threshold: float, distance: int, sign: int) -> Array:
    """Return the scores of a block that no other within the distance exceeds, nor any before them equals."""
    score = np.where(np.isnan(window), -np.inf, sign * window)
    passing = score >= np.float32(sign * threshold)
    best = passing.copy()
    if distance and passing.any():
        size = 2 * distance + 1
        lines = scipy.ndimage.maximum_filter1d(score, size, axis=1, mode="constant", cval=-np.inf)
        best &= score >= scipy.ndimage.maximum_filter1d(lines, size, axis=0, mode="constant", cval=-np.inf)
        for part, axis in ((lines, 0), (score, 1)):  # the rows before, and what is before it in its own
            before = np.full(score.shape, -np.inf, score.dtype)
            ahead = scipy.ndimage.maximum_filter1d(
                part, distance, axis=axis, mode="constant", cval=-np.inf, origin=(distance - 1) // 2
            )
            if axis == 0:
                before[1:] = ahead[:-1]
            else:
                before[:, 1:] = ahead[:, :-1]
            best &= score > before
    score = window if own is None else window[own]
    best = best if own is None else best[own]
    rows, columns = np.nonzero(best)
    found = np.empty(len(rows), MATCH)
    found["row"], found["column"], found["score"] = rows + where.row, columns + where.column, score[rows, columns]
    return found


def _table(found: Array, lowest: bool) -> Any:
    import pandas

    order = np.lexsort((found["column"], found["row"], found["score"] if lowest else -found["score"]))
    return pandas.DataFrame({name: found[name][order] for name in ("row", "column", "score")})


# Shifts


class Translation(NamedTuple):
    """Is how far an image is shifted against another.

    Attributes
    ----------
    row, column : float
        In pixels down and to the right; NaN where the images have nothing that tells.
    response : float
        How much of the correlation lies at that shift, from 0 to 1: 1 where one image is the other, rolled.
    """

    row: float
    column: float
    response: float


def phase_correlate(reference: Any, image: Any, *, window: Literal["hann"] | None = None, compute: bool = True) -> Any:
    """Measure by how much an image is shifted against a reference, to a fraction of a pixel.

    Parameters
    ----------
    reference, image : array
        `(rows, columns)`, of the same size, of integers or floats.
    window : {"hann"}
        Fades both images out towards their borders, which otherwise correlate with themselves at no shift. None: not.
    compute : bool
        False gives a `dask.delayed.Delayed` where an image is lazy.

    Returns
    -------
    Translation
        `(row, column, response)`: ``image`` shows at ``(y + row, x + column)`` what ``reference`` shows at ``(y, x)``.
        All NaN where a pixel is NaN or infinite.

    Raises
    ------
    ArrayError, DtypeError
        If the images are not planes of one size, or of another type.

    Notes
    -----
    As ``cv2.phaseCorrelate``, whose result is ``((column, row), response)``: the peak of the inverse transform of the
    cross-power spectrum ``P / (|P| + eps/|P|)``, and the centroid of 5 x 5 values around it. Images are padded with
    zeros to lengths of factors 2, 3 and 5; the window is ``cv2.createHanningWindow``'s. The result is within 1e-3 px of
    OpenCV's, save that OpenCV adds half a pixel along an axis whose padded length is odd. Smooth images shifted by
    fractions of a pixel are best given as float32 with a window: in float64, eps is too small to quieten frequencies
    that hold nothing but rounding. Chunked images are transformed in full rows, then in full columns; three half
    spectra, 12 bytes per pixel or 24 for float64, are held or spilled at most.

    To undo the shift: ``scipy.ndimage.shift(image, (-row, -column))``, which are the signs of
    ``skimage.registration.phase_cross_correlation``.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> reference = np.random.default_rng(0).random((64, 64))
    >>> shift = di.phase_correlate(reference, np.roll(reference, (3, -5), (0, 1)))
    >>> round(shift.row, 6), round(shift.column, 6), round(shift.response, 6)
    (3.0, -5.0, 1.0)
    """
    planes = [plane_of(reference, "reference"), plane_of(image, "image")]
    if planes[0].shape != planes[1].shape:
        raise ArrayError(
            f"phase_correlate: the images have {planes[0].shape} and {planes[1].shape} pixels; crop or pad one of them"
        )
    if 0 in planes[0].shape:
        raise ArrayError(f"phase_correlate needs at least one pixel, and the images have the shape {planes[0].shape}")
    for plane in planes:
        if plane.dtype.kind not in "iuf" or plane.dtype.itemsize > 8:
            raise DtypeError(f'phase_correlate takes integers and floats, not {plane.dtype}; image.astype("float32")')
    if window not in (None, "hann"):
        raise ParameterError(f'phase_correlate: window={window!r} is not allowed; it is "hann" or None')
    is_lazy = any(isinstance(plane, da.Array) for plane in planes)
    double = any(plane.dtype.itemsize > 4 for plane in planes)
    real = np.dtype(np.float64 if double else np.float32)
    padded = [_prepared(plane, real, window) for plane in planes]
    size: tuple[int, int] = padded[0].shape
    first, second = (in_columns(transformed_rows(one)) for one in padded)
    cross = da.map_blocks(_cross_power, first, second, dtype=first.dtype)
    surface = da.roll(restored_rows(cross, size[1], real), (size[0] // 2, size[1] // 2), (0, 1))
    surface = _with_room(surface, 2)
    finish = functools.partial(_translation, size=size)
    found = as_delayed(reduce_image(surface, _peak, _highest, finish, "phase-correlate", halo=2))
    if not compute and is_lazy:
        return found
    return found.compute() if is_lazy else found.compute(scheduler="synchronous")


def _prepared(plane: Any, real: np.dtype[Any], window: str | None) -> da.Array:
    """Return an image as floats, faded out, and padded to a size that transforms are fast at."""
    lazy: da.Array = plane if isinstance(plane, da.Array) else da.from_array(plane, chunks=-1)
    lazy = lazy.astype(real)
    if window == "hann":
        down, along = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / max(n - 1, 1)) for n in lazy.shape)
        down, along = np.sqrt(down).astype(real), np.sqrt(along).astype(real)
        lazy = lazy * da.from_array(down, chunks=-1)[:, np.newaxis] * da.from_array(along, chunks=-1)
    beyond = [(0, scipy.fft.next_fast_len(n, real=True) - n) for n in lazy.shape]
    padded: da.Array = da.pad(lazy, beyond) if any(after for _, after in beyond) else lazy
    return padded


def _cross_power(first: Array, second: Array) -> Array:
    """Return the phases of the cross-power spectrum of whole columns, transformed back along them."""
    power = scipy.fft.fft(second, axis=0)
    power *= scipy.fft.fft(first, axis=0).conj()
    size = np.abs(power)
    some = np.finfo(size.dtype).eps  # as OpenCV: frequencies that are hardly there count little
    with np.errstate(invalid="ignore"):  # NaN
        power /= size + np.divide(some, size, out=np.ones_like(size), where=size > 0)
    back: Array = scipy.fft.ifft(power, axis=0, overwrite_x=True)
    return back


class Peak(NamedTuple):
    value: float
    lowest: float
    row: int
    column: int
    around: Array  # up to 5 x 5
    corner: tuple[int, int]


def _peak(window: Array, where: Window, own: Own) -> Peak:
    inner = window[own]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)  # a NaN is the largest
    top, left = own[0].start, own[1].start
    above, before = max(top + int(row) - 2, 0), max(left + int(column) - 2, 0)
    around = window[above : top + int(row) + 3, before : left + int(column) + 3].astype(np.float64)
    corner = where.row + above - top, where.column + before - left
    return Peak(
        float(inner[row, column]), float(inner.min()), where.row + int(row), where.column + int(column), around, corner
    )


def _highest(peaks: list[Peak]) -> Peak:
    lowest = min(peak.lowest for peak in peaks)
    best = max(peaks, key=lambda peak: (peak.value, -peak.row, -peak.column))
    return best._replace(lowest=lowest)


def _translation(peak: Peak, size: tuple[int, int]) -> Translation:
    if np.isnan(peak.lowest):
        return Translation(np.nan, np.nan, np.nan)
    response = float(peak.around.sum())
    # A flat surface has its largest value anywhere.
    if peak.value <= 0 or peak.value - peak.lowest <= 1e-5 * peak.value:
        return Translation(np.nan, np.nan, max(0.0, response))
    rows, columns = (np.arange(peak.around.shape[axis]) + peak.corner[axis] - size[axis] // 2 for axis in (0, 1))
    row = float((peak.around.sum(axis=1) * rows).sum() / response)
    column = float((peak.around.sum(axis=0) * columns).sum() / response)
    return Translation(row, column, response)
