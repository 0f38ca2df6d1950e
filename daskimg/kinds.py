"""The kinds of operation that chunks alone cannot do: what an author declares, and the engine in `chunked` carries out.

An operation's function is always what happens to a whole image in memory. Its kind says how the same pixels come from
chunks: by functions on single blocks, which know nothing of dask. Without a kind an operation is local: what lies
within its `reach` is all that a pixel depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = ["Kind", "TwoPass", "Window"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Window(NamedTuple):
    """Tells an operation where in the whole image its array lies, in pixels.

    An operation whose function has a parameter `where: Window = ANYWHERE` gets one: marks and texts are placed with it.
    """

    row: int
    column: int
    rows: int
    columns: int


ANYWHERE = Window(0, 0, 0, 0)  # the default that keeps type checkers from asking callers for a window


class Kind:
    """Is what the kinds have in common: `chunked` knows by the class how to carry one out."""

    keeps_size = True  # whether the result has the rows and columns of the image
    keeps_type = False  # whether it has its data type and channels too, so that nothing need be tried out


@dataclass(frozen=True)
class TwoPass(Kind):
    """Measures the whole image first, then changes each pixel by what was measured.

    Attributes
    ----------
    measure : callable
        `(block, parameters, where) -> statistics` of one block: anything small that can be pickled.
    combine : callable
        `(statistics, statistics) -> statistics`. The order of blocks is not defined.
    apply : callable
        `(block, measured, parameters, where) -> block`: the new pixels.
    finish : callable
        `(statistics, parameters) -> measured`, once: a table for instance. Without it they are the statistics.
    """

    measure: Callable[[Array, Any, Window], Any]
    combine: Callable[[Any, Any], Any]
    apply: Callable[[Array, Any, Any, Window], Array]
    finish: Callable[[Any, Any], Any] | None = None

    def measured(self, statistics: Any, parameters: Any) -> Any:
        """Return what the blocks' statistics, combined, amount to."""
        return statistics if self.finish is None else self.finish(statistics, parameters)

    def on_whole(self, image: Array, parameters: Mapping[str, Any]) -> Array:
        """Do both passes on a whole image: the function of an operation that OpenCV does not have."""
        arguments = SimpleNamespace(**parameters)
        where = Window(0, 0, *image.shape[:2])
        measured = self.measured(self.measure(image, arguments, where), arguments)
        return self.apply(image, measured, arguments, where)
