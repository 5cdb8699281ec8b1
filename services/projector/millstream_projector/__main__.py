"""`python -m millstream_projector`: one projector, with settings from the environment."""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import duckdb
import structlog

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.checkpoints import FILE as CHECKPOINT_FILE
from millstream.eventlog.checkpoints import CheckpointFile, CheckpointLog
from millstream.eventlog.connection import connected
from millstream.eventlog.follow import follow
from millstream.eventlog.log import EventLog, Head
from millstream.eventlog.nodes import Nodes, keep_beating
from millstream.eventlog.pull import pull
from millstream.eventlog.redaction import Redactions, filled
from millstream.eventlog.stored import Stored
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.runtime.lifecycle import start_service
from millstream.runtime.metrics_server import metrics_served
from millstream.runtime.settings import Settings
from millstream_projector.answers import Answerer, Readers
from millstream_projector.audit.auditing import Auditor
from millstream_projector.audit.rebuilding import Rebuilder
from millstream_projector.audit.sealer import Sealer
from millstream_projector.group import Group
from millstream_projector.jobs.copies import Copies
from millstream_projector.jobs.serving import Jobs
from millstream_projector.measures import Measures
from millstream_projector.opening import open_store
from millstream_projector.progress import Progress
from millstream_projector.projection import Projection, project
from millstream_projector.room import Patience
from millstream_projector.store import Store, StoreError
from millstream_projector.stuck.watchdog import Watchdog
from millstream_projector.views.board import Board
from millstream_projector.views.paging import RefusedError
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

HEAD_INTERVAL_S = 1.0
BOARD_AGAIN_S = 60.0
SWITCH_S = 0.0005
"""How long a thread may keep Python's lock from those that wait for it. With the 5 ms that are the
default the event loop, which answers, would wait so long for the fold."""


