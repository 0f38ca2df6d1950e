"""What daskimg must reach, measured against named peers in the same run: `make bench`."""
