"""How the tiles of TIFF files are encoded."""

from __future__ import annotations

import importlib
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskimg.errors import ArrayError, DtypeError, EnvironmentProblem, ParameterError, suggest
from daskimg.io.sink import Encoder

__all__ = ["COMPRESSIONS", "TiffEncoder", "chosen_predictor", "compression_named"]

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Compression:
    """Says what a compression can do, and which function of imagecodecs does it.

    Attributes
    ----------
    tag : str
        What tifffile calls it.
    codec : str
        The encoder's name in imagecodecs; empty where none is needed.
    levels : range
        What `level` may be; empty where there is no choice.
    level : int, optional
        The one taken by default.
    lossless : bool
        Pixels come back as they were, at any level.
    dtypes, channels : tuple
        What it takes, where that is not everything.
    options : mapping
        What else the encoder is told.
    """

    tag: str
    codec: str = ""
    levels: range = range(0)
    level: int | None = None
    lossless: bool = True
    dtypes: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


COMPRESSIONS = {
    "none": Compression("none"),
    "deflate": Compression("adobe_deflate", levels=range(1, 13), level=5),
    "lzw": Compression("lzw", "lzw_encode"),
    "zstd": Compression("zstd", "zstd_encode", range(1, 23), 3),
    "lzma": Compression("lzma", levels=range(10), level=6),
    "jpeg": Compression("jpeg", "jpeg8_encode", range(1, 101), 90, False, ("uint8",), (1, 3)),
    "jpeg2000": Compression(
        "jpeg2000",
        "jpeg2k_encode",
        range(1, 101),
        None,
        False,
        ("uint8", "uint16"),
        (1, 2, 3, 4),
        {"codecformat": "J2K", "mct": False, "numthreads": 1},
    ),
    "webp": Compression("webp", "webp_encode", range(1, 101), 90, False, ("uint8",), (3, 4)),
}


def compression_named(
    name: str | None, level: int | None, dtype: np.dtype[Any], channels: int
) -> tuple[str, int | None]:
    """Return a compression's name and level, checked against what is to be compressed.

    Raises
    ------
    ParameterError
        There is no such compression, or no such level.
    DtypeError, ArrayError
        It doesn't take this type, or not so many channels.
    EnvironmentProblem
        Its encoder is not installed.

    Examples
    --------
    >>> compression_named(None, None, np.dtype("uint8"), 3)
    ('deflate', 5)
    """
    name = name or "deflate"
    if name not in COMPRESSIONS:
        raise ParameterError(
            f"compression of TIFF must be one of {', '.join(COMPRESSIONS)}; got {name!r}.{suggest(name, COMPRESSIONS)}"
        )
    kind = COMPRESSIONS[name]
    if level is not None and level not in kind.levels:
        allowed = f"{kind.levels.start} to {kind.levels.stop - 1}" if kind.levels else "none"
        raise ParameterError(f"level of TIFF compression {name!r}: allowed is {allowed}; got {level!r}.")
    if kind.dtypes and dtype.name not in kind.dtypes:
        raise DtypeError(
            f"TIFF compression {name!r} takes {' and '.join(kind.dtypes)}, not {dtype}; use 'deflate', or rescale."
        )
    if kind.channels and channels not in kind.channels:
        allowed = ", ".join(map(str, kind.channels))
        raise ArrayError(f"TIFF compression {name!r} takes {allowed} channels, not {channels}; use 'deflate'.")
    if kind.codec:
        _codec(kind.codec, name)
    return name, kind.level if level is None else level


def chosen_predictor(predictor: bool | None, compression: str, dtype: np.dtype[Any]) -> int:
    """Return the value of the tag Predictor: 1 for none, 2 for differences of integers, 3 for those of floats.

    By default integers are predicted, floats are not.

    Raises
    ------
    ParameterError
        This compression has no predictor.
    EnvironmentProblem
        The one for floats is not installed.
    """
    possible = compression != "none" and COMPRESSIONS[compression].lossless
    if predictor and not possible:
        raise ParameterError(f"TIFF compression {compression!r} has no predictor; leave out predictor.")
    if not possible or not (dtype.kind in "iu" if predictor is None else predictor):
        return 1
    if dtype.kind == "f":
        _codec("floatpred_encode", "predictor of floats")
        return 3
    return 2


def _codec(function: str, name: str) -> Callable[..., Any]:
    try:
        codec: Callable[..., Any] = getattr(importlib.import_module("imagecodecs"), function)
        if getattr(codec, "__name__", "") == function:  # Else a stand-in for what was left out of a build.
            return codec
    except (ImportError, AttributeError):
        pass
    raise EnvironmentProblem(
        f"TIFF compression {name!r} needs an encoder that is not installed: pip install 'daskimg[codecs]'"
    )


@dataclass(frozen=True)
class TiffEncoder(Encoder):
    """Encodes tiles of a TIFF file.

    Attributes
    ----------
    tile : tuple of int
        Rows and columns, to which tiles at the image's end are filled up.
    dtype : str
        Of the samples, in the byte order of the file.
    compression : str
        One of `COMPRESSIONS`.
    level : int, optional
        Of the compression.
    predictor : int
        The value of the tag Predictor.
    """

    tile: tuple[int, int]
    dtype: str
    compression: str
    level: int | None
    predictor: int

    def encode(self, level: int, batch: tuple[int, ...], at: tuple[int, int], pixels: Pixels) -> bytes:
        """Return the bytes of a tile."""
        return self._compressed(self._predicted(self._filled(pixels)))

    def _filled(self, pixels: Pixels) -> Pixels:
        """Return the tile in full: beyond the image are zeros, or its last pixels again where zeros would ring."""
        missing = [size - length for size, length in zip(self.tile, pixels.shape, strict=False)]
        if any(missing):
            around = [(0, size) for size in missing] + [(0, 0)] * (pixels.ndim - 2)
            mode: Any = "constant" if COMPRESSIONS[self.compression].lossless else "edge"
            pixels = np.pad(pixels, around, mode)
        return np.ascontiguousarray(pixels, self.dtype)

    def _predicted(self, pixels: Pixels) -> Pixels:
        if self.predictor == 2:
            bits = pixels.view(f"{self.dtype[0]}u{pixels.itemsize}")
            result = bits.copy()
            np.subtract(bits[:, 1:], bits[:, :-1], out=result[:, 1:])
            return result
        if self.predictor == 3:
            predicted: Pixels = _codec("floatpred_encode", "predictor of floats")(pixels, axis=1)
            return predicted
        return pixels

    def _compressed(self, pixels: Pixels) -> bytes:
        if self.compression == "none":
            return pixels.tobytes()
        if self.compression == "lzma":
            return lzma.compress(pixels.data, preset=self.level)
        if self.compression == "deflate":
            return _deflate(pixels, self.level)
        kind = COMPRESSIONS[self.compression]
        options: dict[str, Any] = dict(kind.options)
        if self.level is not None:
            options["level"] = self.level
        if self.compression == "jpeg" and pixels.ndim == 3 and pixels.shape[2] == 3:
            options |= {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": "420"}
        squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        return bytes(_codec(kind.codec, self.compression)(squeezed, **options))


def _deflate(pixels: Pixels, level: int | None) -> bytes:
    try:
        codec = _codec("deflate_encode", "deflate")  # libdeflate: several times as fast as zlib, and smaller
    except EnvironmentProblem:
        return zlib.compress(pixels.data, min(level or 6, 9))
    return bytes(codec(pixels, level))
