"""What generators say of their routes' limits, for as long as it holds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from millstream.domain.limited import Limited, limited_batches
from millstream.eventlog.answers import subscribed
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.limited import NodeLimits

log = structlog.get_logger()

SAY_S = 1.0
"""A generator repeats so often what holds; what is new it says at once."""
HOLDS_S = 2.5
"""What was not repeated for so long holds no longer: its node died, or lost the log."""


class LimitedBatches:
    """The batches that a limit slows down now, by what the generators said last.

    A hint: whatever an older, newer or odd node says, it ends no process that listens.
    """

    def __init__(self, steady: Callable[[], float] = boot_seconds) -> None:
        """Tell ages by ``steady``, in seconds that never jump."""
        self._steady = steady
        self._heard: dict[str, tuple[float, NodeLimits]] = {}
        self._odd: set[str] = set()

    def hear(self, word: NodeLimits) -> None:
        """Take what a node says: it replaces what that node said before."""
        self._heard[word.node] = self._steady(), word

    def now(self) -> dict[str, Limited]:
        """Return the batches that are limited now."""
        now = self._steady()
        self._heard = {
            node: (at, word) for node, (at, word) in self._heard.items() if now - at < HOLDS_S
        }
        try:
            return limited_batches(word for _, word in self._heard.values())
        except Exception as error:  # noqa: BLE001  # see above
            self._note_odd("all nodes", repr(error))
            return {}

    def listening(self, connection: Client) -> AbstractAsyncContextManager[object]:
        """Hear what is said over ``connection``; raises LogUnavailableError if it is closed."""
        return subscribed(connection, subjects.ALL_LIMITED, self._take)

    async def _take(self, message: Msg) -> None:
        try:
            self.hear(NodeLimits.model_validate_json(message.data))
        except ValidationError as error:
            self._note_odd(message.subject, str(error))

    def _note_odd(self, source: str, reason: str) -> None:
        """Say once of each source that it was not understood: it repeats itself every second."""
        if source not in self._odd:
            self._odd.add(source)
            log.warning("limited.unreadable", source=source, reason=reason[:200])
