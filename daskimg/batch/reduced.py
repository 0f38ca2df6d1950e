"""Decoding JPEG smaller than it is, where all that is made of it is smaller still.

A JPEG's blocks of 8 x 8 pixels are frequencies, so that a decoder can leave out the high ones and save most of its
time. The pixels are means of their neighbours, not the exact ones that a resize would start from.
"""

from __future__ import annotations

from collections.abc import Sequence

from daskimg.operations.resize import layout, resize
from daskimg.pipeline import Pipeline

__all__ = ["reduced_pipelines"]

_FACTORS = (8, 4, 2)


def reduced_pipelines(shape: tuple[int, ...], pipelines: Sequence[Pipeline]) -> tuple[int, tuple[Pipeline, ...]]:
    """Return by which factor an image may be decoded smaller, and the pipelines that then give results of one size.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns and what follows, of the whole image.
    pipelines : sequence of Pipeline
        What is made of it.

    Returns
    -------
    factor : {1, 2, 4, 8}
        1 where a pipeline does not begin with a resize, or one to more than half of the image.
    pipelines : tuple of Pipeline
        With the sizes of the whole image where they resized by a factor of its own.

    Examples
    --------
    >>> import daskimg as di
    >>> reduced_pipelines((3000, 4000, 3), [di.resize(scale=0.25) | di.invert()])
    (4, (resize(width=1000, height=750) | invert(),))
    """
    whole = (shape[0], shape[1])
    wanted = [_scaled(whole, one) for one in pipelines]
    for factor in _FACTORS:
        held = [side // factor for side in whole]
        if all(one is not None and one[0] <= held[0] and one[1] <= held[1] for one in wanted):
            return factor, tuple(_on_reduced(whole, one) for one in pipelines)
    return 1, tuple(pipelines)


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
