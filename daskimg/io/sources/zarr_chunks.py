"""Chunks of Zarr on a local disk, decoded by numcodecs itself: zarr's event loop costs several times as much."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChunkFiles", "chunk_files"]

Pixels = NDArray[Any]

_KNOWN = ("blosc", "gzip", "zlib", "zstd")  # which need no configuration to decode


@dataclass(frozen=True)
class ChunkFiles:
    """Decodes the chunks of an array that has a file for each.

    Attributes
    ----------
    folder : str
        Of the array.
    array : zarr.Array
        What names the files.
    stored : dtype
        With the byte order of the files.
    codecs : tuple
        Of numcodecs, in the order of decoding.
    """

    folder: str
    array: Any
    stored: np.dtype[Any]
    codecs: tuple[Any, ...]

    def decode(self, index: tuple[int, ...]) -> Pixels:
        """Return a chunk; what lies beyond the end of the array comes with it.

        Raises
        ------
        ValueError
            It is broken.
        """
        shape = self.array.chunks
        try:
            with open(os.path.join(self.folder, self.array.metadata.encode_chunk_key(index)), "rb") as file:
                data: Any = file.read()
        except FileNotFoundError:
            return np.full(shape, self.array.fill_value, self.stored)
        for codec in self.codecs:
            data = codec.decode(data)
        return np.frombuffer(data, self.stored).reshape(shape)


def chunk_files(array: Any, folder: str) -> ChunkFiles | None:
    """Return what decodes an array's chunks directly; None where only zarr can, as with shards.

    Parameters
    ----------
    array : zarr.Array
        The open array.
    folder : str
        Where it lies.
    """
    import numcodecs

    about = array.metadata
    stored = np.dtype(array.dtype)
    if about.zarr_format == 2:
        if about.filters or about.order != "C":
            return None
        names = [about.compressor.codec_id] if about.compressor is not None else []
    else:
        first, *others = about.to_dict()["codecs"]
        if first["name"] != "bytes":
            return None
        endian = first.get("configuration", {}).get("endian", "little")
        stored = stored.newbyteorder("<" if endian == "little" else ">")
        names = [one["name"] for one in reversed(others)]
    if stored.kind not in "buifc" or not set(names) <= set(_KNOWN) or array.fill_value is None:
        return None
    return ChunkFiles(folder, array, stored, tuple(numcodecs.get_codec({"id": name}) for name in names))
