"""How an operation meets a chunked array. All exactness at chunk edges lives here."""

from daskimg.chunked import apply, geometric, labelled, linked, nested, separable, sliding, spectral, two_pass

__all__ = ["apply", "geometric", "labelled", "linked", "nested", "separable", "sliding", "spectral", "two_pass"]
