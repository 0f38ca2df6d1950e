"""The eight ways in which Exif and TIFF say that stored rows and columns lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["upright"]

# Orientation: whether rows and columns swap, then the flip as cv2 counts it (0 up-down, 1 left-right, -1 both).
_TURNS: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an image so that it stands as its orientation asks.

    Parameters
    ----------
    image : ndarray, (rows, columns) or (rows, columns, channels)
        The pixels as stored.
    orientation : int
        From 1 (upright already) to 8, as Exif counts.

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]], np.uint8), 6)
    array([[3, 1],
           [4, 2]], dtype=uint8)
    """
    if orientation not in _TURNS:
        return image
    import cv2

    swap, flip = _TURNS[orientation]
    turned: Any = image
    if swap:
        turned = cv2.transpose(turned)
    if flip is not None:
        turned = cv2.flip(turned, flip)
    return np.asarray(turned)
