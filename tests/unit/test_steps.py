"""The events of a slice: each carries the state after it and follows the one before."""

from dataclasses import replace
from typing import Any

import pytest

from millstream.domain import slice as slices
from millstream.domain.slice import parallel_calls
from millstream.domain.slice_merge import merge
from millstream.testing.examples import example_cell, example_spec
from millstream_generator import steps
from millstream_generator.completion import CallFailedError, Completion, priced
from millstream_generator.steps import Attempt, Step
from millstream_schemas import events, subjects
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.routes import Price, Route
from millstream_schemas.slices import (
    SampleAbandoned,
    SampleAttemptFailed,
    SampleFailed,
    SampleGenerated,
    SampleRejected,
    SliceClosed,
    SliceEvent,
    SliceState,
    Usage,
)

BATCH = "batch_1767225600_00000001"
SPEC = example_spec(8, slice_size=4)
USAGE = Usage(tokens_in=10, tokens_out=20, cost_nano_usd=300, latency_ms=5.0)
ATTEMPT = Attempt(5, 1, 1, example_cell(SPEC, 5), SPEC.routes[0], "0123456789abcdef")
ANSWER = Completion('{"question": "?"}', "stop", USAGE, "request-1")
ENVELOPE: dict[str, Any] = {
    "id": "0" * 32,
    "source": "test",
    "subject": subjects.slice_(BATCH, 1),
    "time": "2026-01-01T00:00:00Z",
    "actor": {"kind": "node", "id": "n"},
    "batch_id": BATCH,
    "slice": 1,
}


def take(step: Step, state: SliceState | None = None) -> SliceEvent:
    """Make the event and show that it survives the log and breaks no rule of the fold."""
    before = state or slices.claimed(SliceState(), "n")
    event = step(before, ENVELOPE)
    assert events.parse(events.dump(event)) == event
    assert merge(before, event.after, 4, may_abandon=True) == (event.after, 0)
    return event


def test_a_claim_raises_the_epoch_and_names_whom_it_rescues() -> None:
    first = take(steps.claimed("a"), SliceState())
    second = take(steps.claimed("b", rescue_of="a"), first.after)
    assert (first.after.epoch, second.after.epoch, second.after.node) == (1, 2, "b")
    assert second.model_dump()["rescue_of"] == "a"


def test_an_accepted_answer_is_the_outcome_and_is_paid() -> None:
    event = take(steps.generated(ATTEMPT, ANSWER, {"question": "?"}))
    assert isinstance(event, SampleGenerated)
    assert (event.after.generated, event.after.cost_nano_usd) == ("2", 300)
    assert event.after.wasted_nano_usd is None
    assert (event.slot, event.attempt, event.request_id) == (5, 1, "request-1")
    assert (event.model, event.provider) == ("simulated/fast", "simulated")


@pytest.mark.parametrize(
    ("rule", "category"), [("schema", "validation"), ("content_filter", "content_filter")]
)
def test_a_refused_answer_uses_an_attempt_and_is_paid_in_vain(rule: str, category: str) -> None:
    event = take(steps.rejected(ATTEMPT, ANSWER, rule, "write a question"))
    assert isinstance(event, SampleRejected)
    assert (event.rule, event.answer) == (rule, ANSWER.text)
    after = event.after
    assert (after.attempts, after.rejected, after.errors) == ({"1": 1}, 1, {category: 1})
    assert after.wasted_nano_usd == after.cost_nano_usd == 300
    assert after.last_error == ErrorInfo(category=category, message="write a question", slot=5)


def test_any_answer_can_be_kept_with_its_refusal() -> None:
    answer = Completion("\x00 half \ud83d pair" + "x" * 30_000, None, Usage(), None)
    event = take(steps.rejected(ATTEMPT, answer, "schema", "bad \ud83d\x00" + "y" * 3000))
    assert isinstance(event, SampleRejected)
    assert event.answer.startswith("\\0 half ? pair")
    assert (len(event.answer), len(event.message)) == (20_000, 2000)


@pytest.mark.parametrize(
    ("category", "counts", "attempts"),
    [("server", True, {"1": 1}), ("server", False, {}), ("rate_limit", False, {})],
)
def test_a_failed_call_uses_an_attempt_where_the_policy_says_so(
    category: Any, attempts: dict[str, int], *, counts: bool
) -> None:
    failure = CallFailedError(category, "no", status_code=500)
    event = take(steps.attempt_failed(ATTEMPT, failure, Usage(latency_ms=1.0), 2.5, counts=counts))
    assert isinstance(event, SampleAttemptFailed)
    assert (event.category, event.status_code, event.retry_in_s) == (category, 500, 2.5)
    assert (event.after.attempts, event.after.attempts_failed) == (attempts, 1)
    assert event.after.cost_nano_usd is None


def test_a_slot_given_up_has_its_outcome_and_no_attempts_left_over() -> None:
    failure = CallFailedError("server", "no")
    tried = take(steps.attempt_failed(ATTEMPT, failure, Usage(), None))
    error = ErrorInfo(category="server", message="no", slot=5)
    event = take(steps.failed(ATTEMPT, error), tried.after)
    assert isinstance(event, SampleFailed)
    assert (event.after.failed, event.after.attempts, event.message) == ("2", {}, "no")


def test_a_cancelled_call_abandons_its_slot_with_an_estimate() -> None:
    event = take(steps.abandoned(ATTEMPT, Usage(tokens_out=7)))
    assert isinstance(event, SampleAbandoned)
    assert (event.after.abandoned, event.after.tokens_out, event.estimated) == ("2", 7, True)


def test_each_event_of_a_call_names_its_route_and_one_of_no_call_none() -> None:
    called = replace(ATTEMPT, route_key="route.1")
    failure, error = CallFailedError("server", "no"), ErrorInfo(category="server", message="no")
    every = [
        steps.generated(called, ANSWER, {"question": "?"}),
        steps.rejected(called, ANSWER, "schema", "write a question"),
        steps.attempt_failed(called, failure, Usage(), None),
        steps.failed(called, error),
        steps.abandoned(called, Usage(tokens_out=7)),
    ]
    assert [take(step).model_dump()["route"] for step in every] == ["route.1"] * 5
    assert b"route" not in events.dump(take(steps.failed(ATTEMPT, error)))


def test_closing_abandons_what_is_open() -> None:
    done = take(steps.generated(ATTEMPT, ANSWER, {"question": "?"}))
    event = take(steps.closed(4), done.after)
    assert isinstance(event, SliceClosed)
    assert (event.after.generated, event.after.abandoned, event.after.closed) == ("2", "d", True)


def test_a_cost_is_known_only_when_price_and_tokens_are() -> None:
    price = Price(input_nano_usd_per_1k=1000, output_nano_usd_per_1k=2000)
    route = Route(model="m", provider="p", litellm_model="p/m", price=price)
    assert priced(route, 10, 20) == 50
    assert priced(route, None, 20) is None
    assert priced(route.model_copy(update={"price": None}), 10, 20) is None


@pytest.mark.parametrize("size", [1, 2, 4, 33, 64])
@pytest.mark.parametrize("concurrency", [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 100, 1000, 4096])
def test_slices_that_begin_together_use_most_of_the_concurrency(
    size: int, concurrency: int
) -> None:
    spec = example_spec(1_000_000, slice_size=size, concurrency=concurrency)
    calls = parallel_calls(spec)
    assert concurrency * 0.8 <= concurrency // calls * calls
    assert 1 <= calls <= size
