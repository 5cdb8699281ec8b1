"""The fold of sound histories: against a plain count, and from the tails alone."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.batch import apply, fold
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENDINGS, own, play
from millstream.testing.tape import BEGIN
from millstream_schemas import control, slices
from millstream_schemas.envelope import BatchEvent, Counts

BRIEF = settings(max_examples=100, deadline=None)
Events = list[Recorded[BatchEvent]]
SPECS = [example_spec(target, slice_size=size) for target in range(1, 11) for size in range(1, 5)]
MAY_DIFFER_AFTER_TAILS = {"last_progress_at", "last_error", "held_up"}
"""What the tails don't tell: when an earlier event of a slice came, whose error was last, and
whether a sample was made that is not the last event of its slice."""


@st.composite
def scripts(draw: st.DrawFn, *endings: str) -> Script:
    """Draw a legal history that ends as one of ``endings``."""
    rng = draw(st.randoms(use_true_random=False))
    spec = draw(st.sampled_from(SPECS))
    return play(rng, spec, draw(st.integers(0, 25)), draw(st.sampled_from(endings)))


LEGAL = scripts(*ENDINGS)


def tally(history: Events) -> tuple[Counts, Counter[str]]:
    """Count a sound history the plain way, without slice states; return (counts, errors)."""
    slots: dict[int, str] = {}
    sums: Counter[str] = Counter()
    money: dict[str, int] = {}
    errors: Counter[str] = Counter()
    unconfirmed: dict[int, int] = {}
    started = history[0].event
    assert isinstance(started, control.BatchStarted)
    for event in (recorded.event for recorded in history):
        match event:
            case slices.SliceClosed():
                slots = dict.fromkeys(started.spec.slots(event.slice), "abandoned") | slots
            case slices.SampleGenerated():
                slots[event.slot] = "generated"
            case slices.SampleFailed():
                slots[event.slot] = "failed"
            case slices.SampleAttemptFailed():
                sums["attempts_failed"] += 1
                errors[event.category] += 1
            case slices.SampleRejected():
                sums["rejected"] += 1
                errors["validation"] += 1
        if isinstance(event, slices.AttemptEvent):
            pay(event, sums, money)
        if isinstance(event, slices.SliceEvent):
            unconfirmed[event.slice] = event.after.unconfirmed
    sums["unconfirmed_calls"] = sum(unconfirmed.values())
    made = Counter(slots.values())
    pending = started.spec.target - made.total()
    return Counts(**made, **sums, **money, pending=pending), errors


def pay(event: slices.AttemptEvent, sums: Counter[str], money: dict[str, int]) -> None:
    """Add what one call used."""
    sums["tokens_in"] += event.usage.tokens_in or 0
    sums["tokens_out"] += event.usage.tokens_out or 0
    cost = event.usage.cost_nano_usd
    if cost is not None:
        money["cost_nano_usd"] = money.get("cost_nano_usd", 0) + cost
        if not isinstance(event, slices.SampleGenerated):
            money["wasted_nano_usd"] = money.get("wasted_nano_usd", 0) + cost
    elif event.usage.tokens_in or event.usage.tokens_out:
        money["unpriced_calls"] = money.get("unpriced_calls", 0) + 1


@BRIEF
@given(LEGAL)
def test_the_fold_of_a_sound_history_equals_a_plain_count(script: Script) -> None:
    state = fold(BATCH, own(script))
    counts, errors = tally(own(script))
    assert (state.counts, dict(state.errors.items())) == (counts, dict(errors))
    assert (state.anomalies, state.late) == (0, 0)


def known(state: BatchState, unknown: set[str]) -> dict[str, object]:
    """Return the fields of ``state`` but those of ``unknown``."""
    return {name: value for name, value in vars(state).items() if name not in unknown}


def from_tails(control_until: Events, tails_of: Events, rng: Random) -> BatchState:
    """Start as a reader does that takes control events, notes, then one event per slice."""
    state = BatchState(BATCH)
    by_kind: list[Events] = [[], []]
    for recorded in control_until:
        if not isinstance(recorded.event, slices.SliceEvent):
            is_note = recorded.event.subject.endswith(".note")
            by_kind[is_note].append(recorded)
    tails = {item.event.slice: item for item in tails_of if is_slice(item)}  # type: ignore[attr-defined]
    last = list(tails.values())
    rng.shuffle(last)
    for recorded in [*by_kind[0], *by_kind[1], *last]:
        state = apply(state, recorded, trusted=True)
    return state


def until_the_end(script: Script) -> Events:
    """Return the batch's history but for claims after its end, which only tails show."""
    last = script.state.control_sequence if script.state.is_final else script.state.sequence
    return [item for item in own(script) if item.sequence <= last]


def is_slice(recorded: Recorded[BatchEvent]) -> bool:
    """Tell whether an event is a slice's."""
    return isinstance(recorded.event, slices.SliceEvent)


@BRIEF
@given(LEGAL, st.randoms(use_true_random=False))
def test_a_start_from_the_tails_equals_the_whole_fold(script: Script, rng: Random) -> None:
    history = until_the_end(script)
    started = from_tails(history, history, rng)
    whole = fold(BATCH, history)
    assert known(started, MAY_DIFFER_AFTER_TAILS) == known(whole, MAY_DIFFER_AFTER_TAILS)
    assert (started.counts, started.state) == (whole.counts, whole.state)
    assert (started.last_error is None) == (whole.last_error is None)
    assert (started.last_progress_at or BEGIN) <= (whole.last_progress_at or BEGIN)


@BRIEF
@given(LEGAL, st.randoms(use_true_random=False))
def test_tails_ahead_of_the_feed_lead_to_the_same_end(script: Script, rng: Random) -> None:
    """Tails are read after the head was: the feed then repeats what they hold."""
    history = until_the_end(script)
    head = rng.randint(1, len(history))
    ahead = rng.choice([len(history), rng.randint(head, len(history))])
    state = from_tails(history[:head], history[:ahead], rng)
    if state.is_final:
        return
    for recorded in history[head:]:
        state = apply(state, recorded)
    whole = fold(BATCH, history)
    assert known(state, MAY_DIFFER_AFTER_TAILS) == known(whole, MAY_DIFFER_AFTER_TAILS)


def test_the_last_error_is_the_latest_one_even_if_its_words_repeat() -> None:
    script = Script(batch_id=BATCH, spec=example_spec(4, slice_size=2))
    script.start()
    script.claim(0)
    script.claim(1)
    for slot in (0, 2, 0):
        script.fail_attempt(slot)
    assert script.state.last_error is not None
    assert script.state.last_error.slot == 0
