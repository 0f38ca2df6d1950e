"""Integral images, and how well a template matches everywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import scipy

from daskimg.errors import ArrayError, DtypeError
from daskimg.kinds import Array, Carried, Separable, Sliding, Sweep, Window
from daskimg.operation import operation
from daskimg.operations.kernels import sums_along
from daskimg.parameters import Image

__all__ = ["integral_image", "match_template"]


# Integral images


def _summed(block: Array, p: Any) -> Array:
    """Return what is added up: integers are as int64, others as float64."""
    values = block.astype(np.int64 if block.dtype.kind in "iu" else np.float64)
    return values * values if p.squares else values


def _down(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> tuple[Array, None]:
    return _summed(block, p).sum(axis=0), None


def _along(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> tuple[Array, None]:
    rows = _summed(block, p).sum(axis=1).cumsum(axis=0)
    above = carried[0].before
    return rows if above is None else rows + above.sum(axis=0), None


def _add(carried: Array, handed: Array, p: Any) -> Array:
    return carried + handed


def _integrated(block: Array, carried: tuple[Carried, ...], p: Any, where: Window) -> Array:
    sums = _summed(block, p).cumsum(axis=0)
    above, left = carried[0].before, carried[1].before
    if above is not None:
        sums += above
    np.cumsum(sums, axis=1, out=sums)
    if left is not None:
        sums += left[:, np.newaxis]
    # Beyond the range of int32 sums wrap around, as OpenCV's do.
    return sums.astype(p.to or sums.dtype, copy=False)


INTEGRAL = Separable((Sweep(0, _down, _add), Sweep(1, _along, _add)), _integrated, lead=1)


# Sums of float64 in another order deviate, the more the larger the image is; the bound here is that of a hundred pixels
# a side, as the suite draws them, and the Notes say how it grows.
@operation(
    kind=INTEGRAL,
    dtypes=lambda p: "uint8 uint16 int16" if p.to in ("int32", "int64") else "uint8 uint16 int16 float32 float64",
    gain=lambda p, dtype: 1e4,
)
def integral_image(
    image: Array, *, squares: bool = False, to: Literal["int32", "int64", "float64"] | None = None
) -> Array:
    """Sum up all pixels above and to the left of each corner of a pixel.

    Parameters
    ----------
    squares : bool
        Whether to sum up the squares of the pixels.
    to : {"int32", "int64", "float64"}
        The type of the sums. None: int64 of integers, float64 of floats, which are the only type for these.

    Returns
    -------
    array
        Of one row and one column more than the image: zeros, above and to the left of it. The sum of a rectangle is
        ``s[bottom, right] - s[top, right] - s[bottom, left] + s[top, left]``.

    Notes
    -----
    As ``cv2.integral``, which gives int32 of uint8 and float64 of the others. Sums of integers are exact up to 2^63, as
    float64 up to 2^53. As int32 they wrap around beyond 2^31, from 8.4 million white pixels on, as OpenCV's do; sums of
    rectangles below that size are right all the same, since differences wrap around, too. Sums of floats deviate by
    ``eps * (rows + columns)`` of the sum of all magnitudes at most. A NaN makes all NaN that it is part of.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.integral_image(np.array([[1, 2], [3, 4]], np.uint8))
    array([[ 0,  0,  0],
           [ 0,  1,  3],
           [ 0,  4, 10]])
    """
    return INTEGRAL.on_whole(image, {"squares": squares, "to": to})


# Templates

Method = Literal["ccoeff_normed", "ccoeff", "ccorr_normed", "ccorr", "sqdiff_normed", "sqdiff"]

FEW = 10 * np.finfo(np.float32).eps  # the share of the squares below which OpenCV takes a window for uniform


def _side(p: Any) -> int:
    """Return the side of the squares that are transformed: a few times that of the template, where it can be."""
    longest: int = max(p.template.shape[:2])
    return 1 << min(max((3 * longest).bit_length(), 9), 11)


def _correlation(spectrum: Array, weights: Array, shape: tuple[int, int], whole: bool) -> Array:
    """Return the sums of the image's windows times weights, whose channels are summed, from the image's transform.

    Sums of whole numbers are exact: they are rounded.
    """
    size = [scipy.fft.next_fast_len(side, real=True) for side in shape]
    product = spectrum * scipy.fft.rfft2(weights, size, axes=(0, 1)).conj()
    sums = scipy.fft.irfft2(product.sum(axis=2), size)
    sums = sums[: shape[0] - weights.shape[0] + 1, : shape[1] - weights.shape[1] + 1]
    result: Array = np.rint(sums) if whole else sums
    return result


def _boxes(sums: Array, high: int, wide: int) -> Array:
    """Return the sums over windows from an integral image."""
    across: Array = sums[:, wide:] - sums[:, :-wide]
    return across[high:] - across[:-high]


def _transform(image: Array) -> Array:
    size = [scipy.fft.next_fast_len(side, real=True) for side in image.shape[:2]]
    spectrum: Array = scipy.fft.rfft2(image, size, axes=(0, 1))
    return spectrum


def _matches(pixels: Array, p: Any) -> Array:
    """Return OpenCV's formulas, in float64, for all windows of these pixels."""
    whole = pixels.dtype == np.uint8
    image, template = (np.atleast_3d(one).astype(np.float64) for one in (pixels, p.template))
    mask: Array = np.ones(template.shape[:2], bool) if p.mask is None else _mask(p)
    template = template * mask[:, :, np.newaxis]
    finite: Array = np.all(np.isfinite(image), axis=2)
    image = image if finite.all() else np.where(finite[:, :, np.newaxis], image, 0)
    shape = (image.shape[0], image.shape[1])

    def windows(power: int) -> list[Array]:
        """Return the sums over windows of each channel, or of its squares."""
        if p.mask is None and whole:
            sums = cv2.integral2(pixels, sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)[power - 1]
            return [_boxes(np.atleast_3d(sums)[:, :, one], *mask.shape) for one in range(image.shape[2])]
        values = [np.ascontiguousarray(image[:, :, one]) ** power for one in range(image.shape[2])]
        if p.mask is None:
            return [sums_along(sums_along(one, 0, mask.shape[0]), 1, mask.shape[1]) for one in values]
        weights = mask[:, :, np.newaxis].astype(np.float64)
        return [_correlation(_transform(one[:, :, np.newaxis]), weights, shape, whole) for one in values]

    count = max(int(np.count_nonzero(mask)), 1)
    score = _correlation(_transform(image), template, shape, whole)
    energy = float((template * template).sum())
    squares = np.sum(windows(2), axis=0) if p.method not in ("ccorr", "ccoeff") else np.zeros(1)
    spread = squares
    if p.method.startswith("ccoeff"):
        sums, totals = windows(1), template.sum(axis=(0, 1))
        score = score - sum(one * total for one, total in zip(sums, totals, strict=True)) / count
        if p.method == "ccoeff_normed":
            spread = np.maximum(squares - sum(one * one for one in sums) / count, 0)
            energy -= float((totals * totals).sum()) / count
    elif p.method.startswith("sqdiff"):
        score = np.maximum(squares - 2 * score + energy, 0)
    if p.method.endswith("normed"):
        score = _normed(score, spread, squares, max(energy, 0.0), p.method)
    result: Array = score.astype(np.float32)
    if not finite.all():
        result[sums_along(sums_along((~finite).astype(np.int64), 0, mask.shape[0]), 1, mask.shape[1]) > 0] = np.nan
    return result


