"""The conformance suite that every registered operation inherits.

    from daskimg.testing import check_operation
    check_operation(my_operation)          # in a notebook cell: a table of what holds, and the measured reach

The reference is always the operation's plain function on the whole array. Hypothesis draws shapes, chunks, data types,
channels and parameters from the operation's own declaration, so a new operation needs no line of test code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daskimg import registry
from daskimg.errors import EnvironmentProblem
from daskimg.operation import Operation

try:
    import hypothesis
except ImportError as error:  # pragma: no cover
    raise EnvironmentProblem("the conformance suite needs Hypothesis: pip install 'daskimg[test]'") from error

from daskimg.testing.cases import Case, cases, thin_strips
from daskimg.testing.checks import (
    UNCHANGED,
    assert_channels_apart,
    assert_colors_bind,
    assert_exact,
    assert_forms_round_trip,
    assert_fuses,
    assert_keeps_bits,
    assert_stacks,
    no_compute,
)
from daskimg.testing.reach import check_reach
from daskimg.testing.report import OperationReport

__all__ = ["Case", "OperationReport", "cases", "check_operation", "no_compute", "thin_strips"]


def check_operation(operation: Operation[Any], examples: int = 100, *, most: int = 40) -> OperationReport:
    """Run the conformance suite on an operation and return what was found.

    Parameters
    ----------
    operation : Operation
        Ours or your own, as `@operation` returned it.
    examples : int
        How many cases Hypothesis draws.
    most : int
        The longest side of the drawn images, in pixels.

    Returns
    -------
    OperationReport
        Shows itself as a table; `.passed` tells whether the operation conforms, `.raise_if_failed()` asserts it.

    Examples
    --------
    >>> import daskimg as di
    >>> check_operation(di.invert, examples=5).passed
    True
    """
    report = OperationReport(operation.name)
    options = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        # Without shrinking, which takes minutes: the drawn images are small anyway.
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        print_blob=False,
    )

    def run(check: Callable[[Case], None], count: int) -> None:
        limited = hypothesis.settings(options, max_examples=count)
        try:
            limited(hypothesis.given(cases(operation, most))(check))()
        except hypothesis.errors.Unsatisfiable:
            report.problems.append("no accepted case was found; are its defaults, dtypes and channels right?")
        except Exception as error:  # whatever fails is what the report is for
            report.problems.append(f"{type(error).__name__}: {error}")

    def check(case: Case) -> None:
        assert_exact(case, report)
        assert_keeps_bits(case)
        assert_channels_apart(case)
        if registry.find(operation.name) is operation:  # the forms know operations by name
            assert_forms_round_trip(case.step)
        assert_fuses(case, UNCHANGED)

    def check_labelled(case: Case) -> None:
        assert_stacks(case)
        assert_colors_bind(case)

    run(check, examples)
    if not operation.images:
        run(check_labelled, examples // 5 + 1)
    if operation.declaration.reach and not report.problems:
        check_reach(operation, report, options, most)
    return report
