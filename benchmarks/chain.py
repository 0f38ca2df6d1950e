"""The chain gaussian 5x5, sobel, absolute, threshold on 16,384 x 16,384 pixels, by us, by hand and by our peers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import dask.array as da
import numpy as np

import daskimg as di

CHUNK = 4096
STRIP = 256  # rows that the engine takes at this width
REACH = 3
LEVEL = 50

PIPELINE = di.gaussian_blur(ksize=5) | di.sobel(dx=1, dy=0) | di.absolute() | di.threshold(value=LEVEL)


def photo_like(side: int) -> np.ndarray:
    """Return a square image with smooth parts, edges and noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (side // 64, side // 64), dtype=np.uint8)
    image = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    noise = rng.integers(0, 32, (1024, 1024), dtype=np.uint8)
    tiles = np.tile(noise, (side // 1024 + 1, side // 1024 + 1))[:side, :side]
    return cv2.add(image, np.ascontiguousarray(tiles))


def in_cv2(image: np.ndarray) -> np.ndarray:
    """Run the chain by OpenCV alone."""
    image = cv2.GaussianBlur(image, (5, 5), 0)
    image = cv2.Sobel(image, cv2.CV_16S, 1, 0, ksize=3)
    image = cv2.convertScaleAbs(image)
    return cv2.threshold(image, LEVEL, 255, cv2.THRESH_BINARY)[1]


def by_hand(image: np.ndarray) -> list[np.ndarray]:
    """Run the chain over the engine's own chunks and strips on two threads, as one would write it by hand."""
    side = len(image)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def chunk(corner: tuple[int, int]) -> np.ndarray:
        row, column = corner
        height, width = min(CHUNK, side - row), min(CHUNK, side - column)
        result = np.empty((height, width), np.uint8)
        left = max(column - REACH, 0)
        for start in range(row, row + height, STRIP):
            stop = min(start + STRIP, row + height)
            top = max(start - REACH, 0)
            strip = in_cv2(image[top : stop + REACH, left : column + width + REACH])
            result[start - row : stop - row] = strip[start - top : stop - top, column - left : column - left + width]
        return result

    try:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(chunk, itertools.product(range(0, side, CHUNK), repeat=2)))
    finally:
        cv2.setNumThreads(threads)


def overlap_per_operation(image: da.Array) -> da.Array:
    """Run the same cv2 calls by one `map_overlap` each, as dask's documentation shows it."""
    calls: list[tuple[Callable[[np.ndarray], np.ndarray], int, str]] = [
        (lambda block: cv2.GaussianBlur(block, (5, 5), 0), 2, "uint8"),
        (lambda block: cv2.Sobel(block, cv2.CV_16S, 1, 0, ksize=3), 1, "int16"),
        (cv2.convertScaleAbs, 0, "uint8"),
        (lambda block: cv2.threshold(block, LEVEL, 255, cv2.THRESH_BINARY)[1], 0, "uint8"),
    ]
    for call, depth, dtype in calls:
        meta = np.empty((0, 0), dtype)
        image = image.map_overlap(call, depth=depth, boundary="none", dtype=dtype, meta=meta)
    return image


def in_scikit_image(image: np.ndarray) -> np.ndarray:
    """Run the nearest chain of scikit-image, its `apply_parallel` over the same chunks."""
    from skimage.filters import gaussian, sobel_v
    from skimage.util import apply_parallel

    def chain(block: np.ndarray) -> np.ndarray:
        edges = sobel_v(gaussian(block, sigma=1.1, truncate=2 / 1.1, preserve_range=True))
        return (np.abs(edges) * 4 > LEVEL).astype(np.uint8) * np.uint8(255)

    return apply_parallel(chain, image, chunks=(CHUNK, CHUNK), depth=REACH, dtype=np.uint8)


def in_dask_image(image: da.Array) -> da.Array:
    """Run the nearest chain of dask-image; on int16, since its Sobel wraps on uint8."""
    from dask_image.ndfilters import gaussian_filter, sobel

    smooth = gaussian_filter(image, sigma=1.1, truncate=2 / 1.1)
    edges = sobel(smooth.astype(np.int16), axis=1)
    return (abs(edges) > LEVEL).astype(np.uint8) * np.uint8(255)
