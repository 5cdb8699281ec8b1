"""The fold of all live batches, started from the tails and kept by the feed."""

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.eventlog.log import EventLog, in_order
from millstream.eventlog.stored import Stored, decode
from millstream_schemas import subjects
from millstream_schemas.control import BatchStarted


class LiveBatches:
    """Every batch that was started and has not ended, as of ``sequence``.

    Ended batches are dropped at once, so memory follows what runs, not what ever ran.
    """

    def __init__(self, batches: dict[str, BatchState], sequence: int) -> None:
        self.batches = batches
        self.sequence = sequence

    @classmethod
    async def load(cls, event_log: EventLog) -> "LiveBatches":
        """Fold control events, notes, then the last event of each slice of live batches.

        Tails may be ahead of ``sequence``; the fold ignores what they already hold.
        """
        head = await event_log.head()
        loaded = cls({}, head.last)
        for subject_filter in (subjects.ALL_CONTROL, subjects.ALL_NOTES):
            async for page in event_log.history(subject_filter, until=head.last):
                for stored in page:
                    loaded._fold(stored, trusted=True)
        for batch_id in list(loaded.batches):
            for stored in in_order(await event_log.tails(batch_id)):
                loaded._fold(stored, trusted=True)
        return loaded

    def apply(self, stored: Stored) -> BatchState | None:
        """Fold one event of the feed; return the batch after it, None if none changed.

        The state is also returned when the batch has just ended and was dropped.
        """
        self.sequence = max(self.sequence, stored.sequence)
        return self._fold(stored, trusted=False)

    def _fold(self, stored: Stored, *, trusted: bool) -> BatchState | None:
        # mill.events.<batch>.<rest>
        batch_id, _, rest = stored.subject.removeprefix(subjects.EVENTS_PREFIX).partition(".")
        before = self.batches.get(batch_id)
        if before is None and rest != "control":
            return None
        recorded = decode(stored)
        if recorded is None:
            return None
        if before is None:
            if not isinstance(recorded.event, BatchStarted):
                return None
            before = BatchState(batch_id)
        after = apply(before, recorded, trusted=trusted)
        if after is before:
            return None
        if after.is_final:
            del self.batches[batch_id]
        else:
            self.batches[batch_id] = after
        return after
