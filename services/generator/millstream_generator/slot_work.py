"""One slot: call, validate, append, and try again as the policy says."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Awaitable, Callable

from millstream.domain import slice as slices
from millstream.domain.plan import attempt_seed
from millstream.runtime.lifecycle import fault_point
from millstream_generator import prompts, steps
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.held import HeldBatch
from millstream_generator.node import Node
from millstream_generator.policy import Retry, after_failure
from millstream_generator.steps import Attempt, Step
from millstream_generator.validation import Accepted, validate
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

CHARACTERS_PER_TOKEN = 4
LOOK_S = 0.25
FAILOVER: frozenset[ErrorCategory] = frozenset({"auth", "invalid_request", "server", "timeout"})
"""Errors after which the slot's next attempt goes down the alias's routes."""


class FatalError(CallFailedError):
    """The batch can't succeed: a wrong key, an unknown model, requests that are all refused."""


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
        self._throttled_s = 0.0
        self._route = 0

    async def fill(
        self, tasks: asyncio.TaskGroup, still_held: Callable[[], Awaitable[None]]
    ) -> bool:
        """Work until the slot has an outcome; False when the batch lets nothing more start.

        Raises:
            LeaseLostError: the slice is not ours any more.
            FatalError: the batch can't go on.
        """
        while await self._may_call():
            async with self._batch.turn(self._route_now()), self._node.slots:
                await still_held()
                if self._node.stop.is_set() or not self._batch.may_call:
                    continue  # no wait stands between this look and the start of the call
                delay_s = await self._try_once(tasks)
            if delay_s is None:
                return True
            await self._wait(delay_s)
        return False

    async def _try_once(self, tasks: asyncio.TaskGroup) -> float | None:
        """Make one call and record it; None when the slot has its outcome, else when to go on."""
        prompt = self._prompt()
        attempt = self._attempt(prompt)
        progress = Progress()
        try:
            completion = await self._call(tasks, attempt, prompt, progress)
        except CallFailedError as failure:
            return await self._record_failure(attempt, failure, progress)
        if completion is None:
            await self._record_cancelled(attempt, progress)
            return 0.0
        return await self._record_answer(attempt, completion)

    async def _may_call(self) -> bool:
        return not self._node.stop.is_set() and await self._batch.settled()

    def _number(self) -> int:
        return self._writer.state.attempts.get(str(self._offset), 0) + 1

    def _route_now(self) -> Route:
        return self._batch.spec.routes[self._route]

    def _attempt(self, prompt: Prompt) -> Attempt:
        digest = hashlib.sha256(json.dumps(prompt.messages).encode()).hexdigest()
        route = self._route_now()
        return Attempt(self._slot, self._offset, self._number(), self._cell, route, digest[:16])

    def _prompt(self) -> Prompt:
        spec = self._batch.spec
        recipe = spec.recipe.recipe
        number = self._number()
        seed = attempt_seed(spec, self._slot, number)
        return Prompt(
            batch_id=self._batch.batch_id,
            messages=prompts.render(
                spec.recipe, self._cell, spec.instruction, seed, number, self._feedback
            ),
            response_format=prompts.response_format(spec.recipe, self._cell)
            if recipe.structured
            else None,
            max_tokens=prompts.max_tokens(spec.recipe),
            seed=seed,
            temperature=recipe.sampling.temperature,
            top_p=recipe.sampling.top_p,
            extra=recipe.sampling.extra,
        )

    async def _call(
        self, tasks: asyncio.TaskGroup, attempt: Attempt, prompt: Prompt, progress: Progress
    ) -> Completion | None:
        """Return the answer, None when a stop or a shutdown cancelled the call."""
        call = tasks.create_task(self._complete(attempt.route, prompt, progress))
        self._batch.calls.add(call)
        self._node.in_flight += 1
        try:
            await asyncio.wait([call])
        finally:
            call.cancel()
            self._node.in_flight -= 1
            self._batch.calls.discard(call)
        if call.cancelled():
            return None
        answer = call.result()
        if isinstance(answer, CallFailedError):
            raise answer
        return answer

    async def _complete(
        self, route: Route, prompt: Prompt, progress: Progress
    ) -> Completion | CallFailedError:
        """Return a failure instead of raising it: raised in a task it would end the whole slice."""
        try:
            return await self._node.provider.complete(route, prompt, progress)
        except CallFailedError as failure:
            return failure

    async def _record_answer(self, attempt: Attempt, completion: Completion) -> float | None:
        self._batch.verdict.note_success()
        recipe = self._batch.spec.recipe
        verdict = validate(
            recipe, self._cell, completion.text, completion.finish_reason, self._batch.seen
        )
        if isinstance(verdict, Accepted):
            has_outcome = slices.resolved(self._writer.state) != 0
            fault_point(self._node.settings, "mid-slice" if has_outcome else "first-outcome")
            await self._writer.record(steps.generated(attempt, completion, verdict.content))
            return None
        self._feedback = verdict.message
        category: ErrorCategory = (
            "content_filter" if verdict.rule == "content_filter" else "validation"
        )
        failure = CallFailedError(category, verdict.message)
        retry = self._retry(attempt, failure)
        step = steps.rejected(attempt, completion, verdict.rule, verdict.message)
        return await self._record(attempt, failure, step, retry)

    async def _record_failure(
        self, attempt: Attempt, failure: CallFailedError, progress: Progress
    ) -> float | None:
        usage = Usage(latency_ms=_elapsed_ms(progress))
        if failure.category in FAILOVER and self._route + 1 < len(self._batch.spec.routes):
            self._route += 1
            retry: Retry | None = Retry(0.0)
        else:
            retry = self._retry(attempt, failure)
            if self._batch.verdict.is_fatal(failure) or self._is_hopeless(failure, retry):
                await self._writer.record(steps.attempt_failed(attempt, failure, usage, None))
                raise FatalError(
                    failure.category,
                    _with_remedy(failure, attempt.route),
                    status_code=failure.status_code,
                )
        delay_s = retry.delay_s if retry else None
        step = steps.attempt_failed(attempt, failure, usage, delay_s)
        return await self._record(attempt, failure, step, retry)

    def _is_hopeless(self, failure: CallFailedError, retry: Retry | None) -> bool:
        """Tell whether a slot ran out of attempts on an endpoint that never answered at all.

        To fail every further slot the same way would end as a completed batch of nothing.
        """
        never = not self._batch.verdict.has_succeeded
        return retry is None and never and failure.category in {"server", "timeout"}

    async def _record(
        self, attempt: Attempt, failure: CallFailedError, step: Step, retry: Retry | None
    ) -> float | None:
        """Store a failed attempt, and with the last one the slot's outcome."""
        if retry is None:
            error = ErrorInfo(category=failure.category, message=failure.message, slot=attempt.slot)
            await self._writer.record(step, steps.failed(attempt, error))
            return None
        if failure.category == "rate_limit":
            self._throttled_s += retry.delay_s
        await self._writer.record(step)
        return retry.delay_s

    def _retry(self, attempt: Attempt, failure: CallFailedError) -> Retry | None:
        return after_failure(
            failure,
            attempt.number,
            self._batch.spec.max_attempts,
            self._throttled_s,
            self._node.chance,
        )

    async def _record_cancelled(self, attempt: Attempt, progress: Progress) -> None:
        """Tell what a cancelled call had used, if the batch is really stopping.

        The stop fence does not wait for this: when it was first, nothing is lost but an estimate.
        """
        if await self._batch.settled() or self._batch.standing != "over":
            return
        usage = Usage(
            tokens_out=progress.characters // CHARACTERS_PER_TOKEN,
            latency_ms=_elapsed_ms(progress),
        )
        with contextlib.suppress(LeaseLostError):
            await self._writer.record(steps.abandoned(attempt, usage))

    async def _wait(self, delay_s: float) -> None:
        """Wait before the next attempt; a stop or a pause ends the wait."""
        deadline = time.monotonic() + delay_s
        while (left := deadline - time.monotonic()) > 0 and await self._may_call():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_S)):
                    await self._node.stop.wait()


def _with_remedy(failure: CallFailedError, route: Route) -> str:
    """Return why a batch ends, with what to do about it."""
    where = route.api_base or route.provider
    match failure.category:
        case "auth" if route.api_key_env:
            remedy = f"check the key in {route.api_key_env} where the generator runs"
        case "server" | "timeout":
            remedy = f"no call to {where} was answered; check that it runs and start again"
        case _:
            remedy = f"check the model {route.model} and its endpoint {where}"
    return f"{failure.message.rstrip('.')}; {remedy}"


def _elapsed_ms(progress: Progress) -> float:
    return round((time.monotonic() - progress.started_at) * 1000, 3) if progress.started_at else 0.0
