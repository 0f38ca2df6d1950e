"""Where a large image goes: written tile by tile, at several resolutions, in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder", "Sink", "Target"]

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Target:
    """Says what is to be written.

    Attributes
    ----------
    shape : tuple of int
        Of the finest level, along `dims`.
    dims : tuple of str
        The names of the axes: any batch axes, then `y`, `x`, and `channel` where colors are part of a pixel.
    dtype : dtype
        Of the samples.
    levels : tuple of tuple of int
        Rows and columns of each resolution, from the finest on; each is half of the one before, rounded up.
    attrs : dict
        What goes with it: `pixel_size` (height, width), `unit`, `nodata`, `transform`, `crs`, `channel_names`, and
        `downsample`, how coarser levels are made.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    levels: tuple[tuple[int, int], ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def batch(self) -> tuple[int, ...]:
        """The lengths of the axes before `y`."""
        return self.shape[: self.dims.index("y")]

    @property
    def channels(self) -> int | None:
        """How many colors a pixel has; None without an axis for them."""
        return self.shape[-1] if self.dims[-1] == "channel" else None


class Encoder(ABC):
    """Encodes tiles where they are computed: it is picklable, and several threads use it at once."""

    @abstractmethod
    def encode(self, level: int, batch: tuple[int, ...], at: tuple[int, int], pixels: Pixels) -> Any:
        """Encode a tile, or write it where its place is its own, and return what `Sink.append` needs of it.

        Parameters
        ----------
        level : int
            The resolution, from 0.
        batch : tuple of int
            Where it lies along the batch axes.
        at : tuple of int
            The row and column of the tile in the grid of tiles.
        pixels : ndarray, (rows, columns[, channels])
            The tile, clipped at the image's end.
        """


class Sink(ABC):
    """Writes an image that comes in tiles, and shows it whole or not at all.

    Used by one thread. Tiles may come in any order. What `finish` has not ended leaves nothing that looks like an
    image; `keep` lets a later `Sink` go on.

    Attributes
    ----------
    tile : tuple of int
        Rows and columns of a tile.
    encoder : Encoder
        What encodes tiles, where they are computed.
    resumed : bool
        Whether it goes on with what an earlier one kept.
    """

    tile: tuple[int, int]
    encoder: Encoder
    resumed: bool = False

    @abstractmethod
    def append(self, level: int, batch: tuple[int, ...], at: tuple[int, int], payload: Any) -> Any:
        """Take in what `encode` returned, and return a JSON value that `restore` puts the tile back with."""

    @abstractmethod
    def restore(self, level: int, batch: tuple[int, ...], at: tuple[int, int], entry: Any) -> None:
        """Take over a tile that an interrupted run appended to the same place."""

    @abstractmethod
    def flush(self) -> None:
        """Make sure that what was appended survives the end of this process."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is left, and show the image under its name."""

    @abstractmethod
    def keep(self) -> None:
        """Close, and leave what there is for a later run."""

    @abstractmethod
    def discard(self) -> None:
        """Close, and take away what was written."""
