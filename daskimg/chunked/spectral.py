"""Fourier transforms of chunked images: full rows first, then full columns.

Between the two stands the whole transform, half of it for it is that of real numbers: 4 bytes per pixel in single
precision, 8 in double. That is what dask holds, or a cluster's workers spill to their disks.
"""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.utils import parse_bytes

from daskimg.chunked.apply import apply_kind
from daskimg.kinds import Array, Spectral
from daskimg.operation import outcome
from daskimg.operations.spectrum import columns_filtered, rows_restored, rows_transformed, spectral_type
from daskimg.pipeline import Step

__all__: list[str] = []


@apply_kind.register(Spectral)
def apply_spectral(kind: Spectral, image: da.Array, step: Step) -> da.Array:
    """Return the lazy result of a filter by frequency, cut as the image is."""
    outcome(step, image.dtype.newbyteorder("="), image.shape[2] if image.ndim == 3 else None)
    if 0 in image.shape:
        return image
    spectrum = in_columns(transformed_rows(image))
    filtered = da.map_blocks(_filter_block, spectrum, step=step, columns=image.shape[1], dtype=spectrum.dtype)
    result: da.Array = restored_rows(filtered, image.shape[1], image.dtype.newbyteorder("=")).rechunk(image.chunks)
    return result


def _filter_block(spectrum: Array, step: Step, columns: int, block_info: Any = None) -> Array:
    kind = step.operation.declaration.kind
    assert isinstance(kind, Spectral)
    start, stop = block_info[0]["array-location"][1]
    frequencies = np.fft.rfftfreq(columns)[start:stop]
    return columns_filtered(spectrum, frequencies, kind, step.arguments)


def transformed_rows(image: da.Array) -> da.Array:
    """Return the lazy transform of each row: `columns // 2 + 1` complex numbers."""
    width = image.shape[1] // 2 + 1
    dtype = spectral_type(image.dtype)
    whole = image.rechunk({0: _fitting(image.shape, dtype, 0), 1: -1})
    chunks = (whole.chunks[0], (width,), *image.chunks[2:])
    spectrum: da.Array = whole.map_blocks(rows_transformed, dtype=dtype, chunks=chunks)
    return spectrum


def in_columns(spectrum: da.Array) -> da.Array:
    """Return a spectrum in chunks of whole columns."""
    whole: da.Array = spectrum.rechunk({0: -1, 1: _fitting(spectrum.shape, spectrum.dtype, 1)})
    return whole


def restored_rows(spectrum: da.Array, columns: int, dtype: np.dtype[Any]) -> da.Array:
    """Return the lazy image, in strips of whole rows, from a spectrum whose columns are transformed back already."""
    whole = spectrum.rechunk({0: _fitting(spectrum.shape, spectrum.dtype, 0), 1: -1})
    chunks = (whole.chunks[0], (columns,), *spectrum.chunks[2:])
    image: da.Array = whole.map_blocks(rows_restored, columns=columns, to=dtype, dtype=dtype, chunks=chunks)
    return image


def _fitting(shape: tuple[int, ...], dtype: np.dtype[Any], axis: int) -> int:
    """Return how many rows (or columns) of a spectrum fit into a chunk of dask's usual size."""
    line = int(np.prod(shape)) // shape[axis] * dtype.itemsize
    return max(1, min(shape[axis], parse_bytes(dask.config.get("array.chunk-size")) // line))
