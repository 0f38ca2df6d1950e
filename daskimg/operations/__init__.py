"""What happens to pixels: one short function per operation, by topic."""

# ruff: noqa: F403 -- each module says in `__all__` what it offers

import typing as _typing
from types import ModuleType as _ModuleType

from daskimg.operations.clahe import *
from daskimg.operations.color import *
from daskimg.operations.compose import *
from daskimg.operations.contrast import *
from daskimg.operations.distance import *
from daskimg.operations.edges import *
from daskimg.operations.geometry import *
from daskimg.operations.histogram import *
from daskimg.operations.morphology import *
from daskimg.operations.quantize import *
from daskimg.operations.reconstruction import *
from daskimg.operations.resize import *
from daskimg.operations.segment import *
from daskimg.operations.smooth import *
from daskimg.operations.spectrum import *
from daskimg.operations.threshold import *
from daskimg.operations.tone import *
from daskimg.operations.transform import *
from daskimg.operations.warp import *
from daskimg.operations.watershed import *

if not _typing.TYPE_CHECKING:  # without the modules themselves, called as something that another one offers
    __all__ = [name for name, thing in list(globals().items()) if name[0] != "_" and not isinstance(thing, _ModuleType)]
