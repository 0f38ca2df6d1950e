"""What is reported of an operation."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

__all__: list[str] = []


@dataclass
class OperationReport:
    """Says what was found of an operation.

    Attributes
    ----------
    operation : str
        Its name.
    examples : int
        How many cases were compared.
    deviations : dict of str to float
        By data type of the image: the largest deviation seen from the whole image's result, in levels or units.
    reach : tuple
        `(declared, measured)` reach in rows and columns, for the parameters named in `reach_of`.
    caught : dict of str to str
        By axis: a case in which the reach cut by one gives wrong pixels.
    problems : list of str
        What does not hold; empty where the operation conforms.
    """

    operation: str
    examples: int = 0
    deviations: dict[str, float] = field(default_factory=dict)
    reach: tuple[tuple[int, int], tuple[int, int]] | None = None
    reach_of: str = ""
    caught: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the operation conforms."""
        return not self.problems

    def raise_if_failed(self) -> None:
        """Raise `AssertionError` with the problems, if there are any."""
        if self.problems:
            raise AssertionError(str(self))

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("cases compared", str(self.examples))]
        rows += [(f"largest deviation on {name}", _exactly(value)) for name, value in sorted(self.deviations.items())]
        if self.reach:
            (declared, measured) = self.reach
            rows.append((f"reach of {self.reach_of}", f"declared {declared}, measured {measured}"))
        rows += [(f"reach cut by one along {axis}", f"caught by {case}") for axis, case in self.caught.items()]
        return rows + [("problem", problem) for problem in self.problems]

    def __str__(self) -> str:
        verdict = "conforms" if self.passed else "does NOT conform"
        return "\n".join([f"{self.operation} {verdict}", *(f"  {name}: {value}" for name, value in self._rows())])

    def _repr_html_(self) -> str:
        verdict = "conforms" if self.passed else "does <b>not</b> conform"
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td><pre>{html.escape(value)}</pre></td></tr>"
            for name, value in self._rows()
        )
        return f"<p><b>{html.escape(self.operation)}</b> {verdict}</p><table>{cells}</table>"


def _exactly(value: float) -> str:
    return "0 (bit for bit)" if value == 0 else f"{value:.3g}"
