"""The gate of one route on one node: gives calls their turns.

A route without limits and without trouble lets calls pass at once, with no message to anybody.
Else calls wait in line, and the gate's own task gets leave for them from what all nodes share.
"""

import asyncio
import contextlib
import math
import random

import structlog

from millstream.domain import limits as rules
from millstream.domain import route_health as health
from millstream.domain.limits import Breaker, Lease, RouteState
from millstream.domain.permits import PERMIT_S
from millstream.errors import LogError
from millstream.runtime.clock import boot_seconds
from millstream_generator import holding
from millstream_generator.condition import Condition
from millstream_generator.leases import Leases
from millstream_generator.turns import Line, Trouble, Turn, Waiter

log = structlog.get_logger()

IDLE_S = 10.0
BUSY_S = 1.0
"""How old what is known of a route may become while calls wait, or while it has limits."""
AWAY_S = 0.5
AGAIN_S = 0.05
NEAR = 4
"""So many turns before its own at least a call learns that it is near."""
RENEW_S = PERMIT_S / 3
SPREAD_S = 0.3
"""Nodes that wait for the same moment come one after the other."""


class Gate:
    """One route's gate; unless the route is free, calls get through only while ``run`` runs."""

    def __init__(self, condition: Condition, chance: random.Random) -> None:
        self.condition = condition
        self.in_flight = 0
        self.nodes = 1
        self._limits = condition.limits
        self._chance = chance
        self.line = Line()
        self._leases = Leases(condition, chance)
        self._wake = asyncio.Event()
        self._probe: Turn | None = None
        self._renew_at = 0.0
        self._is_used = True
        condition.listeners.append(self._follow)

    def try_turn(self) -> Turn | None:
        """Return leave to call at once, None when the call must wait in line."""
        if not self.condition.is_free or self.line:
            return None
        self.in_flight += 1
        self._is_used = True
        return Turn(self._end, self.condition.now())

    def queue(self, tokens: int, batch_id: str, slice_index: int = 0) -> Waiter:
        """Put the call of a slice that reserves ``tokens`` in line."""
        waiter = Waiter(tokens, batch_id, slice_index)
        self.line.join(waiter)
        self._wake.set()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Take a call out of the line; a turn it got meanwhile is given back."""
        if not waiter.granted.done():
            waiter.granted.cancel()
        elif not waiter.granted.cancelled():
            waiter.granted.result().end()

    def trouble(self) -> Trouble | None:
        """Return why no call starts now; None when the route takes calls at its pace."""
        return self.condition.trouble(may_probe=self._probe is None and not self.line)

    @property
    def next_at(self) -> float:
        """When the first in line may start at the earliest (the log's time), by the limits."""
        return self._leases.next_at

    @property
    def near(self) -> int:
        """How many turns before its own a call learns that it is near: half of a call's time."""
        return max(NEAR, self.in_flight // 2)

    def hear(self, state: RouteState) -> None:
        """Take a hint that another node may have changed the shared state."""
        self.condition.hear(state)
        if self.condition.is_stale:
            self._leases.ask_at_once()
            self._wake.set()

    def _end(self, turn: Turn) -> None:
        """End a turn: its call is over, or was never made."""
        self.in_flight -= 1
        condition = self.condition
        if turn is self._probe:
            self._probe = None
            if not turn.is_judged:
                condition.drop_probe()
        if not turn.is_used:
            condition.settle(turn, 0)
        if self._limits.concurrency is not None:
            self._leases.ask_at_once()  # with the permit of this call
        self._wake.set()

    def _follow(self, condition: Condition, before: RouteState, after: RouteState) -> None:
        """Act on a change: slots of an untroubled past are void."""
        if rules.cut_at(after) > rules.cut_at(before) or condition.is_open:
            self._leases.clear()
        self._wake.set()

    async def run(self) -> None:
        """Give turns to those in line, and keep up with the other nodes; never ends."""
        while True:
            try:
                pause_s = await self._round()
            except LogError as error:
                log.warning("limits.unavailable", model=self.condition.model, reason=str(error))
                self.condition.doubt()
                pause_s = self._give_alone()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause_s)):
                    await self._wake.wait()
            self._wake.clear()

    async def _round(self) -> float:
        """Do what is due; return the seconds until something is due again."""
        condition = self.condition
        condition.look_again()
        self._leases.look_again()
        is_watched = bool(self.line) or self._limits.is_any or not condition.is_free
        pause_s = BUSY_S if is_watched else IDLE_S
        is_old = boot_seconds() - condition.read_at >= pause_s
        if not (condition.is_stale or is_old):
            self._give_held()  # before anything is asked of anybody
        if condition.is_stale or (is_old and (is_watched or self._is_used)):
            self._is_used = self.in_flight > 0
            await condition.read()
        if condition.pending:
            await condition.store()
        await self._renew()
        pause_s = AGAIN_S if condition.is_stale else pause_s
        return min(pause_s, await self._give()) if self.line else pause_s

    async def _renew(self) -> None:
        """Keep what dies with this node if it is not kept: the probe and the permits."""
        condition, breaker = self.condition, self.condition.state.breaker
        if self._probe is not None and breaker is not None:
            left_s = breaker.probe_until - condition.now()
            if left_s < health.PROBE_S - RENEW_S:
                await condition.store(lambda state, at: health.probing(state, condition.node, at))
        if condition.node in condition.state.permits:
            used = self.in_flight + len(self._leases)
            must_give = holding.must_give(condition, self.line, used=used)
            if must_give or boot_seconds() >= self._renew_at:
                await self._lease()

    async def _give(self) -> float:
        """Give turns to those in line; return the seconds until it is worth looking again."""
        condition, state, now = self.condition, self.condition.state, self.condition.now()
        breaker = condition.own.breaker or state.breaker
        if breaker is not None:
            return await self._give_probe(breaker, now)
        if state.cooldown_until > now:
            spread_s = SPREAD_S * min(1.0, state.backoff_s)
            return state.cooldown_until - now + self._chance.uniform(0, spread_s)
        if rules.is_paced(state, self._limits, now):
            return await self._give_leased()
        self._leases.clear()  # of a pace that has ended
        if self._limits.is_any:
            return await self._give_permitted()
        while self.line:
            self._grant()
        return BUSY_S

    async def _give_probe(self, breaker: Breaker, now: float) -> float:
        condition = self.condition
        if self._probe is not None:
            return BUSY_S
        if now < breaker.open_until:
            return breaker.open_until - now
        if condition.state.breaker is not None:
            await condition.store(lambda state, at: health.probing(state, condition.node, at))
            taken = condition.state.breaker
            if taken is None or taken.probe_by != condition.node:
                return BUSY_S
        condition.own = health.probing(condition.own, condition.node, condition.now())
        self._probe = self._grant(is_probe=True)
        if self._probe is None:
            condition.drop_probe()
        return BUSY_S

    async def _give_permitted(self) -> float:
        """Give turns with the permits of this node; it asks only for what it may get."""
        self._give_held()
        if self.line and holding.may_gain(self.condition):
            await self._lease()
            self._give_held()
        return BUSY_S

    def _give_held(self) -> None:
        most = holding.usable(self.condition)
        while self.in_flight < most and self.line:
            self._grant()

    async def _give_leased(self) -> float:
        while True:
            self._give_due()
            if not self.line:
                return BUSY_S
            wait_s = self.next_at - self.condition.now()
            if self._leases or wait_s > 0:
                return wait_s
            got = await self._lease()
            if not got.slots:
                lacks_permit = holding.is_used_up(self.condition, self.in_flight)
                self._leases.wait(BUSY_S if lacks_permit else AGAIN_S)

    def _give_due(self) -> None:
        for slot, left_s in self._leases.due():
            self._grant(slot.tokens, start_by=boot_seconds() + left_s)

    async def _lease(self) -> Lease:
        """Ask for leave for those in line, and renew the permits of calls in flight."""
        got = await self._leases.ask(holding.wanted(self.condition, self.line), self.in_flight)
        self._renew_at = boot_seconds() + RENEW_S
        return got

    def _give_alone(self) -> float:
        """Give this node's part of the limits while the nodes can't agree."""
        condition = self.condition
        condition.do_without()
        while condition.is_free and self.line:
            self._grant()
        has_part = condition.is_known and not condition.is_free and not condition.is_open
        if not has_part or not self.line:
            return AWAY_S
        tokens = [waiter.tokens for waiter in self.line.waiting()]
        self._leases.take_alone(tokens, self.in_flight, max(1, self.nodes))
        self._give_due()
        self._give_held()
        until_due_s = self.next_at - condition.now() if self._leases else AWAY_S
        return min(AWAY_S, max(AGAIN_S, until_due_s))

    def _grant(
        self, tokens: int = 0, *, start_by: float = math.inf, is_probe: bool = False
    ) -> Turn | None:
        """Give the first in line its turn; None when nobody waits."""
        if not self.line:
            return None
        waiter = self.line.pop()
        self.in_flight += 1
        self.line.alert(self.near)
        self.condition.tried += 1
        turn = Turn(self._end, self.condition.now(), tokens, start_by, is_probe)
        waiter.granted.set_result(turn)
        return turn
