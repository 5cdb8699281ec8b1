"""Folding a log with several processes into one read model.

Batches have nothing to do with each other: each belongs to one process, which folds its events in
order. This process chains the events, hands them out, and stores what the others make of them:
the rows of all in one transaction, as a fold by one process would store them.
"""

import asyncio
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from socket import socketpair
from typing import Self

from millstream.errors import MillstreamError
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.stored import Stored
from millstream.runtime.processors import processors
from millstream_projector import step
from millstream_projector.audit.wire import Channel, Told
from millstream_projector.changes import Changes
from millstream_projector.heads import Known
from millstream_projector.store import Store, StoreError

FOLDING = "millstream_projector.audit.folding"
PARTS_MOST = 4
SMALL_LOG = 20_000
"""Below so many events a second process takes longer to start than it saves."""
TOLD_MOST = 1_000
"""Events told at once: what goes from process to process stays in the processor's cache."""
AHEAD_BYTES = 16 * 2**20
"""What may wait for one process, while the others are told of batches of theirs."""
END_BOUND_S = 10.0
"""So long a process that hung up is given to end by itself."""


def parts_for(events: int) -> int:
    """Return how many processes fold a log of about so many events best."""
    return 1 if events < SMALL_LOG else min(PARTS_MOST, processors())


class Split:
    """All processes together, for a store that is empty; use as an asynchronous context.

    Methods raise StoreError when rows can't be stored or a process has died, and StrayBatchError
    for a log that one process alone can fold; whatever else goes wrong in a thread is raised too.
    What is stored then is incomplete.
    """

    def __init__(self, store: Store, parts: int) -> None:
        """Start ``parts`` processes."""
        self._store = store
        self._stored = _Stored(store)
        self._parts = [_Part(self._stored, is_alone=parts == 1) for _ in range(parts)]
        self._owners: dict[str, _Part] = {}
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="committer")
        self._commit: Future[None] | None = None
        self._gathered: list[Stored] = []
        self._chain = ChainState()
        self._events = self._bytes = 0

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the processes, whatever they are at."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for part in self._parts:
            part.kill()
        self._stored.fail(StoreError("the read model is closed"))
        self._committer.shutdown()
        for part in self._parts:
            part.close()

    async def ready(self) -> None:
        """Return once the processes have started; events may be handed out before."""
        for part in self._parts:
            await asyncio.to_thread(part.has_started.wait)

    async def take(self, chunk: Sequence[Stored]) -> None:
        """Hand out more events, in stream order; returns while they are being folded."""
        self._gathered += chunk
        while len(self._gathered) >= TOLD_MOST:
            told, self._gathered = self._gathered[:TOLD_MOST], self._gathered[TOLD_MOST:]
            await self._tell(told)

    async def _tell(self, chunk: Sequence[Stored]) -> None:
        self._chain = extend(self._chain, chunk)
        for part, its in self._shares(chunk).items():
            await part.tell(Told.of(its))
        self._events += len(chunk)
        self._bytes += sum([len(stored.payload) for stored in chunk])
        if self._events >= step.BULK_EVENTS or self._bytes >= step.BULK_BYTES:
            await self._end_step()

    def _shares(self, chunk: Sequence[Stored]) -> "dict[_Part, list[Stored]]":
        shares: dict[_Part, list[Stored]] = {}
        owners = self._owners
        for stored in chunk:
            batch = stored.subject.split(".", 3)[2]
            part = owners.get(batch)
            if part is None:
                # Whoever was told least so far: the same one each time that a log is folded.
                part = owners[batch] = min(self._parts, key=lambda one: one.events)
            part.events += 1
            if part in shares:
                shares[part].append(stored)
            else:
                shares[part] = [stored]
        return shares

    async def finish(self) -> int:
        """Return the checkpoint, once everything is stored."""
        if self._gathered:
            await self._tell(self._gathered)
            self._gathered = []
        await self._end_step()
        await self._committed()
        return self._store.checkpoint

    async def _end_step(self) -> None:
        """Begin to store what was told, once all before it is stored."""
        told = [part for part in self._parts if part.has_begun]
        for part in told:
            await part.tell(Told.of((), is_end=True))
        await self._committed()
        if told:
            self._commit = self._committer.submit(self._write, told, self._chain)
        self._events = self._bytes = 0

    async def _committed(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            await asyncio.wrap_future(commit)

    def _write(self, told: "Sequence[_Part]", chain: ChainState) -> None:
        changes = Changes(chain.sequence, chain.root, chain.events)
        try:
            for part in told:
                changes.add(part.changes())
            self._stored.write(changes, told)
        except BaseException as error:
            self._stored.fail(error)
            raise


class _Stored:
    """The store, where several threads ask for what was stored some transactions ago."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loading = threading.Lock()
        self._progress = threading.Condition()
        self._counts: dict[_Part, int] = {}
        self._failure: BaseException | None = None

    def write(self, changes: Changes, told: "Sequence[_Part]") -> None:
        """Store a transaction to which some parts have contributed."""
        self._store.write(changes)
        with self._progress:
            for part in told:
                self._counts[part] = self._counts.get(part, 0) + 1
            self._progress.notify_all()
        self._store.tidy(idle=False)

    def load(self, part: "_Part", transactions: int, batch_id: str) -> Known | None:
        """Return the fold of a batch once so many transactions of its part are stored.

        Raises:
            BaseException: they will never be stored; it is what ``fail`` was told.
        """
        with self._progress:
            self._progress.wait_for(
                lambda: self._failure or self._counts.get(part, 0) >= transactions
            )
        if self._failure is not None:
            raise self._failure
        with self._loading:
            return self._store.load(batch_id)

    def fail(self, error: BaseException) -> None:
        """Let nobody wait for what will not be stored."""
        with self._progress:
            self._failure = self._failure or error
            self._progress.notify_all()


class _Part:
    """One process that folds; ``events`` says how many it was told."""

    def __init__(self, stored: _Stored, *, is_alone: bool) -> None:
        self.events = 0
        self.has_begun = False
        self.has_started = threading.Event()
        self._stored = stored
        self._trouble: BaseException | None = None
        (work, its_work), (questions, its_questions) = socketpair(), socketpair()
        with its_work, its_questions:
            sockets = its_work.fileno(), its_questions.fileno()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", FOLDING),
                    *map(str, sockets),
                    *(("--alone",) if is_alone else ()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=sockets,
                process_group=0,  # a Ctrl-C is for the process that reads the log
            )
        self._work, self._questions = Channel(work), Channel(questions)
        self._teller = ThreadPoolExecutor(1, thread_name_prefix="teller")
        self._answerer = ThreadPoolExecutor(1, thread_name_prefix="answerer")
        self._answerer.submit(self._answer)
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._waiting_bytes = 0

    async def tell(self, told: Told) -> None:
        """Send more; returns once little enough waits to be sent."""
        self.has_begun = not told.is_end
        size = sum([len(stored.payload) for stored in told.all_events])
        self._waiting.append((size, self._teller.submit(self._send, told)))
        self._waiting_bytes += size
        while self._waiting_bytes > AHEAD_BYTES or (self._waiting and self._waiting[0][1].done()):
            size, sent = self._waiting.popleft()
            self._waiting_bytes -= size
            try:
                await asyncio.wrap_future(sent)
            except OSError as error:
                raise self._ended() from error

    def _send(self, told: Told) -> None:
        try:
            self._work.tell(told)
        except ConnectionError:  # it is gone
            raise
        except BaseException as error:
            self._give_up(error)
            raise

    def changes(self) -> Changes:
        """Return what the transaction that ended next changes; blocks."""
        try:
            found: Changes | MillstreamError = self._work.receive()
        except EOFError as error:
            raise self._ended() from error
        if isinstance(found, MillstreamError):
            raise found
        return found

    def _answer(self) -> None:
        """Answer questions until the process is gone."""
        try:
            self._questions.receive()  # its first word: that it is there
            self.has_started.set()
            while True:
                transactions, batch_id = self._questions.receive()
                self._questions.send(self._stored.load(self, transactions, batch_id))
        except (EOFError, ConnectionError):  # it is gone
            return
        except BaseException as error:  # noqa: BLE001  # raised where its changes are awaited
            self._give_up(error)
        finally:
            self.has_started.set()

    def _give_up(self, trouble: BaseException) -> None:
        """End the process, which would wait for ever, and so whoever waits for it."""
        self._trouble = self._trouble or trouble
        self.kill()

    def _ended(self) -> BaseException:
        try:
            code = self._process.wait(END_BOUND_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        return self._trouble or StoreError(
            f"a process that folds a part of the log ended early (exit code {code}); try again"
        )

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Let go of it once it is dead."""
        self._process.wait()
        self._teller.shutdown(cancel_futures=True)
        self._answerer.shutdown()
        self._work.close()
        self._questions.close()
