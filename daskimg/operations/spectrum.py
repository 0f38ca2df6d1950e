"""Fourier transforms of images along one axis at a time, and filters by frequency."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import scipy

from daskimg.errors import ParameterError
from daskimg.kinds import Array, Spectral
from daskimg.operation import operation
from daskimg.operations.kernels import to_integers
from daskimg.parameters import Range, Unit

__all__ = ["fft_filter"]


def spectral_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the complex type that an image is transformed in."""
    return np.dtype(np.complex128 if dtype.itemsize == 8 else np.complex64)


def rows_transformed(image: Array) -> Array:
    """Return the transform of each row, NaN all through where a number is not finite."""
    real = np.float64 if image.dtype.itemsize == 8 else np.float32
    spectrum: Array = scipy.fft.rfft(image.astype(real, copy=False), axis=1)
    if image.dtype.kind == "f":
        spectrum[~np.isfinite(image).reshape(len(image), -1).all(axis=1)] = np.nan
    return spectrum


def columns_filtered(spectrum: Array, along: Array, kind: Spectral, parameters: Any) -> Array:
    """Return what a filter leaves of whole columns of a spectrum, transformed back along the columns."""
    down = scipy.fft.fftfreq(len(spectrum))[:, np.newaxis]
    factors = kind.response(down, along, parameters).reshape(*spectrum.shape[:2], *(1 for _ in spectrum.shape[2:]))
    real = spectrum.real.dtype
    back: Array = scipy.fft.ifft(scipy.fft.fft(spectrum, axis=0) * factors.astype(real), axis=0, overwrite_x=True)
    return back


def rows_restored(spectrum: Array, columns: int, to: np.dtype[Any]) -> Array:
    """Return the image whose rows these are the transforms of."""
    image: Array = scipy.fft.irfft(spectrum, columns, axis=1)
    return image.astype(to, copy=False) if to.kind == "f" else to_integers(image, to)


def _low_pass(frequency: Array, cutoff: float, shape: str, order: int) -> Array:
    if shape == "ideal":
        return (frequency <= cutoff).astype(float)
    with np.errstate(over="ignore"):
        ratio = frequency / cutoff
        if shape == "gaussian":
            passed: Array = np.exp(-0.5 * ratio**2)
        else:
            passed = 1 / (1 + ratio ** (2 * order))
    return passed


def _response(down: Array, along: Array, p: Any) -> Array:
    frequency = np.hypot(down, along)
    passed = np.ones(frequency.shape)
    if p.high is not None:
        passed *= _low_pass(frequency, p.high, p.shape, p.order)
    if p.low is not None:
        passed *= 1 - _low_pass(frequency, p.low, p.shape, p.order)
    return passed


SPECTRAL = Spectral(_response)


def _filtered(image: Array, **parameters: Any) -> Array:
    spectrum = rows_transformed(image)
    frequencies = scipy.fft.rfftfreq(image.shape[1])
    filtered = columns_filtered(spectrum, frequencies, SPECTRAL, SimpleNamespace(**parameters))
    return rows_restored(filtered, image.shape[1], image.dtype)


Cutoff = Annotated[float | None, Range(above=0, maximum=1), Unit("cycles per px")]


# Errors of a transform grow with the logarithm of its length: by trial up to 5 eps on 4000 x 3000 pixels.
@operation(kind=SPECTRAL, gain=lambda p, dtype: 1.0, levels=1)
def fft_filter(
    image: Array,
    *,
    low: Cutoff = None,
    high: Cutoff = 0.1,
    shape: Literal["gaussian", "butterworth", "ideal"] = "gaussian",
    order: Annotated[int, Range(1, 20)] = 2,
) -> Array:
    """Keep a band of spatial frequencies, by the Fourier transform of the whole image.

    Parameters
    ----------
    low : float
        Frequencies below it are removed: a high-pass filter. None keeps them.
    high : float
        Frequencies above it are removed: a low-pass filter. None keeps them. 0.5 is the finest stripes along an axis.
    shape : {"gaussian", "butterworth", "ideal"}
        How the filter falls off: as a Gaussian, whose standard deviation is the cutoff; as a Butterworth filter, which
        halves the cutoff; or at once, which makes ripples.
    order : int
        How steeply a Butterworth filter falls off.

    Returns
    -------
    array
        Of the image's shape and type; integers are rounded and values beyond the type's range become its limits, so
        that a high-pass filter is best given floats. A NaN or an infinity anywhere makes all NaN.

    Raises
    ------
    ParameterError
        If both cutoffs are None, or `low` is not below `high`.

    Notes
    -----
    With ``f`` the distance from frequency 0, a low-pass filter with cutoff ``c`` has the factors ``exp(-f²/2c²)``,
    ``1 / (1 + (f/c)^2n)``, or 1 up to ``c``; a high-pass filter 1 less these (R. Gonzalez and R. Woods, "Digital Image
    Processing", chapter 4). The image continues periodically beyond its borders. The transform is in single precision
    save for float64, within 8 eps of the largest value from ``numpy.fft``'s, so that integers differ by one level at
    most. Of a chunked image the whole transform, 4 bytes per pixel or 8 for float64, is held or spilled.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.fft_filter(np.array([[10, 20, 10, 20]], np.uint8), high=0.3, shape="ideal")
    array([[15, 15, 15, 15]], dtype=uint8)
    """
    if low is None and high is None:
        raise ParameterError("fft_filter needs a cutoff: low=0.01 removes what is coarser, high=0.1 what is finer")
    if low is not None and high is not None and low >= high:
        raise ParameterError(f"fft_filter keeps what lies between low={low} and high={high}: low must be less")
    return _filtered(image, low=low, high=high, shape=shape, order=order)
