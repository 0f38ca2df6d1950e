"""Makes `python -m daskimg` the same as the command `daskimg`."""

import sys

from daskimg.cli import main

if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main())
