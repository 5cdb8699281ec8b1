"""The contract of events: golden files, upcasters, what is refused, and the documents about it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from millstream_schemas import slices
from millstream_schemas.envelope import Contract
from millstream_schemas.events import (
    EVENT_CLASSES,
    EVENT_TYPES,
    EventType,
    MalformedEventError,
    SystemEventError,
    UnknownEventError,
    dump,
    from_document,
    parse,
    parse_system,
)
from millstream_schemas.upcasters import UPCASTERS, Document, upcast

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden" / "events").glob("*.json"))
SET_ONCE = {
    ".actor.address": "batch.paused.v1",
    ".counts.unpriced_calls": "batch.completed.v1",
    ".after.unpriced": "sample.rejected.v1",
}
PLAIN = ROOT / "tests" / "golden" / "events" / "batch.paused.v1.json"


def load(path: Path) -> dict[str, Any]:
    """Return a golden file's document."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def names(paths: list[Path]) -> list[str]:
    """Return what to call golden files in test ids."""
    return [path.stem for path in paths]


# --- golden files: one at least for each type, each must parse for ever -------------------------


def test_a_request_may_name_exactly_the_types_that_are_read() -> None:
    assert list(get_args(EventType)) == [cls.model_fields["type"].default for cls in EVENT_CLASSES]


def test_every_event_type_has_a_golden_file() -> None:
    types = [load(path)["type"] for path in GOLDEN]
    assert set(types) >= EVENT_TYPES
    assert set(types) <= EVENT_TYPES | UPCASTERS.keys()
    assert all(path.stem.startswith(kind) for path, kind in zip(GOLDEN, types, strict=True))


@pytest.mark.parametrize("path", GOLDEN, ids=names(GOLDEN))
def test_a_golden_event_parses_and_survives_a_round_trip(path: Path) -> None:
    event = parse(path.read_bytes())
    assert parse(dump(event)) == event
    document = load(path)
    if document["type"] not in UPCASTERS:
        assert lost(document, json.loads(dump(event))) == []


def lost(old: object, new: object, at: str = "") -> list[str]:
    """Return the places of ``old`` that ``new`` lacks or changed; new fields are no loss."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            place
            for key, value in old.items()
            for place in lost(value, new.get(key, "missing"), f"{at}.{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [place for n, (one, other) in pairs for place in lost(one, other, f"{at}.{n}")]
    return [] if old == new and type(old) is type(new) else [at]


@pytest.mark.parametrize("event", EVENT_CLASSES, ids=lambda event: event.__name__)
def test_golden_files_set_every_field_of_a_type(event: type[Contract]) -> None:
    kind = event.model_fields["type"].default
    parsed = [parse(path.read_bytes()) for path in GOLDEN if load(path)["type"] == kind]
    unset = [set(unset_fields(one)) for one in parsed]
    # Some classes are the same in many events; one type's golden file sets their last fields.
    of_others = {field for field, setter in SET_ONCE.items() if setter != kind}
    assert set.intersection(*unset) - of_others == set()


def test_an_event_of_no_batch_is_known_and_passed_over() -> None:
    old, new = sorted((ROOT / "tests" / "golden" / "system_events").glob("*.json"))
    event = parse_system(load(new))
    assert set(unset_fields(event)) == set()
    assert lost(load(new), json.loads(dump(event))) == []
    assert parse_system(load(old)).command == "pause"
    for path in (old, new):
        with pytest.raises(SystemEventError):
            parse(path.read_bytes())
        with pytest.raises(MalformedEventError):
            from_document(load(path) | {"status": 200})


def unset_fields(value: object, at: str = "") -> Iterator[str]:
    """Yield the places of fields that hold what they would hold without being written."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name not in value.model_fields_set:
                yield f"{at}.{name}"
            yield from unset_fields(getattr(value, name), f"{at}.{name}")
    elif isinstance(value, tuple | list):
        for item in value:
            yield from unset_fields(item, f"{at}[]")


def test_a_missing_field_in_a_golden_file_would_be_noticed() -> None:
    document = load(PLAIN)
    del document["reason"]
    assert list(unset_fields(from_document(document))) == [".actor.address", ".reason"]
    assert lost({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}], "c": 4}) == [".a.1.b"]


# --- what readers take, skip and refuse ---------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=names(GOLDEN))
def test_fields_of_a_newer_writer_are_ignored(path: Path) -> None:
    document = load(path)
    wider = document | {"mood": "fine", "actor": document["actor"] | {"team": "blue"}}
    assert from_document(wider) == from_document(document)