def _normed(score: Array, spread: Array, squares: Array, energy: float, method: str) -> Array:
    """Divide scores by the roots of both energies as OpenCV does, which has its own rules where one of them is none."""
    if method == "ccoeff_normed" and energy < np.finfo(np.float64).eps:
        return np.ones(score.shape)
    norm = np.sqrt(spread * energy)
    norm[spread <= np.minimum(0.5, FEW * squares)] = 0
    size = np.abs(score)
    ratio = np.divide(score, norm, out=np.zeros(score.shape), where=size < norm)
    beyond = size >= norm
    ratio[beyond] = np.where(size < 1.125 * norm, np.sign(score), float(method == "sqdiff_normed"))[beyond]
    return ratio


def _mask(p: Any) -> Array:
    mask = p.mask[:, :, 0] if p.mask.ndim == 3 else p.mask
    return np.asarray(mask != 0)


def _check_template(shape: tuple[int, ...], dtype: np.dtype[Any], p: Any) -> None:
    """Raise where a template does not go with an image of that shape and type."""
    rows, columns = p.template.shape[:2]
    if rows > shape[0] or columns > shape[1] or 0 in (rows, columns):
        raise ArrayError(
            f"match_template: the template has {rows} x {columns} pixels, the image {shape[0]} x {shape[1]}; "
            "it must have some, and may not be larger than the image"
        )
    channels, others = (one[2] if len(one) == 3 else 1 for one in (shape, p.template.shape))
    if channels != others:
        raise ArrayError(
            f"match_template: the image has {channels} channels, the template {others}; convert one of them first"
        )
    if p.template.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise DtypeError(
            f'match_template: the image is {dtype}, the template {p.template.dtype}; template.astype("{dtype.name}")'
        )
    if p.mask is not None and (p.mask.shape[:2] != (rows, columns) or p.mask.shape[2:] not in ((), (1,))):
        raise ArrayError(f"match_template: the mask has the shape {p.mask.shape}, it must be ({rows}, {columns})")


