"""Event ids of the streams: ``<stream sequence>-<epoch of the stream>``.

A plain dash: an id with ``:`` or a bracket would make a browser ask for permission first when it
resumes across origins (the fetch standard's CORS-unsafe bytes).
"""

import re
from dataclasses import dataclass

_ID = re.compile(r"^([0-9]{1,18})(?:-([0-9a-f]{8}))?$")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a client stands: it has seen everything up to ``sequence``."""

    sequence: int
    epoch: str | None = None


def parse_position(text: str) -> Position | None:
    """Return the position that an event id names, None for text that is none.

    A bare number is accepted too: a read's ``as_of`` is a place to go on from.
    """
    match = _ID.match(text.strip())
    return Position(int(match[1]), match[2]) if match else None


def format_position(sequence: int, epoch: str) -> str:
    """Return the event id of ``sequence``."""
    return f"{sequence}-{epoch}"
