"""What is measured of images: functions that return numbers and tables rather than images."""

# ruff: noqa: F403 -- each module says in `__all__` what it offers

from daskimg.measure.contours import *
from daskimg.measure.histograms import *
from daskimg.measure.keypoints import *
from daskimg.measure.matching import *
from daskimg.measure.regions import *
