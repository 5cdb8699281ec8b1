"""Stored messages in memory, read as the log is: for folds of the past without a server."""

from collections.abc import Sequence

from millstream.eventlog.stored import Stored
from millstream_schemas import subjects


class TapeLog:
    """Messages in stream order; ``whole_reads`` counts the batches that were read as a whole."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self._stored = stored
        self.whole_reads = 0

    def last_of(self, names: Sequence[str], until: int) -> list[Stored]:
        """Return the last message up to ``until`` of each of these subjects that has one."""
        found = {item.subject: item for item in self._stored if item.sequence <= until}
        return [found[name] for name in names if name in found]

    def whole(self, batch_id: str, until: int) -> list[Stored]:
        """Return every message of a batch up to ``until``, in order."""
        self.whole_reads += 1
        prefix = subjects.all_of_batch(batch_id)[:-1]
        return [
            item
            for item in self._stored
            if item.sequence <= until and item.subject.startswith(prefix)
        ]
