"""Many image files through one pipeline: each is decoded, processed and encoded by one task, where it runs."""

from daskimg.batch.outputs import Output
from daskimg.batch.report import Failure, Report
from daskimg.batch.running import process_images, retry_images

__all__ = ["Failure", "Output", "Report", "process_images", "retry_images"]
