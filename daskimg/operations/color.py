"""Colors: conversions between color spaces, and changes of hue and saturation."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ArrayError
from daskimg.operation import Array, operation
from daskimg.operations.kernels import LANES, float_lanes
from daskimg.operations.tone import as_type, white
from daskimg.parameters import Choice, Range, Unit

__all__ = ["colormap", "convert_color", "hue_saturation", "sepia", "to_gray", "to_rgb"]


def _opaque(image: Array, dtype: np.dtype[Any]) -> Array:
    return np.full(image.shape[:2], white(dtype), dtype)


def gray_of(image: Array) -> Array:
    """Return the luma of a gray, RGB or RGBA image as (rows, columns)."""
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2]).copy()
    colors = np.ascontiguousarray(image[:, :, :3])
    if image.dtype in (np.uint8, np.uint16, np.float32):
        return cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)
    red, green, blue = np.moveaxis(colors.astype(np.float64, copy=False), 2, 0)
    return as_type(0.299 * red + 0.587 * green + 0.114 * blue, image.dtype)


def rgb_of(image: Array) -> Array:
    """Return a gray, RGB or RGBA image as RGB."""
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.merge([image.reshape(image.shape[:2])] * 3)
    return image[:, :, :3].copy()


@operation(channels="convert", accepts=(1, 3, 4), lanes=float_lanes)
def to_gray(image: Any) -> Any:
    """Convert color to gray.

    Returns
    -------
    ndarray
        The luma, (rows, columns), of the same data type; alpha is dropped, and a gray image stays as it is.

    Notes
    -----
    `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601), `cv2.cvtColor` with `COLOR_RGB2GRAY`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.to_gray(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8))
    array([[ 76, 150]], dtype=uint8)
    """
    return gray_of(image)


@operation(channels="convert", accepts=(1, 3, 4))
def to_rgb(image: Any, *, alpha: bool = False) -> Any:
    """Convert gray to color, or drop or add alpha.

    Parameters
    ----------
    alpha : bool
        Whether the result is RGBA: with the alpha that there is, else opaque.

    Returns
    -------
    ndarray
        (rows, columns, 3), or 4 with alpha, of the same data type.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.to_rgb(np.array([[7, 9]], np.uint8)).tolist()
    [[[7, 7, 7], [9, 9, 9]]]
    """
    if not alpha:
        return rgb_of(image)
    if image.ndim == 3 and image.shape[2] == 4:
        return image.copy()
    return np.dstack((rgb_of(image), _opaque(image, image.dtype)))


ColorSpace = Literal["rgb", "bgr", "gray", "hsv", "hsv_full", "hls", "hls_full", "lab", "luv", "ycrcb", "yuv", "xyz"]
_BITS_8 = {"hsv", "hsv_full", "hls", "hls_full", "lab", "luv"}  # cv2 has these for uint8 and float32 only
_LINEAR = {"ycrcb", "yuv", "xyz"}


def _color_dtypes(p: Any) -> str:
    if {p.source, p.to} & _BITS_8:
        return "uint8 float32"
    return "uint8 uint16 float32" if {p.source, p.to} & _LINEAR else "uint8 uint16 int16 float32 float64"


def _color_code(space: str, *, back: bool) -> int:
    name, full = space.removesuffix("_full"), "_FULL" * space.endswith("_full")
    name = {"ycrcb": "YCrCb"}.get(name, name.upper())
    return int(getattr(cv2, f"COLOR_{name}2RGB{full}" if back else f"COLOR_RGB2{name}{full}"))


def _convert(colors: Array, space: str, *, back: bool) -> Array:
    """Convert RGB to a space, or back."""
    if space == "rgb":
        return colors
    if space == "bgr":
        return np.ascontiguousarray(colors[:, :, ::-1])
    if space == "gray":
        return rgb_of(colors) if back else gray_of(colors)
    code = _color_code(space, back=back)
    return cv2.cvtColor(colors, code)


@operation(channels="convert", accepts=(1, 3, 4), dtypes=_color_dtypes, lanes=LANES)
def convert_color(image: Any, *, to: ColorSpace, source: ColorSpace = "rgb") -> Any:
    """Convert from one color space to another.

    Parameters
    ----------
    to : {"rgb", "bgr", "gray", "hsv", "hsv_full", "hls", "hls_full", "lab", "luv", "ycrcb", "yuv", "xyz"}
        The color space of the result.
    source : {"rgb", "bgr", "gray", "hsv", "hsv_full", "hls", "hls_full", "lab", "luv", "ycrcb", "yuv", "xyz"}
        The color space of the image.

    Returns
    -------
    ndarray
        The converted image, of the same data type: (rows, columns) where it is gray, else with 3 channels, and a
        fourth where there was alpha.

    Raises
    ------
    ArrayError
        If the image's channels are not those of `source`; a gray image passes as RGB.

    Notes
    -----
    `cv2.cvtColor`, by way of RGB. On uint8 every channel is scaled to 8 bits, hue to 0..180 (half degrees) in hsv and
    hls, and to 0..255 in hsv_full and hls_full. Floats: RGB is in 0..1, hue in 0..360, L in 0..100. Two conversions of
    uint8 lose more than one of float32.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.convert_color(np.array([[[0, 255, 0]]], np.uint8), to="hsv")
    array([[[ 60, 255, 255]]], dtype=uint8)
    """
    flat = image.ndim == 2 or image.shape[2] == 1
    if flat != (source == "gray") and not (flat and source in ("rgb", "bgr")):
        have = "one channel" if flat else f"{image.shape[2]} channels"
        raise ArrayError(f"convert_color: source={source!r} does not fit an image of {have}")
    colors = rgb_of(image) if flat else np.ascontiguousarray(image[:, :, :3])
    if source != to:
        colors = _convert(colors if flat else _convert(colors, source, back=True), to, back=False)
    elif flat:
        return gray_of(image)
    if to != "gray" and image.ndim == 3 and image.shape[2] == 4:
        return np.dstack((colors, image[:, :, 3]))
    return colors


@operation(channels="joint", accepts=(3, 4), alpha="keep", dtypes="uint8 uint16 float32", lanes=LANES)
def hue_saturation(
    image: Any,
    *,
    hue: Annotated[float, Range(-360, 360), Unit("degrees")] = 0.0,
    saturation: Annotated[float, Range(0, 100)] = 1.0,
) -> Any:
    """Turn the hue and change the saturation.

    Parameters
    ----------
    hue : float
        What is added to the hue; 120 makes red green.
    saturation : float
        Factor on the saturation; 0 leaves gray, 1 changes nothing.

    Returns
    -------
    ndarray
        The changed image, of the same data type; alpha stays.

    Notes
    -----
    In HSV of `cv2.cvtColor`, in float32 for all data types, so that 8-bit images don't lose hues.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.hue_saturation(np.array([[[200, 50, 50]]], np.uint8), hue=120)
    array([[[ 50, 200,  50]]], dtype=uint8)
    """
    top = white(image.dtype)

    hsv = cv2.cvtColor(image.astype(np.float32) / top, cv2.COLOR_RGB2HSV)
    hsv[:, :, 0] = np.mod(hsv[:, :, 0] + hue, 360)
    hsv[:, :, 1] = np.minimum(hsv[:, :, 1] * saturation, 1)
    return as_type(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * top, image.dtype)


_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))


@operation(channels="joint", accepts=(3, 4), alpha="keep")
def sepia(image: Any, *, amount: Annotated[float, Range(0, 1)] = 1.0) -> Any:
    """Tone an image in brown, as old photographs are.

    Parameters
    ----------
    amount : float
        How much: 0 changes nothing, 1 leaves no other color.

    Returns
    -------
    ndarray
        The toned image, of the same data type; integers are rounded half to even and saturated, floats are not
        clipped, alpha stays.

    Notes
    -----
    The matrix `0.393 0.769 0.189; 0.349 0.686 0.168; 0.272 0.534 0.131` (Microsoft) for red, green and blue.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.sepia(np.array([[[100, 100, 100]]], np.uint8))
    array([[[135, 120,  94]]], dtype=uint8)
    """
    mix = amount * np.array(_SEPIA) + (1 - amount) * np.eye(3)
    if image.dtype == np.uint8:
        return cv2.transform(image, mix)
    # cv2.transform rounds the last pixels of a row differently; NumPy's sums don't depend on the place.
    wide = image.astype(np.result_type(image.dtype, np.float32), copy=False)
    toned = [sum(float(row[one]) * wide[:, :, one] for one in range(3)) for row in mix]
    return as_type(np.dstack(toned), image.dtype)


_COLORMAPS = {
    name.removeprefix("COLORMAP_").lower(): getattr(cv2, name) for name in dir(cv2) if name.startswith("COLORMAP_")
}


@functools.lru_cache(maxsize=len(_COLORMAPS))
def _color_table(name: str) -> Array:
    gray = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    return np.ascontiguousarray(cv2.applyColorMap(gray, _COLORMAPS[name])[:, :, ::-1])  # cv2's are BGR


@operation(channels="convert", accepts=(1,), dtypes="uint8")
def colormap(image: Any, *, name: Annotated[str, Choice(tuple(sorted(_COLORMAPS)))] = "viridis") -> Any:
    """Show gray levels in false colors.

    Parameters
    ----------
    name : str
        The colors, from those of 0 to those of 255.

    Returns
    -------
    ndarray of uint8
        RGB, (rows, columns, 3).

    Notes
    -----
    `cv2.applyColorMap`, in RGB order.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.colormap(np.array([[0, 255]], np.uint8), name="hot").tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    return cv2.applyColorMap(np.ascontiguousarray(image.reshape(image.shape[:2])), _color_table(name))
