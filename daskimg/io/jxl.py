"""JPEG XL, in, by imagecodecs; it knows no header, so the pixels are decoded to learn what they are."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ImageFileError
from daskimg.io.boundary import extra_missing

__all__ = ["decode_jxl"]


def decode_jxl(file: IO[bytes], shown: str) -> NDArray[Any]:
    """Decode the first frame, upright; grey with alpha becomes RGBA."""
    try:
        from imagecodecs import jpegxl_decode
    except ImportError as error:
        raise extra_missing(shown, "jxl") from error
    file.seek(0)
    pixels = np.asarray(jpegxl_decode(file.read(), index=0))
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageFileError(f"{shown} decodes to the shape {pixels.shape}, which is neither grey nor RGB(A).")
    return pixels
