"""`python -m millstream_projector`: one projector, with settings from the environment."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import structlog

from millstream.errors import LogError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import NodeBeat, Nodes, keep_beating
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_projector.answers import Answerer, Readers
from millstream_projector.opening import open_store
from millstream_projector.progress import Progress
from millstream_projector.projection import Projection, project
from millstream_projector.store import Store, StoreError
from millstream_projector.watchdog import Watchdog

log = structlog.get_logger()

HEAD_INTERVAL_S = 1.0


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Project, answer and watch until ``stop``.

    Raises:
        LogUnavailableError: NATS can't be reached at the start.
        StoreLockedError: another projector uses this data directory.
        StoreError: the read model takes no rows, or its stream was replaced.
    """
    async with connected(settings, "projector") as connection:
        await ensure_topology(connection, settings)
        event_log = EventLog(connection)
        head = await event_log.head()
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            store = await loop.run_in_executor(
                writer,
                lambda: open_store(settings.data_dir, stream=head.created, last_sequence=head.last),
            )
            log.info("projector.started", checkpoint=store.checkpoint, head=head.last)
            try:
                projection = await loop.run_in_executor(writer, Projection, store)
                progress = Progress(store.checkpoint, now_s=boot_seconds())
                service = _Service(settings, event_log, head.created, projection, progress)
                await service.run(store, writer, stop)
            finally:
                await loop.run_in_executor(writer, store.close)


class _Service:
    """The parts of a projector that run side by side."""

    def __init__(
        self,
        settings: Settings,
        event_log: EventLog,
        stream: str,
        projection: Projection,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._event_log = event_log
        self._stream = stream
        self._projection = projection
        self._progress = progress
        self._nodes = Nodes(event_log.answers)
        self._started_at = utc_now()

    async def run(self, store: Store, writer: ThreadPoolExecutor, stop: asyncio.Event) -> None:
        """Run all parts until ``stop``."""
        connection = self._event_log.connection
        readers = Readers(store)
        answerer = Answerer(connection, readers, self._progress)
        watchdog = Watchdog(
            self._projection,
            self._progress,
            self._event_log,
            self._nodes,
            node=self._settings.node,
            floor_s=self._settings.stuck_after_s,
        )
        try:
            async with answerer.serving(), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_head(stop))
                tasks.create_task(watchdog.watch(stop))
                tasks.create_task(keep_beating(self._nodes, stop, self._beat))
                await project(connection, self._projection, self._progress, writer, stop)
        finally:
            readers.close()

    async def _follow_head(self, stop: asyncio.Event) -> None:
        """Keep in mind where the log ends.

        Raises:
            StoreError: the stream was replaced by another; a restart begins anew with it.
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
                        " start the projector again to follow it"
                    )
                self._progress.saw_head(head.last, boot_seconds())
            try:
                async with asyncio.timeout(HEAD_INTERVAL_S):
                    await stop.wait()
            except TimeoutError:
                continue

    def _beat(self) -> NodeBeat:
        return NodeBeat(
            node=self._settings.node,
            service="projector",
            started_at=self._started_at,
            sequence=self._progress.checkpoint,
        )


if __name__ == "__main__":
    sys.exit(start_service("projector", main))
