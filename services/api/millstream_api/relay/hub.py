"""The hub: the version map, the clients, and the clock that wakes them.

A flush wakes every client, which then sends what changed since its own cursor. The first change
goes out at once. While more come, flushes follow each other, each spread over `flush_pause`: from
the first of these on no client is written to more often than that, none waits longer, and no moment
has all the work. So fan-out takes a quarter of a core while few read, a third with a thousand, half
at most.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence

import structlog

from millstream.domain.batch_state import BatchState
from millstream_api.relay.client import Client
from millstream_api.relay.ring import Ring
from millstream_api.relay.versions import FINALS_KEPT, VersionMap

log = structlog.get_logger()

FLUSH_LEAST_S = 0.008
"""About half a frame of a screen: what came meanwhile goes out together."""
FLUSH_MOST_S = 0.04
"""As long as half of a core is enough, nobody waits longer for the next flush."""
WAKES_PER_TURN = 128
LOOK_S = 0.5
"""How often it is looked who was sent nothing; a heartbeat is due after two looks or more."""
STUCK_S = 60.0
STUCK_CHECK_S = 5.0
CLIENTS_MOST = 10_000


def flush_pause(used_s: float) -> float:
    """Return the seconds from one flush to the next, after one that used ``used_s``.

    Many readers make a flush dear, and so get fewer and larger writes. The measure is processor
    time: on a busy machine a flush takes longer, and must not be put off for that.
    """
    return max(FLUSH_LEAST_S, min(4 * used_s, FLUSH_MOST_S), 2 * used_s)


class Hub:
    """One fold shared by all clients of this process."""

    def __init__(
        self,
        *,
        finals_kept: int = FINALS_KEPT,
        ring: Ring | None = None,
        clients_most: int = CLIENTS_MOST,
        stuck_s: float = STUCK_S,
    ) -> None:
        self.versions = VersionMap(finals_kept)
        self.ring = ring if ring is not None else Ring()
        self.ready = asyncio.Event()
        self.epoch = ""
        self.due: int | None = None  # where the log ended at the look before the last one
        self.clients: set[Client] = set()
        self.is_closing = False
        self.log_is_away = False
        self.events_folded = 0
        self.sends = 0
        self.bytes_sent = 0
        self._clients_most = clients_most
        self._looks = 0
        self._stuck_s = stuck_s
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._chunks: dict[tuple[str, int | None, frozenset[str] | None], bytes] = {}
        self._chunks_at = -1
        self._reachers: list[tuple[int, asyncio.Future[None]]] = []
        self._enders: dict[str, list[asyncio.Future[None]]] = {}

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another client."""
        return len(self.clients) >= self._clients_most

    @property
    def sequence(self) -> int:
        """The stream sequence up to which everything is folded."""
        return self.versions.sequence

    def note_send(self, client: Client, size: int) -> None:
        """Count one write of ``size`` bytes to ``client``."""
        client.sent_at = self._looks
        self.sends += 1
        self.bytes_sent += size

    def join(self, client: Client) -> None:
        """Count ``client`` in: it is woken from now on."""
        self.clients.add(client)
        client.sent_at = self._looks
        client.beat = client.beat or self.log_is_away
        self._empty.clear()

    def leave(self, client: Client) -> None:
        """Count ``client`` out."""
        self.clients.discard(client)
        if not self.clients:
            self._empty.set()

    def restore(self, states: Iterable[BatchState], sequence: int, epoch: str) -> None:
        """Start from a cold fold of the stream whose epoch is ``epoch``."""
        self.epoch = epoch
        self.due = sequence
        self.versions.restore(states, sequence)
        self.ring.reset(sequence)
        self._note_change()

    def put(self, state: BatchState, sequence: int) -> None:
        """Take in a batch's state after the event at ``sequence``."""
        self.versions.put(state, sequence)
        if state.is_final:
            for ended in self._enders.pop(state.batch_id, ()):
                if not ended.done():
                    ended.set_result(None)
        self._note_change()

    def advance(self, sequence: int) -> None:
        """Note that everything up to ``sequence`` is folded."""
        self.versions.advance(sequence)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        if self._reachers:
            left = []
            for sequence, reached in self._reachers:
                if sequence > self.sequence:
                    left.append((sequence, reached))
                elif not reached.done():
                    reached.set_result(None)
            self._reachers = left

    async def reach(self, sequence: int, timeout_s: float) -> bool:
        """Wait until everything up to ``sequence`` is folded; False when it takes too long."""
        if self.sequence >= sequence:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reachers.append((sequence, reached))
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            return False
        return True

    async def ended(self, batch_id: str, timeout_s: float) -> bool:
        """Wait until the batch has ended; False when it takes too long."""
        version = self.versions.get(batch_id)
        if version is not None and version.state.is_final:
            return True
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enders.setdefault(batch_id, []).append(ended)
        try:
            async with asyncio.timeout(timeout_s):
                await ended
        except TimeoutError:
            waiting = self._enders.get(batch_id)
            if waiting is None:  # The end came in the very moment in which this gave up.
                return True
            waiting.remove(ended)
            if not waiting:
                self._enders.pop(batch_id, None)
            return False
        return True

    def take(self, client: Client) -> bytes:
        """Return what ``client`` has not been sent yet, and move its cursor.

        Nothing is awaited between reading the versions and moving the cursor, so nothing can
        change in between: no gap and no double.
        """
        parts = []
        if client.cursor != self.sequence:
            parts.append(self._chunk(client))
            client.cursor = self.sequence
        if client.beat:
            client.beat = False
            parts.append(client.flavour.heartbeat(self.sequence, log_away=self.log_is_away))
        return b"".join(parts)

    def _chunk(self, client: Client) -> bytes:
        if self._chunks_at != self.sequence:
            self._chunks.clear()
            self._chunks_at = self.sequence
        cursor = client.cursor
        if cursor is not None and not self.versions.floor <= cursor <= self.sequence:
            cursor = None  # Behind what is kept, or from a future that this fold does not know.
        key = (client.flavour.name, cursor, client.batch_ids)
        chunk = self._chunks.get(key)
        if chunk is None:
            flavour = client.flavour
            if cursor is None:
                live = self.versions.live(client.batch_ids)
                chunk = flavour.snapshot(live, self.sequence)
            else:
                changed = self.versions.changed(cursor, client.batch_ids)
                frames = [flavour.update(version, cursor) for version in changed]
                chunk = flavour.together(frames, self.sequence)
            self._chunks[key] = chunk
        return chunk

    async def flush_changes(self) -> None:
        """Wake the clients whenever something changed; never ends."""
        loop = asyncio.get_running_loop()
        pause, ended = 0.0, loop.time()
        while True:
            await self._changed.wait()
            self._changed.clear()
            is_first = loop.time() - ended >= pause
            used = await self._wake_all(0.0 if is_first else pause)
            pause, ended = flush_pause(used), loop.time()

    async def beat(self) -> None:
        """Send heartbeats to who was sent nothing else; never ends. One timer serves all clients.

        A client that hears nothing for longer knows that its connection is dead, so while much
        goes on heartbeats cost nothing, and at rest a write a second for each client.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            await self._wake(self.look(), FLUSH_MOST_S)

    def look(self) -> list[Client]:
        """Return who was sent nothing for so many looks that a heartbeat is due; this is one."""
        self._looks += 1
        due = [one for one in self.clients if self._looks - one.sent_at >= one.flavour.beats]
        for client in due:
            client.beat = True
        return due

    async def tell_log_away(self, *, is_away: bool) -> None:
        """Tell all clients at once when the log stops or starts answering.

        The relay still holds what it has folded, but "live" would no longer be true.
        """
        if is_away == self.log_is_away:
            return
        self.log_is_away = is_away
        for client in self.clients:
            client.beat = True
        await self._wake_all()

    async def cut_stuck(self) -> None:
        """Close the connections whose write has been stuck too long; never ends."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(STUCK_CHECK_S, self._stuck_s))
            for client in list(self.clients):
                since = client.pipe.paused_since
                if since is not None and loop.time() - since > self._stuck_s:
                    log.warning("stream.cut_off", stuck_s=round(loop.time() - since, 1))
                    client.abort()

    async def drain(self, window_s: float, bound_s: float = 1.0) -> None:
        """End all streams evenly over ``window_s``, so that they do not come back all at once.

        Who has not taken the last bytes ``bound_s`` later is cut off.
        """
        self.is_closing = True
        clients = list(self.clients)
        pause = window_s / max(1, len(clients))
        for client in clients:
            client.end()
            await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(bound_s):
                await self._empty.wait()
        except TimeoutError:
            for client in list(self.clients):
                client.abort()

    async def _wake_all(self, spread_s: float = 0.0) -> float:
        """Wake every client, evenly over ``spread_s``; return the processor time it took."""
        return await self._wake(list(self.clients), spread_s)

    async def _wake(self, clients: Sequence[Client], spread_s: float) -> float:
        """Wake ``clients``, evenly over ``spread_s``; return the processor time it took.

        Some are woken per turn of the loop: requests are answered in between.
        """
        loop = asyncio.get_running_loop()
        begun, used = loop.time(), 0.0
        for start in range(0, len(clients), WAKES_PER_TURN):
            before = time.thread_time()
            turn = clients[start : start + WAKES_PER_TURN]
            for client in turn:
                client.wake()
            await asyncio.sleep(0)  # What they wrote goes out in this turn.
            used += time.thread_time() - before
            due = begun + spread_s * (start + len(turn)) / len(clients)
            if (rest := due - loop.time()) > 0:
                await asyncio.sleep(rest)
        return used
