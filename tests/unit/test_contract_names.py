"""Subjects, commands and the documents about the contract."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from millstream_schemas import asyncapi, commands, subjects
from millstream_schemas.events import EVENT_CLASSES, EVENT_TYPES
from millstream_schemas.views import QUERIES

ROOT = Path(__file__).parents[2]
BATCH = "batch_1767225600_1a2b3c4d"
GOLDEN = sorted((ROOT / "tests" / "golden" / "events").glob("*.json"))
BATCHES = st.from_regex(r"batch_[0-9]{9,11}_[0-9a-f]{8}", fullmatch=True)
INDEXES = st.integers(0, 1_000_000)
POOLS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)


# --- subjects -----------------------------------------------------------------------------------


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a NATS filter takes a subject."""
    regex = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(regex, subject) is not None


@given(BATCHES, INDEXES)
def test_a_slice_subject_comes_back_as_it_went(batch_id: str, index: int) -> None:
    subject = subjects.slice_(batch_id, index)
    assert subjects.parse_slice(subject) == (batch_id, index)
    assert matches(subjects.all_slices(batch_id), subject)
    assert matches(subjects.all_of_batch(batch_id), subject)
    assert matches(subjects.ALL_EVENTS, subject)


@given(POOLS, st.sampled_from(subjects.PRIORITIES), BATCHES, INDEXES)
def test_a_work_subject_comes_back_as_it_went(
    pool: str, priority: subjects.Priority, batch_id: str, index: int
) -> None:
    subject = subjects.work(pool, priority, batch_id, index)
    assert subjects.parse_work(subject) == (pool, priority, batch_id, index)
    assert matches(subjects.work_of_batch(batch_id), subject)
    assert matches(subjects.work_filter(pool, priority), subject)
    assert matches(subjects.ALL_WORK, subject)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.control(BATCH),
        subjects.note(BATCH),
        f"mill.events.{BATCH}.slice.x",
        f"mill.events.{BATCH}.slice.01",
        f"mill.events.{BATCH}.slice.٣",  # a digit to str.isdigit
        f"mill.events.{BATCH}.slice.1\n",
        f"mill.events.{BATCH}.slice.1.2",
        f"mill.live.events.{BATCH}.slice.1",
    ],
)
def test_any_other_subject_is_no_slice(subject: str) -> None:
    assert subjects.parse_slice(subject) is None


@pytest.mark.parametrize(
    "subject",
    [
        "",
        f"mill.work.default.normal.{BATCH}",
        f"mill.work.default.urgent.{BATCH}.1",
        f"mill.work.default.normal.{BATCH}.²",
        f"mill.work.default.normal.{BATCH}.-1",
        f"mill.events.default.normal.{BATCH}.1",
    ],
)
def test_any_other_subject_is_no_work(subject: str) -> None:
    with pytest.raises(ValueError, match="not a work subject"):
        subjects.parse_work(subject)


def test_filters_take_what_they_are_for() -> None:
    control, note = subjects.control(BATCH), subjects.note(BATCH)
    assert matches(subjects.ALL_CONTROL, control)
    assert not matches(subjects.ALL_CONTROL, note)
    assert matches(subjects.ALL_NOTES, note)
    assert not matches(subjects.all_slices(BATCH), control)
    assert matches(subjects.ALL_STOPS, subjects.stop_signal(BATCH))
    assert subjects.work_consumer("default", "high") == "work-default-high"
    assert all("." not in subjects.query(name)[len("mill.query.") :] for name in QUERIES)


# --- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0, -1, "5", True, 1_000_001, 5.0, None, "many", [5]])
def test_a_bad_target_is_refused_by_name(target: object) -> None:
    with pytest.raises(ValidationError) as refused:
        commands.StartBatch.model_validate({"target": target})
    assert [error["loc"] for error in refused.value.errors()] == [("target",)]
    with pytest.raises(ValidationError, match="target"):
        commands.StartBatch.model_validate_json(json.dumps({"target": target}))


@pytest.mark.parametrize("target", [1, 20, 1_000_000])
def test_a_good_target_is_taken(target: int) -> None:
    assert commands.StartBatch.model_validate({"target": target}).target == target


def test_a_missing_target_is_named() -> None:
    with pytest.raises(ValidationError, match="target\n  Field required"):
        commands.StartBatch.model_validate({})


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (commands.StartBatch, {"target": 5}),
        (commands.StopBatch, {}),
        (commands.PauseBatch, {}),
        (commands.ResumeBatch, {}),
        (commands.BulkCommand, {"ids": [BATCH]}),
    ],
)
def test_a_typo_in_a_command_is_named(
    command: type[commands.Command], body: dict[str, object]
) -> None:
    command.model_validate(body)
    with pytest.raises(ValidationError) as refused:
        command.model_validate(body | {"raeson": "x"})
    assert [error["loc"] for error in refused.value.errors()] == [("raeson",)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", 0),
        ("concurrency", True),
        ("seed", -1),
        ("seed", 2**63),
        ("max_attempts", 21),
        ("priority", "urgent"),
        ("instruction", "x" * 4001),
        ("recipe", "x" * 65),
    ],
)
def test_a_bad_field_of_a_start_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        commands.StartBatch.model_validate({"target": 5, field: value})
    assert [error["loc"][0] for error in refused.value.errors()] == [field]


@pytest.mark.parametrize("ids", [[], ["batch_1"], [BATCH] * 1001])
def test_a_bulk_stop_takes_1_to_1000_batch_ids(ids: list[str]) -> None:
    with pytest.raises(ValidationError, match="ids"):
        commands.BulkCommand.model_validate({"ids": ids})


# --- the documents ------------------------------------------------------------------------------


def test_the_committed_asyncapi_document_is_current() -> None:
    """Run ``python -m millstream_schemas.asyncapi > docs/asyncapi.json`` when it is not."""
    committed = (ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8")
    assert committed == asyncapi.text()


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi.document()
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', asyncapi.text())):
        found: object = document
        for part in reference.split("/"):
            assert isinstance(found, dict), reference
            assert part in found, reference
            found = found[part]


CHANNELS = ("control", "slice", "note", "redaction")


def test_the_document_knows_every_event_query_and_stream() -> None:
    document = asyncapi.document()
    messages = {message["name"] for message in document["components"]["messages"].values()}
    assert messages >= EVENT_TYPES
    kinds = [document["channels"][name]["messages"] for name in CHANNELS]
    assert sum(map(len, kinds)) == len(EVENT_CLASSES)
    assert {f"ask_{name}" for name in QUERIES} <= document["operations"].keys()
    assert set(document["x-streams"]) == {subjects.EVENTS, subjects.WORK, subjects.AUDIT}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_event_is_valid_by_the_documented_schema(path: Path) -> None:
    document = asyncapi.document()
    event = json.loads(path.read_text(encoding="utf-8"))
    message = next(
        message
        for message in document["components"]["messages"].values()
        if message["name"] == event["type"]
    )
    schema = {**message["payload"], "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(event)
    del event["type"]
    assert not validator.is_valid(event)


def test_the_page_of_events_lists_every_type_with_its_subject() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(
            r"^\| `([a-z_.0-9]+)` \| (\w+) \| [^|]+ \| [^|]+ \| [^|]+ \|$", page, re.MULTILINE
        )
    )
    assert rows.keys() == EVENT_TYPES
    channels = asyncapi.document()["channels"]
    for event in EVENT_CLASSES:
        kind = event.model_fields["type"].default
        assert event.__name__ in channels[rows[kind]]["messages"]
