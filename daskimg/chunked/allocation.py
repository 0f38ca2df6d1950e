"""Teaches the C library to keep the memory of images that were freed, for the next ones."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["keep_freed_memory"]

# glibc takes blocks above a threshold from the system and gives each back when it is freed, so that each new image
# costs page faults: by trial a third of the time of decoding, blurring and encoding a photo of a megapixel. The
# threshold begins at 128 KiB and rises to the size of what was freed, up to 32 MiB; twice as much is then kept.
_LARGEST = (32 << 20) - (64 << 10)


@functools.cache
def keep_freed_memory() -> None:
    """Free one block of nearly 32 MiB, which is never touched; it takes no memory, and no time but the first time."""
    block = np.empty(_LARGEST, np.uint8)
    del block
