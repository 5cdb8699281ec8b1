"""The sealer: writes down the hash chain's root as the log grows, and compares with the others'.

Every projector seals, none is elected. Into the audit stream with a compare-and-set, so one of
them wins each range and the others compare the winner's root with their own; and each into a
file of its own outside NATS, which a change of the log and the audit stream together can't reach.
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from millstream.errors import ConflictError, LogError
from millstream.eventlog.chain import GENESIS, ChainState
from millstream.eventlog.checkpoints import CheckpointFile, CheckpointLog
from millstream.runtime.clock import boot_seconds, utc_now
from millstream_projector.projection import Projection
from millstream_schemas.audit import Alarm, Checkpoint

log = structlog.get_logger()

TICK_S = 0.5
EVENTS_LEAST = 1_000
AGE_MOST_S = 10.0


@dataclass(slots=True)
class _Ledger:
    """One place that is sealed into: its newest checkpoint, and since when there is more."""

    last: Checkpoint | None = None
    waiting_since_s: float | None = None

    def is_due(self, chain: ChainState, now_s: float) -> bool:
        """Tell whether enough events, or enough time with any, have come since the newest."""
        sealed, events = (self.last.to_sequence, self.last.events) if self.last else (0, 0)
        if chain.sequence <= sealed:
            self.waiting_since_s = None
            return False
        if self.waiting_since_s is None:
            self.waiting_since_s = now_s
        grown = chain.events - events >= EVENTS_LEAST
        return grown or now_s - self.waiting_since_s >= AGE_MOST_S

    def sealed(self, checkpoint: Checkpoint) -> None:
        """Take note of a newer checkpoint."""
        self.last = checkpoint
        self.waiting_since_s = None


class Sealer:
    """Seals what ``projection`` has folded; ``alarm`` is set for good by the first contradiction.

    The clocks are arguments, as the watchdog's are.
    """

    def __init__(
        self,
        projection: Projection,
        checkpoints: CheckpointLog,
        file: CheckpointFile,
        *,
        stream: str,
        node: str,
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        self.alarm: Alarm | None = None
        self.unchecked = 0
        self._projection = projection
        self.checkpoints = checkpoints
        self._file = file
        self._stream = stream
        self._node = node
        self._clock = clock
        self._steady = steady
        self._shared = _Ledger()
        self._own = _Ledger()
        self._ahead: list[tuple[str, Checkpoint]] = []
        self._read_to = -1
        self._is_file_bad = False

    async def watch(self, stop: asyncio.Event) -> None:
        """Look twice a second until ``stop``; an outage of the log is waited out."""
        await asyncio.to_thread(self.open_file)
        while not stop.is_set():
            try:
                await self.look()
            except LogError as error:
                log.warning("seal.postponed", reason=str(error))
            try:
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Compare with what others have sealed, then seal what is due.

        Raises:
            LogError: the audit stream can't be read or takes no checkpoint.
        """
        if self._read_to < 0:
            await self._begin()
        await self._read_new()
        chain = self._projection.snapshot.chain
        self._compare(chain)
        now_s = self._steady()
        if self._own.is_due(chain, now_s):
            await asyncio.to_thread(self._seal_file, chain)
        if self.alarm is None and not self._ahead and self._shared.is_due(chain, now_s):
            await self._seal_shared(chain)

    def open_file(self) -> None:
        """Go on with the file; one of another stream is put aside. Once, before any look."""
        try:
            found = self._file.read()
            if found and found[-1].stream != self._stream:
                kept_as = f"checkpoints.{zlib.crc32(found[-1].stream.encode()):08x}.jsonl"
                log.warning("checkpoints.put_aside", kept_as=kept_as, stream=found[-1].stream)
                self._file.put_aside(kept_as)
                return
        except OSError as error:
            self._note_file(error)
            return
        sequence = self._projection.snapshot.checkpoint
        for checkpoint in found:
            self._own.last = checkpoint
            if checkpoint.to_sequence >= sequence:
                self._ahead.append((str(self._file.path), checkpoint))

    async def _begin(self) -> None:
        sequence = self._projection.snapshot.checkpoint
        first = await self.checkpoints.first_beyond(self._stream, sequence)
        self._read_to = max(0, first - 2)  # the newest one that was passed already comes too

    async def _read_new(self) -> None:
        async for page in self.checkpoints.after(self._read_to):
            for view in page:
                self._read_to = view.sequence
                checkpoint = view.checkpoint
                if checkpoint.stream != self._stream:
                    continue
                self._shared.sealed(checkpoint)
                self._ahead.append((f"projector {checkpoint.node}", checkpoint))

    def _compare(self, chain: ChainState) -> None:
        """Compare the checkpoints that the chain has come to; keep those that lie ahead."""
        ahead = []
        for source, checkpoint in self._ahead:
            sequence = checkpoint.to_sequence
            if sequence > chain.sequence:
                ahead.append((source, checkpoint))
                continue
            is_end = sequence == chain.sequence
            found = chain.root if is_end else self._projection.roots.get(sequence)
            if found is None:  # passed too long ago; `audit verify` compares every one
                self.unchecked += 1
            elif found.hex() != checkpoint.root:
                self._raise_alarm(checkpoint, found.hex(), source)
        self._ahead = ahead

    def log_ends(self, sequence: int) -> None:
        """Take note of the log's end: a checkpoint of the own file beyond it is an alarm."""
        last = self._own.last
        if last is not None and last.to_sequence > sequence:
            self._raise_alarm(last, None, str(self._file.path))

    def _raise_alarm(self, checkpoint: Checkpoint, found: str | None, source: str) -> None:
        alarm = Alarm(
            sequence=checkpoint.to_sequence, expected=checkpoint.root, found=found, source=source
        )
        if self.alarm is None:
            self.alarm = alarm
            log.error("chain.contradicted", **alarm.model_dump())

    def _seal_file(self, chain: ChainState) -> None:
        checkpoint = self._checkpoint(chain, self._own.last)
        try:
            self._file.append(checkpoint)
        except OSError as error:
            self._note_file(error)
        else:
            self._is_file_bad = False
            self._own.sealed(checkpoint)

    def _note_file(self, error: OSError) -> None:
        if not self._is_file_bad:  # said once, not twice a second
            log.error("checkpoints.unwritten", file=str(self._file.path), reason=str(error))
        self._is_file_bad = True

    async def _seal_shared(self, chain: ChainState) -> None:
        checkpoint = self._checkpoint(chain, self._shared.last)
        try:
            await self.checkpoints.append(checkpoint, expected=self._read_to)
        except ConflictError:
            return  # another projector sealed first: the next look compares
        log.debug("chain.sealed", to_sequence=checkpoint.to_sequence)

    def _checkpoint(self, chain: ChainState, last: Checkpoint | None) -> Checkpoint:
        return Checkpoint(
            stream=self._stream,
            from_sequence=last.to_sequence + 1 if last else 1,
            to_sequence=chain.sequence,
            events=chain.events,
            root=chain.root.hex(),
            previous_root=last.root if last else GENESIS.hex(),
            node=self._node,
            sealed_at=self._clock(),
        )
