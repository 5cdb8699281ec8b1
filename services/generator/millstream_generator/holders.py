"""Who holds a slice, and whether that process still lives."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import structlog

from millstream.domain.batch_state import BatchState
from millstream.errors import LogUnavailableError
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.presence import has_listener, sign_of
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds
from millstream_generator.node import Node
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

GENERATOR = "generator"
Whereabouts = Literal["dead", "dropped", "at_work", "unknown"]
"""Of a slice's holder: it has died; it lives and has dropped the slice, or works on it; it is
silent, and nobody can tell yet why."""
LEASES = 2
"""Silent for so many leases beyond its longest call, a holder that lives has dropped the slice."""


async def whereabouts(
    node: Node, slice_: tuple[str, int], holder: str, wrote_at: datetime
) -> Whereabouts:
    """Tell what has become of the process that wrote to a slice as ``holder``.

    Right after an outage, which takes everybody's lease, and right after its own start nobody can
    tell of one that is silent: all beats may have aged out, and who lives beats again in a while.

    Args:
        node: Who asks, and does not work on the slice itself.
        slice_: Its batch and index.
        holder: The name that the slice's tail bears.
        wrote_at: When that was written, by that process's own clock.
    """
    if holder == node.settings.node:
        return "dead" if wrote_at < node.started_at else "dropped"
    answers = node.event_log.answers
    try:
        beat = await Nodes(answers).of(GENERATOR, holder)
        if beat is None or wrote_at >= beat.started_at:
            beat = await sign_of(answers, GENERATOR, holder)
        if beat is None:
            return "dead" if node.beats.are_unbroken else "unknown"
        if wrote_at < beat.started_at:
            return "dead"
        is_at_work = await has_listener(answers, subjects.at_work(holder, *slice_))
    except LogUnavailableError as error:
        log.warning("holder.not_found_out", holder=holder, reason=str(error))
        return "unknown"
    return "at_work" if is_at_work else "dropped"


class Holders:
    """Tells which slices are held by nobody any more.

    A node lives as long as its beat is in the bucket. One that started anew under the same name
    holds nothing of what it held before: what is known of a holder is known of one start of it.
    """

    def __init__(self, event_log: EventLog, lease_s: float) -> None:
        self._log = event_log
        self._nodes = Nodes(event_log.answers)
        self._lease_s = lease_s
        self._beats: dict[str, NodeBeat] | None = None
        # Of the last round and of this one: which start of its node holds (batch, slice, epoch),
        # and since when (batch, slice, sequence) is the last word of a holder that lives.
        self._held_before: dict[tuple[str, int, int], datetime] = {}
        self._held: dict[tuple[str, int, int], datetime] = {}
        self._since_before: dict[tuple[str, int, int], float] = {}
        self._since: dict[tuple[str, int, int], float] = {}

    def begin_round(self) -> None:
        """Look at the beats anew, and forget slices that the last round did not ask about."""
        self._beats = None
        self._held_before, self._held = self._held, {}
        self._since_before, self._since = self._since, {}

    async def dead(self, state: BatchState, indices: Iterable[int]) -> list[int]:
        """Return those of the held slices whose holder has died and wrote no more than is folded.

        Raises:
            LogUnavailableError: the log did not answer.
        """
        return [index for index in indices if await self._is_dead(state, index)]

    async def abandoned(self, state: BatchState, indices: Iterable[int]) -> list[int]:
        """Return those whose holder has died, or lives but must have dropped the slice."""
        return [
            index
            for index in indices
            if await self._is_dead(state, index) or self._is_silent(state, index)
        ]

    async def _is_dead(self, state: BatchState, index: int) -> bool:
        tail = state.slices[index]
        claim = (state.batch_id, index, tail.state.epoch)
        beat = (await self._live()).get(tail.state.node)
        if beat is not None and self._held_before.get(claim) == beat.started_at:
            self._held[claim] = beat.started_at
            return False
        stored = await self._log.last(subjects.slice_(state.batch_id, index))
        if stored is None or stored.sequence > tail.sequence:
            return stored is None
        recorded = decode(stored)
        # Both stamps are of the node's own clock. Where that was put back between two starts, the
        # second one seems to hold what the first did, here and to itself: it gives that up.
        if beat is None or recorded is None or recorded.event.time < beat.started_at:
            return True
        self._held[claim] = beat.started_at
        return False

    def _is_silent(self, state: BatchState, index: int) -> bool:
        word, now = (state.batch_id, index, state.slices[index].sequence), boot_seconds()
        since = self._since[word] = self._since_before.get(word, now)
        longest_s = max(route.timeout_s for route in state.spec.routes)
        return now - since > LEASES * self._lease_s + longest_s

    async def _live(self) -> dict[str, NodeBeat]:
        if self._beats is None:
            beats = await self._nodes.live()
            self._beats = {beat.node: beat for beat in beats if beat.service == GENERATOR}
        return self._beats
