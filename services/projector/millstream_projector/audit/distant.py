"""Where a process that folds a part of the log stores it: in the process that keeps the tables."""

from collections.abc import Sequence

from millstream.errors import MillstreamError
from millstream.eventlog.chain import ChainState
from millstream.eventlog.stored import Stored
from millstream_projector.audit.wire import Channel
from millstream_projector.changes import Changes
from millstream_projector.heads import Known


class StrayBatchError(MillstreamError):
    """An event stands under another batch's subject: who folds that batch can't know of it."""


class Distant:
    """A keeper of batches that no other process folds; ``events`` are those being folded."""

    def __init__(self, work: Channel, questions: Channel, *, is_alone: bool) -> None:
        """Send what changes over ``work``, ask over ``questions``.

        ``is_alone`` says that no other process folds: whatever comes belongs here.
        """
        self.checkpoint = 0
        self.events: Sequence[Stored] = ()
        self._work = work
        self._questions = questions
        self._is_alone = is_alone
        self._written = 0
        self._stored: set[str] = set()

    def write(self, changes: Changes) -> None:
        """Give the changes to be stored; raises as ``Channel.send``."""
        try:
            self._work.send(changes)
        except BaseException:
            self._work.end()  # nobody waits for what can't be sent
            raise
        self._stored.update(changes.batches)
        self._written += 1
        self.checkpoint = changes.checkpoint

    def load(self, batch_id: str) -> Known | None:
        """Return the fold of a batch that has ended, None for a new one.

        Raises:
            StrayBatchError: it may belong to another process.
        """
        if batch_id in self._stored:
            self._questions.send((self._written, batch_id))
            found: Known | None = self._questions.receive()
            return found
        if not self._is_alone and not self._is_named(batch_id):
            raise StrayBatchError(f"an event of {batch_id} stands under another batch's subject")
        return None

    def _is_named(self, batch_id: str) -> bool:
        """Tell whether one of the subjects names the batch, which is then this process' own."""
        named = f".{batch_id}."
        return any(named in stored.subject for stored in self.events)

    def load_live(self) -> list[Known]:
        """Return nothing: the log is folded from its beginning."""
        return []

    def load_chain(self) -> ChainState:
        """Return the beginning."""
        return ChainState()

    def recent_latencies(self, limit: int) -> dict[str, list[float]]:  # noqa: ARG002
        """Return nothing: nobody asks this process how a model does."""
        return {}

    def tidy(self, *, idle: bool) -> bool:  # noqa: ARG002
        """Do nothing: the tables are elsewhere."""
        return False
