"""What neighbourhood operations take to lie beyond the edge of the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import cv2

__all__: list[str] = []

Border: TypeAlias = Literal["reflect_101", "reflect", "replicate", "constant"]
"""`cb|abcd|cb`, `ba|abcd|dc`, `aa|abcd|dd` and `00|abcd|00`. OpenCV's `wrap` is refused by its own filters."""

BORDERS: Mapping[str, int] = {
    "reflect_101": cv2.BORDER_REFLECT_101,
    "reflect": cv2.BORDER_REFLECT,
    "replicate": cv2.BORDER_REPLICATE,
    "constant": cv2.BORDER_CONSTANT,
}
