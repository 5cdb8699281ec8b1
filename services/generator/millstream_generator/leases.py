"""The due times that one node has leased on a route, and when it asks for more."""

import random
from collections import deque
from collections.abc import Iterator, Sequence

from millstream.domain import limits as rules
from millstream.domain.limits import Lease, Limits, RouteState, Slot
from millstream.errors import LogError
from millstream.runtime.clock import boot_seconds
from millstream_generator import holding
from millstream_generator.condition import Condition

LEASE_MOST = 1024
JUMP_S = 1.0
TURN_S = 0.3
"""Who leased due times lets the others ask first, which wait for the same moment."""


class Leases:
    """Leases due times from what all nodes share of a route."""

    def __init__(self, condition: Condition, chance: random.Random) -> None:
        self._condition = condition
        self._limits = condition.limits
        self._chance = chance
        self._slots: deque[Slot] = deque()
        self._ahead_s = rules.AHEAD_S
        self._ask_at = 0.0
        self._missed = 0
        self._apart_s = 0.0

    def __len__(self) -> int:
        """Return how many due times are held."""
        return len(self._slots)

    @property
    def next_at(self) -> float:
        """When the next call may start at the earliest (the log's time)."""
        return self._slots[0].due_at if self._slots else self._ask_at

    def clear(self) -> None:
        """Give up what is held: it is of a past that no longer counts."""
        self._slots.clear()

    def ask_at_once(self) -> None:
        """Forget that asking was of no use until some time."""
        self._ask_at = 0.0

    def look_again(self) -> None:
        """Forget all times if the log's clock has jumped: they are of the one before."""
        apart_s = self._condition.now() - boot_seconds()
        if abs(apart_s - self._apart_s) > JUMP_S:
            self._slots.clear()
            self._ask_at = 0.0
        self._apart_s = apart_s

    def wait(self, least_s: float) -> None:
        """Ask no sooner again: nothing was got."""
        self._ask_at = max(self._ask_at, self._condition.now() + least_s)

    def due(self) -> Iterator[tuple[Slot, float]]:
        """Take out what is due: each with the seconds (0 or more) in which its call may start."""
        now = self._condition.now
        while self._slots and self._slots[0].due_at <= now():
            slot = self._slots.popleft()
            left_s = rules.LATE_MOST_S - (now() - slot.due_at)
            if left_s >= 0:
                yield slot, left_s

    async def ask(self, wanted: Sequence[int], in_flight: int) -> Lease:
        """Ask for leave for calls in line, and renew the permits of those in flight.

        Args:
            wanted: The tokens of each call in line; those of the first have due times already.
            in_flight: This node's calls on the route.

        Raises:
            LogError: there was no answer.
        """
        got = Lease((), 0.0)
        made = self._condition.state

        def step(state: RouteState, now: float) -> RouteState:
            nonlocal got, made
            made, got = rules.lease(
                state,
                self._condition.node,
                now,
                self._limits,
                wanted=wanted[len(self._slots) : LEASE_MOST],  # no slot is kept for these
                in_flight=in_flight + len(self._slots),
                ahead_s=self._ahead_s,
                calls_s=self._condition.longest_s,
            )
            return made

        asked_at = boot_seconds()
        try:
            await self._condition.store(step)
        except LogError:  # it may be stored all the same: what it gave away is not ours
            holding.keep_least(self._condition, made)
            raise
        taken_s = boot_seconds() - asked_at
        usual_s = 0.7 * self._ahead_s + 0.3 * 2 * taken_s
        self._ahead_s = min(rules.CHUNK_S, max(rules.AHEAD_S, usual_s))
        self._slots.extend(got.slots)
        self._missed = 0 if got.slots else self._missed + 1
        # The sooner, the more often another node was first.
        share = self._chance.random() / self._missed if self._missed else 1.0
        self._ask_at = got.ask_at + TURN_S * share
        return got

    def take_alone(self, wanted: Sequence[int], in_flight: int, nodes: int) -> None:
        """Take this node's part of the pace, one of ``nodes``, while they can't agree.

        Of permits it has those that it holds, as long as nobody else may have them.
        """
        if self._slots:
            return
        condition, limits = self._condition, self._limits
        free = LEASE_MOST
        if limits.concurrency is not None:
            free = max(0, holding.held_for_sure(condition) - in_flight)
        state, got = rules.lease(
            rules.part(condition.state, nodes),
            condition.node,
            condition.now(),
            Limits(limits.rpm, limits.tpm).shared_by(nodes),
            wanted=wanted[: min(free, LEASE_MOST)],
        )
        condition.state = state.model_copy(update={"pace": condition.state.pace})
        self._slots.extend(got.slots)
