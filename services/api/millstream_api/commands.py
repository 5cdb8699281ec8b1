"""Commands: decided on the fold of the log, appended with compare-and-set."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from millstream.domain.batch import BatchState, apply
from millstream.domain.decide import DRAIN_BOUND, Refusal, Stamp
from millstream.domain.recorded import Recorded
from millstream.domain.view import batch_view
from millstream.errors import ConflictError, MillstreamError
from millstream.eventlog.aggregate import execute, load_batch
from millstream.eventlog.log import EventLog
from millstream.eventlog.stop import run_stop_fence, signal_stop
from millstream.models import ModelBook
from millstream.recipes import RecipeBook
from millstream.runtime.clock import new_batch_id, new_id, utc_now
from millstream.runtime.settings import Settings
from millstream.specs import build_spec
from millstream_api.background import Background
from millstream_api.idempotency import IdempotencyKeys
from millstream_api.problems import ProblemError, shown, to_problem
from millstream_api.relay.hub import Hub
from millstream_schemas import commands
from millstream_schemas.control import BatchStarted
from millstream_schemas.envelope import BATCH_ID_PATTERN, Actor
from millstream_schemas.views import BatchView

log = structlog.get_logger()

SEEN_WAIT_S = 2.0
FENCE_AFTER_S = 0.15
"""A dispatcher that lives has ended the batch by then; if not, it is ended from here."""
DRAIN_EXTRA_S = 5.0
BULK_AT_ONCE = 32
STATUS_OF_REFUSAL = {"not_found": 404, "invalid_transition": 409, "stale": 412}


@dataclass(frozen=True, slots=True)
class Done:
    """What a command led to; ``is_new`` is False when it had already been so."""

    view: BatchView
    sequence: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one batch of a bulk command, as an HTTP status."""

    id: str
    status: int
    detail: str | None = None


