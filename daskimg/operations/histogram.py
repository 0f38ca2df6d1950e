"""Histograms: operations that look at the values of the whole image before they change any."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from daskimg.kinds import Array, TwoPass, Window
from daskimg.operation import operation

__all__ = ["equalize_hist"]


def counts_of(image: Array) -> Array:
    """Return how often each value occurs, as int64: 256 or 65,536 numbers, by channel where there are channels."""
    if image.ndim == 3:
        return np.stack([counts_of(np.ascontiguousarray(image[:, :, c])) for c in range(image.shape[2])])
    if image.dtype == np.uint8:
        return cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return np.bincount(image.ravel(), minlength=1 << 16)


def _measure(image: Array, p: Any, where: Window) -> Array:
    return counts_of(image)


def _equalizing(counts: Array, p: Any) -> Array:
    return np.stack([_equalizing_table(one) for one in np.atleast_2d(counts)])


def _equalizing_table(counts: Array) -> Array:
    """Return OpenCV's table: the share of pixels up to a value, without those of the first value, times the top."""
    dtype = np.dtype(np.uint8 if len(counts) == 256 else np.uint16)
    first = int(np.flatnonzero(counts)[0])
    total = int(counts.sum())
    table = np.zeros(len(counts), dtype)
    if counts[first] == total:
        table[:] = first
        return table
    scale = np.float32(len(counts) - 1) / np.float32(total - counts[first])
    sums = np.cumsum(counts[first + 1 :]).astype(np.float32) * scale
    table[first + 1 :] = np.clip(np.rint(sums), 0, len(counts) - 1)
    return table


def _look_up(image: Array, tables: Array, p: Any, where: Window) -> Array:
    if image.ndim == 2:
        return cv2.LUT(image, tables[0])
    return np.dstack([cv2.LUT(np.ascontiguousarray(image[:, :, c]), tables[c]) for c in range(image.shape[2])])


EQUALIZE = TwoPass(_measure, np.add, _look_up, _equalizing)


@operation(kind=EQUALIZE, dtypes="uint8 uint16", alpha="keep")
def equalize_hist(image: Any) -> Any:
    """Spread the values evenly over their range.

    Returns
    -------
    ndarray
        The equalised image.
    """
    if image.dtype == np.uint8 and image.ndim == 2:
        return cv2.equalizeHist(image)
    return EQUALIZE.on_whole(image, {})
