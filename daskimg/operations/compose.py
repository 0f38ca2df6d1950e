"""Composition: images laid over each other, and texts drawn into them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from daskimg.errors import ArrayError, ParameterError
from daskimg.operation import ALL_DTYPES, ANYWHERE, Array, Window, operation
from daskimg.operations.color import gray_of, rgb_of
from daskimg.operations.tone import as_type, rescaled, white
from daskimg.parameters import Image, Range, Unit, Vector

__all__ = ["blend", "draw_text", "overlay"]

Anchor = Literal[
    "top_left", "top", "top_right", "left", "center", "right", "bottom_left", "bottom", "bottom_right"
]  # fmt: skip


def _native(image: Any) -> Array:
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))


@operation
def blend(
    image: Any,
    *,
    other: Annotated[Any, Image(aligned=True)],
    weight: float = 0.5,
    own_weight: float | None = None,
    offset: Annotated[float, Unit("gray levels")] = 0.0,
) -> Any:
    """Mix two images of the same shape and data type.

    Parameters
    ----------
    other : array
        The second image, of the shape and data type of the first.
    weight : float
        Factor on the second image.
    own_weight : float
        Factor on the first image; none for `1 - weight`.
    offset : float
        What is added to the sum, in units of the image.

    Returns
    -------
    ndarray
        The mixture, of the same data type; integers are rounded and saturated. Alpha is mixed as the colors are.

    Raises
    ------
    ArrayError
        If shape or data type of the images differ.

    Notes
    -----
    `own_weight * x + weight * y + offset`, `cv2.addWeighted`.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.blend(np.array([[0, 100]], np.uint8), other=np.array([[200, 200]], np.uint8), weight=0.25)
    array([[ 50, 125]], dtype=uint8)
    """
    second = _native(other)
    if image.ndim == 2 and second.ndim == 3 and second.shape[2] == 1:
        second = second[:, :, 0]
    if second.shape != image.shape or second.dtype != image.dtype:
        raise ArrayError(
            f"blend: the second image is {second.dtype} {second.shape}, the first {image.dtype} {image.shape}; "
            "make them alike with resize, rescale, to_rgb or to_gray, or lay one over the other with overlay"
        )
    own = 1 - weight if own_weight is None else own_weight
    return steadily(lambda a, b: cv2.addWeighted(a, own, b, weight, offset), image, second)


def _corner(
    size: tuple[int, int], where: Window, anchor: str, row: int | None, column: int | None, margin: int
) -> tuple[int, int]:
    """Return the row and column of the whole image where something of a size begins."""
    free = where.rows - size[0], where.columns - size[1]
    top = margin if "top" in anchor else free[0] - margin if "bottom" in anchor else free[0] // 2
    left = margin if "left" in anchor else free[1] - margin if "right" in anchor else free[1] // 2
    return top if row is None else row, left if column is None else column


def _overlap(corner: tuple[int, int], size: tuple[int, int], where: Window, image: Array) -> Any:
    """Return which part of the image at `where` something of a size covers, and with which of its own parts."""
    top, left = corner[0] - where.row, corner[1] - where.column
    rows = range(max(top, 0), min(top + size[0], image.shape[0]))
    columns = range(max(left, 0), min(left + size[1], image.shape[1]))
    if not rows or not columns:
        return None
    into = np.s_[rows.start : rows.stop, columns.start : columns.stop]
    return into, np.s_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _lay(into: Array, over: Array, share: Any) -> None:
    """Lay colors over a part of an image, in place; `share` says how much, from 0 to 1, for each pixel or for all."""
    if into.ndim == 3 and np.ndim(share):
        share = share[:, :, np.newaxis]
    into[...] = as_type(into * (1 - share) + over * share, into.dtype)


_ROW = 1024  # pixels: a multiple of every vector length, so that no loop has a remainder


def steadily(function: Callable[..., Array], *images: Array) -> Array:
    """Apply a function of single pixels so that a pixel's result depends on its value alone.

    OpenCV's loops take a dozen pixels at a time and the last ones of a row one by one, which rounds differently. So the
    pixels are laid out in rows of a fixed length, the last one filled up.
    """
    rows, columns, *channels = images[0].shape
    count = rows * columns
    full = count - count % _ROW
    flat = [np.ascontiguousarray(image).reshape(count, *channels) for image in images]
    parts = []
    if full:
        parts.append(function(*(pixels[:full].reshape(-1, _ROW, *channels) for pixels in flat)))
    if full < count:
        rest = [np.zeros((1, _ROW, *channels), pixels.dtype) for pixels in flat]
        for row, pixels in zip(rest, flat, strict=True):
            row[0, : count - full] = pixels[full:]
        parts.append(function(*rest)[:, : count - full])
    tail = parts[0].shape[2:]
    joined = [part.reshape(-1, *tail) for part in parts]
    return (joined[0] if len(joined) == 1 else np.concatenate(joined)).reshape(rows, columns, *tail)


@operation(channels="joint", accepts=(1, 3, 4), alpha="keep")
def overlay(
    image: Any,
    *,
    mark: Annotated[Any, Image()],
    anchor: Anchor = "bottom_right",
    row: Annotated[int | None, Unit("px")] = None,
    column: Annotated[int | None, Unit("px")] = None,
    margin: Annotated[int, Unit("px")] = 10,
    scale: Annotated[float, Range(above=0, maximum=1000)] = 1.0,
    opacity: Annotated[float, Range(0, 1)] = 1.0,
    where: Window = ANYWHERE,
) -> Any:
    """Lay a mark, such as a logo, over an image.

    Parameters
    ----------
    mark : array
        The mark: gray, RGB or RGBA; its alpha says where it covers.
    anchor : str
        The side or corner of the image at which the mark lies.
    row : int
        First row of the mark in the image, instead of the anchor's; may be negative.
    column : int
        First column of the mark in the image, instead of the anchor's; may be negative.
    margin : int
        Distance of an anchored mark from the border of the image.
    scale : float
        Factor on the size of the mark.
    opacity : float
        How much the mark covers: 0 nothing, 1 fully.
    where : Window
        Where the array lies in the whole image; the engine gives it.

    Returns
    -------
    ndarray
        The image with the mark, of the same data type; what lies outside is cut off, alpha stays.

    Raises
    ------
    ArrayError
        If the mark has another number of channels or a data type that OpenCV lacks.

    Notes
    -----
    `x + (mark - x) * alpha * opacity`, rounded half to even. The mark is scaled as a whole (`cv2.resize`, area when
    smaller, else cubic), brought to the data type as by `rescale`, and to the colors of the image.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.overlay(np.zeros((2, 4), np.uint8), mark=np.full((1, 2), 200, np.uint8), margin=0, opacity=0.5)
    array([[  0,   0,   0,   0],
           [  0,   0, 100, 100]], dtype=uint8)
    """
    if mark.dtype.name not in ALL_DTYPES.split() or mark.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ArrayError(
            f"overlay: a mark is gray, RGB or RGBA and {ALL_DTYPES.replace(' ', ', ')}, not {mark.dtype} {mark.shape}"
        )
    height, width = (max(1, round(length * scale)) for length in mark.shape[:2])
    result = image.copy()
    found = _overlap(_corner((height, width), where, anchor, row, column, margin), (height, width), where, image)
    if found is None:
        return result
    into, part = found
    whole = _native(mark)
    if (height, width) != whole.shape[:2]:
        # The whole mark, for each array: a part by itself would be scaled to other pixels.
        whole = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    piece = rescaled(np.ascontiguousarray(whole[part]), image.dtype)
    wide = np.result_type(image.dtype, np.float32)
    share = wide.type(opacity)
    if piece.ndim == 3 and piece.shape[2] == 4:
        share = share * np.clip(piece[:, :, 3] / wide.type(white(image.dtype)), 0, 1)
    _lay(result[into], steadily(gray_of, piece) if image.ndim == 2 else rgb_of(piece), share)
    return result


@functools.lru_cache(maxsize=16)
def _written(text: str, size: int, weight: int, font: str) -> tuple[Array, tuple[int, int]]:
    """Return how much a text covers each pixel, with a frame of `size` for what juts out, and its nominal size."""
    face = cv2.FontFace(font)
    left, top, width, height = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)
    canvas = np.zeros((height + 2 * size, width + 2 * size), np.uint8)
    if text.strip():
        cv2.putText(canvas, text, (size - left, size - top), (255,), face, size, weight)
    return canvas, (height, width)


@operation(channels="joint", accepts=(1, 3, 4), alpha="keep")
def draw_text(
    image: Any,
    *,
    text: str,
    anchor: Anchor = "top_left",
    row: Annotated[int | None, Unit("px")] = None,
    column: Annotated[int | None, Unit("px")] = None,
    margin: Annotated[int, Unit("px")] = 10,
    size: Annotated[int, Range(1, 2000), Unit("px")] = 24,
    color: Vector | float | None = None,
    weight: Annotated[int, Range(100, 1000)] = 400,
    opacity: Annotated[float, Range(0, 1)] = 1.0,
    font: Literal["sans", "italic", "uni"] = "sans",
    where: Window = ANYWHERE,
) -> Any:
    r"""Write a text into an image.

    Parameters
    ----------
    text : str
        What to write; `\n` begins a new line.
    anchor : str
        The side or corner of the image at which the text stands.
    row : int
        First row of the text in the image, instead of the anchor's; may be negative.
    column : int
        First column of the text in the image, instead of the anchor's; may be negative.
    margin : int
        Distance of an anchored text from the border of the image.
    size : int
        Size of the font.
    color : float or sequence of float
        One number, or red, green and blue, in units of the image; none for white.
    weight : int
        Weight of the strokes: 100 is thin, 400 regular, 800 bold.
    opacity : float
        How much the text covers: 0 nothing, 1 fully.
    font : {"sans", "italic", "uni"}
        One of OpenCV's own fonts; "uni" has the most scripts.
    where : Window
        Where the array lies in the whole image; the engine gives it.

    Returns
    -------
    ndarray
        The image with the text, of the same data type; what lies outside is cut off, alpha stays.

    Raises
    ------
    ParameterError
        If `color` has neither one number nor three.

    Notes
    -----
    Written once by `cv2.putText` with a TrueType font, smooth at its edges, then laid over the pixels:
    `x + (color - x) * coverage * opacity`, rounded half to even. In a gray image three numbers give their luma.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> int(di.draw_text(np.zeros((40, 99), np.uint8), text="Zürich").max())
    255
    """
    values = [white(image.dtype)] if color is None else list(color) if isinstance(color, tuple) else [color]
    if len(values) not in (1, 3):
        raise ParameterError(f"draw_text: color is one number or red, green and blue, not {len(values)} numbers")
    if image.ndim == 2 and len(values) == 3:
        values = [0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2]]
    canvas, nominal = _written(text, size, weight, font)
    top, left = _corner(nominal, where, anchor, row, column, margin)
    result = image.copy()
    found = _overlap((top - size, left - size), canvas.shape, where, image)
    if found is not None:
        into, part = found
        wide = np.result_type(image.dtype, np.float32)
        _lay(result[into], np.array(values, wide), canvas[part] * wide.type(opacity / 255))
    return result
