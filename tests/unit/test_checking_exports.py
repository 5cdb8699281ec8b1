"""An export is whole when redactions vouch for exactly what its erased events hold."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from millstream.errors import UsageError
from millstream.eventlog.archive import check_export, export_line, read_export
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.stored import StandIn, Stored
from millstream.runtime.clock import utc_now
from millstream_schemas.audit import ExportManifest

GOLDEN = Path(__file__).parent.parent / "golden" / "folds"
LATE = 1_000_000_000


def golden(name: str, tmp_path: Path) -> list[Stored]:
    """Return a log of the folds' tests, whose files have no manifest."""
    return read_lines((GOLDEN / f"{name}.jsonl").read_bytes(), tmp_path)


def read_lines(lines: bytes, tmp_path: Path) -> list[Stored]:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(lines + manifest_of([]))
    return [found for found in read_export(path) if isinstance(found, Stored)]


def manifest_of(log: list[Stored]) -> bytes:
    chain = extend(ChainState(), log)
    manifest = ExportManifest(
        stream="2026-01-01T00:00:00Z",
        batch_id=None,
        count=len(log),
        first_sequence=log[0].sequence if log else 0,
        last_sequence=chain.sequence,
        root=chain.root.hex(),
        exported_at=utc_now(),
    )
    return manifest.model_dump_json().encode() + b"\n"


def check(log: list[Stored], tmp_path: Path) -> ExportManifest:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(map(export_line, log)) + manifest_of(log))
    return check_export(path)


def standing_in(stored: Stored, payload: bytes) -> Stored:
    """Return a line with another payload that claims the hash of the true one."""
    its = stored.payload_hash if isinstance(stored, StandIn) else sha256(stored.payload).digest()
    return StandIn(stored.sequence, stored.time_us, stored.subject, payload, stored.headers, its)


@pytest.mark.parametrize("name", ["completed", "redacted"])
def test_the_golden_logs_are_whole(name: str, tmp_path: Path) -> None:
    log = golden(name, tmp_path)
    assert check(log, tmp_path).count == len(log)


@pytest.mark.parametrize(
    "mark",
    [
        {"by": LATE},
        {"by": LATE, "erased": [], "reason": ""},
        {"by": LATE, "erased": ["content"], "reason": "asked for"},
        {"by": LATE, "erased": ["reason"], "reason": "(redacted)"},
    ],
)
def test_an_event_that_holds_its_texts_is_not_taken_for_an_erased_one(
    mark: dict[str, Any], tmp_path: Path
) -> None:
    log = golden("completed", tmp_path)
    root = extend(ChainState(), log).root
    place = next(at for at, stored in enumerate(log) if b"It is " in stored.payload)
    document = orjson.loads(log[place].payload)
    document |= {"content": {"answer": "Somebody else."}, "redacted": mark}
    log[place] = standing_in(log[place], orjson.dumps(document))
    assert extend(ChainState(), log).root == root
    with pytest.raises(UsageError, match="which it says was erased"):
        check(log, tmp_path)


@pytest.mark.parametrize(
    ("old", "other"),
    [
        (b'"cost_nano_usd":14', b'"cost_nano_usd":15'),
        (b"It is 3.", b"It is 9."),
        (b'"reason":"asked for"', b'"reason":"a whim"'),
    ],
)
def test_what_stands_for_an_event_is_compared_with_its_redaction(
    old: bytes, other: bytes, tmp_path: Path
) -> None:
    log = golden("redacted", tmp_path)
    place = next(
        at for at, stored in enumerate(log) if isinstance(stored, StandIn) and old in stored.payload
    )
    log[place] = standing_in(log[place], log[place].payload.replace(old, other))
    with pytest.raises(UsageError, match="which it says was erased"):
        check(log, tmp_path)


def test_an_export_that_ends_before_its_redactions_names_the_first_that_it_lacks(
    tmp_path: Path,
) -> None:
    log = golden("redacted", tmp_path)
    before = log[: next(at for at, one in enumerate(log) if one.subject.endswith(".redaction"))]
    first = next(stored for stored in before if isinstance(stored, StandIn))
    with pytest.raises(UsageError, match="was erased after its end") as refused:
        check(before, tmp_path)
    assert f"sequence {first.sequence} was" in str(refused.value)
    assert f"up to sequence {first.redacted_by};" in str(refused.value)
