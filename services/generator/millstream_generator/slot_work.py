"""One slot: call, validate, append, and try again as the policy says."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable

import orjson

from millstream.domain import slice as slices
from millstream.domain.plan import attempt_seed
from millstream.eventlog.aggregate import load_batch
from millstream.runtime.clock import boot_seconds
from millstream.runtime.lifecycle import fault_point
from millstream_generator import prompts, steps
from millstream_generator.calls import Call
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.failures import of_defect
from millstream_generator.held import HeldBatch
from millstream_generator.in_flight import CountedCall
from millstream_generator.lane_notes import complete
from millstream_generator.node import Node
from millstream_generator.policy import NO_ANSWER, OUTAGE, Retry, after_failure, fatal
from millstream_generator.slot_route import LOOK_S, SlotRoute
from millstream_generator.steps import Attempt, Step
from millstream_generator.turns import Turn
from millstream_generator.validation import Accepted, validate
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.slices import Usage


class SlotWork:
    """Fills one slot of a leased slice."""

    def __init__(
        self, node: Node, batch: HeldBatch, writer: SliceWriter, slot: int, offset: int
    ) -> None:
        self._node = node
        self._batch = batch
        self._writer = writer
        self._slot = slot
        self._offset = offset
        self._cell = batch.plan.cell(slot)
        self._feedback = ""
        self._way = SlotRoute(node, batch, slot // batch.spec.slice_size, writer.announce)

    async def fill(self, still_held: Callable[[], Awaitable[None]]) -> bool:
        """Work until the slot has an outcome; False when the batch lets nothing more start.

        Raises:
            LeaseLostError: the slice is not ours any more.
            FatalError: the batch can't go on.
        """
        rests = self._batch.rests
        try:
            while await self._may_call():
                if not self._has_room or self._batch.is_over_time:
                    await self._wait(LOOK_S)
                    continue
                self._way.choose()
                async with self._batch.turn(self._way.route):
                    turn = await self._way.turn(self._tokens())
                    if turn is None:
                        await self._raise_if_hopeless()
                        continue
                    with turn, CountedCall(self._writer.in_flight) as call:
                        async with self._node.slots:
                            if not (call.begin() or await self._writer.count(call, rests)):
                                continue
                            await still_held()
                            if not (self._may_start and turn.may_start and self._has_room):
                                continue  # no wait stands between this look and the call's start
                            if not self._writer.allowance.take():
                                return False
                            with self._node.fullness.call():
                                delay_s = await self._try_once(turn)
                if delay_s is None:
                    return True
                await self._wait(delay_s)
            return False
        finally:
            self._way.leave()

    @property
    def _has_room(self) -> bool:
        return self._node.fullness.has_room

    @property
    def _may_start(self) -> bool:
        batch = self._batch
        return not self._node.stop.is_set() and batch.may_call and not batch.is_over_time

    async def _try_once(self, turn: Turn) -> float | None:
        """Make one call and record it; None when the slot has its outcome, else when to go on."""
        witness = self._way.witness(turn, self._slot)
        prompt = self._prompt() if witness is None else self._prompt_of(witness)
        attempt = self._attempt(prompt)
        progress = Progress()
        turn.is_used = True
        try:
            completion = await self._call(prompt, progress)
        except CallFailedError as failure:
            self._batch.verdict.judge(failure, self._way.index)
            if witness is None or failure.category in NO_ANSWER:
                return await self._record_failure(attempt, failure, progress, turn)
            return self._note_witness(turn)
        except asyncio.CancelledError:  # another slot has ended the batch
            self._writer.lose_calls(bool(progress.started_at))
            raise
        if completion is None:
            await self._record_cancelled(attempt, prompt, progress)
            return 0.0
        usage = completion.usage
        is_known = usage.tokens_in is not None and usage.tokens_out is not None
        used = (usage.tokens_in or 0) + (usage.tokens_out or 0) if is_known else None
        if witness is not None:
            self._batch.verdict.note_success(self._way.index)
            return self._note_witness(turn, used)
        self._way.gate.condition.note_answer(turn, used)
        self._batch.answered_slot = self._slot
        if not is_known:
            self._note_unmeasured()
        return await self._record_answer(attempt, completion)

    def _note_witness(self, turn: Turn, used_tokens: int | None = None) -> float:
        """Close the circuit: the route answers another request.

        No event tells of that call, nor of its use where the provider did.
        """
        self._way.gate.condition.note_answer(turn, used_tokens)
        self._writer.lose_calls(1)
        return 0.0

    def _tokens(self) -> int:
        """Return how many tokens the next call may use, where its route counts them."""
        if self._way.route.tpm is None:
            return 0
        prompt = self._prompt()
        return prompts.tokens_of(prompt) + prompt.max_tokens

    async def _may_call(self) -> bool:
        is_free = not self._node.stop.is_set() and not self._writer.allowance.is_used_up
        return is_free and await self._batch.settled()

    def _number(self) -> int:
        return self._writer.state.attempts.get(str(self._offset), 0) + 1

    def _attempt(self, prompt: Prompt) -> Attempt:
        digest = hashlib.sha256(orjson.dumps(prompt.messages)).hexdigest()
        way = self._way
        return Attempt(
            self._slot,
            self._offset,
            self._number(),
            self._cell,
            way.route,
            digest[:16],
            wait_s=way.wait_s,
            route_key=way.gate.condition.key,
        )

    def _prompt(self) -> Prompt:
        spec, number = self._batch.spec, self._number()
        seed = attempt_seed(spec, self._slot, number)
        return prompts.call(self._batch.batch_id, spec, self._cell, seed, number, self._feedback)

    def _prompt_of(self, witness: int) -> Prompt:
        """Return the request of another slot, by a seed of its own: no cache shall answer it."""
        seed = self._node.chance.getrandbits(31)
        cell = self._batch.plan.cell(witness)
        return prompts.call(self._batch.batch_id, self._batch.spec, cell, seed, 1)

    async def _call(self, prompt: Prompt, progress: Progress) -> Completion | None:
        """Return the answer, None when a stop or a shutdown cancelled the call.

        None too when the process was frozen since the call was let start: what it knows of the
        batch may be old.
        """
        if not self._may_start or self._batch.is_read_long_ago:
            return None
        self._node.in_flight += 1
        try:
            with Call(self._batch.calls):
                return await complete(self._node, self._batch, self._way.gate, prompt, progress)
        except CallFailedError:
            raise
        except Exception as error:  # a defect of a lane: this call's failure, not the node's death
            raise of_defect(error, was_sent=progress.started_at > 0) from error
        finally:
            self._node.in_flight -= 1
            self._batch.called_at = boot_seconds()
        return None

    async def _record_answer(self, attempt: Attempt, completion: Completion) -> float | None:
        self._batch.verdict.note_success(self._way.index)
        recipe = self._batch.spec.recipe
        verdict = validate(
            recipe, self._cell, completion.text, completion.finish_reason, self._batch.seen
        )
        if isinstance(verdict, Accepted):
            has_outcome = slices.resolved(self._writer.state) != 0
            fault_point(self._node.settings, "mid-slice" if has_outcome else "first-outcome")
            await self._writer.record(steps.generated(attempt, completion, verdict.content))
            self._batch.own.note(failed=False)
            return None
        self._feedback = verdict.message
        category: ErrorCategory = (
            "content_filter" if verdict.rule == "content_filter" else "validation"
        )
        failure = CallFailedError(category, verdict.message)
        retry = after_failure(
            failure, attempt.number, self._batch.spec.max_attempts, self._node.chance
        )
        step = steps.rejected(attempt, completion, verdict.rule, verdict.message)
        return await self._record(attempt, failure, step, retry)

    async def _record_failure(
        self, attempt: Attempt, failure: CallFailedError, progress: Progress, turn: Turn
    ) -> float | None:
        usage = Usage(latency_ms=progress.elapsed_ms)
        verdict = self._batch.verdict
        verdict.note_failure(failure, boot_seconds(), self._way.index)
        retry, counts = self._way.after(
            failure, turn, attempt.number, was_answered=verdict.has_succeeded
        )
        fatal = await self._hopeless()
        # A timeout may have been paid too; the budget counts those by their category.
        if not failure.is_unpaid and failure.category != "timeout":
            self._note_unmeasured()
        if fatal is not None:
            step = steps.attempt_failed(attempt, failure, usage, None, counts=counts)
            await self._writer.record(step)
            raise fatal
        again_s = max(retry.delay_s, retry.held_s) if retry else None
        step = steps.attempt_failed(attempt, failure, usage, again_s, counts=counts)
        return await self._record(attempt, failure, step, retry)

    def _note_unmeasured(self) -> None:
        """Count a call that may have been paid though nobody told what it used."""
        if self._batch.spec.budgets.bounds_use:
            self._writer.unmeasured_calls += 1

    async def _raise_if_hopeless(self) -> None:
        fatal = await self._hopeless()
        if fatal is not None:
            raise fatal

    async def _hopeless(self) -> CallFailedError | None:
        """Return why the batch can't succeed on any of its routes; None while it may.

        To fail every slot the same way would end as a completed batch of nothing.
        """
        verdict = self._batch.verdict
        self._way.note_refusals()
        found = verdict.hopeless(boot_seconds(), self._node.settings.unanswered_s)
        if found is None:
            return None
        index, failure = found
        if failure.category in OUTAGE:
            batch = await load_batch(self._node.event_log, self._batch.batch_id)
            if batch.totals.generated or batch.totals.rejected:
                verdict.note_success_elsewhere()
                return None
        return fatal(failure, self._batch.spec.routes[index])

    async def _record(
        self, attempt: Attempt, failure: CallFailedError, step: Step, retry: Retry | None
    ) -> float | None:
        """Store a failed attempt, and with the last one the slot's outcome."""
        if retry is None:
            error = ErrorInfo(category=failure.category, message=failure.message, slot=attempt.slot)
            await self._writer.record(step, steps.failed(attempt, error))
            self._batch.own.note(failed=True)
            return None
        await self._writer.record(step)
        return retry.delay_s

    async def _record_cancelled(self, attempt: Attempt, prompt: Prompt, progress: Progress) -> None:
        """Tell what a cancelled call had used, if the batch is really stopping.

        The stop fence does not wait for this: when it was first, nothing is lost but an estimate.
        """
        if await self._batch.settled() or self._batch.standing != "over":
            self._writer.lose_calls(1)
            return
        usage = prompts.estimated_use(attempt.route, prompt, progress)
        with contextlib.suppress(LeaseLostError):
            await self._writer.record(steps.abandoned(attempt, usage))

    async def _wait(self, delay_s: float) -> None:
        """Wait before the next attempt; a stop or a pause ends the wait."""
        deadline = time.monotonic() + delay_s
        with self._node.room.resting():
            while (left := deadline - time.monotonic()) > 0 and await self._may_call():
                with Call(self._batch.rests), contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_S)):
                        await self._node.stop.wait()
