"""Batches made from others: the child that makes what one left open, and the clone."""

import asyncio
from dataclasses import dataclass

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import not_found
from millstream.domain.refill import (
    check_refill,
    child_for,
    child_started,
    is_whole,
    quotas_left,
    slots_to_refill,
)
from millstream.errors import ConflictError, LogUnavailableError
from millstream.eventlog.aggregate import load_batch, stale, with_first_slice
from millstream.runtime.clock import boot_seconds, new_batch_id
from millstream.specs import clone_spec, refill_spec
from millstream_api.command_context import Asked, CommandContext, Done, check_batch_id, refused
from millstream_api.problems import ProblemError
from millstream_schemas.commands import CloneBatch, RefillBatch, RefillKind
from millstream_schemas.control import BatchSpec, BatchStarted, CellQuota
from millstream_schemas.notes import ChildStarted

REPLICATED_WAIT_S = 5.0
BEGUN_WAIT_S = 1.0
POLL_S = 0.05
CONFLICTS_MOST = 20


@dataclass(frozen=True, slots=True)
class _Refill:
    """A command for a child: of which batch, what of it, how, and asked by whom."""

    batch_id: str
    kind: RefillKind
    command: RefillBatch
    asked: Asked

    @property
    def scope(self) -> str:
        """The route whose idempotency keys the command uses."""
        return f"{self.kind} {self.batch_id}"


