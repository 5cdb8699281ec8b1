"""The dispatcher's window: every open slice comes to the queue, and never too many at once."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import slice as slices
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.slice import parallel_calls
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_generator.newest import newest
from millstream_generator.windows import Window, ahead, pending


class World:
    """A log, a queue that may lose slices, and the dispatcher's window on both."""

    def __init__(self, seed: int, target: int, slice_size: int, concurrency: int) -> None:
        self.rng = Random(seed)
        self.spec = example_spec(target, slice_size=slice_size, concurrency=concurrency)
        self.script = Script(spec=self.spec)
        self.script.start()
        self.state = BatchState(self.script.batch_id)
        self.read = 0
        self.follow()
        self.window = Window(self.state)
        self.queue: set[int] = set()

    def follow(self) -> None:
        """Fold what is new, as the dispatcher does: only the newest event of a slice."""
        fresh = self.script.tape.stored[self.read :]
        recorded = {entry.sequence: entry for entry in self.script.tape.recorded}
        for stored, parsed in newest(fresh):
            self.state = apply(self.state, recorded[stored.sequence])
            if parsed is not None:
                self.window.moved(self.state, parsed[1])
        self.read += len(fresh)

    def dispatch(self) -> None:
        self.follow()
        wanted = self.window.wanted(self.state)
        self.queue |= set(wanted)
        self.window.is_queued(wanted)
        held = {index for index in self.queue if self.tail(index).node}
        assert sum(map(self.calls, self.queue)) <= self.spec.concurrency
        assert len(self.queue - held) <= ahead(self.spec)

    def tail(self, index: int) -> slices.SliceState:
        return self.script.slices.get(index, slices.SliceState())

    def calls(self, index: int) -> int:
        """Return the most calls that a slice may have in flight."""
        left = slices.open_offsets(self.tail(index), self.state.slice_size(index))
        return min(parallel_calls(self.spec), len(left))

    def work(self, index: int) -> None:
        """Claim a slice, and end it, give it up or die."""
        if not self.tail(index).node:
            self.script.claim(index)
        match self.rng.choice(["end", "end", "give_up", "die", "one"]):
            case "end":
                for offset in slices.open_offsets(self.tail(index), self.state.slice_size(index)):
                    self.script.generate(index * self.spec.slice_size + offset)
                self.queue.discard(index)
            case "give_up":
                self.script.release(index)
            case "one":
                offset = slices.open_offsets(self.tail(index), self.state.slice_size(index))[0]
                self.script.generate(index * self.spec.slice_size + offset)
                if slices.is_done(self.tail(index), self.state.slice_size(index)):
                    self.queue.discard(index)

    def reconcile(self) -> None:
        """Match the queue, and take every holder of what it has lost for dead."""
        for index in self.window.matched(self.state, set(self.queue)):
            self.window.is_missing(index)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    target=st.integers(1, 120),
    slice_size=st.integers(1, 12),
    concurrency=st.integers(1, 40),
)
def test_every_slice_gets_done_whatever_the_queue_loses(
    seed: int, target: int, slice_size: int, concurrency: int
) -> None:
    world = World(seed, target, slice_size, concurrency)
    for _ in range(2000):
        world.dispatch()
        if not pending(world.state):
            return
        if world.queue:
            world.work(world.rng.choice(sorted(world.queue)))
        if world.rng.random() < 0.05:
            world.queue.clear()
        if world.rng.random() < 0.2 or not world.queue:
            world.follow()
            world.reconcile()
    raise AssertionError(f"{pending(world.state)} slots are left")


def test_the_newest_event_of_a_slice_stands_for_those_before_it() -> None:
    script = Script(spec=example_spec(8, slice_size=4))
    script.start()
    script.claim(0)
    script.claim(1)
    for slot in (0, 1, 4, 2):
        script.generate(slot)
    found = [(stored.sequence, parsed) for stored, parsed in newest(script.tape.stored)]
    assert found == [
        (1, None),
        (6, (script.batch_id, 1)),
        (7, (script.batch_id, 0)),
    ]
