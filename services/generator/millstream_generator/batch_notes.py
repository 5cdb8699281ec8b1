"""Writes notes of batches: looks at what stands in the log, and lets one of two writers win."""

import asyncio
from collections.abc import Callable

import structlog

from millstream.errors import ConflictError, LogError
from millstream.eventlog.stored import decode
from millstream_generator.held import HeldBatch
from millstream_generator.node import Node
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent

log = structlog.get_logger()

CONFLICTS_MOST = 10
CONFLICT_PAUSE_S = 0.05

Choose = Callable[[list[BatchEvent]], BatchEvent | None]
"""A batch's notes in order -> the one to write; None: nothing."""


class BatchNotes:
    """Writes what a node has to note of batches."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def write(self, batch: HeldBatch, choose: Choose) -> bool:
        """Write the note that ``choose`` chooses; False when it has to be tried again."""
        try:
            for _ in range(CONFLICTS_MOST):
                notes, last = await self._notes(batch.batch_id)
                event = choose(notes)
                if event is None or batch.standing == "over":
                    return True
                try:
                    await self._node.event_log.append(event, expected=last, bound_s=2.0)
                except ConflictError:
                    await asyncio.sleep(CONFLICT_PAUSE_S)
                    continue
                return True
        except LogError as error:
            log.warning("note.not_written", batch_id=batch.batch_id, reason=str(error))
        return False

    async def _notes(self, batch_id: str) -> tuple[list[BatchEvent], int]:
        """Return the batch's notes in order, and the sequence of the last one."""
        found: list[BatchEvent] = []
        last = 0
        async for page in self._node.event_log.history(subjects.note(batch_id)):
            for stored in page:
                last = stored.sequence
                recorded = decode(stored)
                if recorded is not None:
                    found.append(recorded.event)
        return found, last
