"""Operations that need the whole image, chunked, against OpenCV on the whole image with all its cores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import cv2
import dask.array as da
import numpy as np

import daskimg as di
from benchmarks import chain
from benchmarks.harness import Result, interleaved, milliseconds, ratio


class Contest(NamedTuple):
    """Is one operation: a step of ours, what it is called in OpenCV, and how many times as long ours may take."""

    name: str
    step: di.Step
    in_cv2: Callable[[np.ndarray], np.ndarray]
    at_most: float


# Bands of rows, as they lie in memory: each as large as a square chunk of 4096 pixels a side.
CHUNKS = (1024, -1)

CONTESTS = [
    Contest("canny", di.canny(low=100, high=200), lambda image: cv2.Canny(image, 100, 200), 1),
    Contest("connected_components", di.connected_components(), lambda image: cv2.connectedComponents(image)[1], 1.2),
    Contest(
        "connected_components connectivity=4",
        di.connected_components(connectivity="4"),
        lambda image: cv2.connectedComponents(image, connectivity=4)[1],
        1.2,
    ),
    Contest("clahe", di.clahe(), lambda image: cv2.createCLAHE(2.0, (8, 8)).apply(image), 1),
    Contest("equalize_hist", di.equalize_hist(), cv2.equalizeHist, 1.7),
    Contest(
        "resize by half, linear",
        di.resize(scale=0.5),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR),
        1,
    ),
    Contest(
        "resize by half, area",
        di.resize(scale=0.5, interpolation="area"),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        1,
    ),
]


def results(side: int, rounds: int) -> list[Result]:
    """Measure each operation, whose result must be OpenCV's, bit for bit."""
    photo = chain.photo_like(side)
    parts = cv2.GaussianBlur(photo, (0, 0), 3)
    parts = cv2.threshold(parts, 140, 255, cv2.THRESH_BINARY)[1]
    found = []
    for contest in CONTESTS:
        print(contest.name, file=sys.stderr)
        image = parts if contest.name.startswith("connected") else photo
        lazy = contest.step(da.from_array(image, chunks=CHUNKS))
        if not np.array_equal(di.to_numpy(lazy), contest.in_cv2(image)):
            raise AssertionError(f"{contest.name} differs from OpenCV on the whole image")
        seconds = interleaved(
            {
                "ours": lambda lazy=lazy: di.to_numpy(lazy),
                "cv2": lambda contest=contest, image=image: contest.in_cv2(image),
            },
            rounds,
        )
        times = ratio(seconds["ours"], seconds["cv2"])
        found.append(
            Result(
                f"`{contest.name}` on {side}² uint8: {milliseconds(seconds['ours'])}, against `cv2`, all cores: "
                f"{milliseconds(seconds['cv2'])}",
                f"{times:.2f}× the time",
                f"at most {contest.at_most}×" if contest.at_most > 1 else "not slower",
                times <= contest.at_most,
            )
        )
    return found
