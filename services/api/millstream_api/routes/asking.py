"""What the headers of a command say: who asks, under which key, on what condition, and why."""

import re
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request

from millstream_api.command_context import Asked
from millstream_api.context import Asker
from millstream_api.idempotency import KEY_LENGTH_MAX, check_key, command_id_of
from millstream_api.problems import ProblemError, field_error
from millstream_schemas import commands
from millstream_schemas.envelope import Actor

REASON_LENGTH_MAX = 500
_VERSION = re.compile(r'^(?:W/)?"?([0-9]{1,18})(?:-[0-9a-f]{16})?"?$')

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"minLength": 1, "maxLength": KEY_LENGTH_MAX},
        description="The same key and body again, within 24 hours, make no second batch and "
        "change nothing anew, whatever others did meanwhile (200); another body: 409.",
    ),
]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The `version` that you have seen; else 412."),
]
Why = Annotated[
    str | None,
    Header(alias="X-Reason", description="Why, for the record; the body's `reason` comes first."),
]

Reasoned = TypeVar(
    "Reasoned",
    commands.StartBatch,
    commands.StopBatch,
    commands.PauseBatch,
    commands.ResumeBatch,
    commands.SetPriority,
    commands.RefillBatch,
    commands.CloneBatch,
    commands.BulkCommand,
)


async def get_new(request: Request, actor: Asker, key: Key = None) -> Asked:
    """Return who asks for something that no batch has seen yet.

    Raises:
        ProblemError: the key is malformed.
    """
    return _asked(request, actor, key, None)


async def get_many(request: Request, actor: Asker, key: Key = None) -> Asked:
    """Return who asks for something of many batches.

    Raises:
        ProblemError: the key is malformed, or one version is to hold for all of them.
    """
    if_match = request.headers.get("If-Match")
    if if_match is not None:
        message = (
            "If-Match can't be kept by a bulk command: each batch has a version of its own; leave "
            "it out, or send each batch its own command with its version"
        )
        error = field_error("If-Match", message, if_match)
        raise ProblemError(400, "if_match_invalid", message, errors=[error])
    return _asked(request, actor, key, None)


async def get_asked(
    request: Request, actor: Asker, key: Key = None, if_match: IfMatch = None
) -> Asked:
    """Return who asks for something of a batch.

    Raises:
        ProblemError: a header is malformed.
    """
    return _asked(request, actor, key, if_match)


def _asked(request: Request, actor: Actor, key: str | None, if_match: str | None) -> Asked:
    if key is None:
        return Asked(actor, if_match=_version(if_match))
    scope = f"{request.method} {request.scope['path']}"
    return Asked(actor, check_key(key), _version(if_match), command_id_of(key, scope))


async def get_reason(why: Why = None) -> str:
    """Return the reason that a header gives, empty for none.

    Raises:
        ProblemError: it is too long or holds what can't be shown.
    """
    text = (why or "").strip()
    try:
        text = text.encode("latin-1").decode()  # headers come as latin-1; most clients send UTF-8
    except UnicodeError:
        text = (why or "").strip()
    if len(text) > REASON_LENGTH_MAX or not text.isprintable():
        message = (
            f"X-Reason has {len(text)} characters or unprintable ones; give at most "
            f"{REASON_LENGTH_MAX} printable ones"
        )
        error = field_error("X-Reason", message, text)
        raise ProblemError(400, "reason_invalid", message, errors=[error])
    return text


AskedNew = Annotated[Asked, Depends(get_new)]
AskedMany = Annotated[Asked, Depends(get_many)]
AskedOf = Annotated[Asked, Depends(get_asked)]
Reason = Annotated[str, Depends(get_reason)]


def reasoned(command: Reasoned, reason: str) -> Reasoned:
    """Return ``command`` with the header's reason where its body gives none."""
    if command.reason or not reason:
        return command
    return command.model_copy(update={"reason": reason})


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    match = _VERSION.match(if_match.strip())
    if match is None:
        message = "If-Match takes the batch's version, a whole number"
        error = field_error("If-Match", message, if_match)
        raise ProblemError(400, "if_match_invalid", message, errors=[error])
    return int(match[1])
