"""Every promise of the page is named in its notes, and a browser test bears its number."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTES = ROOT / "services/dashboard/README.md"
TESTS = ROOT / "tests/browser"
ROW = re.compile(r"^\| (\d+) \| .+ \| `(test_\w+\.py)` \|$", re.MULTILINE)
PROMISES = 21


def numbers(file: str) -> set[int]:
    """Return the numbers that the tests of ``file`` bear."""
    names = [
        node.name
        for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    ]
    found = [re.match(r"test_promises?((?:_(?:and_)?\d+)+)_", name) for name in names]
    return {int(number) for one in found if one for number in re.findall(r"\d+", one[1])}


def test_each_promise_is_borne_by_a_test_of_the_file_that_its_row_names() -> None:
    rows = {int(number): file for number, file in ROW.findall(NOTES.read_text(encoding="utf-8"))}
    assert sorted(rows) == list(range(1, PROMISES + 1))
    assert [number for number, file in rows.items() if number not in numbers(file)] == []
