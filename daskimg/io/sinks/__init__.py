"""Where large images go, tile by tile: one module for each kind of file."""
