"""An event together with its place in the log."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from millstream_schemas.envelope import BatchEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EventT_co = TypeVar("EventT_co", bound=BatchEvent, covariant=True)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[EventT_co]):
    """An event as stored: ``sequence`` orders it, ``stored_at`` is the stream's clock (UTC)."""

    sequence: int
    stored_at: datetime
    event: EventT_co


def microseconds(moment_utc: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (moment_utc - _EPOCH) // _MICROSECOND


def moment(time_us: int) -> datetime:
    """Return the time (UTC) that is so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=time_us)
