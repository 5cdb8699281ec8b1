"""The gates of all routes that this node calls."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterable

import structlog

from millstream.addresses import machine_of, shown
from millstream.domain.limits import Limits, RouteState, most_calls
from millstream.domain.permits import without
from millstream.errors import LogError
from millstream.eventlog.answers import subscribed
from millstream.eventlog.limits import (
    WATCH,
    SharedLimits,
    Step,
    limits_of,
    route_key,
    watched,
)
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.runtime.settings import Settings
from millstream_generator.completion import CallFailedError
from millstream_generator.condition import Changed, Condition
from millstream_generator.gate import Gate
from millstream_generator.route_report import health_of
from millstream_generator.targets import Targets
from millstream_schemas.answers import RouteHealth
from millstream_schemas.routes import Route

log = structlog.get_logger()

COUNT_S = 10.0
HEALTH_MOST = 50


class Gates:
    """One gate per route, kept as long as the node lives; ``run`` keeps them going."""

    def __init__(self, settings: Settings, event_log: EventLog, chance: random.Random) -> None:
        self._settings = settings
        self._log = event_log
        self._chance = chance
        self._shared = SharedLimits(event_log.answers, settings.node)
        self._targets = Targets(settings)
        self._gates: dict[tuple[str, Limits], Gate] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._nodes = 1
        self.listeners: list[Changed] = []
        """Told of every change of any route; they must be here before the first route is."""
        self.clock = self._shared.clock

    def of(self, routes: Iterable[Route]) -> tuple[Gate, ...]:
        """Return the gates of an alias's routes, in their order."""
        return tuple(self._gate(route) for route in routes)

    def key(self, route: Route) -> str:
        """Return the name under which all nodes share the route's limits."""
        base = self._base(route)
        return route_key(route, base, machine_of(base))

    def _base(self, route: Route) -> str | None:
        try:
            return self._targets.base(route)
        except CallFailedError:  # there is no such server here; the call itself will say so
            return route.api_base

    def _gate(self, route: Route) -> Gate:
        key, limits = self.key(route), limits_of(route)
        gate = self._gates.get((key, limits))
        if gate is None:
            # Batches pin the limits of their start: others share the route under another name.
            others = sum(known == key for known, _ in self._gates)
            node = self._settings.node
            condition = Condition(
                key,
                route,
                self._shared,
                node=f"{node}+{others}" if others else node,
                first_probe_s=self._settings.probe_after_s,
            )
            condition.listeners.extend(self.listeners)
            gate = self._gates[key, limits] = Gate(condition, self._chance)
            gate.nodes = self._nodes
            if self._tasks is not None:
                self._tasks.create_task(gate.run())
        return gate

    def health(self) -> tuple[RouteHealth, ...]:
        """Return how the routes do that this node has used: those with trouble first, then busy."""
        found = [
            health_of(gate, shown(self._base(gate.condition.route)))
            for gate in self._gates.values()
        ]
        found.sort(key=lambda one: (one.state == "ok", -one.in_flight - one.waiting))
        return tuple(found[:HEALTH_MOST])

    def waiting(self) -> Counter[str]:
        """Return how many calls of this node are in line, by model."""
        found: Counter[str] = Counter()
        for gate in self._gates.values():
            found[gate.condition.model] += gate.line.count
        return found

    async def run(self) -> None:
        """Keep all gates going; never ends."""

        def take(key: str, state: RouteState) -> None:
            for (known, _), gate in self._gates.items():
                if known == key:
                    gate.hear(state)

        with contextlib.suppress(LogError):  # now, since the first call of a route waits for it
            await self.clock.keep()
        async with (
            subscribed(self._log.connection, WATCH, watched(take)),
            asyncio.TaskGroup() as tasks,
        ):
            self._tasks = tasks
            for gate in self._gates.values():
                tasks.create_task(gate.run())
            await self._count()

    async def leave(self) -> None:
        """Give back the permits that this node holds; its calls have ended.

        Raises:
            LogError: they could not be given back; they run out by themselves.
        """
        for gate in self._gates.values():
            condition = gate.condition
            if condition.limits.concurrency is not None:
                await self._shared.change(condition.key, _leaving(condition))

    async def _count(self) -> None:
        """Keep the number of generators that live: their part when they can't agree."""
        nodes = Nodes(self._log.answers)
        while True:
            await asyncio.sleep(COUNT_S)
            if not any(_may_need_part(gate.condition) for gate in self._gates.values()):
                continue
            with contextlib.suppress(LogError):  # the number known last serves
                beats = await nodes.live()
                self._nodes = max(1, sum(beat.service == "generator" for beat in beats))
                for gate in self._gates.values():
                    gate.nodes = self._nodes


def _leaving(condition: Condition) -> Step:
    def step(state: RouteState, now: float) -> RouteState:
        most = most_calls(state, condition.limits, condition.node, now)
        permits = without(state.permits, condition.node, now, most=most)
        return state.model_copy(update={"permits": permits})

    return step


def _may_need_part(condition: Condition) -> bool:
    """Tell whether there is anything to divide if the nodes can't agree."""
    return condition.limits.is_any or not condition.is_free
