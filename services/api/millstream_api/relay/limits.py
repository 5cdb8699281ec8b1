"""Which limits let batches wait now: for answers, and as one more event of the named streams.

They are no part of the fold, whose versions are those of the log: a client is sent the whole of
what holds for the batches that it asked for, whenever that reads otherwise.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import orjson
from nats.aio.client import Client as Connection

from millstream.eventlog.limited import LimitedBatches
from millstream_api.relay.client import Client
from millstream_api.relay.hub import Hub
from millstream_schemas.limited import LimitedBy
from millstream_schemas.views import BatchView

LOOK_S = 0.5
"""How often it is looked what has changed, and what holds no longer."""
MANY = 200
MANY_LOOK_S = 2.0
"""With more limited batches than ``MANY`` a look and what it sends to each page are dear."""
CLOSE = timedelta(seconds=1)
"""A next call that moves by no more reads the same: a page counts down by itself."""

Reading = tuple[str, datetime | None]


class Limits:
    """What holds now, by batch, and which of it each client was sent."""

    def __init__(self) -> None:
        self.by_batch: Mapping[str, LimitedBy] = {}
        self._reads: dict[str, Reading] = {}
        self._parts: dict[str, bytes] = {}
        self._whole = b""
        self._version = 0
        self._frames: dict[str, tuple[int, bytes]] = {}
        """By flavour the frame for those who asked for no batch, and for which cursor it is."""

    @property
    def look_s(self) -> float:
        """How long the next look may wait."""
        return MANY_LOOK_S if len(self.by_batch) > MANY else LOOK_S

    def of(self, view: BatchView) -> LimitedBy | None:
        """Return the limit that lets calls of a batch wait now; None where none does."""
        return self.by_batch.get(view.id) if view.state == "running" else None

    def put(self, found: Mapping[str, LimitedBy]) -> bool:
        """Take what holds now; tell whether it reads otherwise: clients are to be sent it then."""
        self.by_batch = found
        reads = {one: _reading(by, self._reads.get(one)) for one, by in found.items()}
        if reads == self._reads:
            return False
        self._reads = reads
        self._version += 1
        self._frames.clear()
        self._parts = {
            one: b"%b:%b" % (orjson.dumps(one), by.model_dump_json().encode())
            for one, by in found.items()
        }
        self._whole = b",".join(self._parts.values())
        return True

    def news(self, client: Client) -> bytes:
        """Return the frame of what holds, if it reads otherwise to ``client``, and note that."""
        if client.limits_seen == self._version:
            return b""
        client.limits_seen = self._version
        flavour, cursor, ids = client.flavour, client.cursor or 0, client.batch_ids
        if ids is None:
            known = self._frames.get(flavour.name)
            if known is None or known[0] != cursor:
                known = self._frames[flavour.name] = cursor, flavour.limited(self._whole, cursor)
            return known[1]
        reads = {one: self._reads[one] for one in ids if one in self._reads}
        if reads == client.limits_read:
            return b""
        client.limits_read = reads
        return flavour.limited(b",".join(self._parts[one] for one in reads), cursor)

    async def follow(self, connection: Connection, hub: Hub) -> None:
        """Keep up with what generators say over ``connection``; never ends."""
        heard = LimitedBatches()
        async with heard.listening(connection):
            while True:
                await asyncio.sleep(self.look_s)
                if self.put({one: limited.by for one, limited in heard.now().items()}):
                    hub.advance(hub.sequence)  # wakes the clients


def _reading(by: LimitedBy, before: Reading | None) -> Reading:
    """Return what readers see of it, not the numbers that change with each call."""
    if before is not None and before[0] == by.message:
        was, is_now = before[1], by.next_at
        if was == is_now or (was and is_now and abs(is_now - was) <= CLOSE):
            return before
    return by.message, by.next_at
