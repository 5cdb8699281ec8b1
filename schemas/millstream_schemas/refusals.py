"""Commands that were understood and refused: events of no batch, kept in the log alone."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from millstream_schemas.envelope import Contract, Event

CommandName = Literal[
    "start",
    "stop",
    "pause",
    "resume",
    "priority",
    "retry_failed",
    "continue",
    "clone",
    "bulk",
    "webhook_add",
    "webhook_change",
    "webhook_remove",
    "webhook_replay",
    "webhook_rotate",
    "webhook_test",
]


class CommandRefused(Event):
    """The rules refused what somebody asked for; nothing was changed.

    A client that asks in a loop is told of once in a while: ``repeated`` counts what was refused
    alike since, ``unlisted`` what else was refused to the same actor meanwhile.
    """

    type: Literal["command.refused.v2"] = "command.refused.v2"
    schema_version: int = 2
    command: CommandName
    batch_id: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="The batch as it was named; it need not exist."
    )
    webhook_id: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="The webhook as it was named; it need not exist."
    )
    status: Annotated[int, Field(ge=400, le=499)]
    problem: Annotated[str, StringConstraints(max_length=100)] = Field(
        description="The end of the answer's problem type."
    )
    detail: Annotated[str, StringConstraints(max_length=500)] = ""
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    repeated: Annotated[int, Field(ge=0)] = 0
    unlisted: Annotated[int, Field(ge=0)] = 0


class StoredRefusal(Contract):
    """A refusal and its place in the log."""

    sequence: int
    event: CommandRefused


class RefusalPage(Contract):
    """Refusals in the order in which they were stored; ``next_cursor`` is null at the end."""

    refusals: tuple[StoredRefusal, ...]
    next_cursor: int | None = None
