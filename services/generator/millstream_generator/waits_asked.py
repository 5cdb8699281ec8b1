"""How long a provider asks to wait before the next call."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from millstream.runtime.clock import utc_now

RETRY_AFTER_MOST_S = 600.0


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Return how long a provider asks to wait, in seconds from now, as OpenAI's client reads it.

    ``retry-after-ms`` goes first; a Retry-After is a number, an HTTP date, or several joined.
    """
    finer_ms = _number(_header(headers, "retry-after-ms"))
    if finer_ms is not None:
        return min(finer_ms / 1000, RETRY_AFTER_MOST_S)
    text = _header(headers, "retry-after")
    seconds = _number(text)
    if seconds is None and (until := _date(text)) is not None:
        # The provider's own clock counts from: ours may be wrong.
        sent_at = _date(_header(headers, "date")) or utc_now()
        seconds = max(0.0, (until - sent_at).total_seconds())
    if seconds is None:
        seconds = _number(text.partition(",")[0])
    return None if seconds is None else min(seconds, RETRY_AFTER_MOST_S)


def _header(headers: Mapping[str, str], name: str) -> str:
    """Return a header, by its name in small letters or as it is mostly written."""
    return headers.get(name) or headers.get(name.title()) or ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None  # the own back-off serves
    return number if number >= 0 else None  # false for nan too


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
