"""Every registered operation keeps the promise: the same pixels as OpenCV's on the whole image, whatever the chunks."""

import pytest

import daskimg as di
from daskimg.testing import check_operation

OPERATIONS = {name: one for name, one in di.list_operations().items() if one.is_own}


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


def test_operation_conforms(operation):
    report = check_operation(operation, examples=50)
    report.raise_if_failed()
    assert report.examples >= 25, "too many of the drawn cases were rejected to say anything"
    if operation.declaration.reach is not None:
        assert set(report.caught) == {"rows", "columns"}


@pytest.mark.soak
def test_operation_conforms_in_many_and_large_cases(operation):
    check_operation(operation, examples=400, most=150).raise_if_failed()
