"""The table of exactness says what is found now."""

import re
from pathlib import Path

import numpy as np
import pytest

if not (Path(__file__).resolve().parents[1] / "docs").is_dir():
    pytest.skip("these tests look at a checkout", allow_module_level=True)

from tests import exactness

REMEDY = f"docs/exactness.md is not what is found; look at why, then write it anew: {exactness.COMMAND}"


@pytest.fixture(scope="module")
def committed():
    """The tables' lines in the page, by their first cells."""
    return by_name(exactness.PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def table():
    return exactness.rows()


def by_name(page):
    lines = [line.split(" | ") for line in exactness.cells(page)]
    return {tuple(line[:2]) if len(line) == 5 else line[0]: line[2:] if len(line) == 5 else line[1:] for line in lines}


def outline(cell):
    """What of a peer's cell is the same on any processor: figures are rounded to powers of four."""
    if cell.startswith((exactness.EXACT, "last digits")):
        return "roundings at most"
    return re.sub(r"[\d.e+-]+", "#", cell.replace(" along the border", ""))


def figures(cell):
    return [float(number) for number in re.findall(r"\d[\d.e+-]*", cell)]


def agrees(now, then):
    ours, *peers = zip(now, then, strict=True)
    if not (ours[0] == ours[1] or (ours[1].startswith("≤") and ours[0] == exactness.EXACT)):
        return False
    for found, written in peers:
        if outline(found) != outline(written):
            return False
        if outline(found) != "roundings at most" and not all(
            one <= 2 * other and other <= 2 * one for one, other in zip(figures(found), figures(written), strict=True)
        ):
            return False
    return True


def test_the_table_is_what_is_found(table, committed):
    found = {(f"`{row[1]}`", row[2]): list(row[3:]) for row in table}
    written = {key: line for key, line in committed.items() if isinstance(key, tuple)}
    assert set(found) == set(written), REMEDY
    assert {key: (found[key], written[key]) for key in found if not agrees(found[key], written[key])} == {}, REMEDY


def test_each_cell_is_counted_once(table):
    counts = np.array(list(exactness.tally(table).values()))
    assert (counts.sum(axis=0) == len(table)).all()


def test_our_operations_are_within_what_they_declare(table):
    assert [row for row in table if row[3] != exactness.EXACT and not row[3].startswith("≤")] == []


def test_numbers_and_tables_are_the_same_for_any_chunks(committed):
    found = {f"`{name}`": [same, what] for name, same, what in exactness.measured()}
    assert all(same == "yes" for same, _ in found.values())
    assert found == {key: line for key, line in committed.items() if isinstance(key, str)}, REMEDY


def test_a_page_is_read_as_it_is_written():
    table = [
        (
            "smooth",
            "box_blur",
            "uint8",
            "bit-exact",
            "3 levels, 0.10 % along the border",
            "bit-exact (`uniform_filter`)",
        ),
        (
            "smooth",
            "box_blur",
            "int16",
            "bit-exact",
            "3 levels, 0.10 % along the border",
            "bit-exact (`uniform_filter`)",
        ),
        ("smooth", "median_blur", "uint8", "≤ 1 level", "bit-exact", "–"),
    ]
    read = by_name(exactness.page(table, [("histogram", "yes", "the counts")]))
    assert read == {(f"`{row[1]}`", row[2]): list(row[3:]) for row in table} | {"`histogram`": ["yes", "the counts"]}


@pytest.mark.parametrize(
    ("now", "then", "same"),
    [
        (["bit-exact", "–", "–"], ["bit-exact", "–", "–"], True),
        (["≤ 1 level", "–", "–"], ["bit-exact", "–", "–"], False),
        (["bit-exact", "–", "–"], ["≤ 1 level", "–", "–"], True),
        (["bit-exact", "last digits", "–"], ["bit-exact", "bit-exact", "–"], True),
        (["bit-exact", "3 levels, 0.9 %", "–"], ["bit-exact", "3 levels, 1.1 % along the border", "–"], True),
        (["bit-exact", "3 levels, 0.9 %", "–"], ["bit-exact", "7 levels, 0.9 %", "–"], False),
        (["bit-exact", "bit-exact", "–"], ["bit-exact", "3 levels, 1 %", "–"], False),
        (["bit-exact", "fails: other shape", "–"], ["bit-exact", "3 levels, 1 %", "–"], False),
    ],
)
def test_tables_agree_where_only_roundings_differ(now, then, same):
    assert agrees(now, then) is same
