"""A fleet in simulated time: many batches on a few nodes, with all that may go wrong and passes.

What it writes is what generators write: claims, outcomes, refusals, notes. Nodes are killed and
come back, leases lapse, providers throttle and fail for minutes, people pause and stop. Nothing
of it is a stall: whatever happens ends by itself. Steps are of one second.
"""

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from millstream.domain import slice as slices
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.watch import Watch

LEASE_S = 10
ATTEMPTS_MOST = 20
BACKOFF_MOST_S = 30.0
BREAKS_AFTER = 5
BREAK_MOST_S = 300.0
CALLS_PER_SLICE = 2
PROBED = 0.2
POISON_CLAIMS = 4


class Profile(NamedTuple):
    """How a model behaves: seconds per call, and the shares of calls that end otherwise."""

    model: str
    quickest_s: float
    slowest_s: float
    refused: float = 0.0
    failed: float = 0.0
    rejected: float = 0.0
    throttled_s: tuple[int, int] = (5, 240)


PROFILES = (
    Profile("sim/quick", 1, 3),
    Profile("sim/usual", 3, 12, rejected=0.05),
    Profile("sim/slow", 25, 60),
    Profile("sim/slowest", 80, 110),
    Profile("sim/flaky", 2, 8, failed=0.25, rejected=0.05),
    Profile("sim/limited", 2, 6, refused=0.08),
)


@dataclass(slots=True)
class _Call:
    node: str
    ends_s: float
    began_s: float


@dataclass(slots=True)
class _Job:
    script: Script
    profile: Profile
    queue: deque[int]
    held: dict[int, str] = field(default_factory=dict)
    lapses: dict[int, int] = field(default_factory=dict)
    calls: dict[int, _Call] = field(default_factory=dict)
    rests_till: dict[int, float] = field(default_factory=dict)
    closed_till_s: float = 0.0
    failures: int = 0
    break_s: float = 1.5
    called_s: int = 0
    goes_on_s: int = 0
    ends_s: int = 0

    @property
    def is_probing(self) -> bool:
        return self.failures >= BREAKS_AFTER


@dataclass(slots=True)
class _Node:
    name: str
    lanes: int
    back_s: int = 0
    in_flight: int = 0


