"""Commands on one batch: decided on the fold of the log, appended with compare-and-set."""

import structlog

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import is_made_of
from millstream.domain.view import batch_view
from millstream.eventlog.aggregate import execute, load_batch
from millstream.eventlog.stop import run_stop_fence, signal_stop
from millstream.runtime.clock import new_batch_id
from millstream_api.command_context import Asked, CommandContext, Done, check_batch_id, refused
from millstream_api.idempotency import conflict
from millstream_api.relay.versions import Version
from millstream_schemas import commands
from millstream_schemas.answers import LargestCall
from millstream_schemas.control import BatchStarted
from millstream_schemas.refusals import CommandName

log = structlog.get_logger()

FENCE_AFTER_S = 0.15
"""A dispatcher that lives has ended the batch by then; if not, it is ended from here."""
_NAMES: dict[type[commands.BatchCommand], CommandName] = {
    commands.StopBatch: "stop",
    commands.PauseBatch: "pause",
    commands.ResumeBatch: "resume",
    commands.SetPriority: "priority",
}
DRAIN_EXTRA_S = 2.0
"""How long after the bound of a drain the same holds."""


class Commands:
    """Carries out what users ask of a batch.

    Every command but ``start`` raises ProblemError for a batch that does not exist, for one whose
    state forbids it, and for a stale version; and LogError when it is not known to be stored.
    """

    def __init__(self, context: CommandContext) -> None:
        self._context = context
        self._log = context.event_log

    async def start(self, command: commands.StartBatch, asked: Asked) -> Done:
        """Start a batch; the same key again gives the same batch.

        Raises:
            UsageError: the request names something unknown; nothing was stored.
            ProblemError: the key was used with another body.
            LogError: nothing is known to be stored; a retry with the key is safe.
        """
        refusals = self._context.refusals
        async with refusals.watching("start", asked.actor, asked.command_id, reason=command.reason):
            return await self._start(command, asked)

    async def _start(self, command: commands.StartBatch, asked: Asked) -> Done:
        context = self._context
        batch_id, is_known = new_batch_id(), False
        if asked.key is not None:
            found = await context.keys.find(asked.key, command)
            if found is not None:
                batch_id, is_known = found.batch_id, True
                state = await load_batch(self._log, batch_id)
                if state.started is not None:
                    return context.found(state)
        spec = await context.startable(context.spec(command))
        if asked.key is not None and not is_known:
            batch_id = (await context.keys.claim(asked.key, command, batch_id)).batch_id
        stamp = context.stamp(asked)()
        event = BatchStarted(
            **stamp.control(batch_id), spec=spec, dataset_id=batch_id, reason=command.reason
        )
        return await context.begin(event)

    async def largest_call(self, command: commands.StartBatch) -> LargestCall:
        """Return the most that one call of a batch may use that would be started so.

        Raises:
            UsageError: the request names something unknown.
        """
        return await self._context.largest_call(command)

    async def stop(self, batch_id: str, command: commands.StopBatch, asked: Asked) -> Done:
        """Stop a batch; it ends soon, whether or not a generator lives."""
        known = self._context.hub.versions.get(batch_id)
        cancels = command.mode == "cancel"  # a signal ends the calls that a drain lets finish
        is_sure = asked.if_match is None and (asked.key is None or not _is_stopping(known))
        if cancels and known is not None and known.state.is_live and is_sure:
            await signal_stop(self._log, batch_id)  # a hint, ahead of the fact by a few ms
        before, done = await self._execute(batch_id, command, asked)
        if done.view.state == "stopping":
            if cancels:
                await signal_stop(self._log, batch_id)
            # Who cancels a drain has waited long enough: nobody is left the time to do it first.
            is_upgrade = done.is_new and before.phase == "stopping"
            wait_s = 0.0 if is_upgrade else FENCE_AFTER_S
            if not cancels:
                wait_s = command.grace_s + DRAIN_EXTRA_S
            work = self._end_stop(batch_id, wait_s, asked)
            self._context.background.start(f"stop {batch_id}", work)
        return done

    async def pause(self, batch_id: str, command: commands.PauseBatch, asked: Asked) -> Done:
        """Let a batch start no new call."""
        return (await self._execute(batch_id, command, asked))[1]

    async def resume(self, batch_id: str, command: commands.ResumeBatch, asked: Asked) -> Done:
        """Let a paused batch go on."""
        return (await self._execute(batch_id, command, asked))[1]

    async def set_priority(
        self, batch_id: str, command: commands.SetPriority, asked: Asked
    ) -> Done:
        """Let the slices that are queued from now on wait in another line."""
        return (await self._execute(batch_id, command, asked))[1]

    async def _execute(
        self, batch_id: str, command: commands.BatchCommand, asked: Asked
    ) -> tuple[BatchState, Done]:
        """Return the state on which the command was decided, and what it led to."""
        context = self._context
        async with context.refusals.watching(
            _NAMES[type(command)],
            asked.actor,
            asked.command_id,
            batch_id=batch_id,
            reason=command.reason,
        ):
            check_batch_id(batch_id)
            if await self._is_known(batch_id, command, asked):
                state = await load_batch(self._log, batch_id)
                return state, _unchanged(state)
            executed = await execute(
                self._log, batch_id, command, context.stamp(asked), if_match=asked.if_match
            )
            if executed.refusal is not None:
                raise refused(executed.refusal, executed.state)
            if executed.earlier is not None:
                if not is_made_of(command, executed.earlier.event):
                    raise conflict(batch_id, "another command")
                return executed.before, _unchanged(executed.state, executed.earlier.sequence)
            if executed.sequence is None:
                await self._keep(batch_id, command, asked)
                return executed.before, _unchanged(await load_batch(self._log, batch_id))
        log.info("batch.commanded", batch_id=batch_id, command=type(command).__name__)
        view = await context.seen(batch_id, executed.sequence, executed.state)
        return executed.before, Done(view, executed.sequence, is_new=True)

    async def _is_known(self, batch_id: str, command: commands.BatchCommand, asked: Asked) -> bool:
        """Tell whether this command found the batch as it wishes it when it was sent before.

        A stop never asks: one that found its batch stopped can only find it so again.
        """
        if asked.key is None or isinstance(command, commands.StopBatch):
            return False
        scope = f"{asked.command_id} {batch_id}"
        return await self._context.keys.find(asked.key, command, scope) is not None

    async def _keep(self, batch_id: str, command: commands.BatchCommand, asked: Asked) -> None:
        """Keep the key of a command that had nothing to change."""
        if asked.key is not None and not isinstance(command, commands.StopBatch):
            scope = f"{asked.command_id} {batch_id}"
            await self._context.keys.claim(asked.key, command, batch_id, scope)

    async def _end_stop(self, batch_id: str, wait_s: float, asked: Asked) -> None:
        """Run the stop fence from here when nobody else ends the batch in time."""
        if not wait_s or not await self._context.hub.ended(batch_id, wait_s):
            state = await run_stop_fence(self._log, batch_id, self._context.stamp(asked))
            log.info("batch.stop_fenced", batch_id=batch_id, state=state.state)


def _is_stopping(known: Version | None) -> bool:
    return known is not None and known.state.phase == "stopping"


def _unchanged(state: BatchState, sequence: int | None = None) -> Done:
    """Return the answer to a command that was carried out before, at ``sequence``, or needless."""
    return Done(batch_view(state), sequence or state.control_sequence, is_new=False)
