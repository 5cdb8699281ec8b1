"""The moment of the past that a read may ask for, as its URL gives it."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query

from millstream_api.problems import ProblemError, field_error
from millstream_schemas import views

AtSeq = Annotated[
    int | None,
    Query(ge=0, lt=2**63, description="Answer as if the log had ended at this sequence."),
]
AtTime = Annotated[
    str | None,
    Query(
        max_length=64,
        description="Answer as of the last event that the stream had stored by this time "
        "(RFC 3339 with an offset, such as 2026-01-31T12:00:00Z).",
    ),
]


def moment_of(min_sequence: int, at_seq: int | None, at_time: str | None) -> views.Query:
    """Return the part of a query that says as of when its answer must be true.

    Raises:
        ProblemError: both moments are given, or the time is none with an offset.
    """
    if at_seq is not None and at_time is not None:
        raise _refusal(
            "at_seq and at_time name two moments; leave one of them out",
            at_time,
            code="two_moments",
        )
    time = None if at_time is None else _parse_time(at_time)
    return views.Query(min_sequence=min_sequence, at_seq=at_seq, at_time=time)


def _parse_time(text: str) -> datetime:
    try:
        # Digits alone would be taken for a date of the basic format.
        time = None if text.isdigit() else datetime.fromisoformat(text)
        in_utc = time.astimezone(UTC) if time is not None and time.utcoffset() is not None else None
    except (ValueError, OverflowError):
        in_utc = None
    if in_utc is None:
        raise _refusal(
            f"at_time={text!r} is no time with an offset; give one such as 2026-01-31T12:00:00Z"
            " (in a URL a plus is written %2B), or at_seq for a sequence",
            text,
            code="time_invalid",
        )
    return in_utc


def _refusal(message: str, value: str, *, code: str) -> ProblemError:
    return ProblemError(400, code, message, errors=[field_error("at_time", message, value)])