class Mill:
    """The fleet; ``tick`` is called once for each second of ``watch``'s clock."""

    def __init__(self, watch: Watch, seed: int, *, nodes: int = 3, lanes: int = 6) -> None:
        """Begin with all nodes alive."""
        self.watch = watch
        self.felt: Counter[str] = Counter()
        self._chance = random.Random(seed)  # noqa: S311  # a simulation repeats itself
        self._nodes = [_Node(f"node-{number}", lanes) for number in range(nodes)]
        self._jobs: list[_Job] = []
        for node in self._nodes:
            watch.live(node.name)
        self._outage_till: dict[str, int] = {}
        self._now_s = 0

    def begin(self, profile: Profile, target: int) -> None:
        """Start a batch."""
        slice_size = min(16, max(1, -(-target // 8)))
        spec = example_spec(
            target,
            slice_size=slice_size,
            model=profile.model,
            concurrency=4,
            max_attempts=ATTEMPTS_MOST,
        )
        script = self.watch.script(spec=spec)
        script.start()
        self._jobs.append(_Job(script, profile, deque(range(spec.slices))))

    def tick(self) -> None:
        """Let one second pass."""
        self._now_s += 1
        self._tend_nodes()
        for job in list(self._jobs):
            self._tend(job)
        self._claim()
        for job in sorted(self._jobs, key=lambda job: job.called_s):  # lanes take turns
            if job.script.state.phase == "active":
                self._call(job)
        for node in self._nodes:
            if not node.back_s:
                self.watch.live(node.name, is_full=self._room(node) <= 0)

    @property
    def live(self) -> int:
        """How many batches have not ended."""
        return len(self._jobs)

    def _tend_nodes(self) -> None:
        for node in self._nodes:
            if node.back_s and self._now_s >= node.back_s:
                node.back_s = 0
                self.watch.live(node.name)
            others = sum(not other.back_s for other in self._nodes) - 1
            if not node.back_s and others and self._chance.random() < 1 / 200:
                node.back_s = self._now_s + self._chance.randint(3, 90)
                is_killed = self._chance.random() < 0.6
                self.felt["killed" if is_killed else "left"] += 1
                for job in self._jobs:
                    self._take_away(job, node, is_killed=is_killed)
                node.in_flight = 0
                if is_killed:
                    self.watch.die(node.name)
                else:
                    self.watch.leave(node.name)
        for profile in PROFILES:
            if self._chance.random() < 1 / 1500:  # the provider is away for some minutes
                self._outage_till[profile.model] = self._now_s + self._chance.randint(20, 240)
                self.felt["outage"] += 1

    def _take_away(self, job: _Job, node: _Node, *, is_killed: bool) -> None:
        for slot in [slot for slot, call in job.calls.items() if call.node == node.name]:
            del job.calls[slot]
        for index in [index for index, name in job.held.items() if name == node.name]:
            del job.held[index]
            if is_killed:
                job.lapses[index] = self._now_s + LEASE_S
            else:
                job.script.release(index)
                job.queue.append(index)

    def _tend(self, job: _Job) -> None:
        script, state = job.script, job.script.state
        for index in [index for index, at in job.lapses.items() if at <= self._now_s]:
            del job.lapses[index]
            job.queue.appendleft(index)
        for slot in [slot for slot, call in job.calls.items() if call.ends_s <= self._now_s]:
            self._end_call(job, slot)
        if state.phase == "paused" and self._now_s >= job.goes_on_s:
            script.resume()
        elif state.phase == "stopping" and self._now_s >= job.ends_s:
            self._finish(job)
        elif state.phase == "active" and not script.state.counts.pending:
            script.complete()
            self._jobs.remove(job)
        elif state.phase == "active":
            self._disturb(job)

    def _disturb(self, job: _Job) -> None:
        if self._chance.random() < 1 / 900:
            self.felt["paused"] += 1
            job.script.pause()
            job.goes_on_s = self._now_s + self._chance.randint(5, 600)
        elif self._chance.random() < 1 / 3000:
            self.felt["stopped"] += 1
            is_drain = self._chance.random() < 0.5
            if is_drain:
                job.script.drain(30)
            else:
                job.script.request_stop()
            job.ends_s = self._now_s + self._chance.randint(1, 30 if is_drain else 3)

    def _finish(self, job: _Job) -> None:
        for slot in list(job.calls):
            self._hang_up(job, slot)
        script = job.script
        for index in range(script.spec.slices):
            tail = script.state.slices.get(index)
            size = len(script.spec.slots(index))
            if tail is None or not slices.is_done(tail.state, size):
                script.close(index)
        script.end_stop()
        self._jobs.remove(job)

    def _hang_up(self, job: _Job, slot: int) -> _Call:
        call = job.calls.pop(slot)
        for node in self._nodes:
            if node.name == call.node:
                node.in_flight -= 1
        return call

    def _claim(self) -> None:
        """Lease slices to nodes with room, and to full ones for batches that have nothing."""
        for node in self._nodes:
            for job in [] if node.back_s else list(self._jobs):
                script = job.script
                if not job.queue or script.state.phase != "active":
                    continue
                has_none = not job.held and self._chance.random() < PROBED
                if self._room(node) < CALLS_PER_SLICE and not has_none:
                    continue
                index = job.queue.popleft()
                before = script.slices.get(index)
                script.claim(index, node.name, (before.node if before else "") or None)
                job.held[index] = node.name
                if script.slices[index].barren_claims > POISON_CLAIMS:  # as generators do
                    script.fail(next(s for s in script.open_slots() if script.place(s)[0] == index))
                self._jobs.remove(job)
                self._jobs.append(job)  # whose turn it was comes last

    def _room(self, node: _Node) -> int:
        held = sum(name == node.name for job in self._jobs for name in job.held.values())
        return node.lanes - held * CALLS_PER_SLICE

    def _call(self, job: _Job) -> None:
        if self._now_s < job.closed_till_s:
            return
        script, spec = job.script, job.script.spec
        for index, name in list(job.held.items()):
            node = next(node for node in self._nodes if node.name == name)
            size = len(spec.slots(index))
            left = slices.open_offsets(script.slices[index], size)
            if not left:
                del job.held[index]
            slots = range(index * spec.slice_size, (index + 1) * spec.slice_size)
            for slot in (slots[offset] for offset in left):
                most = 1 if job.is_probing else spec.concurrency
                own = sum(called in slots for called in job.calls)
                if node.in_flight >= node.lanes or len(job.calls) >= most:
                    break
                if own >= CALLS_PER_SLICE:
                    break
                if slot not in job.calls and job.rests_till.get(slot, 0) <= self._now_s:
                    lasts_s = self._chance.uniform(job.profile.quickest_s, job.profile.slowest_s)
                    job.calls[slot] = _Call(name, self._now_s + lasts_s, self._now_s)
                    node.in_flight += 1
                    job.called_s = self._now_s

    def _end_call(self, job: _Job, slot: int) -> None:
        call, script, profile = self._hang_up(job, slot), job.script, job.profile
        index, offset = script.place(slot)
        used = script.slices[index].attempts.get(str(offset), 0)
        luck = self._chance.random()
        if self._now_s < self._outage_till.get(profile.model, 0) or luck < profile.failed:
            self._fail(job, slot, used)
        elif luck < profile.failed + profile.refused:
            wait_s = self._chance.randint(*profile.throttled_s)
            script.fail_attempt(slot, "rate_limit", "HTTP 429", retry_in_s=wait_s)
            if self._now_s + wait_s > job.closed_till_s:
                self.felt["throttled"] += 1
                script.throttle(wait_s)
                job.closed_till_s = self._now_s + wait_s
        elif (
            luck < profile.failed + profile.refused + profile.rejected and used + 1 < ATTEMPTS_MOST
        ):
            script.reject(slot)
        else:
            script.generate(slot, latency_ms=(call.ends_s - call.began_s) * 1000)
            if job.is_probing:
                script.recover()
            job.failures, job.break_s = 0, 1.5

    def _fail(self, job: _Job, slot: int, used: int) -> None:
        script = job.script
        pause_s = self._chance.uniform(0.1, min(BACKOFF_MOST_S, 2.0**used))
        script.fail_attempt(slot, "server", "HTTP 503", retry_in_s=pause_s)
        job.rests_till[slot] = self._now_s + pause_s
        if used + 1 >= ATTEMPTS_MOST:
            script.fail(slot)
        job.failures += 1
        if job.is_probing:
            self.felt["broken"] += 1
            script.block(job.break_s, job.failures)
            job.closed_till_s = self._now_s + job.break_s
            job.break_s = min(BREAK_MOST_S, job.break_s * 2)
