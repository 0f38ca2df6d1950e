"""The conformance suite itself: each kind of bad operation is caught, a good one passes."""

import itertools
from typing import Annotated, Any

import cv2
import dask.array as da
import numpy as np
import pytest
from hypothesis import find, settings

import daskimg as di
from daskimg.errors import ParameterError
from daskimg.operation import Declaration, Operation
from daskimg.parameters import Image, Odd, Range
from daskimg.testing import cases, check_operation, no_compute, thin_strips
from daskimg.testing.reach import catches_cut


def unregistered(function, **declared):
    return Operation(function, Declaration(**declared))


def blur(image, *, ksize: Annotated[int, Odd(3, 9)] = 5):
    """Smooth."""
    return cv2.blur(image, (ksize, ksize))


def problems_of(function, examples=40, **declared):
    return "\n".join(check_operation(unregistered(function, **declared), examples).problems)


def test_operation_of_a_user_conforms():
    report = check_operation(unregistered(blur, reach=lambda p, dtype: p.ksize // 2, dtypes="uint8"), 40)
    assert report.passed, report
    assert report.deviations == {"uint8": 0.0}
    assert report.reach == ((2, 2), (2, 2))
    assert set(report.caught) == {"rows", "columns"}


def test_reach_that_is_too_small_is_caught():
    assert "deviates" in problems_of(blur, reach=lambda p, dtype: p.ksize // 2 - 1, dtypes="uint8")


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_reach_that_is_too_small_along_one_axis_is_caught(axis):
    def reach(p, dtype):
        whole = p.ksize // 2
        return (whole - 1, whole) if axis == "rows" else (whole, whole - 1)

    assert "deviates" in problems_of(blur, reach=reach, dtypes="uint8")


def test_reach_that_is_too_large_is_reported():
    found = problems_of(blur, reach=lambda p, dtype: (p.ksize // 2 + 1, p.ksize // 2), dtypes="uint8")
    assert "along rows" in found
    assert "declared too large" in found
    assert "along columns" not in found


def test_missing_reach_is_caught():
    assert "deviates" in problems_of(blur, dtypes="uint8")


def test_result_that_depends_on_the_chunk_is_caught():
    def from_mean(image):
        return image - image.mean().astype(image.dtype)

    assert "deviates" in problems_of(from_mean)


def test_result_that_depends_on_the_strip_is_caught():
    # Right for every chunking of small images as they are, wrong as soon as a chunk is cut into strips.
    def from_rows(image):
        return image + np.asarray(image.shape[0] == 1, image.dtype)

    assert "thin strips" in problems_of(from_rows, examples=100) or "deviates" in problems_of(from_rows)


def test_data_type_that_opencv_refuses_is_reported():
    assert "OpenCV refused" in problems_of(blur, reach=lambda p, dtype: p.ksize // 2, dtypes="uint8 int8")


def test_data_type_that_opencv_corrupts_is_reported():
    def doubled(image):
        return cv2.add(image, image)  # int64 comes back as int32

    assert "only the low 32 bits of int64" in problems_of(doubled, dtypes="uint8 int64")


def test_result_whose_type_depends_on_the_pixels_is_caught():
    def widened(image):
        return image.astype(np.float64) if image.any() and image.max() > 200 else image.copy()

    assert "lazy dtype" in problems_of(widened, dtypes="uint8")


def test_mixing_of_channels_that_are_declared_apart_is_caught():
    def mixing(image):
        return image if image.ndim == 2 else image[:, :, ::-1]

    assert "channel 0 alone deviates" in problems_of(mixing)
    assert check_operation(unregistered(mixing, channels="joint"), 20).passed


def test_undeclared_change_of_channels_is_caught():
    def gray(image):
        return image if image.ndim == 2 else image.max(axis=2)

    assert "is it channels='convert'?" in problems_of(gray)
    assert check_operation(unregistered(gray, channels="convert"), 20).passed


def test_operation_that_loses_rows_is_caught():
    assert "must return an array with the rows and columns" in problems_of(lambda image: image[1:])


def test_operation_that_returns_nothing_is_caught():
    def forgetful(image):
        image.copy()

    assert "not NoneType" in problems_of(forgetful)


def test_operation_that_computes_while_a_graph_is_built_is_caught():
    def eager(image):
        return image + da.zeros((), chunks=(), dtype=image.dtype).compute()

    assert "something was computed" in problems_of(eager)


def test_operation_that_writes_into_its_image_is_caught():
    def zeroing(image):
        image[image > 3] = 0
        return image

    assert "read-only" in problems_of(zeroing)


def test_operation_that_writes_into_its_image_behind_our_back_is_caught():
    def zeroing(image):
        writable = np.lib.stride_tricks.as_strided(image)
        address, _ = image.__array_interface__["data"]
        import ctypes

        ctypes.memset(address, 0, 1)
        return np.array(writable)

    assert problems_of(zeroing, dtypes="uint8")


def test_operation_that_remembers_is_caught():
    counter = itertools.count()

    def noisy(image):
        return image + np.asarray(next(counter) % 7, image.dtype)

    assert "same image twice" in problems_of(noisy)


def test_operation_without_any_accepted_case_is_reported():
    def odd(image, *, value: Annotated[int, Range(0, 10)]):
        raise ParameterError("never")

    assert "no accepted case" in problems_of(odd)


def test_aligned_second_images_are_checked():
    def masked(image, *, mask: Annotated[Any, Image(aligned=True)]):
        """Keep what a mask shows."""
        mask = mask.reshape(image.shape)
        return np.where(mask > 0, image, 0).astype(image.dtype)

    assert check_operation(unregistered(masked), 40).passed


def test_report_shows_itself():
    report = check_operation(unregistered(blur, reach=lambda p, dtype: p.ksize // 2, dtypes="uint8"), 10)
    text = str(report)
    assert text.startswith("blur conforms\n")
    assert "cases compared: 10" in text
    assert "largest deviation on uint8: 0 (bit for bit)" in text
    assert "declared (2, 2), measured (2, 2)" in text
    assert "reach cut by one along rows: caught by blur(" in text
    assert "<table>" in report._repr_html_()
    assert "conforms" in report._repr_html_()
    report.raise_if_failed()


def test_report_of_a_bad_operation_shows_the_problem_and_escapes_it():
    report = check_operation(unregistered(blur, dtypes="uint8"), 20)
    assert "blur does NOT conform" in str(report)
    assert "does <b>not</b> conform" in report._repr_html_()
    report.problems.append("<script>")
    assert "<script>" not in report._repr_html_()
    with pytest.raises(AssertionError, match="does NOT conform"):
        report.raise_if_failed()


def test_search_catches_what_cutting_the_reach_hides_for_many_parameters():
    # An opening of noise hides a reach that is one too short nearly always.
    case = find(cases(di.opening, most=20), lambda case: case.step.changed() == {}, settings=settings(max_examples=500))
    assert not catches_cut(case, 0)
    assert check_operation(di.opening, examples=1).caught.keys() == {"rows", "columns"}


def test_no_compute_raises():
    with pytest.raises(AssertionError, match="something was computed"):
        da.zeros(3).compute(scheduler=no_compute)


def test_thin_strips_are_undone_after_an_error():
    from daskimg.chunked import strips

    before = strips.STRIP_BYTES, strips.STRIP_REACHES
    with pytest.raises(ZeroDivisionError), thin_strips():
        raise ZeroDivisionError
    assert before == (strips.STRIP_BYTES, strips.STRIP_REACHES)