class Children:
    """Starts children and clones.

    A slot has one child at most: the note on the parent names it before it is started, with
    compare-and-set, so that of two commands one wins. Cut off in between, the same command,
    sent again with or without its key, starts the child under the id of the note.
    """

    def __init__(self, context: CommandContext) -> None:
        self._context = context
        self._log = context.event_log
        self._counting = asyncio.Semaphore(1)

    async def refill(
        self, batch_id: str, kind: RefillKind, command: RefillBatch, asked: Asked
    ) -> Done:
        """Start the child that makes what an ended batch left open.

        Raises:
            UsageError: an override names something unknown; nothing was stored.
            ProblemError: unknown batch, one that has not ended, left nothing or has its child
                already; a stale version; a key that was used with another body.
            LogError: it is not known to be stored; the same command again is safe.
        """
        async with self._context.refusals.watching(
            kind, asked.actor, asked.command_id, batch_id=batch_id, reason=command.reason
        ):
            return await self._refill(batch_id, kind, command, asked)

    async def _refill(
        self, batch_id: str, kind: RefillKind, command: RefillBatch, asked: Asked
    ) -> Done:
        check_batch_id(batch_id)
        wish = _Refill(batch_id, kind, command, asked)
        own = await self._known(command, wish.scope, asked)
        for _ in range(CONFLICTS_MOST):
            parent = await self._parent(batch_id)
            if (begun := child_for(parent, kind)) is not None:
                # A twin of this request may have claimed the key since it was looked up.
                own = own or await self._known(command, wish.scope, asked)
                return await self._go_on(parent, begun, wish, own)
            _refuse(parent, kind, asked)
            spec = await self._spec(parent, wish)
            own = own or await self._claim(command, wish.scope, asked)
            note = child_started(parent, own, kind, self._context.stamp(asked)())
            try:
                await self._log.append(note, expected=parent.note_sequence)
            except ConflictError:
                continue
            return await self._begin(parent, note, spec, wish)
        raise ConflictError(f"batch {batch_id} changes too often; try again")

    async def check(
        self, batch_id: str, kind: RefillKind, command: RefillBatch, asked: Asked
    ) -> int:
        """Return how many samples a child would make; changes nothing, raises as ``refill``."""
        check_batch_id(batch_id)
        parent = await load_batch(self._log, batch_id, slices=False, newest_notes=True)
        parent = await with_first_slice(self._log, parent)
        _refuse(parent, kind, asked)
        slots = slots_to_refill(parent, kind)
        await self._refilled(parent, command, (CellQuota(cell=0, count=slots),))
        return slots

    async def clone(self, batch_id: str, command: CloneBatch, asked: Asked) -> Done:
        """Start a batch like another one, in whatever state that is, as a dataset of its own.

        Raises:
            UsageError: an override names something unknown; nothing was stored.
            ProblemError: unknown batch, a stale version, a key that was used with another body.
            LogError: it is not known to be stored; a retry with the key is safe.
        """
        async with self._context.refusals.watching(
            "clone", asked.actor, asked.command_id, batch_id=batch_id, reason=command.reason
        ):
            return await self._clone(batch_id, command, asked)

    async def _clone(self, batch_id: str, command: CloneBatch, asked: Asked) -> Done:
        check_batch_id(batch_id)
        context, scope = self._context, f"clone {batch_id}"
        own = await self._known(command, scope, asked)
        if own is not None:
            state = await load_batch(self._log, own)
            if state.started is not None:
                return context.found(state)
        parent = await load_batch(self._log, batch_id, slices=False)
        refusal = not_found(parent) if parent.started is None else stale(parent, asked.if_match)
        if refusal is not None:
            raise refused(refusal, await with_first_slice(self._log, parent))
        spec = await context.startable(
            clone_spec(
                parent,
                command.overrides,
                models=context.models,
                recipes=context.recipes,
            )
        )
        clone_id = own or await self._claim(command, scope, asked)
        stamp = context.stamp(asked)()
        event = BatchStarted(
            **stamp.control(clone_id), spec=spec, dataset_id=clone_id, reason=command.reason
        )
        return await context.begin(event)

    async def _known(
        self, command: RefillBatch | CloneBatch, scope: str, asked: Asked
    ) -> str | None:
        """Return the id for which the key stands already."""
        if asked.key is None:
            return None
        found = await self._context.keys.find(asked.key, command, scope)
        return found.batch_id if found else None

    async def _claim(self, command: RefillBatch | CloneBatch, scope: str, asked: Asked) -> str:
        """Return the id for a new batch, kept under the key if there is one."""
        if asked.key is None:
            return new_batch_id()
        keys = self._context.keys
        return (await keys.claim(asked.key, command, new_batch_id(), scope)).batch_id

    async def _parent(self, batch_id: str) -> BatchState:
        """Return the batch; an ended one with all that its last event counts.

        Raises:
            LogUnavailableError: its slices are not all replicated yet.
        """
        state = await load_batch(self._log, batch_id, slices=False, newest_notes=True)
        deadline = boot_seconds() + REPLICATED_WAIT_S
        while state.is_final and not is_whole(state):
            if boot_seconds() > deadline:
                raise LogUnavailableError(f"the slices of batch {batch_id} are not replicated yet")
            state = await load_batch(self._log, batch_id, newest_notes=True)
            if not is_whole(state):
                await asyncio.sleep(POLL_S)
        return await with_first_slice(self._log, state)

    async def _spec(self, parent: BatchState, wish: _Refill) -> BatchSpec:
        async with self._counting:  # a million slots take seconds: one at a time, in a thread
            quotas = await asyncio.to_thread(quotas_left, parent, wish.kind)
        return await self._refilled(parent, wish.command, quotas)

    async def _refilled(
        self, parent: BatchState, command: RefillBatch, quotas: tuple[CellQuota, ...]
    ) -> BatchSpec:
        context = self._context
        return await context.startable(
            refill_spec(parent, command.overrides, quotas, models=context.models)
        )

    async def _begin(
        self, parent: BatchState, note: ChildStarted, spec: BatchSpec, wish: _Refill
    ) -> Done:
        stamp = self._context.stamp(wish.asked)()
        event = BatchStarted(
            **{**stamp.control(note.child_id), "causation_id": note.id},
            spec=spec,
            dataset_id=parent.dataset_id,
            parent_id=parent.batch_id,
            reason=wish.command.reason,
        )
        return await self._context.begin(event)

    async def _go_on(
        self, parent: BatchState, note: ChildStarted, wish: _Refill, own: str | None
    ) -> Done:
        """Answer with the child of this key, complete one that was cut off, or refuse another."""
        is_own = note.child_id == own
        child = await self._begun(note.child_id, wait_s=0.0 if is_own else BEGUN_WAIT_S)
        if child.started is not None and is_own:
            return self._context.found(child)
        if child.started is not None:
            _refuse(parent, wish.kind, wish.asked)
        if note.kind != wish.kind:
            words = note.kind.replace("_", "-")
            raise ProblemError(
                409,
                "already_continued",
                f"a child of batch {parent.batch_id} was asked for by {words} and cut off before "
                f"it began; send {words} again to complete it",
                members={"batch_id": parent.batch_id, "child_id": note.child_id},
            )
        return await self._begin(parent, note, await self._spec(parent, wish), wish)

    async def _begun(self, child_id: str, *, wait_s: float) -> BatchState:
        """Return the child; whoever wrote its note is given the time to start it."""
        deadline = boot_seconds() + wait_s
        while True:
            child = await load_batch(self._log, child_id)
            if child.started is not None or boot_seconds() >= deadline:
                return child
            await asyncio.sleep(POLL_S)


def _refuse(parent: BatchState, kind: RefillKind, asked: Asked) -> None:
    """Raise why no child can be started of ``parent``, if so."""
    refusal = stale(parent, asked.if_match) or check_refill(parent, kind)
    if refusal is not None:
        raise refused(refusal, parent)
