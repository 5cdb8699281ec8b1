"""Asking projectors and filling a log, for tests and benches."""

from typing import Any

from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream.testing.tape import Tape
from millstream_schemas import analysis, lanes, subjects, views


async def request(event_log: EventLog, name: str, body: bytes) -> tuple[bytes, str]:
    """Return a projector's raw answer and its error header ("" when it is none).

    Raises:
        LogUnavailableError: nobody answered.
    """
    answer = await event_log.answers.ask(subjects.query(name), body, timeout_s=30)
    return answer.data, (answer.headers or {}).get("Millstream-Error", "")


async def ask(event_log: EventLog, name: str, **fields: Any) -> Any:
    """Return the answer to a query, checked against the contract.

    Raises:
        AssertionError: it is an error.
        LogUnavailableError: nobody answered.
    """
    kind, answer_kind = (views.QUERIES | analysis.QUERIES | lanes.QUERIES)[name]
    data, error = await request(event_log, name, kind(**fields).model_dump_json().encode())
    if error:
        raise AssertionError(f"query {name} failed: {data.decode()}")
    return answer_kind.model_validate_json(data)


async def refused(event_log: EventLog, name: str, body: bytes) -> views.QueryError:
    """Return the error that a query is answered with.

    Raises:
        AssertionError: it is no error, or its header says something else.
    """
    data, error = await request(event_log, name, body)
    answer = views.QueryError.model_validate_json(data)
    if error != answer.code:
        raise AssertionError(f"header {error!r} does not say {answer.code!r}")
    return answer


async def is_answered(event_log: EventLog) -> bool:
    """Tell whether a projector answers."""
    try:
        await ask(event_log, "stuck")
    except LogError:
        return False
    return True


async def publish(event_log: EventLog, tape: Tape) -> int:
    """Append everything on ``tape`` to a stream that holds nothing else; return its end.

    Raises:
        AssertionError: the stream held something.
    """
    last = 0
    for entry in tape.entries:
        last = await event_log.append(entry.recorded.event, expected=entry.expected)
        if last != entry.recorded.sequence:
            raise AssertionError(f"sequence {last} stands where {entry.recorded.sequence} belongs")
    return last
