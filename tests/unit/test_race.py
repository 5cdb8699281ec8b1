"""Two deciders and two nodes race for one log: whatever they do, it stays sound and ends once."""

from datetime import UTC, datetime
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from millstream.domain import slice as steps
from millstream.domain.batch import apply, fold
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Refusal, Stamp, complete, decide, end_stop, fail
from millstream.domain.recorded import Recorded
from millstream.testing.examples import example_cell, example_spec
from millstream_schemas import commands, control, slices, subjects
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.errors import ErrorInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = "batch_1767225600_00000001"
SPEC = example_spec(4, slice_size=2)
ERROR = ErrorInfo(category="auth", message="the key was refused")
COMMANDS: list[commands.BatchCommand] = [
    commands.StopBatch(),
    commands.PauseBatch(),
    commands.ResumeBatch(),
]
WHO = st.integers(0, 1)


class Race(RuleBasedStateMachine):
    """Two deciders and two nodes on one log; each acts on what it last saw, with the fence.

    A node keeps its slice's state and sequence from its claim on, and reads control once after
    it, before its first call: as the workers do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Recorded[BatchEvent]] = []
        self.last: dict[str, int] = {}
        numbers = count(1)
        self.stamp = Stamp(
            new_id=lambda: f"{next(numbers):032x}",
            time=NOW,
            actor=Actor(kind="user", id="ada"),
            source="test",
            command_id="command-1",
        )
        envelope = self.stamp.control(BATCH)
        self.append([(control.BatchStarted(**envelope, spec=SPEC, dataset_id="d"), 0)])
        self.seen = [self.state, self.state]
        self.leases: dict[tuple[int, int], tuple[int, slices.SliceState]] = {}

    @property
    def state(self) -> BatchState:
        """The truth: the fold of the whole log."""
        return fold(BATCH, self.log)

    def append(self, chain: list[tuple[BatchEvent, int]]) -> bool:
        """Append all of ``chain`` if every subject still ends where its writer thinks."""
        if any(self.last.get(event.subject, 0) != expected for event, expected in chain):
            return False
        for event, _ in chain:
            sequence = len(self.log) + 1
            self.log.append(Recorded(sequence, NOW, event))
            self.last[event.subject] = sequence
        return True

    @rule(who=WHO)
    def look(self, who: int) -> None:
        self.seen[who] = self.state

    @rule(who=WHO, command=st.sampled_from(COMMANDS))
    def ask(self, who: int, command: commands.BatchCommand) -> None:
        self.act(who, decide(self.seen[who], command, self.stamp))

    @rule(who=WHO)
    def give_up(self, who: int) -> None:
        self.act(who, fail(self.seen[who], ERROR, self.stamp))

    @rule(who=WHO)
    def finish(self, who: int) -> None:
        self.act(who, complete(self.seen[who], self.stamp))

    def act(self, who: int, decision: BatchEvent | Refusal | None) -> None:
        if decision is not None and not isinstance(decision, Refusal):
            self.append([(decision, self.seen[who].control_sequence)])

    @rule(who=WHO)
    def fence(self, who: int) -> None:
        state = self.seen[who]
        if state.phase != "stopping":
            with pytest.raises(LookupError):
                end_stop(state, state.counts, self.stamp)
            return
        chain: list[tuple[BatchEvent, int]] = []
        after = state
        for index, tail in state.slices.items():
            if not steps.is_done(tail.state, state.slice_size(index)):
                closed = steps.closed(tail.state, state.slice_size(index))
                event = slices.SliceClosed(**self.place(index), slice=index, after=closed)
                chain.append((event, tail.sequence))
                after = apply(after, Recorded(after.sequence + 1, NOW, event))
        final = end_stop(state, after.counts, self.stamp)
        self.append([*chain, (final, state.control_sequence)])

    @rule(node=WHO, index=st.integers(0, SPEC.slices - 1))
    def claim(self, node: int, index: int) -> None:
        tail = self.state.slices.get(index)
        before = tail.state if tail else slices.SliceState()
        after = steps.claimed(before, f"node-{node}")
        event = slices.SliceClaimed(**self.place(index), slice=index, after=after)
        self.append([(event, tail.sequence if tail else 0)])
        if self.state.phase in {"active", "paused"}:
            self.leases[node, index] = (len(self.log), after)

    @rule(node=WHO, index=st.integers(0, SPEC.slices - 1))
    def generate(self, node: int, index: int) -> None:
        if (node, index) not in self.leases:
            return
        sequence, before = self.leases[node, index]
        offsets = steps.open_offsets(before, len(SPEC.slots(index)))
        if not offsets:
            return
        slot = SPEC.slots(index)[offsets[0]]
        after = steps.with_outcome(before, offsets[0], "generated")
        event = slices.SampleGenerated(
            **self.place(index),
            slice=index,
            after=after,
            slot=slot,
            attempt=1,
            cell=example_cell(SPEC, slot),
            model="m",
            provider="p",
            content={},
        )
        if self.append([(event, sequence)]):
            self.leases[node, index] = (len(self.log), after)
        else:
            del self.leases[node, index]

    def place(self, index: int) -> dict[str, object]:
        """Return the envelope of a slice's event."""
        return self.stamp.envelope(BATCH, subjects.slice_(BATCH, index))

    def ends(self) -> list[Recorded[BatchEvent]]:
        """Return the final events of the log."""
        kinds = control.BatchStopped | control.BatchCompleted | control.BatchFailed
        return [recorded for recorded in self.log if isinstance(recorded.event, kinds)]

    @invariant()
    def the_log_is_sound(self) -> None:
        state = self.state
        assert (state.anomalies, state.late) == (0, 0)
        assert len(self.ends()) == state.is_final

    def teardown(self) -> None:
        for who in (0, 1, 0, 1):
            self.look(who)
            self.ask(who, commands.StopBatch())
            self.look(who)
            self.fence(who)
            self.finish(who)
        self.the_log_is_sound()
        assert len(self.ends()) == 1


TestRace = Race.TestCase
TestRace.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
