"""Which dispatcher is active."""

import contextlib
from collections.abc import AsyncIterator

from millstream.errors import ConflictError
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.presence import has_listener, heard
from millstream_generator.node import Node
from millstream_schemas import subjects

LEADER_KEY = "dispatcher"


class Leadership:
    """The lead: a bucket entry that ages out 10 s after its last renewal.

    That of a process which was killed is free at once: nobody listens on its subject any more.
    """

    def __init__(self, node: Node) -> None:
        self._log = node.event_log
        self._bucket = Bucket(node.event_log.answers, subjects.NODES_BUCKET)
        self._name = node.settings.node.encode()

    async def hold(self) -> bool:
        """Take or renew the lead; False while another node that lives has it."""
        entry = await self._bucket.get(LEADER_KEY)
        if entry is not None and entry.value != self._name:
            subject = subjects.lead(entry.value.decode())
            if await has_listener(self._log.answers, subject):
                return False
        try:
            await self._bucket.put(LEADER_KEY, self._name, expected=entry.revision if entry else 0)
        except ConflictError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Be heard by those who would lead in this node's place."""
        async with heard(self._log.connection, subjects.lead(self._name.decode())):
            yield

    async def leave(self) -> None:
        """Give the lead up, so that another takes it at once."""
        entry = await self._bucket.get(LEADER_KEY)
        if entry is not None and entry.value == self._name:
            await self._bucket.delete(LEADER_KEY)
