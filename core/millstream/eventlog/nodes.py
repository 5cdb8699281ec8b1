"""Which nodes live: each service beats every 3 s into a bucket whose entries age out after 10 s."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from millstream.errors import LogError
from millstream.eventlog.answers import Answers
from millstream.eventlog.buckets import Bucket
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

BEAT_S = 3.0


class Nodes:
    """Reads and writes the beats."""

    def __init__(self, answers: Answers) -> None:
        self._bucket = Bucket(answers, subjects.NODES_BUCKET)

    async def beat(self, beat: NodeBeat) -> None:
        """Tell that this process lives; raises LogError when it can't be told."""
        key = f"{beat.service}.{beat.node}"
        await self._bucket.put(key, beat.model_dump_json().encode())

    async def leave(self, service: str, node: str) -> None:
        """Take the beat back: the process ends on purpose."""
        await self._bucket.delete(f"{service}.{node}")

    async def live(self) -> list[NodeBeat]:
        """Return the beats of all processes that live."""
        return [beat for beat, _ in await self.heard()]

    async def of(self, service: str, node: str) -> NodeBeat | None:
        """Return the beat under a name, None when it has aged out or was taken back."""
        entry = await self._bucket.get(f"{service}.{node}")
        return None if entry is None else NodeBeat.model_validate_json(entry.value)

    async def heard(self) -> list[tuple[NodeBeat, datetime]]:
        """Return the beats of all processes that live, each with the server's time of it."""
        found: list[tuple[NodeBeat, datetime]] = []
        for key in await self._bucket.keys():
            entry = await self._bucket.get(key)
            if entry is not None and key.partition(".")[0] in {"generator", "projector", "api"}:
                found.append((NodeBeat.model_validate_json(entry.value), entry.stored_at))
        return found


def by_log(beat: NodeBeat, beat_at: datetime) -> NodeBeat:
    """Return a beat of ``beat_at`` with its start by the log's clock: it tells that by its own."""
    if beat.up_s is None:
        return beat
    return beat.model_copy(update={"started_at": beat_at - timedelta(seconds=beat.up_s)})


async def keep_beating(nodes: Nodes, stop: asyncio.Event, make: Callable[[], NodeBeat]) -> None:
    """Beat until ``stop``; an outage of the log is logged and waited out."""
    while not stop.is_set():
        try:
            await nodes.beat(make())
        except LogError as error:
            log.warning("beat.missed", reason=str(error))
        try:
            async with asyncio.timeout(BEAT_S):
                await stop.wait()
        except TimeoutError:
            continue
