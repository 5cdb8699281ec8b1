"""What a node says of the limits of its routes: which batches they slow down, and how.

A hint for those who look at a batch and wonder why it is slow; nothing depends on it. Trouble of a
route is another matter: notes tell of that (``waits``), as of a pace that lets a batch stand still.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from millstream.domain import limits as rules
from millstream.errors import LogError
from millstream.eventlog.limited import SAY_S
from millstream.runtime.clock import boot_seconds
from millstream_generator import holding
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node
from millstream_generator.own_limits import due_times
from millstream_schemas import subjects
from millstream_schemas.limited import InLine, LimitedRoute, LimitKind, NodeLimits

log = structlog.get_logger()

LOOK_S = 0.5
AHEAD_S = 1.0
"""A next call that may start sooner needs no time."""
LEAST_SHARE = 0.005
"""What is told of a share that rounds to nothing: readers say "less than 1%"."""


class LimitSignal:
    """Says what the limits of one node's routes do to its batches."""

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._said: tuple[LimitedRoute, ...] = ()
        self._again_at = 0.0
        self._is_odd = False

    async def run(self) -> None:
        """Say what is new at once and repeat what holds; never ends."""
        while True:
            try:
                await self.say()
            except LogError as error:  # who hears nothing takes it that nothing is limited
                log.debug("limited.not_said", reason=str(error))
            except Exception as error:  # noqa: BLE001  # a hint ends no process, whatever is odd
                if not self._is_odd:
                    log.warning("limited.not_told", reason=repr(error)[:200])
                self._is_odd = True
            await asyncio.sleep(LOOK_S)

    async def say(self) -> None:
        """Say what holds now, if that is new or due again; that nothing does is said once.

        Raises:
            LogError: nobody could be told.
        """
        routes = limited_routes(self._held.working())
        if _told(routes) == _told(self._said) and (not routes or boot_seconds() < self._again_at):
            return
        name = self._node.settings.node
        word = NodeLimits(node=name, routes=routes)
        answers = self._node.event_log.answers
        await answers.send(subjects.limited(name), word.model_dump_json().encode())
        self._said, self._again_at = routes, boot_seconds() + SAY_S


def _told(routes: Iterable[LimitedRoute]) -> set[tuple[str, str, LimitKind | None]]:
    return {
        (route.key, batch_id, route.kind)
        for route in routes
        for batch_id, line in route.batches.items()
        if line.is_limited
    }


def limited_routes(batches: Iterable[HeldBatch]) -> tuple[LimitedRoute, ...]:
    """Return the limited routes that these batches use, and what each of them does there."""
    users: dict[Gate, list[HeldBatch]] = {}
    for batch in batches:
        for gate in batch.gates:
            users.setdefault(gate, []).append(batch)
    found = (_limited_route(gate, using) for gate, using in users.items())
    return tuple(route for route in found if route is not None)


def _limited_route(gate: Gate, batches: list[HeldBatch]) -> LimitedRoute | None:
    condition, limits = gate.condition, gate.condition.limits
    if not condition.is_known or condition.is_free or condition.trouble(may_probe=False):
        return None
    now = condition.now()
    share = rules.share(condition.state, now)
    if share >= 1 and not limits.is_any:
        return None
    kind, limit = _kind(gate)
    lines = _lines(gate, batches, kind)
    if not lines:
        return None
    return LimitedRoute(
        key=condition.key,
        kind=kind,
        model=condition.model,
        limit=limit,
        taken=_taken(gate, now),
        share=min(1.0, max(LEAST_SHARE, round(share, 2))),
        batches=lines,
    )


def _kind(gate: Gate) -> tuple[LimitKind | None, int]:
    """Return which limit is used up, so that calls in line wait for it, and what it allows.

    None where none is: a call that waits all the same waits for a busy machine, or for NATS.
    """
    condition, limits, now = gate.condition, gate.condition.limits, gate.condition.now()
    if limits.concurrency is not None and holding.is_used_up(condition, gate.in_flight):
        most = rules.most_calls(condition.state, limits, condition.node, now)
        if _taken(gate, now) >= most:
            return "calls", most
    by_requests, by_tokens = rules.next_dues(condition.state, limits, now)
    if max(by_requests, by_tokens) < now:
        return None, 0
    if by_tokens > by_requests:
        return "tokens", int(limits.tpm or 0)
    return ("share", 0) if limits.rpm is None else ("requests", int(limits.rpm))


def _taken(gate: Gate, now: float) -> int:
    """Return how many calls all nodes together have leave to have in flight."""
    permits = gate.condition.state.permits.values()
    return sum(one.held for one in permits if one.is_living(now))


def _lines(gate: Gate, batches: list[HeldBatch], kind: LimitKind | None) -> dict[str, InLine]:
    """Return what each batch does on the route, of those that do anything."""
    now, slow = gate.condition.now(), gate.line.slow() if kind is not None else set()
    waiting: Counter[str] = Counter()
    due: dict[str, float] = {}
    for waiter, due_at in due_times(gate):
        waiting[waiter.batch_id] += 1
        due.setdefault(waiter.batch_id, due_at)
    lines: dict[str, InLine] = {}
    for batch in batches:
        batch_id, is_limited = batch.batch_id, batch.batch_id in slow
        due_at = due.get(batch_id, 0.0)
        is_told = is_limited and kind in {"requests", "tokens"} and due_at - now >= AHEAD_S
        if batch.calls or waiting[batch_id] or is_limited:
            lines[batch_id] = InLine(
                in_flight=len(batch.calls),
                waiting=waiting[batch_id],
                is_limited=is_limited,
                next_at=datetime.fromtimestamp(math.ceil(due_at), UTC) if is_told else None,
            )
    return lines