async def own(settings: Settings, stop: asyncio.Event) -> None:
    """Run ``main`` in a process in which nothing else runs; raises as it does."""
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # What is loaded stays: to look at it again would hold all up for 50 ms.
    try:
        await main(settings, stop)
    finally:
        gc.unfreeze()  # else DuckDB's bindings take what is frozen for leaks, and say so


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Project, answer and watch until ``stop``.

    Raises:
        LogUnavailableError: NATS can't be reached at the start.
        StoreLockedError: another projector uses this data directory.
        ForeignStoreError: its read model is of another stream.
        StoreError: the read model takes no rows, or its stream was replaced.
    """
    async with connected(settings, "projector") as connection:
        await ensure_topology(connection, settings)
        event_log = EventLog(connection)
        rebuilder = Rebuilder(settings, node=settings.node, address=connection.new_inbox())
        await asyncio.to_thread(rebuilder.clear)
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            await _serve(settings, event_log, rebuilder, writer, stop)
            while rebuilder.is_ready.is_set() and not stop.is_set():
                await asyncio.to_thread(rebuilder.swap)
                await _serve(settings, event_log, rebuilder, writer, stop)


async def _serve(
    settings: Settings,
    event_log: EventLog,
    rebuilder: Rebuilder,
    writer: ThreadPoolExecutor,
    stop: asyncio.Event,
) -> None:
    """Project into the file that is there until ``stop``, or until another waits to be swapped in.

    Raises as ``main``.
    """
    head = await _head(event_log, stop)
    if head is None:
        return
    loop = asyncio.get_running_loop()
    store = await loop.run_in_executor(
        writer,
        lambda: open_store(settings.data_dir, stream=head.created, last_sequence=head.last),
    )
    log.info("projector.started", checkpoint=store.checkpoint, head=head.last)
    try:
        board = Board()
        projection = await loop.run_in_executor(
            writer, partial(Projection, store, on_stored=board.take)
        )
        progress = Progress(store.checkpoint, now_s=boot_seconds())
        progress.saw_head(head.last, boot_seconds())
        service = _Service(
            settings,
            event_log,
            head.created,
            projection,
            progress,
            board=board,
            rebuilder=rebuilder,
        )
        await service.run(store, writer, stop)
    finally:
        await loop.run_in_executor(writer, store.close)


async def _head(event_log: EventLog, stop: asyncio.Event) -> Head | None:
    """Return where the log ends; one that is silent for a while is waited for until ``stop``."""
    while not stop.is_set():
        try:
            return await event_log.head()
        except LogUnavailableError as error:
            log.warning("projector.start_postponed", reason=str(error))
            await asyncio.sleep(HEAD_INTERVAL_S)
    return None


class _Service:
    """The parts of a projector that run side by side."""

    def __init__(
        self,
        settings: Settings,
        event_log: EventLog,
        stream: str,
        projection: Projection,
        progress: Progress,
        *,
        board: Board,
        rebuilder: Rebuilder,
    ) -> None:
        self._settings = settings
        self._event_log = event_log
        self._stream = stream
        self._projection = projection
        self._board = board
        self._progress = progress
        self._rebuilder = rebuilder
        self._nodes = Nodes(event_log.answers)
        self._sealer = Sealer(
            projection,
            CheckpointLog(event_log.answers),
            CheckpointFile(settings.data_dir / CHECKPOINT_FILE),
            stream=stream,
            node=settings.node,
            clock=event_log.time.now,
        )
        self._watchdog = Watchdog(
            projection,
            progress,
            event_log,
            self._nodes,
            node=settings.node,
            floor_s=settings.stuck_after_s,
            lease_s=settings.lease_s,
        )
        self._patience = Patience()
        self._started_at, self._began_s = utc_now(), boot_seconds()

    async def run(self, store: Store, writer: ThreadPoolExecutor, stop: asyncio.Event) -> None:
        """Run all parts until ``stop``, or until a rebuild is done."""
        readers = Readers(store, clock=self._event_log.time.now)
        auditor = Auditor(
            store, self._progress, self._sealer, self._rebuilder, node=self._settings.node
        )
        connection, node = self._event_log.connection, self._settings.node
        group = Group(connection, self._progress, self._nodes, node=node)
        answerer = Answerer(group, readers, self._board, self._progress, auditor)
        copies = Copies(store, writer, self._settings.data_dir)
        jobs = Jobs(group, copies, self._progress)
        measures = Measures(self._progress, store.path)
        ending = asyncio.Event()
        await group.decide()
        try:
            async with (
                metrics_served(self._settings, measures.figures, measures.ready),
                answerer.serving(),
                jobs.serving(),
                asyncio.TaskGroup() as tasks,
            ):
                loading = tasks.create_task(self._load_board(readers))
                tasks.create_task(self._rebuilder.serve(stop, ending))
                tasks.create_task(self._follow_head(ending))
                tasks.create_task(group.watch(ending))
                tasks.create_task(self._watchdog.watch(ending))
                tasks.create_task(self._sealer.watch(ending))
                tasks.create_task(keep_beating(self._nodes, ending, self._beat))
                await project(
                    self._feed(),
                    self._projection,
                    self._progress,
                    writer,
                    ending,
                    patience=self._patience,
                )
                loading.cancel()
        finally:
            auditor.close()
            readers.close()

    async def _load_board(self, readers: Readers) -> None:
        """Let the history be answered from memory; until then SQL does."""
        while True:
            try:
                await self._board.load(readers.find)
            except RefusedError:  # the process ends
                return
            except duckdb.Error as error:
                log.warning("board.not_loaded", reason=str(error), again_s=BOARD_AGAIN_S)
                await asyncio.sleep(BOARD_AGAIN_S)
            else:
                log.info("board.loaded", batches=len(self._board))
                return

    def _feed(self) -> AsyncGenerator[list[Stored], None]:
        """Give what follows the checkpoint: by a consumer where this process may make one.

        A NATS user that may make consumers may have any event delivered to any subject, so the
        projector's may not; without a consumer a long history takes half as long again to read.
        """
        after = self._progress.checkpoint
        if self._settings.nats_user:
            feed = follow(self._event_log, after=after, tells_quiet=True)
        else:
            feed = pull(self._event_log.connection, after=after, name="projector")
        return filled(feed, Redactions(self._event_log), after=after)

    async def _follow_head(self, stop: asyncio.Event) -> None:
        """Keep in mind where the log ends.

        Raises:
            StoreError: the stream was replaced by another.
        """
        while not stop.is_set():
            try:
                head = await self._event_log.head()
            except LogError as error:
                log.warning("head.unknown", reason=str(error))
            else:
                if head.created != self._stream:
                    raise StoreError(
                        f"the stream of {self._stream} was replaced by one of {head.created};"
                        " move the read model away and start the projector again to follow it"
                    )
                self._progress.saw_head(head.last, boot_seconds())
                self._sealer.log_ends(head.last)
            try:
                async with asyncio.timeout(HEAD_INTERVAL_S):
                    await stop.wait()
            except TimeoutError:
                continue

    def _beat(self) -> NodeBeat:
        chain = self._sealer.alarm
        alarms = (chain.words if chain else "", self._watchdog.alarm, self._patience.alarm)
        decode = self._projection.decode
        return NodeBeat(
            node=self._settings.node,
            service="projector",
            started_at=self._started_at,
            up_s=round(boot_seconds() - self._began_s, 3),
            sequence=self._progress.checkpoint,
            due_sequence=self._progress.due,
            alarm="; ".join(filter(None, alarms)),
            clock_ahead_s=self._event_log.time.clock_ahead_s(),
            unreadable=decode.unknown + decode.malformed,
        )


if __name__ == "__main__":
    sys.exit(start_service("projector", own))