class Commands:
    """Carries out what users ask of batches."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        hub: Hub,
        keys: IdempotencyKeys,
        models: ModelBook,
        recipes: RecipeBook,
        settings: Settings,
        background: Background,
    ) -> None:
        self._log = event_log
        self._hub = hub
        self._keys = keys
        self._models = models
        self._recipes = recipes
        self._settings = settings
        self._background = background

    async def start(self, command: commands.StartBatch, key: str | None, actor: Actor) -> Done:
        """Start a batch; the same ``key`` again gives the same batch.

        Raises:
            UsageError: the request names something unknown; nothing was stored.
            ProblemError: the key was used with another body.
            LogError: nothing is known to be stored; a retry with the key is safe.
        """
        batch_id, is_new = new_batch_id(), True
        if key is not None:
            found = await self._keys.find(key, command)
            if found is not None:
                state = await load_batch(self._log, found.batch_id)
                if state.started is not None:
                    return Done(batch_view(state), state.started.sequence, is_new=False)
                batch_id, is_new = found.batch_id, False
        spec = build_spec(
            command, models=self._models, recipes=self._recipes, settings=self._settings
        )
        if key is not None and is_new:
            batch_id = (await self._keys.claim(key, command, batch_id)).batch_id
        stamp = self._stamp(actor)()
        event = BatchStarted(**stamp.control(batch_id), spec=spec, dataset_id=batch_id)
        try:
            sequence = await self._log.append(event, expected=0)
        except ConflictError:
            if key is None:
                raise
            state = await load_batch(self._log, batch_id)
            return Done(batch_view(state), state.control_sequence, is_new=False)
        log.info("batch.started", batch_id=batch_id, model=spec.model, target=spec.target)
        state = apply(BatchState(batch_id), Recorded(sequence, event.time, event))
        return Done(await self._seen(batch_id, sequence, state), sequence, is_new=True)

    async def stop(
        self, batch_id: str, command: commands.StopBatch, if_match: int | None, actor: Actor
    ) -> Done:
        """Stop a batch; it ends soon, whether or not a generator lives.

        Raises:
            ProblemError: unknown batch, one that can't be stopped, or a stale version.
            LogError: the stop is not known to be stored.
        """
        known = self._hub.versions.get(batch_id)
        cancels = command.mode == "cancel"  # a signal ends the calls that a drain lets finish
        if cancels and known is not None and known.state.is_live and if_match is None:
            await signal_stop(self._log, batch_id)  # a hint, ahead of the fact by a few ms
        done = await self._execute(batch_id, command, if_match, actor)
        if done.view.state == "stopping":
            if cancels:
                await signal_stop(self._log, batch_id)
            work = self._end_stop(batch_id, command, actor)
            self._background.start(f"stop {batch_id}", work)
        return done

    async def pause(
        self, batch_id: str, command: commands.PauseBatch, if_match: int | None, actor: Actor
    ) -> Done:
        """Let a batch start no new call; raises as ``stop``."""
        return await self._execute(batch_id, command, if_match, actor)

    async def resume(
        self, batch_id: str, command: commands.ResumeBatch, if_match: int | None, actor: Actor
    ) -> Done:
        """Let a paused batch go on; raises as ``stop``."""
        return await self._execute(batch_id, command, if_match, actor)

    async def stop_many(self, command: commands.BulkStop, actor: Actor) -> list[ItemResult]:
        """Stop exactly these batches and tell each one's outcome, in their order."""
        one = commands.StopBatch(mode=command.mode, reason=command.reason)
        room = asyncio.Semaphore(BULK_AT_ONCE)

        async def stop(batch_id: str) -> ItemResult:
            async with room:
                try:
                    done = await self.stop(batch_id, one, None, actor)
                except MillstreamError as error:
                    problem = to_problem("/v1/batches:bulk", error)
                    return ItemResult(batch_id, problem.status, problem.detail)
                return ItemResult(batch_id, 202 if done.is_new else 200)

        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(stop(batch_id)) for batch_id in dict.fromkeys(command.ids)]
        return [task.result() for task in made]

    async def _execute(
        self,
        batch_id: str,
        command: commands.BatchCommand,
        if_match: int | None,
        actor: Actor,
    ) -> Done:
        check_batch_id(batch_id)
        executed = await execute(
            self._log, batch_id, command, self._stamp(actor), if_match=if_match
        )
        if executed.refusal is not None:
            raise _refused(executed.refusal, executed.state)
        if executed.sequence is None:
            state = await load_batch(self._log, batch_id)
            return Done(batch_view(state), state.control_sequence, is_new=False)
        log.info("batch.commanded", batch_id=batch_id, command=type(command).__name__)
        view = await self._seen(batch_id, executed.sequence, executed.state)
        return Done(view, executed.sequence, is_new=True)

    async def _seen(self, batch_id: str, sequence: int, fallback: BatchState) -> BatchView:
        """Return the batch as the relay shows it: a read right after the answer sees it too."""
        await self._hub.reach(sequence, SEEN_WAIT_S)
        version = self._hub.versions.get(batch_id)
        return version.view if version is not None else batch_view(fallback)

    async def _end_stop(self, batch_id: str, command: commands.StopBatch, actor: Actor) -> None:
        """Run the stop fence from here when nobody else ends the batch in time."""
        wait_s = FENCE_AFTER_S
        if command.mode == "drain":
            wait_s = DRAIN_BOUND.total_seconds() + DRAIN_EXTRA_S
        if not await self._hub.ended(batch_id, wait_s):
            state = await run_stop_fence(self._log, batch_id, self._stamp(actor))
            log.info("batch.stop_fenced", batch_id=batch_id, state=state.state)

    def _stamp(self, actor: Actor) -> Callable[[], Stamp]:
        command_id = new_id()

        def make() -> Stamp:
            return Stamp(
                new_id=new_id,
                time=utc_now(),
                actor=actor,
                source=f"millstream/api/{self._settings.node}",
                command_id=command_id,
            )

        return make


def check_batch_id(batch_id: str) -> None:
    """Let only true ids through: others could hold wildcards of subjects.

    Raises:
        ProblemError: no batch can have this id.
    """
    if not re.match(BATCH_ID_PATTERN, batch_id):
        raise ProblemError(
            404,
            "not_found",
            f"batch {shown(batch_id)!r} does not exist; ids look like batch_1700000000_0a1b2c3d "
            "and GET /v1/batches lists them",
        )


def _refused(refusal: Refusal, state: BatchState) -> ProblemError:
    members: dict[str, object] = {"batch_id": state.batch_id}
    if refusal.code == "invalid_transition":
        members |= {"state": state.state, "allowed": list(refusal.allowed)}
    detail = refusal.message
    if refusal.code == "not_found":
        detail += "; GET /v1/batches lists those there are"
    return ProblemError(STATUS_OF_REFUSAL[refusal.code], refusal.code, detail, members=members)
