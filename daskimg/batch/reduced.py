"""Making small renditions from smaller images than the whole one: a half, a quarter or an eighth of it.

A JPEG's blocks of 8 x 8 pixels are frequencies, so that a decoder can leave out the high ones and save much of its
time. Where one rendition is too large for that, the smaller ones begin with means of what was decoded. Neither are the
exact pixels that a resize of the whole image would start from.
"""

from __future__ import annotations

from collections.abc import Sequence

from daskimg.kinds import Array
from daskimg.operations.resize import layout, resize
from daskimg.pipeline import Pipeline

__all__ = ["Levels", "reduced_pipelines"]

_FACTORS = (8, 4, 2)


def reduced_pipelines(shape: tuple[int, ...], pipelines: Sequence[Pipeline]) -> list[tuple[int, Pipeline]]:
    """Return by which factor the image that each pipeline gets may be smaller, and the pipeline for that one.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns and what follows, of the whole image.
    pipelines : sequence of Pipeline
        What is made of it.

    Returns
    -------
    list of (factor, Pipeline)
        The factor is 1, 2, 4 or 8; 1 for a pipeline that does not begin with a resize, or one to more than half of the
        image. The pipeline gives results of the same size from the smaller image.

    Examples
    --------
    >>> import daskimg as di
    >>> reduced_pipelines((3000, 4000, 3), [di.resize(scale=0.25) | di.invert()])
    [(4, resize(width=1000, height=750) | invert())]
    """
    whole = (shape[0], shape[1])
    found = []
    for pipeline in pipelines:
        wanted = _scaled(whole, pipeline)
        factor = next((one for one in _FACTORS if wanted and _holds(whole, one, wanted)), 1)
        found.append((factor, _on_reduced(whole, pipeline) if factor > 1 else pipeline))
    return found


def _holds(whole: tuple[int, int], factor: int, wanted: tuple[int, int]) -> bool:
    return all(side // factor >= least for side, least in zip(whole, wanted, strict=True))


class Levels:
    """Gives an image at smaller sizes, each made when it is asked for.

    Parameters
    ----------
    pixels : ndarray, (rows, columns) or (rows, columns, channels)
        The largest.
    factor : int
        By which it is smaller than the whole image, already.
    """

    def __init__(self, pixels: Array, factor: int) -> None:
        self._pixels = {factor: pixels}

    def at(self, factor: int) -> Array:
        """Return the image smaller than the whole one by a factor: means of 2 x 2 pixels of the next larger."""
        if factor not in self._pixels:
            larger = self.at(factor // 2)
            rows, columns = (side // 2 for side in larger.shape[:2])
            even = larger[: 2 * rows, : 2 * columns]
            self._pixels[factor] = resize(even, width=columns, height=rows, interpolation="area")
        return self._pixels[factor]


def _scaled(whole: tuple[int, int], pipeline: Pipeline) -> tuple[int, int] | None:
    """Return the rows and columns that a pipeline's first step makes of the whole image, cuts and borders aside."""
    if not pipeline.steps or pipeline.steps[0].operation is not resize:
        return None
    return layout(whole, pipeline.steps[0].arguments).scaled


def _on_reduced(whole: tuple[int, int], pipeline: Pipeline) -> Pipeline:
    first = pipeline.steps[0]
    plan = layout(whole, first.arguments)
    if plan.size != plan.scaled:  # fit="cover" and "contain" say width and height themselves
        return pipeline
    exact = {"scale": None, "longest": None, "fit": "fill", "height": plan.size[0], "width": plan.size[1]}
    return Pipeline(first.operation.step({**first.params, **exact}), *pipeline.steps[1:])
