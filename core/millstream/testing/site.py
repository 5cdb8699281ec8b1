"""Batches on a real log, and the services that work on them inside the test's own loop."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.errors import LogUnavailableError
from millstream.eventlog.aggregate import Executed, execute, load_batch
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds, new_id, utc_now
from millstream.runtime.settings import Settings
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream.testing.scripted_answers import Ok, Request
from millstream.testing.waiting import BOUND_S
from millstream_schemas import control, subjects
from millstream_schemas.commands import BatchCommand
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.routes import Route
from millstream_schemas.slices import SampleFailed, SampleGenerated

Serve = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]
"""A service's main: it works until the event is set."""

POLL_S = 0.02
USER = Actor(kind="user", id="ada")


def sample(request: Request) -> Ok:
    """Return an answer to ``request`` that validation accepts: no two calls get the same one."""
    seed = request.body["seed"]
    question = f"What follows from clause {seed} when party {seed + request.index} objects?"
    return Ok({"question": question, "answer": f"Rule {seed} applies."})


def route(base_url: str, **fields: Any) -> Route:
    """Return a way to a scripted server."""
    known = {"model": "test/model", "provider": "test", "litellm_model": "openai/model"}
    return Route(**{**known, "api_base": base_url, "timeout_s": 30.0, **fields})


class Site:
    """One log, and what a test does to batches on it."""

    def __init__(self, log: RunningLog, serve: Serve | None = None) -> None:
        """Take the log; without ``serve`` the services of the test are processes of their own."""
        self.log = log
        self._serve = serve
        self._numbers = itertools.count(1)

    def stamp(self) -> Stamp:
        """Return the stamp of a user's command."""
        return Stamp(new_id, utc_now(), USER, "test", command_id=new_id())

    @contextlib.asynccontextmanager
    async def generator(
        self, node: str = "g1", serve: Serve | None = None, **changed: Any
    ) -> AsyncIterator[asyncio.Event]:
        """Run a generator; gives the event that stops it, which the end of the context sets."""
        settings = Settings(**{**self.log.settings.model_dump(), "node": node, **changed})
        stop = asyncio.Event()
        work = serve or self._serve
        assert work is not None, "the generators of this site are processes"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work(settings, stop))
            try:
                yield stop
            finally:
                stop.set()

    async def begin(
        self,
        routes: Sequence[Route] | str,
        target: int = 20,
        *,
        spec: control.BatchSpec | None = None,
        **fields: Any,
    ) -> str:
        """Start a batch, by default one of slices of two, and return its id."""
        ways = (route(routes),) if isinstance(routes, str) else tuple(routes)
        made = spec or example_spec(target, **{"slice_size": 2, **fields})
        batch_id = f"batch_1767225600_{next(self._numbers):08x}"
        event = control.BatchStarted(
            **self.stamp().control(batch_id),
            spec=made.model_copy(update={"routes": ways, "model": ways[0].model}),
            dataset_id=batch_id,
        )
        await self.log.event_log.append(event, expected=0)
        return batch_id

    async def command(self, batch_id: str, command: BatchCommand) -> Executed:
        """Carry out a user's command."""
        return await execute(self.log.event_log, batch_id, command, self.stamp)

    async def state(self, batch_id: str) -> BatchState:
        """Return the batch as the log has it."""
        return await load_batch(self.log.event_log, batch_id)

    async def reach(
        self, batch_id: str, is_reached: Callable[[BatchState], bool], bound_s: float = BOUND_S
    ) -> BatchState:
        """Return the batch's first state that fulfils the condition; a silent log is asked again.

        Raises:
            AssertionError: none did within ``bound_s`` seconds.
        """
        deadline = boot_seconds() + bound_s
        state = BatchState(batch_id)
        while boot_seconds() < deadline:
            with contextlib.suppress(LogUnavailableError):
                state = await self.state(batch_id)
                if is_reached(state):
                    return state
            await asyncio.sleep(POLL_S)
        raise AssertionError(
            f"not within {bound_s:g} s: {state.phase} {state.counts} {state.last_error}"
        )

    async def ended(self, batch_id: str, bound_s: float = BOUND_S) -> BatchState:
        """Return the final state of a batch."""
        return await self.reach(batch_id, lambda state: state.is_final, bound_s)

    async def history(self, batch_id: str) -> list[BatchEvent]:
        """Return every event of a batch in stream order."""
        subject = subjects.all_of_batch(batch_id)
        pages = self.log.event_log.history(subject)
        found = [decode(stored) async for page in pages for stored in page]
        return [recorded.event for recorded in found if recorded is not None]

    async def events(self, batch_id: str, kind: type[Any]) -> list[Any]:
        """Return the batch's events of one type."""
        return [event for event in await self.history(batch_id) if isinstance(event, kind)]

    async def outcomes(self, batch_id: str) -> Counter[int]:
        """Return how many outcomes each slot has in the log; one is right."""
        history = await self.history(batch_id)
        kinds = SampleGenerated | SampleFailed
        return Counter(event.slot for event in history if isinstance(event, kinds))
