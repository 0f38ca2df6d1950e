"""How an operation meets a chunked array. All exactness at chunk edges lives here."""

from daskimg.chunked import apply, labelled, two_pass

__all__ = ["apply", "labelled", "two_pass"]
