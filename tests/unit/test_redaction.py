"""Erasing texts from events: the chain and the fold are what they were, and no text is left."""

import json
from collections.abc import Sequence
from random import Random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import microseconds
from millstream.domain.redaction import holds
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.redaction import stand_in, stand_ins_of
from millstream.eventlog.stored import StandIn, Stored, decode
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import OTHER, play
from millstream.testing.redacted import redacted, redaction
from millstream.testing.tape import BEGIN
from millstream_schemas import events, subjects
from millstream_schemas.redactions import REDACTED_TEXT, SampleRedacted

SPEC = example_spec(12, slice_size=4)


def folded(log: Sequence[Stored]) -> dict[str, BatchState]:
    batches: dict[str, BatchState] = {}
    for stored in log:
        recorded = decode(stored)
        assert recorded is not None
        batch_id = recorded.event.batch_id
        batches[batch_id] = apply(batches.get(batch_id, BatchState(batch_id)), recorded)
    return batches


@settings(max_examples=30, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 11), min_size=1),
    st.sampled_from(["stopped", "completed", "failed"]),
    st.sampled_from(["with attempts", "without"]),
)
def test_a_log_with_stand_ins_has_the_chain_and_the_state_of_the_whole(
    chance: Random, slots: set[int], ending: str, how: str
) -> None:
    attempts = how == "with attempts"
    log = play(chance, SPEC, 40, ending).tape.stored
    whole = redacted(log, sorted(slots), attempts=attempts)
    pending = [*log, *whole[len(log) :]]  # the redactions are there, and the messages still are
    for length in range(1, len(whole) + 1):
        assert extend(ChainState(), whole[:length]) == extend(ChainState(), pending[:length])
    assert folded(whole) == folded(pending)
    before, after = folded(log), folded(whole)
    for batch_id, state in before.items():
        assert after[batch_id].counts == state.counts
        assert after[batch_id].anomalies == state.anomalies
        assert after[batch_id].phase == state.phase
    assert redacted(whole, sorted(slots), attempts=attempts) == whole


def test_no_text_of_a_slot_is_left_in_any_event() -> None:
    script = Script(spec=SPEC)
    script.start()
    script.claim(0)
    script.reject(1, "SECRET is too long")
    script.generate(0)
    script.generate(1, {"SECRET": ["a", {"b": "SECRET"}]})
    log = script.tape.stored
    assert [holds(json.loads(stored.payload), "secret") for stored in log] == [
        *(False, False, True, False, True)
    ]
    whole = redacted(log, [1], attempts=True)
    assert [stored.sequence for stored in whole if isinstance(stored, StandIn)] == [3, 4, 5]
    assert not any(b"SECRET" in stored.payload for stored in whole)
    assert b"What is 0?" in whole[3].payload  # of another slot: only the message is gone
    assert folded(whole)[script.batch_id].last_error is not None
    assert folded(whole)[script.batch_id].last_error.message == REDACTED_TEXT  # type: ignore[union-attr]


def test_a_redaction_that_kept_a_text_is_redacted_itself() -> None:
    script = Script(spec=SPEC)
    script.start()
    script.claim(0)
    script.reject(1, "SECRET is too long")
    script.generate(0, {"question": "HIDDEN"})
    log = script.tape.stored
    once = redacted(log, [1], attempts=True)
    twice = redacted(once, [0], attempts=False)
    assert any(b"HIDDEN" in stored.payload for stored in once[len(log) :])
    assert not any(b"HIDDEN" in stored.payload for stored in twice)
    assert extend(ChainState(), twice[: len(once)]) == extend(ChainState(), once)
    mark = orjson.loads(twice[3].payload)
    assert mark["content"] == {"redacted": True}
    assert mark["redacted"]["erased"] == ["after.last_error.message", "content"]


def test_a_redaction_of_another_place_or_of_the_future_stands_for_nothing() -> None:
    script = Script(spec=SPEC)
    script.start()
    script.claim(0)
    script.generate(0)
    sample = script.tape.stored[-1]
    good = redaction(sample, 9, [0])
    assert good is not None
    assert [made.sequence for made in stand_ins_of(good)] == [3]
    elsewhere = Stored(9, microseconds(BEGIN), subjects.note(script.batch_id), good.payload)
    assert stand_ins_of(elsewhere) == []
    for lie in (
        {"sequence": 9},
        {"subject": subjects.slice_(OTHER, 0)},
        {"headers": "$"},
        {"time_us": 10**30},
    ):
        made = redaction(sample, 9, [0], **lie)
        assert made is not None
        event = events.parse(made.payload)
        assert isinstance(event, SampleRedacted)
        assert stand_in(made, event) is None