@pytest.mark.parametrize("kind", ["batch.paused.v2", "batch.exploded.v1", "", "BatchPaused"])
def test_a_type_of_a_newer_writer_is_unknown(kind: str) -> None:
    with pytest.raises(UnknownEventError, match="unknown event type"):
        from_document(load(PLAIN) | {"type": kind})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"type": 7}',
        b'{"type": ["batch.paused.v1"]}',
        b'{"type": {}}',
        b'{"type": "batch.paused.v1"}',
        b"[" * 100_000,
        b'{"type":' + b"9" * 5000 + b"}",
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_garbage_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedEventError):
        parse(payload)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_id", "batch.1"),
        ("batch_id", "batch_1767225600_*"),
        ("time", "2026-01-01T00:00:00"),
        ("time", "yesterday"),
        ("actor", {"kind": "ghost", "id": "x"}),
        ("reason", "x" * 501),
    ],
)
def test_a_known_type_with_an_impossible_field_is_malformed(field: str, value: object) -> None:
    with pytest.raises(MalformedEventError, match=field):
        from_document(load(PLAIN) | {field: value})


@pytest.mark.parametrize("bitmap", ["", "00", "0f", "F", "-1", "0x1", "1" * 17])
def test_a_bitmap_that_is_not_canonical_is_malformed(bitmap: str) -> None:
    path = ROOT / "tests" / "golden" / "events" / "slice.claimed.v1.json"
    document = load(path)
    document["after"]["generated"] = bitmap
    with pytest.raises(MalformedEventError, match="generated"):
        from_document(document)


def test_infinity_and_not_a_number_are_refused() -> None:
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite number"):
            slices.Usage(latency_ms=value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(sorted(EVENT_TYPES)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "id"]), inner)
    ),
    max_leaves=6,
)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_make_parse_raise_anything_else(payload: bytes) -> None:
    with pytest.raises((MalformedEventError, UnknownEventError)):
        parse(payload)


CONTENT = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8"), max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner),
        max_leaves=5,
    ),
    max_size=4,
)


@given(CONTENT)
def test_the_content_of_a_sample_is_kept_as_it_is(content: dict[str, Any]) -> None:
    document = load(ROOT / "tests" / "golden" / "events" / "sample.generated.v1.json")
    event = from_document(document | {"content": content})
    assert isinstance(event, slices.SampleGenerated)
    assert event.content == content
    assert parse(dump(event)) == event


# --- upcasters ----------------------------------------------------------------------------------


def test_upcasters_run_in_order_and_leave_their_input_alone() -> None:
    steps = {
        "a.v0": lambda old: {"type": "a.v1", "name": old["n"], "trail": ["0 to 1"]},
        "a.v1": lambda old: {**old, "type": "a.v2", "trail": [*old["trail"], "1 to 2"]},
    }
    oldest: Document = {"type": "a.v0", "n": "x"}
    newest = {"type": "a.v2", "name": "x", "trail": ["0 to 1", "1 to 2"]}
    assert upcast(oldest, steps) == newest
    assert oldest == {"type": "a.v0", "n": "x"}
    assert upcast({"type": "a.v1", "name": "x", "trail": []}, steps)["trail"] == ["1 to 2"]
    assert upcast(newest, steps) is newest


@pytest.mark.parametrize("way", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_upcasters_that_lead_in_a_circle_are_refused(way: dict[str, str]) -> None:
    steps = {old: (lambda document, new=new: {**document, "type": new}) for old, new in way.items()}
    with pytest.raises(ValueError, match="does not lead to a new type"):
        upcast({"type": "a"}, steps)


def test_an_old_event_is_read_through_its_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        UPCASTERS, "batch.halted.v0", lambda old: {**old, "type": "batch.halted.v1"}
    )
    monkeypatch.setitem(
        UPCASTERS,
        "batch.halted.v1",
        lambda old: {**old, "type": "batch.paused.v1", "reason": old["why"]},
    )
    document = load(PLAIN)
    old = {**document, "type": "batch.halted.v0", "why": document.pop("reason")}
    assert parse(json.dumps(old).encode()) == parse(PLAIN.read_bytes())
    del old["why"]
    with pytest.raises(MalformedEventError, match=r"batch\.halted\.v0"):
        parse(json.dumps(old).encode())
