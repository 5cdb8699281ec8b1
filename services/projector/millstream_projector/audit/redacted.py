"""What a verification says of redactions: how many messages they stand for, and which lie."""

from collections.abc import Sequence

from millstream.eventlog.chain import payload_hash
from millstream.eventlog.redaction import Redactions, is_redaction, read_redaction, stand_in
from millstream.eventlog.stored import StandIn, Stored
from millstream_projector.audit.checking import Findings


class RedactionCheck:
    """Goes along with the log; ``redactions`` must be fresh when it begins.

    A lie about a message that is gone breaks the chain, as its removal would. One about a message
    that is still there is found here.
    """

    def __init__(self, redactions: Redactions) -> None:
        self.findings = Findings()
        self.redacted = 0
        self.pending: list[int] = []
        self._redactions = redactions

    def take(self, chunk: Sequence[Stored]) -> None:
        """Look at events that follow in stream order."""
        for stored in chunk:
            if isinstance(stored, StandIn):
                self.redacted += 1
            elif (made := self._redactions.get(stored.sequence)) is not None:
                self._compare(stored, made)
            if is_redaction(stored):
                self._look(stored)

    def _compare(self, stored: Stored, made: StandIn) -> None:
        self.pending.append(stored.sequence)
        said = (made.subject, made.time_us, made.headers, made.payload_hash)
        if said != (stored.subject, stored.time_us, stored.headers, payload_hash(stored)):
            self.findings.add(
                "redactions",
                f"{made.redacted_by}: message {stored.sequence} is not what it says it was",
            )

    def _look(self, stored: Stored) -> None:
        event = read_redaction(stored)
        if event is not None and stand_in(stored, event) is None:
            self.findings.add(
                "redactions",
                f"{stored.sequence}: {event.target.sequence} is no earlier message of its batch",
            )


def unfolded(redactions: Redactions, as_of: int) -> int | None:
    """Return the last redaction that tables at ``as_of`` lack though they hold its message."""
    named = redactions.between(1, as_of)
    return max((made.redacted_by for made in named if made.redacted_by > as_of), default=None)
