"""Finds out whether the installed OpenCV is one that daskimg can promise anything about."""

from __future__ import annotations

import warnings
from importlib.metadata import Distribution, PackageNotFoundError, distribution

__all__: list[str] = []

WHEELS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def check_opencv() -> None:
    """Warn where two OpenCV wheels share one folder, and raise where OpenCV is too old or missing.

    Raises
    ------
    ImportError
        If there is no OpenCV 5.
    """
    found = [wheel for wheel in map(_find, WHEELS) if wheel]
    if len(found) > 1:
        names = " and ".join(f"{one.name} {one.version}" for one in found)
        warnings.warn(
            f"{names} are installed side by side and overwrite each other's files; keep one: "
            f"pip uninstall -y {' '.join(one.name for one in found)} && pip install {WHEELS[0]}",
            stacklevel=3,
        )
    try:
        from cv2 import __version__ as version
    except ImportError as error:
        raise ImportError(
            f"OpenCV cannot be imported ({error}); on a machine without a screen, only the headless wheel can: "
            f"pip uninstall -y {' '.join(one.name for one in found) or WHEELS[1]} && pip install '{WHEELS[0]}>=5,<6'"
        ) from error
    if int(version.partition(".")[0]) < 5:
        raise ImportError(
            f"daskimg needs OpenCV 5, here is {version}, whose float32 results deviate; "
            f"pip install --upgrade '{found[0].name if found else WHEELS[0]}>=5,<6'"
        )


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None
