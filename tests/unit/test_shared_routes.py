"""What nodes learn of a provider together, and share of its limits: real gates in virtual time.

Only the bucket and the provider are made up: a document that is a few milliseconds away, and a
server that counts by itself.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from millstream.domain.limits import RouteState
from millstream.errors import LogUnavailableError
from millstream.testing.site import route
from millstream.testing.virtual_time import run_virtual
from millstream_generator import condition, gate, hints, leases, turns
from millstream_generator.completion import CallFailedError

AWAY_S = 0.003
REFUSED = CallFailedError("rate_limit", "busy", status_code=429)


@pytest.fixture(autouse=True)
def _virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (condition, gate, hints, leases, turns):
        monkeypatch.setattr(module, "boot_seconds", lambda: asyncio.get_running_loop().time())


@dataclass
class Document:
    """The route's document: a compare-and-set, and all hear of each write."""

    state: RouteState = field(default_factory=RouteState)
    revision: int = 0
    heard_by: list[Callable[[RouteState], None]] = field(default_factory=list)


class Shared:
    """One node's view of it."""

    def __init__(self, document: Document, chance: Random) -> None:
        self._document = document
        self._chance = chance
        self.clock = SimpleNamespace(now=lambda: 1e6 + asyncio.get_running_loop().time())
        self.is_away = self.is_unheard = False
        """Whether nothing reaches the bucket; whether none of its answers comes back."""

    async def read(self, _: str) -> RouteState:
        await asyncio.sleep(AWAY_S)
        if self.is_away or self.is_unheard:
            await asyncio.sleep(2)
            raise LogUnavailableError("no answer")
        return self._document.state

    async def change(self, key: str, step: Callable[[RouteState, float], RouteState]) -> RouteState:
        document = self._document
        while True:
            if self.is_away:
                await self.read(key)
            revision, state = document.revision, document.state
            changed = step(state, self.clock.now())
            if changed == state:
                return state
            await asyncio.sleep(AWAY_S)
            if document.revision == revision:
                document.revision, document.state = revision + 1, changed
                for hear in document.heard_by:
                    asyncio.get_running_loop().call_later(AWAY_S, hear, changed)
                if self.is_unheard:
                    await self.read(key)
                return changed
            await asyncio.sleep(AWAY_S + 0.02 * self._chance.random())


class Bucket:
    """A provider that takes ``rate`` calls a second, and ``burst`` at once after a rest."""

    def __init__(self, rate: float, burst: float, call_s: tuple[float, float]) -> None:
        self._rate, self._burst, self._call_s = rate, burst, call_s
        self._left, self._at, self._chance = burst, 0.0, Random(7)
        self.taken = self.refused = 0

    async def call(self) -> bool:
        await asyncio.sleep(self._chance.uniform(0.005, 0.015))
        now = asyncio.get_running_loop().time()
        self._left, self._at = min(self._burst, self._left + self._rate * (now - self._at)), now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        self.taken += 1
        await asyncio.sleep(self._chance.uniform(*self._call_s))
        return True


class Places:
    """A provider that makes ``most`` calls at once."""

    def __init__(self, most: int, call_s: tuple[float, float]) -> None:
        self._most, self._call_s, self._chance = most, call_s, Random(7)
        self._now = self.peak = self.taken = self.refused = 0

    async def call(self) -> bool:
        await asyncio.sleep(self._chance.uniform(0.005, 0.015))
        if self._now >= self._most:
            self.refused += 1
            return False
        self._now += 1
        self.peak = max(self.peak, self._now)
        self.taken += 1
        await asyncio.sleep(self._chance.uniform(*self._call_s))
        self._now -= 1
        return True


class Nodes:
    """Nodes whose callers have always one call more to make."""

    def __init__(self, provider: Bucket | Places, callers: int) -> None:
        self._provider, self._callers = provider, callers
        self._document, self._tasks = Document(), list[asyncio.Task[Any]]()
        self.calls = Counter[str]()
        self.gates: dict[str, gate.Gate] = {}
        self.buckets: dict[str, Shared] = {}

    def start(self, name: str, **limits: int) -> None:
        chance = Random(name)
        shared: Any = Shared(self._document, chance)
        self.buckets[name] = shared
        way = route("http://x", **limits)
        known = condition.Condition("k", way, shared, node=name, first_probe_s=5)
        made = self.gates[name] = gate.Gate(known, chance)
        self._document.heard_by.append(made.hear)
        work: list[Awaitable[None]] = [
            made.run(),
            *(self._call(name) for _ in range(self._callers)),
        ]
        self._tasks += [asyncio.ensure_future(one) for one in work]  # noqa: TID251  # ended below

    async def _call(self, name: str) -> None:
        its = self.gates[name]
        while True:
            turn = its.try_turn() or await its.queue(0, "b").granted
            with turn:
                turn.is_used = True
                self.calls[name] += 1
                if await self._provider.call():
                    its.condition.note_answer(turn, 10)
                else:
                    its.condition.note_failure(turn, REFUSED, its.in_flight)
            await asyncio.sleep(0.001)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    @property
    def writes(self) -> int:
        return self._document.revision


