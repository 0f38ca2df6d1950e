"""OpenCV over chunked arrays: the same pixels as on the whole image, from an image of any size, on any machines.

>>> import dask.array as da, daskimg as di
>>> pipeline = di.gaussian_blur(ksize=5) | di.sobel(dx=1) | di.absolute()
>>> image = da.zeros((20000, 30000), chunks=4096, dtype="uint8")
>>> pipeline(image)
dask.array<..., shape=(20000, 30000), dtype=uint8, chunksize=(4096, 4096), chunktype=numpy.ndarray>
"""

# ruff: noqa: E402, F403 -- OpenCV is looked at first; each module of operations says in `__all__` what it offers

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from daskimg.opencv import check_opencv as _check_opencv

_check_opencv()  # before anything imports cv2

from daskimg import chunked as _chunked  # noqa: F401 -- teaches pipelines about dask and xarray
from daskimg.chunked.memory import to_numpy as to_numpy
from daskimg.chunked.missing import mask_image as mask_image
from daskimg.errors import DaskimgError as DaskimgError
from daskimg.io import Description as Description
from daskimg.io import ImageInfo as ImageInfo
from daskimg.io import ImageMetadata as ImageMetadata
from daskimg.io import describe as describe
from daskimg.io import image_info as image_info
from daskimg.io import open_image as open_image
from daskimg.io import read_image as read_image
from daskimg.io import read_metadata as read_metadata
from daskimg.io import save_image as save_image
from daskimg.measure import *
from daskimg.operation import Operation as Operation
from daskimg.operation import Window as Window
from daskimg.operation import operation as operation
from daskimg.operations import *
from daskimg.pipeline import Pipeline as Pipeline
from daskimg.pipeline import Step as Step
from daskimg.registry import get_operation as get_operation
from daskimg.registry import list_operations as list_operations
from daskimg.version import __version__ as __version__

if _TYPE_CHECKING:
    from daskimg.batch import Output as Output
    from daskimg.batch import Report as Report
    from daskimg.batch import process_images as process_images
    from daskimg.batch import retry_images as retry_images
    from daskimg.clusters import start_cluster as start_cluster
    from daskimg.planning import Plan as Plan
    from daskimg.planning import plan as plan

# What brings a scheduler along is imported when it is first used.
_LATER = {
    "Output": "batch",
    "Plan": "planning",
    "Report": "batch",
    "plan": "planning",
    "process_images": "batch",
    "retry_images": "batch",
    "start_cluster": "clusters",
    "testing": "testing",
}


def __getattr__(name: str) -> _Any:
    if name not in _LATER:
        raise AttributeError(f"module 'daskimg' has no attribute {name!r}")
    module = _import_module(f"daskimg.{_LATER[name]}")
    return module if name == _LATER[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
