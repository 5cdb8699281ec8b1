"""What reads take: as of when the answer must be true, filters and pages."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from millstream_api.context import MinSequence
from millstream_api.moments import AtSeq, AtTime, moment_of
from millstream_schemas import views

QueryT = TypeVar("QueryT", bound=views.Query)

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[
    str | None, Query(max_length=200, description="An answer's `next_cursor`: what comes after it.")
]
Text = Annotated[str | None, Query(max_length=200, description="Found in upper or lower case.")]


_TIME_WANTED = "give a time with its offset, such as 2026-01-01T00:00:00Z"


def _is_written(value: object) -> object:
    """Refuse numbers, which would be taken for seconds since 1970."""
    try:
        float(str(value))
    except ValueError:
        return value
    raise ValueError(_TIME_WANTED)


def _in_utc(time: datetime) -> datetime:
    """Refuse a time that UTC has no year for."""
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{_TIME_WANTED}, of the years 1 to 9999 in UTC") from error


Time = Annotated[AwareDatetime, BeforeValidator(_is_written), AfterValidator(_in_utc)]
Topic = Annotated[str | None, Query(max_length=300, description="Only this one: `area - topic`.")]
Chosen = Annotated[str | None, Query(max_length=300, description="Only this one.")]


async def get_moment(
    min_sequence: MinSequence = 0, at_seq: AtSeq = None, at_time: AtTime = None
) -> views.Query:
    """Return the part of a query that says as of when its answer must be true.

    Raises:
        ProblemError: the moment of the past is none.
    """
    return moment_of(min_sequence, at_seq, at_time)


async def get_sample_filter(
    *,
    text: Text = None,
    topic: Topic = None,
    difficulty: Chosen = None,
    sample_type: Chosen = None,
    model: Chosen = None,
    sort: Annotated[
        views.SampleSort, Query(description="As stored; a minus puts the latest first.")
    ] = "stored",
    facets: Annotated[bool, Query(description="Count the values of each filter too.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Return the fields of a SamplesQuery that a request gives."""
    return {
        "text": text,
        "topic": topic,
        "difficulty": difficulty,
        "sample_type": sample_type,
        "model": model,
        "sort": sort,
        "with_facets": facets,
        "cursor": cursor,
        "limit": limit,
    }


Moment = Annotated[views.Query, Depends(get_moment)]
SampleFilter = Annotated[dict[str, Any], Depends(get_sample_filter)]


def asked(kind: type[QueryT], moment: views.Query, /, **fields: Any) -> QueryT:
    """Return the query of ``kind`` about ``fields`` at ``moment``."""
    return kind(**dict(moment), **fields)
