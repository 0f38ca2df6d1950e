"""Few colors: a palette that suits the whole image, and each pixel in its nearest color."""

from __future__ import annotations

import math
from typing import Annotated, Any

import cv2
import numpy as np

from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import operation
from daskimg.operations.tone import as_type
from daskimg.parameters import Range

__all__ = ["quantize_colors"]

SAMPLE = 1 << 16  # pixels, about: what the palette is made from
ITERATIONS = 10
PART = 1 << 14  # pixels whose distances are computed together


def _sample(image: Array, p: Any, where: Window) -> tuple[Array, Array]:
    """Return the pixels of the block that the palette is made from, and their numbers in the whole image.

    From each square of a grid over the whole image comes one, at a place that its number decides like a die.
    """
    side = max(1, math.ceil(math.sqrt(where.rows * where.columns / SAMPLE)))
    rows = np.arange(where.row // side, (where.row + len(image) - 1) // side + 1)[:, np.newaxis]
    columns = np.arange(where.column // side, (where.column + image.shape[1] - 1) // side + 1)[np.newaxis]
    dice = _scatter(rows * (where.columns // side + 1) + columns)
    rows, columns = rows * side + dice % side - where.row, columns * side + dice // side % side - where.column
    inside = (rows >= 0) & (rows < len(image)) & (columns >= 0) & (columns < image.shape[1])
    rows, columns = rows[inside], columns[inside]
    return (rows + where.row) * where.columns + columns + where.column, image[rows, columns].reshape(len(rows), -1)


def _scatter(numbers: Array) -> Array:
    """Return numbers below 2**31 that look random, always the same for the same number: Knuth's and a shift."""
    mixed = (numbers * 2654435761) & 0xFFFFFFFF
    mixed = ((mixed >> 15) ^ mixed) * 2246822519 & 0xFFFFFFFF
    scattered: Array = (mixed ^ (mixed >> 13)) & 0x7FFFFFFF
    return scattered


def _join(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def _palette(sample: tuple[Array, Array], p: Any) -> Array:
    """Return the colors from dark to bright: as many as are wanted, or all that there are."""
    from scipy.cluster.vq import vq

    numbers, pixels = sample
    colors = np.unique(pixels, axis=0)
    if len(colors) > p.colors:
        points = pixels[np.argsort(numbers)].astype(np.float64)
        means = _spread(points, p.colors)
        for _ in range(ITERATIONS):
            nearest = vq(points, means)[0]
            counts = np.bincount(nearest, minlength=len(means))
            sums = np.stack([np.bincount(nearest, one, len(means)) for one in points.T], axis=1)
            means = np.where(counts[:, np.newaxis] > 0, sums / np.maximum(counts, 1)[:, np.newaxis], means)
        colors = np.unique(as_type(means, pixels.dtype), axis=0)
    order = np.argsort(colors.sum(axis=1, dtype=np.int64), kind="stable")
    return colors[order]


def _spread(points: Array, count: int) -> Array:
    """Return the means of boxes: again and again that of the greatest squared error is cut in two at its mean."""
    boxes = [points]
    errors = [points.var(axis=0) * len(points)]
    while len(boxes) < count:
        number = int(np.argmax([error.max() for error in errors]))
        box, axis = boxes.pop(number), int(np.argmax(errors.pop(number)))
        below = box[:, axis] <= box[:, axis].mean()
        for half in (box[below], box[~below]):
            boxes.append(half)
            errors.append(half.var(axis=0) * len(half))
    return np.stack([box.mean(axis=0) for box in boxes])


def _paint(image: Array, colors: Array, p: Any, where: Window) -> Array:
    """Return each pixel's nearest color; of several, the darkest."""
    from scipy.cluster.vq import vq

    if image.ndim == 2:
        values = np.arange(1 << 8 * image.itemsize, dtype=np.float64)[:, np.newaxis]
        return cv2.LUT(image, colors[vq(values, colors.astype(np.float64))[0], 0])
    pixels, palette = image.reshape(-1, image.shape[2]), colors.astype(np.float64)
    painted = np.empty(pixels.shape, image.dtype)
    for start in range(0, len(pixels), PART):
        part = slice(start, start + PART)
        painted[part] = colors[vq(pixels[part].astype(np.float64), palette)[0]]
    return painted.reshape(image.shape)


QUANTIZE = TwoPass(_sample, _join, _paint, _palette, positional=True)


@operation(kind=QUANTIZE, dtypes="uint8 uint16", channels="joint", alpha="keep")
def quantize_colors(image: Any, *, colors: Annotated[int, Range(1, 256)] = 8) -> Any:
    """Reduce an image to a few colors that suit it.

    Parameters
    ----------
    colors : int
        How many, at most.

    Returns
    -------
    ndarray
        The image with each pixel in the nearest of those colors, of the same data type; alpha stays.

    Notes
    -----
    k-means (S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28, 1982) on about
    65,536 pixels, which lie in a jittered grid over the whole image, whatever its chunks; smaller images count whole.
    It starts from boxes that are cut in two where the squared error is greatest, so that nothing is left to chance.

    Examples
    --------
    >>> import daskimg as di, numpy as np
    >>> di.quantize_colors(np.array([[10, 12, 200, 220]], np.uint8), colors=2)
    array([[ 11,  11, 210, 210]], dtype=uint8)
    """
    return QUANTIZE.on_whole(image, {"colors": colors})
