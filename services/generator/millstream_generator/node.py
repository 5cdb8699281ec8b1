"""What all slices of one generator share: the log, the lanes, the limits and who we are."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from millstream.domain.decide import Stamp
from millstream.eventlog.fullness import Fullness
from millstream.eventlog.log import EventLog
from millstream.eventlog.presence import Beats
from millstream.runtime.clock import boot_seconds, new_id, utc_now
from millstream.runtime.metrics import Figure, plain
from millstream.runtime.settings import Settings
from millstream_generator.completion import Completion, Progress, Prompt
from millstream_generator.gates import Gates
from millstream_generator.measures import Tally
from millstream_generator.room import Room
from millstream_schemas.envelope import Actor
from millstream_schemas.routes import Route


class Provider(Protocol):
    """A lane to models."""

    async def complete(self, route: Route, prompt: Prompt, progress: Progress) -> Completion:
        """Return the whole answer of one streamed call; raises CallFailedError."""

    async def detour(self, route: Route) -> str:
        """Return why the route can't be called directly; empty when it can, or shall not be."""


@dataclass(slots=True)
class Node:
    """One generator process."""

    settings: Settings
    event_log: EventLog
    provider: Provider
    stop: asyncio.Event
    started_at: datetime = field(default_factory=utc_now)
    began_s: float = field(default_factory=boot_seconds)
    in_flight: int = 0
    at_work: set[tuple[str, int]] = field(default_factory=set)
    """The slices (batch id, index) that this process works on."""
    chance: random.Random = field(default_factory=random.SystemRandom)
    slots: asyncio.Semaphore = field(init=False)
    room: Room = field(init=False)
    gates: Gates = field(init=False)
    fullness: Fullness = field(init=False)
    tally: Tally = field(default_factory=Tally)
    beats: Beats = field(init=False)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.settings.node_concurrency)
        self.room = Room(self.settings.node_concurrency)
        self.gates = Gates(self.settings, self.event_log, self.chance)
        self.fullness = Fullness(self.event_log)
        self.beats = Beats(lambda: self.event_log.answers.reconnects)

    def figures(self) -> Iterator[Figure]:
        """Yield what the process tells of itself."""
        yield plain("millstream_calls_in_flight", "Calls that wait for a model.", self.in_flight)
        yield Figure(
            "millstream_calls_waiting",
            "Calls in line for a limit of their route, or for the end of its trouble.",
            {(model,): float(count) for model, count in sorted(self.gates.waiting().items())},
            ("model",),
        )
        yield plain("millstream_slices_leased", "Slices that are worked on.", self.room.leases)
        yield plain("millstream_log_full", "1 while the store has no room.", self.is_held_up)
        yield from self.tally.figures()

    @property
    def is_held_up(self) -> bool:
        """Whether no call starts because the store is nearly full."""
        return self.fullness.note is not None

    def ready(self) -> tuple[bool, str]:
        """Tell whether calls start, and why they don't."""
        return not self.is_held_up, self.fullness.note or "ready"

    async def log_time(self) -> datetime:
        """Return the log's time, whatever this machine's wall clock says.

        Raises:
            LogUnavailableError: it is not known for lack of an answer.
        """
        clock = self.gates.clock
        await clock.keep()
        return clock.at(clock.now())

    def stamp(self, causation_id: str | None = None) -> Stamp:
        """Return who writes an event of this node."""
        name = self.settings.node
        return Stamp(
            new_id=new_id,
            time=utc_now(),
            actor=Actor(kind="node", id=name),
            source=f"millstream/generator/{name}",
            causation_id=causation_id,
        )

    def stamper(self, causation_id: str) -> Callable[[], Stamp]:
        """Return a maker of stamps whose events are caused by ``causation_id``."""
        return lambda: self.stamp(causation_id)