SLIDING = Sliding(lambda p: p.template.shape[:2], _side, _matches, _check_template)


@operation(kind=SLIDING, dtypes="uint8 float32", channels="convert")
def match_template(
    image: Array,
    *,
    template: Annotated[Array, Image()],
    method: Method = "ccoeff_normed",
    mask: Annotated[Array | None, Image()] = None,
) -> Array:
    """Score how well a template matches the image at each place.

    Parameters
    ----------
    template : array
        What is looked for: of the image's type and channels, and no larger.
    method : {"ccoeff_normed", "ccoeff", "ccorr_normed", "ccorr", "sqdiff_normed", "sqdiff"}
        The correlation of what differs from the mean, the correlation, or the sum of squared differences, which is
        least where the template matches; "normed": divided by both their roots of summed squares, so that scores lie
        between -1 and 1, or 0 and 1.
    mask : array
        Which pixels of the template count: those that are not 0. None: all.

    Returns
    -------
    array
        float32, ``(rows - h + 1, columns - w + 1)`` for a template of h x w: the score with the template's first pixel
        there, all channels taken together. NaN where a pixel under the template is NaN or infinite.

    Raises
    ------
    ArrayError, DtypeError
        If the template is larger than the image, or of other channels or type, or the mask of another size.

    Notes
    -----
    As ``cv2.matchTemplate``, by its formulas and its rules for uniform windows, but more exact: sums of uint8 are whole
    numbers, others have double precision, where OpenCV's Fourier transform is in single precision. On uint8, OpenCV's
    own scores are off by up to 1e-6 of ``255² h w``, and normed ones by up to 1e-5, more in nearly uniform windows.
    Masks here say which pixels count, and nearly uniform windows have the same rules with them as without, where
    OpenCV's scores become infinite or NaN. The result is the same bit for bit for any chunks.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> image = np.array([[0, 0, 9, 3, 0], [0, 0, 4, 8, 0]], np.uint8)
    >>> di.match_template(image, template=image[:, 2:4].copy(), method="sqdiff")
    array([[170., 149.,   0., 125.]], dtype=float32)
    """
    arguments = SimpleNamespace(template=template, method=method, mask=mask)
    _check_template(image.shape, image.dtype, arguments)
    return SLIDING.on_region(image, arguments)
