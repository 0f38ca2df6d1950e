"""How an operation meets a chunked array. All exactness at chunk edges lives here."""

from daskimg.chunked import labelled, local

__all__ = ["labelled", "local"]
