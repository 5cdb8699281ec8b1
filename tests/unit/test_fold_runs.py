"""Runs and lean events: quick ways to the same fold, for sound logs and for any other."""

import json
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded, microseconds, moment
from millstream.domain.runs import RUN_EVENTS, Run, moves_until
from millstream.domain.stuck import moved_at
from millstream.eventlog.lean import LeanReader, lean, solid
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENDINGS, any_event, own, play
from millstream.testing.tape import BEGIN
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.events import MalformedEventError, UnknownEventError, dump, parse
from millstream_schemas.recipes import Recipe
from millstream_schemas.slices import SampleGenerated, SliceEvent

BRIEF = settings(max_examples=300, deadline=None)
SPECS = [example_spec(target, slice_size=size) for target in (1, 3, 7, 10) for size in (1, 2, 4)]
READER = LeanReader(RUN_EVENTS)
Events = list[Recorded[BatchEvent]]


@st.composite
def histories(draw: st.DrawFn) -> Events:
    """Draw a sound history with anything strewn into it, some of it delivered twice."""
    rng = Random(draw(st.integers(0, 2**32)))
    spec = draw(st.sampled_from(SPECS))
    script = play(rng, spec, draw(st.integers(0, 30)), draw(st.sampled_from(ENDINGS)))
    share = draw(st.sampled_from([0.0, 0.1, 0.5]))
    history: Events = []
    for recorded in own(script):
        history.append(recorded)
        if rng.random() < share:
            event = any_event(rng, spec)
            history.append(Recorded(recorded.sequence, recorded.stored_at, event))
        if rng.random() < share:
            history.append(rng.choice(history))
    return [
        Recorded(
            entry.sequence if rng.random() < 0.1 else number,
            BEGIN + timedelta(seconds=number),
            entry.event,
        )
        for number, entry in enumerate(history, 1)
    ]


def is_new(recorded: Recorded[BatchEvent], before: BatchState, after: BatchState) -> bool:
    event = recorded.event
    if not isinstance(event, SampleGenerated) or before.totals == after.totals:
        return False
    offset = event.slot - event.slice * after.spec.slice_size
    masks = [
        int(state.slices[event.slice].state.generated, 16) if event.slice in state.slices else 0
        for state in (before, after)
    ]
    return offset >= 0 and bool((masks[1] & ~masks[0]) >> offset & 1)


@BRIEF
@given(history=histories(), cuts=st.sets(st.integers(0, 60)), is_lean=st.booleans())
def test_a_run_comes_to_the_state_that_its_events_come_to_one_by_one(
    *, history: Events, cuts: set[int], is_lean: bool
) -> None:
    plain, quick = BatchState(BATCH), BatchState(BATCH)
    run, latest = Run(quick), None
    for number, recorded in enumerate(history):
        before, plain = plain, apply(plain, recorded)
        found = READER(dump(recorded.event)) if is_lean else as_run_event(recorded.event)
        taken = None
        if found is not None:
            kind, event = found
            at_us = microseconds(recorded.stored_at)
            taken = run.take(recorded.sequence, at_us, event, kind)
        if taken is None:
            quick = apply(run.state(solid), recorded)
            run, latest = Run(quick), None
        else:
            moved, until_us = moved_at(recorded), moves_until(at_us, event, kind)
            assert (None if until_us is None else moment(until_us)) == moved
            latest = max((at for at in (latest, moved) if at), default=None)
            assert run.moved_at == latest
            assert bool(taken) == is_new(recorded, before, plain)
        if number in cuts:
            quick = run.state(solid)
            assert quick == plain
            run, latest = Run(quick), None
    assert run.state(solid) == plain


def as_run_event(event: BatchEvent) -> tuple[str, SliceEvent] | None:
    if isinstance(event, RUN_EVENTS):
        return event.type, event  # type: ignore[attr-defined]  # each of them has one
    return None


JUNK = [None, True, -1, 0, 1.0, 1.5, 2**70, "", "0", "x", "g", "00", "1\n", "\ud800", [], {}, [[]]]
JUNK += [{"a": 1}, {"a": "\u0000"}, "2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z"]
JUNK += [{"a": 2**64, "b": -0.0, "c": 1e300, "d": [None, "é", {"e": "😀"}]}, "f" * 17, "a" * 2001]


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Draw the bytes of an event, often with something wrong in them."""
    rng = Random(draw(st.integers(0, 2**32)))
    if rng.random() < 0.5:
        event: BatchEvent = any_event(rng, SPECS[-1])
    else:
        event = rng.choice(own(play(rng, SPECS[-1], 20, "live"))).event
    document = json.loads(dump(event))
    for _ in range(draw(st.integers(0, 2))):
        spoil(rng, document)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1:
        text = text.replace(":", ": ", rng.randrange(4))
    if rng.random() < 0.1:  # a key that stands twice
        text = text[:-1] + "," + json.dumps(rng.choice([*document])) + ":" + text[1:2] + '"}'
    payload = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.2:
        payload[rng.randrange(len(payload))] = rng.randrange(256)
    return bytes(payload)


def spoil(rng: Random, document: dict[str, Any]) -> None:
    """Change one value, remove it, or add one that nobody knows."""
    name = rng.choice([*document])
    value = document[name]
    if isinstance(value, dict) and value and rng.random() < 0.7:
        spoil(rng, value)
    elif rng.random() < 0.2:
        del document[name]
    elif rng.random() < 0.2:
        document["later"] = deepcopy(rng.choice(JUNK))
    else:
        document[name] = deepcopy(rng.choice(JUNK))


@settings(max_examples=3000, deadline=None)
@given(payloads())
def test_what_the_lean_reader_takes_the_contract_takes_and_reads_alike(payload: bytes) -> None:
    found = READER(payload)
    try:
        event = parse(payload)
    except (MalformedEventError, UnknownEventError):
        assert found is None
        return
    if found is None:
        return
    kind, read = found
    assert kind == event.type
    assert type(event).model_validate(msgspec.to_builtins(read)) == event
    for name in type(event).model_fields:
        ours, theirs = msgspec.to_builtins(getattr(read, name)), getattr(event, name)
        if name not in {"after", "time", "actor", "cell", "usage"}:
            assert (type(ours), repr(ours)) == (type(theirs), repr(theirs))
    if isinstance(event, SliceEvent):
        assert solid(read.after) == event.after


@BRIEF
@given(histories())
def test_the_lean_reader_takes_every_sound_event_of_its_kinds(history: Events) -> None:
    for recorded in history:
        is_its = isinstance(recorded.event, RUN_EVENTS)
        assert (READER(dump(recorded.event)) is not None) == is_its


def test_a_model_with_rules_of_its_own_has_no_lean_form() -> None:
    with pytest.raises(TypeError, match="Recipe has validators of its own"):
        lean(Recipe)
