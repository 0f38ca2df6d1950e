"""What is measured of images: functions that return numbers and tables rather than images."""

# ruff: noqa: F403 -- each module says in `__all__` what it offers

import typing as _typing
from types import ModuleType as _ModuleType

from daskimg.measure.contours import *
from daskimg.measure.histograms import *
from daskimg.measure.keypoints import *
from daskimg.measure.matching import *
from daskimg.measure.regions import *

if not _typing.TYPE_CHECKING:  # without the modules themselves, called as something that another one offers
    __all__ = [name for name, thing in list(globals().items()) if name[0] != "_" and not isinstance(thing, _ModuleType)]
