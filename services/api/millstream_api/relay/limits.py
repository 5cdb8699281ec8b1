"""Which limits let batches wait now: for answers, and as one more event of the named streams.

They are no part of the fold, whose versions are those of the log: a client is sent the whole of
what holds whenever that has changed.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import orjson
from nats.aio.client import Client as Connection

from millstream.eventlog.limited import LimitedBatches
from millstream_api.relay.client import Client
from millstream_api.relay.hub import Hub
from millstream_schemas.limited import LimitedBy
from millstream_schemas.views import BatchView

LOOK_S = 0.5
"""How often it is looked what has changed, and what holds no longer."""

Told = dict[str, tuple[str, datetime | None]]


class Limits:
    """What holds now, by batch, and which of it each client was sent."""

    def __init__(self) -> None:
        self.by_batch: Mapping[str, LimitedBy] = {}
        self._version = 0
        self._whole = b""

    def of(self, view: BatchView) -> LimitedBy | None:
        """Return the limit that lets calls of a batch wait now; None where none does."""
        return self.by_batch.get(view.id) if view.state == "running" else None

    def put(self, found: Mapping[str, LimitedBy]) -> bool:
        """Take what holds now; tell whether it reads otherwise: clients are to be sent it then."""
        before, self.by_batch = self.by_batch, found
        is_new = _told(before) != _told(found)
        if is_new:
            self._version += 1
            self._whole = _body(found)
        return is_new

    def news(self, client: Client) -> bytes:
        """Return the frame of what holds, if ``client`` was not sent that yet, and note that."""
        if client.limits_seen == self._version:
            return b""
        client.limits_seen = self._version
        ids, body = client.batch_ids, self._whole
        if ids is not None:
            body = _body({one: by for one, by in self.by_batch.items() if one in ids})
        return client.flavour.limited(body, client.cursor or 0)

    async def follow(self, connection: Connection, hub: Hub) -> None:
        """Keep up with what generators say over ``connection``; never ends."""
        heard = LimitedBatches()
        async with heard.listening(connection):
            while True:
                await asyncio.sleep(LOOK_S)
                if self.put({one: limited.by for one, limited in heard.now().items()}):
                    hub.advance(hub.sequence)  # wakes the clients


def _told(found: Mapping[str, LimitedBy]) -> Told:
    """Return what readers see of it: not the numbers that change with each call."""
    return {batch_id: (by.message, by.next_at) for batch_id, by in found.items()}


def _body(found: Mapping[str, LimitedBy]) -> bytes:
    return b",".join(
        b"%b:%b" % (orjson.dumps(batch_id), by.model_dump_json().encode())
        for batch_id, by in found.items()
    )
