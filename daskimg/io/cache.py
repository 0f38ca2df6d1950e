"""What was decoded last, kept for the tasks beside: neighbouring chunks need the same tiles at their edges."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

__all__ = ["TILES", "TileCache"]


class TileCache:
    """Keeps the arrays that were used last, up to a number of bytes; several threads share it.

    A tile that one thread decodes is waited for by the others that want it.

    Parameters
    ----------
    limit : int
        The most bytes that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, Future[NDArray[Any]]] = OrderedDict()

    def get(self, key: Hashable, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is kept under a key, or decode it. It is shared: do not write into it."""
        with self._lock:
            future = self._tiles.get(key)
            if future is not None:
                self._tiles.move_to_end(key)
                ours = False
            else:
                future = self._tiles[key] = Future()
                ours = True
        if not ours:
            return future.result()
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                self._tiles.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(tile)
        with self._lock:
            if self._tiles.get(key) is future:
                self._held += tile.nbytes
            while self._held > self.limit:
                oldest = next((k for k, f in self._tiles.items() if f.done()), None)
                if oldest is None:
                    break
                self._held -= self._tiles.pop(oldest).result().nbytes
        return tile

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._tiles

    def clear(self) -> None:
        """Forget all tiles that are decoded."""
        with self._lock:
            for key in [key for key, future in self._tiles.items() if future.done()]:
                self._held -= self._tiles.pop(key).result().nbytes


#: The tiles of this process.
TILES = TileCache(64 << 20)
