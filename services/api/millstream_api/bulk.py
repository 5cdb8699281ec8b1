"""The same command for many batches: each one's outcome is told, one failure stops no other."""

import asyncio

from millstream.domain.decide import Refusal, decide
from millstream.errors import MillstreamError
from millstream.eventlog.aggregate import load_batch, with_first_slice
from millstream_api.children import Children
from millstream_api.command_context import Asked, CommandContext, Done, check_batch_id, refused
from millstream_api.commands import Commands
from millstream_api.problems import ProblemError, to_problem
from millstream_api.reads import Reads
from millstream_schemas import commands
from millstream_schemas.answers import BulkAnswer, BulkItem
from millstream_schemas.views import FINAL_STATES, STATES, BatchView, HistoryQuery, State

AT_ONCE = 32
PATH = "/v1/batches:bulk"

CHANGEABLE: dict[commands.BulkAction, tuple[State, ...]] = {
    "stop": ("queued", "running", "paused", "stopping"),
    "pause": ("queued", "running"),
    "resume": ("paused",),
    "priority": ("queued", "running", "paused"),
    "retry_failed": ("stopped", "completed", "failed"),
    "continue": ("stopped", "completed", "failed"),
}
"""Action -> the states in which it can change something: what a filter without states takes."""

_WOULD_BE: dict[commands.BulkAction, str] = {
    "stop": "stopped",
    "pause": "paused",
    "resume": "resumed",
    "priority": "given that priority",
}


class Bulk:
    """Carries out bulk commands."""

    def __init__(
        self, context: CommandContext, single: Commands, children: Children, reads: Reads
    ) -> None:
        self._context = context
        self._single = single
        self._children = children
        self._reads = reads

    async def run(self, command: commands.BulkCommand, asked: Asked) -> BulkAnswer:
        """Do what is asked to each batch; all events carry one command id.

        Raises:
            ProblemError: more than 1,000 batches meet the filter.
            QueryFailedError: the filter needs the read model and no projector answers.
        """
        async with self._context.refusals.watching(
            "bulk", asked.actor, asked.command_id, reason=command.reason
        ):
            ids = command.ids if command.ids is not None else await self._matching(command)
        act = self._rehearsed if command.dry_run else self._done
        room = asyncio.Semaphore(AT_ONCE)

        async def one(batch_id: str) -> BulkItem:
            async with room:
                try:
                    return await act(batch_id, command, asked)
                except MillstreamError as error:
                    return _failed(batch_id, to_problem(PATH, error))

        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(one(batch_id)) for batch_id in dict.fromkeys(ids)]
        return BulkAnswer(
            command_id=asked.command_id,
            dry_run=command.dry_run,
            results=tuple(task.result() for task in made),
        )

    async def _matching(self, command: commands.BulkCommand) -> tuple[str, ...]:
        wanted = command.filter or commands.BulkFilter(states=STATES)
        states = wanted.states or CHANGEABLE[command.action]
        views, total = await self._found(wanted, states)
        if total > commands.BULK_MOST:
            raise ProblemError(
                413,
                "too_many_batches",
                f"{total:,} batches meet the filter; a bulk command takes at most "
                f"{commands.BULK_MOST:,}, so narrow it by states, model, recipe or text",
            )
        return tuple(view.id for view in views)

    async def _found(
        self, wanted: commands.BulkFilter, states: tuple[State, ...]
    ) -> tuple[list[BatchView], int]:
        """Return the batches that meet the filter, and how many they are."""
        if FINAL_STATES.isdisjoint(states) and wanted.text is None:
            await self._reads.caught_up(0)  # live ones are all known here, without a projector
            live = [
                view
                for view in self._reads.live()
                if view.state in states
                and wanted.model in {None, view.model}
                and wanted.recipe in {None, view.recipe}
            ]
            return live, len(live)
        query = HistoryQuery(
            states=states,
            model=wanted.model,
            recipe=wanted.recipe,
            text=wanted.text,
            limit=commands.BULK_MOST + 1,
            min_sequence=self._context.hub.sequence,
        )
        page = await self._reads.history(query)
        return list(page.batches), max(page.total, len(page.batches))

    async def _done(self, batch_id: str, command: commands.BulkCommand, asked: Asked) -> BulkItem:
        kind = _refill_kind(command.action)
        if kind is not None:
            child = await self._children.refill(batch_id, kind, _refill(command), asked)
            status = 201 if child.is_new else 200
            return BulkItem(
                id=batch_id, status=status, child_id=child.view.id, changed=child.is_new
            )
        done = await self._act(batch_id, _single(command), asked)
        status = 202 if done.is_new and command.action != "priority" else 200
        return BulkItem(id=batch_id, status=status, state=done.view.state, changed=done.is_new)

    async def _act(self, batch_id: str, one: commands.BatchCommand, asked: Asked) -> Done:
        match one:
            case commands.StopBatch():
                return await self._single.stop(batch_id, one, asked)
            case commands.PauseBatch():
                return await self._single.pause(batch_id, one, asked)
            case commands.ResumeBatch():
                return await self._single.resume(batch_id, one, asked)
            case commands.SetPriority():
                return await self._single.set_priority(batch_id, one, asked)

    async def _rehearsed(
        self, batch_id: str, command: commands.BulkCommand, asked: Asked
    ) -> BulkItem:
        """Return what ``_done`` would, in words; nothing is changed."""
        kind = _refill_kind(command.action)
        if kind is not None:
            slots = await self._children.check(batch_id, kind, _refill(command), asked)
            words = f"a child of {slots:,} sample{'' if slots == 1 else 's'} would be started"
            return BulkItem(id=batch_id, status=201, detail=words, changed=True)
        check_batch_id(batch_id)
        event_log = self._context.event_log
        state = await load_batch(event_log, batch_id, slices=False)
        state = await with_first_slice(event_log, state)
        decision = decide(state, _single(command), self._context.stamp(asked)())
        if isinstance(decision, Refusal):
            raise refused(decision, state)
        if decision is None:
            return BulkItem(id=batch_id, status=200, state=state.state, detail="it is so already")
        return BulkItem(
            id=batch_id,
            status=200 if command.action == "priority" else 202,
            state=state.state,
            detail=f"it would be {_WOULD_BE[command.action]}",
            changed=True,
        )


def _refill_kind(action: commands.BulkAction) -> commands.RefillKind | None:
    match action:
        case "retry_failed" | "continue":
            return action
        case _:
            return None


def _refill(command: commands.BulkCommand) -> commands.RefillBatch:
    return commands.RefillBatch(reason=command.reason)


def _single(command: commands.BulkCommand) -> commands.BatchCommand:
    """Return what a bulk command asks of each batch."""
    reason = command.reason
    match command.action:
        case "pause":
            return commands.PauseBatch(reason=reason)
        case "resume":
            return commands.ResumeBatch(reason=reason)
        case "priority" if command.priority is not None:
            return commands.SetPriority(priority=command.priority, reason=reason)
        case _ if command.mode == "drain":
            return commands.StopBatch(mode="drain", grace_s=command.grace_s, reason=reason)
        case _:
            return commands.StopBatch(reason=reason)


def _failed(batch_id: str, problem: ProblemError) -> BulkItem:
    return BulkItem(
        id=batch_id,
        status=problem.status,
        detail=problem.detail,
        state=problem.members.get("state"),
        child_id=problem.members.get("child_id"),
    )
