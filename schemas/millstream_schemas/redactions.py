"""The event with which a sample's text leaves the log: it stands for the message it names.

Written by the admin alone, on a subject that no service may write to, before the message itself
is deleted. What the hash chain needs of the message stays here, so every root stays what it was.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from millstream_schemas.envelope import BatchEvent, Contract

REDACTED_CONTENT: dict[str, Any] = {"redacted": True}
"""What stands where a sample's content was."""
REDACTED_TEXT = "(redacted)"
"""What stands where an answer or the message of an error was."""


class RedactedMessage(Contract):
    """A message as it was stored, but for what was erased.

    ``time_us``, ``subject``, ``headers`` and ``payload_hash`` are what the hash chain covers;
    ``event`` is the payload with marks where the erased texts were.
    """

    sequence: Annotated[int, Field(ge=1)]
    subject: str
    time_us: int = Field(description="The stream's time, in microseconds since 1970.")
    headers: str = Field("", description="Header lines as stored, in base64.")
    payload_hash: Annotated[
        str,
        StringConstraints(pattern="^[0-9a-f]{64}$"),
        Field(description="SHA-256 of the whole payload."),
    ]
    event: dict[str, Any]


class SampleRedacted(BatchEvent):
    """Texts of some slots were erased from one message; it is deleted right after this event.

    ``silences`` are slots whose errors keep no message anywhere from here on.
    """

    type: Literal["sample.redacted.v1"] = "sample.redacted.v1"
    slots: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    target: RedactedMessage
    erased: tuple[str, ...] = Field(description="The fields of the message that were erased.")
    silences: tuple[int, ...] = ()
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]