async def steady(
    nodes: Nodes, provider: Bucket | Places, warm_s: float, for_s: float
) -> tuple[float, float]:
    """Return (calls taken a second, the share of all calls that was refused) after ``warm_s``."""
    await asyncio.sleep(warm_s)
    taken, refused = provider.taken, provider.refused
    await asyncio.sleep(for_s)
    taken, refused = provider.taken - taken, provider.refused - refused
    return taken / for_s, refused / (taken + refused)


@pytest.mark.parametrize(
    ("count", "rate", "burst", "call_s"),
    [
        (1, 1, 2, (0.04, 0.06)),
        (20, 1, 2, (0.04, 0.06)),
        (20, 1, 2, (3, 7)),
        (8, 10, 5, (0.04, 0.06)),
        (3, 100, 20, (0.04, 0.06)),
    ],
)
def test_nodes_together_use_what_a_provider_takes_and_few_of_their_calls_are_refused(
    count: int, rate: float, burst: float, call_s: tuple[float, float]
) -> None:
    async def main() -> tuple[float, float]:
        provider = Bucket(rate, burst, call_s)
        nodes = Nodes(provider, callers=160 // count)
        for number in range(count):
            nodes.start(f"n{number}")
        found = await steady(nodes, provider, 60, 200 if rate < 100 else 30)
        nodes.end()
        return found

    taken, refused = run_virtual(main())
    assert taken >= 0.85 * rate
    assert refused <= 0.15


def test_slow_calls_of_a_provider_with_few_places_use_them() -> None:
    async def main() -> tuple[float, float]:
        provider = Places(10, (30, 40))
        nodes = Nodes(provider, callers=20)
        for number in range(3):
            nodes.start(f"n{number}")
        found = await steady(nodes, provider, 300, 1500)
        nodes.end()
        return found

    taken, refused = run_virtual(main())
    assert taken >= 0.85 * 10 / 35
    assert refused <= 0.25


def test_a_node_that_joins_gets_its_part_and_takes_no_other_nodes() -> None:
    async def main() -> Counter[str]:
        nodes = Nodes(Bucket(1, 2, (0.04, 0.06)), callers=8)
        for number in range(5):
            nodes.start(f"n{number}")
        await asyncio.sleep(100)
        nodes.start("joined")
        nodes.calls.clear()
        await asyncio.sleep(300)
        nodes.end()
        return nodes.calls

    calls = run_virtual(main())
    assert min(calls.values()) >= 300 / 6 / 2
    assert len(calls) == 6


def test_a_route_that_refuses_nothing_costs_no_write_and_is_free_again_after_it_did() -> None:
    async def main() -> tuple[int, list[bool]]:
        provider = Bucket(10_000, 10_000, (0.04, 0.06))
        nodes = Nodes(provider, callers=1)
        nodes.start("a")
        nodes.start("b")
        await asyncio.sleep(30)
        free = nodes.writes
        its = nodes.gates["a"]
        turn = its.try_turn()
        assert turn is not None
        its.condition.note_failure(turn, REFUSED)
        await asyncio.sleep(40)
        writes = nodes.writes
        await asyncio.sleep(30)
        nodes.end()
        return free, [
            nodes.writes == writes,
            *(one.condition.is_free for one in nodes.gates.values()),
        ]

    free, after = run_virtual(main())
    assert free == 0
    assert after == [True, True, True]


@pytest.mark.parametrize("call_s", [(0.2, 0.3), (0.8, 1.2), (10, 12)])
@pytest.mark.parametrize("fault", ["is_away", "is_unheard"])
def test_a_node_that_cannot_agree_takes_no_route_above_its_calls_in_flight(
    call_s: tuple[float, float], fault: str
) -> None:
    """It uses what it holds until that runs out; its calls have ended before others have them."""

    async def main() -> tuple[int, float]:
        provider = Places(1000, call_s)
        nodes = Nodes(provider, callers=12)
        for number in range(3):
            nodes.start(f"n{number}", max_concurrency=10)
        await asyncio.sleep(30)
        setattr(nodes.buckets["n0"], fault, True)
        await asyncio.sleep(50)
        taken = provider.taken
        await asyncio.sleep(40)
        rate = (provider.taken - taken) / 40
        setattr(nodes.buckets["n0"], fault, False)
        await asyncio.sleep(20)
        nodes.end()
        return provider.peak, rate * sum(call_s) / 2 / 10

    peak, used = run_virtual(main())
    assert peak == 10
    assert used >= 0.6
