"""Folding the whole log into fresh files: a process for each part, a batch's events in one part.

Batches have nothing to do with each other, and the digests of the parts add up to the whole's.
"""

import asyncio
import zlib
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import msgspec

from millstream.eventlog.chain import ChainState
from millstream.eventlog.stored import Stored
from millstream.runtime.processors import processors
from millstream_projector.audit.checking import CheckingDecoder, Findings, check_tables
from millstream_projector.audit.digests import (
    SOURCES,
    Buckets,
    added,
    bucket_hashes,
    bucket_sums,
    row_texts,
)
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import StoreError

FAR = 2**62
PARTS_MOST = 4
SMALL_LOG = 20_000
"""Below so many events a second process takes longer to start than it saves."""
CHUNKS_WAITING = 2
"""Chunks on their way to a part: reading must not run ahead of folding."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Stored])


@dataclass(slots=True)
class PartResult:
    """What one part of the log, or all of it, came to."""

    tables: dict[str, Buckets] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    unknown: int = 0
    unreadable: int = 0

    def merge(self, other: "PartResult") -> None:
        """Add another part."""
        names = self.tables.keys() | other.tables.keys()
        self.tables = {
            name: added((self.tables.get(name, {}), other.tables.get(name, {}))) for name in names
        }
        self.findings.merge(other.findings)
        self.unknown += other.unknown
        self.unreadable += other.unreadable


class PartFold:
    """One part, folded into a fresh read model in ``directory``; lives in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self._store = open_store(directory, stream="", last_sequence=FAR)
        self._projection = Projection(self._store, extend=_unchained)
        self._decode = CheckingDecoder()
        self._projection.decode = self._decode

    def take(self, chunk: bytes) -> None:
        """Fold more events, as MessagePack."""
        self._projection.advance(_decoder.decode(chunk), is_bulk=True)

    def finish(self) -> PartResult:
        """Return the sums of every table, and what the rules say."""
        self._projection.advance(())
        reader = self._store.reader()
        findings = check_tables(reader)
        findings.merge(self._decode.findings)
        return PartResult(
            {table: bucket_sums(reader, table, FAR) for table in SOURCES},
            findings,
            self._decode.unknown,
            self._decode.malformed,
        )

    def hashes(self, table: str, bucket: int) -> dict[str, str]:
        """Return the hashes of the rows of a bucket, by key."""
        return bucket_hashes(self._store.reader(), table, bucket, FAR)

    def texts(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """Return rows as JSON texts, by key."""
        return row_texts(self._store.reader(), table, keys, FAR)


def _unchained(_: ChainState, items: Sequence[Stored]) -> ChainState:
    """Return how far a part is: a part of the log has no hash chain."""
    return ChainState(items[-1].sequence)


_part: PartFold | None = None


def _begin(directory: Path) -> None:
    global _part  # noqa: PLW0603  # the process has this one purpose
    _part = PartFold(directory)


def _call(method: str, *arguments: object) -> object:
    return getattr(_part, method)(*arguments)


class Parts:
    """All parts together; use as a context.

    Methods raise what the parts raise (StoreError: a file takes no rows).
    """

    def __init__(self, directory: Path, *, events: int) -> None:
        """Make the processes for a log of about so many events; they start when they must."""
        is_small = events < SMALL_LOG
        count = 1 if is_small else min(PARTS_MOST, processors())
        self._pools = [
            ProcessPoolExecutor(
                1,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(directory / f"part-{number}",),
            )
            for number in range(count)
        ]
        self._waiting: list[list[asyncio.Future[object]]] = [[] for _ in self._pools]

    def __enter__(self) -> Self:
        """Return the parts themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    async def take(self, chunk: Sequence[Stored]) -> None:
        """Hand out more events in stream order; returns while they are being folded."""
        messages: list[list[Stored]] = [[] for _ in self._pools]
        for stored in chunk:
            token = stored.subject.split(".", 3)[2]
            messages[zlib.crc32(token.encode()) % len(self._pools)].append(stored)
        for number, its in enumerate(messages):
            if its:
                waiting = self._waiting[number]
                waiting.append(self._submit(number, "take", _encoder.encode(its)))
                if len(waiting) > CHUNKS_WAITING:
                    await _result(waiting.pop(0))

    async def finish(self) -> PartResult:
        """Return what the log came to, once all of it is folded."""
        for waiting in self._waiting:
            for future in waiting:
                await _result(future)
            waiting.clear()
        whole = PartResult()
        for found in await self._each("finish"):
            if isinstance(found, PartResult):
                whole.merge(found)
        return whole

    async def hashes(self, table: str, bucket: int) -> dict[str, str]:
        """Return the hashes of the rows of a bucket, by key."""
        return _joined(await self._each("hashes", table, bucket))

    async def texts(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """Return rows as JSON texts, by key."""
        return _joined(await self._each("texts", table, list(keys)))

    def _submit(self, number: int, method: str, *arguments: object) -> asyncio.Future[object]:
        return asyncio.wrap_future(self._pools[number].submit(_call, method, *arguments))

    async def _each(self, method: str, *arguments: object) -> list[object]:
        numbers = range(len(self._pools))
        asked = [self._submit(number, method, *arguments) for number in numbers]
        return [await _result(future) for future in asked]


async def _result(future: asyncio.Future[object]) -> object:
    try:
        return await future
    except BrokenExecutor as error:
        raise StoreError("a process that folds a part of the log was killed; try again") from error


def _joined(found: Sequence[object]) -> dict[str, str]:
    return {key: text for part in found if isinstance(part, dict) for key, text in part.items()}
