"""What a client asks of a stream: which flavour, which batches and types, and from where on."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from millstream.errors import UsageError
from millstream_api.relay.frames import DeltaFrames, EventFrames, Flavour, NamedFrames, SeedFrames
from millstream_api.relay.positions import Position, parse_position
from millstream_schemas.envelope import BATCH_ID_PATTERN

SEED_PATH = "/api/generate/batch/stream"
NAMED_PATH = "/v1/stream"
STREAM_PATHS = frozenset({SEED_PATH, NAMED_PATH})
FLAVOURS: dict[str, Callable[[str, Callable[[], datetime]], Flavour]] = {
    "seed": SeedFrames,
    "state": NamedFrames,
    "deltas": DeltaFrames,
    "events": EventFrames,
}
"""Name -> how messages are worded; ``seed`` is that of the older path alone."""
FILTER_MOST = 1000
TYPES_MOST = 100

_BATCH_ID = re.compile(BATCH_ID_PATTERN)
_TYPE = re.compile(r"[a-z_.]{1,80}\.v[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for: these batches and types (None: all), from its position on.

    ``resumes``: it named a position, be it one that can be read (``position``) or not.
    """

    batch_ids: frozenset[str] | None
    position: Position | None
    flavour: str = "state"
    types: frozenset[str] | None = None
    resumes: bool = False


def read_query(scope: Mapping[str, Any]) -> Wanted:
    """Return what the client wants and where it stands.

    The header beats the query: a browser that comes back sends it beside the old address. An id
    that is none counts as no id at all, so that the client starts afresh instead of never.

    Raises:
        UsageError: a flavour, batch id or type that can't be one, or too many of them.
    """
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    flavour = _flavour(scope["path"], query)
    text = (query.get("last_event_id") or [""])[0]
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            text = value.decode("latin-1")
    return Wanted(
        _batch_ids(query.get("batch_id", [])),
        parse_position(text),
        flavour,
        _types(query.get("type", []), flavour),
        bool(text.strip()),
    )


def _flavour(path: str, query: Mapping[str, list[str]]) -> str:
    if path == SEED_PATH:
        return "seed"
    name = (query.get("flavour") or ["state"])[0]
    if name == "seed" or name not in FLAVOURS:
        raise UsageError(
            f"flavour={name[:80]!a} is none; take state (whole batches), deltas (what changes of "
            "them) or events (every event)",
            field="flavour",
            value=name,
        )
    return name


def _batch_ids(wanted: list[str]) -> frozenset[str] | None:
    for batch_id in wanted:
        if not _BATCH_ID.match(batch_id):
            raise UsageError(
                f"batch_id={batch_id[:80]!a} is no batch id; give one like "
                "batch_1700000000_0a1b2c3d, or leave it out for all batches",
                field="batch_id",
                value=batch_id,
            )
    if len(wanted) > FILTER_MOST:
        raise UsageError(
            f"batch_id stands {len(wanted)} times; give at most {FILTER_MOST}, or none for all",
            field="batch_id",
            value=len(wanted),
        )
    return frozenset(wanted) if wanted else None


def _types(wanted: list[str], flavour: str) -> frozenset[str] | None:
    if wanted and flavour != "events":
        raise UsageError(
            f"type={wanted[0][:80]!a} filters events; add flavour=events, or leave it out",
            field="type",
            value=wanted[0],
        )
    for name in wanted:
        if not _TYPE.fullmatch(name):
            raise UsageError(
                f"type={name[:80]!a} is no event type; give one like sample.generated.v1, or "
                "leave it out for all",
                field="type",
                value=name,
            )
    if len(wanted) > TYPES_MOST:
        raise UsageError(
            f"type stands {len(wanted)} times; give at most {TYPES_MOST}, or none for all",
            field="type",
            value=len(wanted),
        )
    return frozenset(wanted) if wanted else None
