"""What a pipeline costs on a chunked image: memory and readings, as upper bounds from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from daskimg.chunked.again import may_be_held
from daskimg.chunked.stored import StoredLayer
from daskimg.chunked.strips import STRIP_BYTES, STRIP_REACHES
from daskimg.kinds import Geometric, Linked, Nested, Separable, Sliding, Spectral, TwoPass
from daskimg.operation import outcome
from daskimg.operations.spectrum import spectral_type
from daskimg.pipeline import Step

__all__ = ["Cost", "cost_of"]

WORKING = 4  # arrays as wide as the widest intermediate that a kernel works with: in, out, and two of its own
ROWS_HELD = 2.5  # rows of chunks that wait for their neighbours, as dask orders tasks; measured: 2.2


@dataclass(frozen=True)
class Cost:
    """Says what an image costs to compute, in bytes: `task` of each task under way, `held` between tasks.

    `passes` is how often the source is read.
    """

    task: int
    held: int
    passes: int


@dataclass(frozen=True)
class _Image:
    """Is what is known of an intermediate image."""

    rows: int
    columns: int
    chunk: tuple[int, int]
    dtype: np.dtype[np.generic]
    channels: int | None
    planes: int  # of a chunk along batch axes
    batch: int  # planes of the whole
    windows: StoredLayer | None = None

    @property
    def pixel(self) -> int:
        return self.dtype.itemsize * (self.channels or 1)

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * self.pixel * self.planes

    @property
    def row_bytes(self) -> int:
        return self.chunk[0] * self.columns * self.pixel * self.planes

    @property
    def nbytes(self) -> int:
        return self.rows * self.columns * self.pixel * self.batch

    @property
    def is_one_chunk(self) -> bool:
        return self.chunk[0] >= self.rows and self.chunk[1] >= self.columns


def cost_of(image: da.Array, steps: Iterable[Step], dims: tuple[str, ...]) -> Cost:
    """Return what steps on a lazy image cost at most; nothing is computed, and no graph is made.

    Parameters
    ----------
    image : dask.array.Array
        The image before the steps, in its chunks.
    steps : iterable of Step
        What is to be done.
    dims : tuple of str
        The names of the image's axes: `y`, `x`, and `channel` for colors.
    """
    y, x = dims.index("y"), dims.index("x")
    c = dims.index("channel") if "channel" in dims else None
    others = [axis for axis in range(image.ndim) if axis not in (y, x, c)]
    layer = image.dask.layers.get(image.name) if isinstance(image.dask, HighLevelGraph) else None
    now = _Image(
        image.shape[y],
        image.shape[x],
        (max(image.chunks[y]), max(image.chunks[x])),
        image.dtype,
        None if c is None else image.shape[c],
        math.prod(max(image.chunks[axis]) for axis in others),
        math.prod(image.shape[axis] for axis in others),
        layer if isinstance(layer, StoredLayer) else None,
    )
    cost = Cost(2 * now.chunk_bytes, 0, 1)
    local: list[Step] = []
    for step in steps:
        if step.operation.declaration.kind is None:
            local.append(step)
            continue
        now, cost = _after_local(now, cost, local, (y, x))
        local = []
        now, cost = _after_global(now, cost, step)
    return _after_local(now, cost, local, (y, x))[1]


def _with(cost: Cost, task: float, held: float, passes: int = 0) -> Cost:
    return Cost(max(cost.task, int(task)), cost.held + int(held), cost.passes + passes)


def _after_local(image: _Image, cost: Cost, steps: list[Step], axes: tuple[int, int]) -> tuple[_Image, Cost]:
    if not steps:
        return image, cost
    dtype, channels, widest, far = image.dtype, image.channels, image.pixel, [0, 0]
    for step in steps:
        reach, lanes = step.operation.reach(step, dtype), step.operation.lanes(step, dtype)
        far[0] += reach[0]
        far[1] += reach[1] + (lanes if lanes > 1 else 0)
        dtype, channels = outcome(step, dtype, channels)
        widest = max(widest, dtype.itemsize * (channels or 1))
    after = replace(image, dtype=dtype, channels=channels, windows=None)
    width = image.chunk[1] + 2 * far[1]
    window = (image.chunk[0] + 2 * far[0]) * width
    lines = max(STRIP_BYTES // max(1, widest * width), STRIP_REACHES * far[0], 1)
    lines = image.chunk[0] if 2 * lines > image.chunk[0] else lines
    working = WORKING * (lines + 2 * far[0]) * width * widest
    task = window * image.pixel * image.planes + after.chunk_bytes + working
    alone = (
        image.is_one_chunk or not any(far) or (image.windows and image.windows.gives_windows((far[0], far[1]), axes))
    )
    return after, _with(cost, task, 0 if alone else ROWS_HELD * image.row_bytes)


def _after_global(image: _Image, cost: Cost, step: Step) -> tuple[_Image, Cost]:
    kind = step.operation.declaration.kind
    area = image.rows * image.columns * image.batch
    if isinstance(kind, Geometric):
        return _after_geometric(kind, image, cost, step)
    dtype, channels = outcome(step, image.dtype, image.channels)
    after = replace(image, dtype=dtype, channels=channels, windows=None)
    per_pixel = {TwoPass: 0.0, Linked: 0.0, Nested: 0.0, Separable: 16.0, Sliding: 16.0}.get(type(kind), 8.0)
    state = 0.0
    if isinstance(kind, Linked):
        state = kind.state_bytes
    elif isinstance(kind, Nested):
        state = kind.state_bytes(image.dtype)
    task = image.chunk_bytes + 2 * after.chunk_bytes + math.prod(image.chunk) * (4 * state + 2 * per_pixel + 8)
    if isinstance(kind, Spectral):
        spectrum = area * (image.channels or 1) * spectral_type(image.dtype).itemsize / 2
        return after, _with(cost, 4 * min(spectrum, 128 << 20), 2 * spectrum)
    if isinstance(kind, TwoPass):
        held = may_be_held(image.nbytes)
        return after, _with(cost, task, image.nbytes if held else ROWS_HELD * image.row_bytes, 0 if held else 1)
    rows = ROWS_HELD * (image.row_bytes + after.row_bytes + image.chunk[0] * image.columns * (state + per_pixel))
    if state and may_be_held(area * state):
        return after, _with(cost, task, rows + area * state)
    return after, _with(cost, task, rows, 1)


def _after_geometric(kind: Geometric, image: _Image, cost: Cost, step: Step) -> tuple[_Image, Cost]:
    rows, columns = kind.size((image.rows, image.columns), step.arguments)
    scale = max(1.0, rows / max(image.rows, 1)), max(1.0, columns / max(image.columns, 1))
    chunk = min(rows, math.ceil(image.chunk[0] * scale[0])), min(columns, math.ceil(image.chunk[1] * scale[1]))
    dtype, channels = outcome(step, image.dtype, image.channels)
    after = replace(image, rows=rows, columns=columns, chunk=chunk, dtype=dtype, channels=channels, windows=None)
    task = 4 * image.chunk_bytes + 2 * after.chunk_bytes + 24 * min(math.prod(chunk), 1 << 20)
    return after, _with(cost, task, ROWS_HELD * image.row_bytes)
