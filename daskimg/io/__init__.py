"""Files in and out: images at any URL to and from arrays.

>>> from daskimg.io import open_image, save_image
"""

from daskimg.io.description import Description, describe
from daskimg.io.inspecting import ImageInfo, image_info, read_metadata
from daskimg.io.metadata import ImageMetadata
from daskimg.io.probe import DEFAULT_MAX_PIXELS
from daskimg.io.reading import open_image, read_image
from daskimg.io.saving import save_image
from daskimg.operation import second_image

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Description",
    "ImageInfo",
    "ImageMetadata",
    "describe",
    "image_info",
    "open_image",
    "read_image",
    "read_metadata",
    "save_image",
]

second_image.register(str, open_image)  # the text form of a pipeline names marks and other second images by URL
