"""The moment that `--at` names: a sequence of the log, or a time."""

from datetime import UTC, datetime

from millstream.errors import UsageError


def parse_at(text: str | None) -> int | datetime | None:
    """Return what ``text`` names: digits are a sequence, the rest an ISO 8601 time.

    A time without an offset is UTC. None and ``now`` are the present: None.

    Raises:
        UsageError: it is neither.
    """
    if text is None or text == "now":
        return None
    if text.isdigit() and len(text) < 19:
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no moment; give a sequence such as 1200, or a time such as"
            " 2026-01-31T12:00:00Z",
            field="at",
            value=text,
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def at_query(text: str | None) -> dict[str, int | str]:
    """Return the parameters of a read at that moment, none for the present; raises as above."""
    moment = parse_at(text)
    if moment is None:
        return {}
    if isinstance(moment, datetime):
        return {"at_time": moment.isoformat()}
    return {"at_seq": moment}
