"""An event together with its place in the log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from millstream_schemas.envelope import BatchEvent

EventT_co = TypeVar("EventT_co", bound=BatchEvent, covariant=True)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[EventT_co]):
    """An event as stored: ``sequence`` orders it, ``stored_at`` is the stream's clock (UTC)."""

    sequence: int
    stored_at: datetime
    event: EventT_co
