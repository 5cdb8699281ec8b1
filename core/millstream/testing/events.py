"""A builder of legal event histories: what a sound log holds, without a server or a generator."""

from collections.abc import Sequence
from typing import Any

from millstream.domain import slice as slices
from millstream.domain.recorded import Recorded
from millstream.testing.examples import example_cell
from millstream.testing.journal import Journal
from millstream.testing.tape import Tape
from millstream_schemas import control, subjects
from millstream_schemas import slices as slice_events
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.slices import SliceState, Usage

NODE = "node-1"
COST_NANO_USD = 2_000


class Script(Journal):
    """Writes the legal history of one batch onto a tape, event by event.

    Each method appends one event (``stop`` and ``run`` append several) and keeps the cumulative
    slice state that the next one has to carry.
    """

    def __init__(
        self,
        tape: Tape | None = None,
        *,
        batch_id: str = "batch_1767225600_00000001",
        spec: control.BatchSpec | None = None,
        user: str = "ada",
    ) -> None:
        super().__init__(tape, batch_id=batch_id, spec=spec, user=user)
        self.slices: dict[int, SliceState] = {}
        self.route: str | None = None
        """The key of the route that attempts name; None: as before they had such a field."""

    def close(self, index: int) -> Recorded[BatchEvent]:
        """Append SliceClosed: open slots of the slice are abandoned."""
        after = slices.closed(self._slice(index), len(self.spec.slots(index)))
        return self._slice_event(
            slice_events.SliceClosed, index, after, Actor(kind="system", id="fence")
        )

    def stop(self, reason: str = "") -> Recorded[BatchEvent]:
        """Append a whole stop: the request, every open slice closed, the end."""
        self.request_stop(reason)
        for index in range(self.spec.slices):
            if not slices.is_done(self._slice(index), len(self.spec.slots(index))):
                self.close(index)
        return self.end_stop()

    def claim(
        self,
        index: int,
        node: str = NODE,
        rescue_of: str | None = None,
        *,
        at_risk: int = 0,
        allowance: int | None = None,
        in_flight: int | None = None,
    ) -> Recorded[BatchEvent]:
        """Append SliceClaimed; ``at_risk`` calls of a holder that died may have been paid."""
        after = slices.claimed(
            self._slice(index), node, at_risk=at_risk, allowance=allowance, in_flight=in_flight
        )
        return self._slice_event(
            slice_events.SliceClaimed,
            index,
            after,
            Actor(kind="node", id=node),
            rescue_of=rescue_of,
        )

    def release(self, index: int, reason: str = "leaving") -> Recorded[BatchEvent]:
        """Append SliceReleased: the holder gave the slice up in order."""
        before = self._slice(index)
        actor = Actor(kind="node", id=before.node or NODE)
        after = slices.released(before)
        return self._slice_event(slice_events.SliceReleased, index, after, actor, reason=reason)

    def announce_calls(self, index: int, in_flight: int | None) -> Recorded[BatchEvent]:
        """Append CallsAnnounced: so many calls of the lease may be in flight from here on."""
        before = self._slice(index)
        actor = Actor(kind="node", id=before.node or NODE)
        after = before.model_copy(update={"in_flight": in_flight})
        return self._slice_event(slice_events.CallsAnnounced, index, after, actor)

    def put_on_trial(self, slot: int) -> Recorded[BatchEvent]:
        """Append SlotOnTrial: the slot runs alone in its slice."""
        index, offset = self.place(slot)
        before = self._slice(index)
        actor = Actor(kind="node", id=before.node or NODE)
        after = slices.on_trial(before, offset)
        return self._slice_event(slice_events.SlotOnTrial, index, after, actor, slot=slot)

    def generate(
        self, slot: int, content: dict[str, Any] | None = None, **usage: Any
    ) -> Recorded[BatchEvent]:
        """Append SampleGenerated; ``usage`` replaces fields of Usage."""
        index, offset = self.place(slot)
        used = self._usage(usage)
        after = slices.with_usage(self._slice(index), used, wasted=False)
        content = content or {"question": f"What is {slot}?", "answer": f"It is {slot}."}
        return self._attempt(
            slice_events.SampleGenerated,
            slot,
            slices.with_outcome(after, offset, "generated"),
            used,
            content=content,
            finish_reason="stop",
        )

    def fail_attempt(
        self,
        slot: int,
        category: ErrorCategory = "server",
        message: str = "HTTP 500",
        *,
        retry_in_s: float | None = None,
        **usage: Any,
    ) -> Recorded[BatchEvent]:
        """Append SampleAttemptFailed; a rate limit uses no attempt."""
        used = self._usage(usage, tokens_out=0)
        after = self._failed_attempt(slot, used, category, message, rejected=False)
        return self._attempt(
            slice_events.SampleAttemptFailed,
            slot,
            after,
            used,
            category=category,
            message=message,
            retry_in_s=retry_in_s,
        )

    def reject(self, slot: int, message: str = "not JSON", **usage: Any) -> Recorded[BatchEvent]:
        """Append SampleRejected: an answer came and failed validation."""
        used = self._usage(usage)
        after = self._failed_attempt(slot, used, "validation", message, rejected=True)
        return self._attempt(
            slice_events.SampleRejected,
            slot,
            after,
            used,
            rule="json",
            message=message,
            answer="half an ans",
        )

    def fail(
        self, slot: int, category: ErrorCategory = "server", message: str = "HTTP 500"
    ) -> Recorded[BatchEvent]:
        """Append SampleFailed: the slot's outcome after its attempts were used up."""
        index, offset = self.place(slot)
        after = slices.with_outcome(self._slice(index), offset, "failed")
        return self._attempt(
            slice_events.SampleFailed, slot, after, Usage(), category=category, message=message
        )

    def abandon(self, slot: int, **usage: Any) -> Recorded[BatchEvent]:
        """Append SampleAbandoned: a call was cancelled by a stop; its slot stays open."""
        used = self._usage(usage)
        index, _ = self.place(slot)
        after = slices.with_usage(self._slice(index), used, wasted=True)
        return self._attempt(slice_events.SampleAbandoned, slot, after, used)

    def run(self, failed: Sequence[int] = ()) -> "Script":
        """Append a whole batch: started, every slot generated or ``failed``, completed."""
        self.start()
        for index in range(self.spec.slices):
            self.claim(index)
            for slot in self.spec.slots(index):
                if slot in failed:
                    self.fail_attempt(slot)
                    self.fail(slot)
                else:
                    self.generate(slot)
        self.complete()
        return self

    def place(self, slot: int) -> tuple[int, int]:
        """Return (slice index, offset in the slice) of ``slot``."""
        return divmod(slot, self.spec.slice_size)

    def open_slots(self) -> list[int]:
        """Return the slots without an outcome."""
        return [
            self.spec.slots(index)[offset]
            for index in range(self.spec.slices)
            for offset in slices.open_offsets(self._slice(index), len(self.spec.slots(index)))
        ]

    def _slice(self, index: int) -> SliceState:
        return self.slices.get(index, SliceState())

    def _usage(self, given: dict[str, Any], tokens_out: int = 20) -> Usage:
        usage = Usage(
            tokens_in=10, tokens_out=tokens_out, cost_nano_usd=COST_NANO_USD, latency_ms=50.0
        )
        return usage.model_copy(update=given)

    def _failed_attempt(
        self, slot: int, used: Usage, category: ErrorCategory, message: str, *, rejected: bool
    ) -> SliceState:
        index, offset = self.place(slot)
        after = slices.with_usage(self._slice(index), used, wasted=True)
        return slices.with_failed_attempt(
            after,
            offset,
            ErrorInfo(category=category, message=message, slot=slot),
            counts=category != "rate_limit",
            rejected=rejected,
        )

    def _attempt(
        self,
        kind: type[slice_events.AttemptEvent],
        slot: int,
        after: SliceState,
        used: Usage,
        **fields: Any,
    ) -> Recorded[BatchEvent]:
        index, offset = self.place(slot)
        before = self._slice(index)
        return self._slice_event(
            kind,
            index,
            after,
            Actor(kind="node", id=before.node or NODE),
            slot=slot,
            attempt=before.attempts.get(str(offset), 0) + 1,
            cell=example_cell(self.spec, slot),
            model=self.spec.model,
            provider=self.spec.routes[0].provider,
            route=self.route,
            usage=used,
            **fields,
        )

    def _slice_event(
        self,
        kind: type[slice_events.SliceEvent],
        index: int,
        after: SliceState,
        actor: Actor,
        **fields: Any,
    ) -> Recorded[BatchEvent]:
        envelope = self._stamp(actor).envelope(self.batch_id, subjects.slice_(self.batch_id, index))
        self.slices[index] = after
        return self.record(kind(**envelope, slice=index, after=after, **fields))
