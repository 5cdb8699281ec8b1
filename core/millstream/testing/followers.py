"""Clients of the live streams that are cut off at random bytes and come back to any replica."""

import abc
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import httpx

from millstream.cli.sse import Parser, ServerEvent
from millstream_schemas.deltas import put_over

NAMED, DELTAS, SEED = "/v1/stream", "/v1/stream?flavour=deltas", "/api/generate/batch/stream"
EVENTS = "/v1/stream?flavour=events"
PAUSE_S = 0.01
"""Between a cut by the server, or nobody there, and the next try."""


def sequence_of(event_id: str) -> int:
    """Return the stream sequence that an event id names."""
    return int(event_id.partition("-")[0])


class Follower(abc.ABC):
    """Follows a stream for ever, over any of ``urls``; cuts itself off within ``bytes_most``.

    ``connects`` counts answers; ``broken`` the streams that ended by other means than its own cut,
    by the address that they came from.
    """

    def __init__(
        self, urls: Sequence[str], path: str, chance: Random, *, bytes_most: int = 15_000
    ) -> None:
        self.path = path
        self.last_id = ""
        self.connects = 0
        self.broken = dict.fromkeys(urls, 0)
        self._urls = urls
        self._chance = chance
        self._bytes_most = bytes_most

    async def follow(self, client: httpx.AsyncClient) -> None:
        """Follow until cancelled."""
        while True:
            url = self._chance.choice(self._urls)
            is_own = False
            # A replica that was killed refuses, or breaks the stream off: any may be next.
            with contextlib.suppress(httpx.TransportError):
                is_own = await self.once(client, url, self._chance.randint(1, self._bytes_most))
            if not is_own:
                await asyncio.sleep(PAUSE_S)

    async def once(self, client: httpx.AsyncClient, url: str, bytes_left: int) -> bool:
        """Follow for so many bytes; True when it was they that ended it.

        Raises:
            AssertionError: the answer is no stream.
            httpx.TransportError: the server is not there.
        """
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        parser = Parser(self.last_id)
        async with client.stream("GET", url + self.path, headers=headers, timeout=None) as answer:
            if answer.status_code != 200:
                raise AssertionError(f"{url}{self.path} answered {answer.status_code}")
            self.connects += 1
            chunks = answer.aiter_raw()
            while chunk := await self._next(chunks, url):
                for event in parser.feed(chunk[:bytes_left]):
                    self.take(event)
                self.last_id = parser.last_id
                await self.catch_up(client, url)
                bytes_left -= len(chunk)
                if bytes_left <= 0:
                    return True
        return False

    async def _next(self, chunks: AsyncIterator[bytes], url: str) -> bytes:
        """Return the stream's next bytes, none at its end; counts one that is broken."""
        try:
            chunk = await anext(chunks, b"")
        except httpx.TransportError:
            self.broken[url] += 1
            raise
        if not chunk:
            self.broken[url] += 1
        return chunk

    @abc.abstractmethod
    def take(self, event: ServerEvent) -> None:
        """Take in one event."""

    async def catch_up(self, client: httpx.AsyncClient, url: str) -> None:  # noqa: B027
        """Read what the stream left to be read: nothing, unless a subclass says otherwise."""


class EventFollower(Follower):
    """Notes every event of the lossless stream, from the log's beginning on."""

    def __init__(self, urls: Sequence[str], chance: Random, *, bytes_most: int = 400_000) -> None:
        super().__init__(urls, EVENTS, chance, bytes_most=bytes_most)
        self.last_id = "0"
        self.events: list[tuple[int, str]] = []

    def take(self, event: ServerEvent) -> None:
        """Note sequence and data."""
        if event.name != "heartbeat":
            self.events.append((sequence_of(event.last_id), event.data))


class StateFollower(Follower):
    """Keeps the map that a page holds, after any of the streams of states.

    ``updates`` are the sequences of the updates in the order in which they came.
    """

    def __init__(
        self, urls: Sequence[str], path: str, chance: Random, *, bytes_most: int = 15_000
    ) -> None:
        super().__init__(urls, path, chance, bytes_most=bytes_most)
        self.batches: dict[str, Any] = {}
        self.updates: list[int] = []
        self.snapshots = 0
        self._ended: set[str] = set()

    def take(self, event: ServerEvent) -> None:
        """Put a snapshot, an update or a delta into the map."""
        body = json.loads(event.data)
        match body.get("type", event.name):
            case "all_batches":
                self.snapshots += 1
                self._ended |= self.batches.keys() - body["batches"].keys()
                self.batches |= body["batches"]
            case "batch_update":
                batch = body["batch"]
                self.batches[batch.get("id") or body["batch_id"]] = batch
                self.updates.append(sequence_of(event.last_id))
            case "batch_delta" if body["id"] in self.batches:
                self.batches[body["id"]] = put_over(self.batches[body["id"]], body)

    async def catch_up(self, client: httpx.AsyncClient, url: str) -> None:
        """Read the batches that were held and were not in a snapshot: they have ended."""
        while self._ended:
            batch_id = next(iter(self._ended))
            query = {"min_sequence": sequence_of(self.last_id)}
            answer = await client.get(f"{url}/v1/batches/{batch_id}", params=query)
            if answer.status_code == 503:  # no projector knows that much yet
                await asyncio.sleep(PAUSE_S)
                continue
            self.batches[batch_id] = answer.raise_for_status().json()["batch"]
            self._ended.discard(batch_id)
