"""Idempotency keys: what is asked for again under the same key is done once.

Of a new batch the key's entry {batch id, hash of the body} is stored first, then BatchStarted with
expected sequence 0. So a retry finds either the batch, or the id under which to complete it. Each
route has keys of its own: a key that started a batch says nothing about a clone.

What changes a batch carries its key into the log, as the id of the command, in one write with the
change: no bucket is asked for it, so a stop waits for none. Only what changed nothing is kept in
the bucket, lest its retry does when others have changed the batch meanwhile.
"""

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from millstream.errors import ConflictError
from millstream.eventlog.buckets import Bucket
from millstream_api.problems import ProblemError, field_error
from millstream_schemas.commands import Command

KEY_LENGTH_MAX = 255
COMMAND_ID_LENGTH = 32


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    batch_id: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The batch that a key stands for; ``is_new``: nobody used the key before."""

    batch_id: str
    is_new: bool


class IdempotencyKeys:
    """The keys of the last 24 hours; ``scope`` names the route, empty for a plain start."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def find(self, key: str, command: Command, scope: str = "") -> Claim | None:
        """Return what ``key`` already stands for, None for a key that nobody used.

        Raises:
            ProblemError: the key was used with another body.
            LogUnavailableError: the bucket did not answer.
        """
        found = await self._bucket.get(_name(key, scope))
        if found is None:
            return None
        entry = _Entry.model_validate_json(found.value)
        if entry.body_hash != body_hash(command):
            raise conflict(entry.batch_id, "a new batch")
        return Claim(entry.batch_id, is_new=False)

    async def claim(self, key: str, command: Command, batch_id: str, scope: str = "") -> Claim:
        """Let ``key`` stand for ``batch_id``, or return what a quicker request made of it.

        Raises:
            ProblemError: as ``find``.
            LogUnavailableError: the bucket did not answer; a retry with the key completes it.
        """
        entry = _Entry(batch_id=batch_id, body_hash=body_hash(command))
        value = entry.model_dump_json().encode()
        try:
            await self._bucket.put(_name(key, scope), value, expected=0)
        except ConflictError:
            found = await self.find(key, command, scope)
            if found is None:  # it aged out between the two looks
                raise
            return found
        return Claim(batch_id, is_new=True)


def check_key(key: str) -> str:
    """Return ``key`` as it came.

    Raises:
        ProblemError: no key can look like this.
    """
    if not key.isprintable() or not 0 < len(key) <= KEY_LENGTH_MAX:
        message = (
            f"Idempotency-Key has {len(key)} characters or unprintable ones; give 1 to "
            f"{KEY_LENGTH_MAX} printable ones, a random id for instance"
        )
        error = field_error("Idempotency-Key", message, key)
        raise ProblemError(400, "idempotency_key_invalid", message, errors=[error])
    return key


def conflict(batch_id: str, purpose: str) -> ProblemError:
    """Return the refusal of a key that was used with another body."""
    return ProblemError(
        409,
        "idempotency_conflict",
        f"this Idempotency-Key was used with another body (batch {batch_id}); use a new key for"
        f" {purpose}",
    )


def command_id_of(key: str, scope: str) -> str:
    """Return the id of the command that is sent under ``key`` on the route ``scope``."""
    return _name(key, scope)[:COMMAND_ID_LENGTH]


def body_hash(command: Command) -> str:
    """Return a hash that is equal for equal requests."""
    return hashlib.sha256(command.model_dump_json().encode()).hexdigest()


def _name(key: str, scope: str) -> str:
    """Return the key as a subject token: clients may choose any characters."""
    whole = f"{scope}\n{key}" if scope else key  # no key holds a line's end
    return hashlib.sha256(whole.encode()).hexdigest()
