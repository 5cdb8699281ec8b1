"""The page's sources hold what they promise: its own tests pass, and its fold is Python's."""

import json
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from millstream.testing import folds, page_sources
from millstream.testing.examples import example_spec
from millstream.testing.histories import ENDINGS
from millstream_schemas import page_schema
from millstream_schemas.control import BatchSpec

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "folds"
SPECS = [
    example_spec(target, slice_size=size) for target in (1, 7, 10, 70) for size in (1, 3, 4, 64)
]


def test_the_golden_logs_fold_as_they_did() -> None:
    """Run ``just docs`` when the fold was changed on purpose."""
    made = folds.golden_files()
    assert {path.name for path in GOLDEN.iterdir()} == set(made)
    for name, text in made.items():
        assert (GOLDEN / name).read_text(encoding="utf-8") == text, name


def test_a_log_whose_attempts_name_their_routes_folds_as_one_of_before_that_field() -> None:
    logs = folds.golden_logs()
    assert b'"route"' in b"".join(item.payload for item in logs["routed"])
    assert b'"route"' not in b"".join(item.payload for item in logs["completed"])
    assert folds.expected(logs["routed"]) == folds.expected(logs["completed"])


def test_the_pages_schema_of_events_is_current() -> None:
    """Run ``just docs`` when it is not."""
    committed = ROOT / "services" / "dashboard" / "src" / "fold" / "schema.json"
    assert committed.read_text(encoding="utf-8") == page_schema.text()


@pytest.fixture(scope="module")
def tools() -> None:
    lacking = page_sources.missing(ROOT)
    if lacking:
        words = f"{', '.join(lacking)} not installed; run: uv run just page-tools"
        # A skipped test must not pass for a tested page where nobody reads the output.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)


def histories_of_chance(examples: int) -> list[str]:
    """Return logs that hypothesis has made, each with what Python's fold comes to."""
    lines: list[str] = []

    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    @given(
        st.randoms(use_true_random=False),
        st.sampled_from(SPECS),
        st.integers(0, 25),
        st.sampled_from(ENDINGS),
    )
    def make(rng: Random, spec: BatchSpec, moves: int, ending: str) -> None:
        log = folds.any_log(rng, spec, moves, ending)
        digests = folds.expected(log)["digests"]
        lines.append(json.dumps({"log": folds.lines_of(log), "digests": digests}))

    make()
    return lines


@pytest.mark.usefixtures("tools")
def test_the_page_passes_its_own_tests_and_folds_any_history_as_python_does(
    tmp_path: Path,
) -> None:
    histories = histories_of_chance(300)
    assert len(histories) >= 300
    path = tmp_path / "histories.jsonl"
    path.write_text("\n".join(histories) + "\n", encoding="utf-8")
    done = page_sources.run(
        ROOT, "vitest/vitest.mjs", "run", "--reporter=verbose", MILLSTREAM_HISTORIES=str(path)
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "✓ tests/golden.test.ts > histories of chance" in done.stdout


@pytest.mark.usefixtures("tools")
def test_the_pages_sources_and_tests_have_sound_types() -> None:
    done = page_sources.run(ROOT, "typescript/bin/tsc", "--noEmit", "-p", "tests")
    assert done.returncode == 0, done.stdout[-20_000:]
