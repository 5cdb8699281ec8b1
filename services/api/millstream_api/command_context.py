"""What all commands share: how one was asked for, what it led to, and how batches begin."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from millstream.call_bounds import check_budgets, least_budget
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Refusal, Stamp
from millstream.domain.recorded import Recorded
from millstream.domain.view import batch_view
from millstream.errors import ConflictError, UsageError
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.log import EventLog
from millstream.eventlog.work import WorkQueue
from millstream.models import ModelBook
from millstream.recipes import RecipeBook
from millstream.runtime.clock import new_id
from millstream.runtime.settings import Settings
from millstream.specs import build_spec
from millstream_api.background import Background
from millstream_api.idempotency import IdempotencyKeys
from millstream_api.problems import ProblemError, shown
from millstream_api.refusals import Refusals
from millstream_api.relay.hub import Hub
from millstream_schemas.answers import LargestCall
from millstream_schemas.commands import StartBatch
from millstream_schemas.control import BatchSpec, BatchStarted
from millstream_schemas.envelope import BATCH_ID_PATTERN, Actor
from millstream_schemas.views import BatchView

log = structlog.get_logger()

SEEN_WAIT_S = 2.0
STATUS_OF_REFUSAL = {
    "not_found": 404,
    "invalid_transition": 409,
    "nothing_to_retry": 409,
    "already_continued": 409,
    "stale": 412,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a command, and on what conditions; ``command_id`` is in all of its events."""

    actor: Actor
    key: str | None = None
    if_match: int | None = None
    command_id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command led to; ``is_new`` is False when it had already been so."""

    view: BatchView
    sequence: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The parts of the API that commands work with."""

    event_log: EventLog
    hub: Hub
    keys: IdempotencyKeys
    models: ModelBook
    recipes: RecipeBook
    settings: Settings
    background: Background
    refusals: Refusals

    def stamp(self, asked: Asked) -> Callable[[], Stamp]:
        """Return what stamps the events of one command."""

        def make() -> Stamp:
            return Stamp(
                new_id=new_id,
                time=self.event_log.time.now(),
                actor=asked.actor,
                source=f"millstream/api/{self.settings.node}",
                command_id=asked.command_id,
            )

        return make

    def spec(self, command: StartBatch) -> BatchSpec:
        """Return what a start asks for; raises UsageError as ``build_spec``."""
        return build_spec(command, models=self.models, recipes=self.recipes, settings=self.settings)

    async def largest_call(self, command: StartBatch) -> LargestCall:
        """Return the most that one call of such a batch may use.

        Raises:
            UsageError: the batch could not be started.
        """
        bound = await asyncio.to_thread(least_budget, self.spec(command))
        if bound is None:
            return LargestCall()
        return LargestCall(tokens=bound.tokens, cost_nano_usd=bound.cost_nano_usd)

    async def startable(self, spec: BatchSpec) -> BatchSpec:
        """Return ``spec``.

        Raises:
            UsageError: a budget of it lets no call start, or its pool does not exist.
            LogUnavailableError: which pools there are can't be asked.
        """
        if spec.pool != self.settings.pool:  # no start of the usual pool waits for a question
            await self._check_pool(spec.pool)
        if spec.budgets.bounds_use:  # a large recipe takes seconds: in a thread
            await asyncio.to_thread(check_budgets, spec)
        return spec

    async def _check_pool(self, pool: str) -> None:
        known = await WorkQueue(self.event_log.answers).pools()
        if pool not in known:
            names = ", ".join(known)
            raise UsageError(
                f"pool={pool!r} does not exist, so nobody would ever make the batch; those there "
                f"are: {names}. Make another one with `millstream admin init --pool {pool}`, and "
                f"start its generators with MILLSTREAM_POOL={pool}",
                field="pool",
                value=pool,
            )

    async def begin(self, event: BatchStarted) -> Done:
        """Store the start of a batch, or find that it was started before under this id.

        Raises:
            LogError: nothing is known to be stored; a retry with the key is safe.
        """
        batch_id = event.batch_id
        try:
            sequence = await self.event_log.append(event, expected=0)
        except ConflictError:
            return self.found(await load_batch(self.event_log, batch_id))
        spec = event.spec
        log.info("batch.started", batch_id=batch_id, model=spec.model, target=spec.target)
        state = apply(BatchState(batch_id), Recorded(sequence, event.time, event))
        return Done(await self.seen(batch_id, sequence, state), sequence, is_new=True)

    def found(self, state: BatchState) -> Done:
        """Return what a repeated start is answered: the batch as it is now."""
        sequence = state.started.sequence if state.started else state.control_sequence
        return Done(batch_view(state), sequence, is_new=False)

    async def seen(self, batch_id: str, sequence: int, fallback: BatchState) -> BatchView:
        """Return the batch as the relay shows it: a read right after the answer sees it too."""
        await self.hub.reach(sequence, SEEN_WAIT_S)
        version = self.hub.versions.get(batch_id)
        return version.view if version is not None else batch_view(fallback)


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


def refused(refusal: Refusal, state: BatchState) -> ProblemError:
    """Return a refusal as the answer that tells it, with what the batch takes instead."""
    members: dict[str, object] = {"batch_id": state.batch_id}
    detail = refusal.message
    if refusal.code == "not_found":
        detail += "; GET /v1/batches lists those there are"
    else:
        members |= {"state": state.state, "allowed": list(refusal.allowed)}
    if refusal.child_id is not None:
        members["child_id"] = refusal.child_id
    return ProblemError(STATUS_OF_REFUSAL[refusal.code], refusal.code, detail, members=members)
