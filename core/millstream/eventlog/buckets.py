"""Small shared values in key-value buckets, with compare-and-set."""

import asyncio
import base64
import json
import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millstream.errors import ConflictError, LogUnavailableError
from millstream.eventlog.answers import Answers
from millstream.eventlog.publisher import (
    APPEND_UNDER_WAY,
    EXPECTED,
    RETRY_S,
    WRONG_LAST_SEQUENCE,
)
from millstream.eventlog.stored import parse_time
from millstream.runtime.clock import boot_seconds

REQUEST_S = 2.0
NOT_FOUND = 10037


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value, its revision, and when the server stored it (the server's clock)."""

    value: bytes
    revision: int
    stored_at: datetime


class Bucket:
    """One key-value bucket; every read is the leader's."""

    def __init__(self, answers: Answers, name: str) -> None:
        self._answers = answers
        self._name = name

    async def get(self, key: str) -> Entry | None:
        """Return the value of ``key``, None when it has none (or it was deleted or aged out)."""
        message = await self._last(key)
        if message is None or _is_deletion(message):
            return None
        value = base64.b64decode(message.get("data", ""))
        return Entry(value, message["seq"], parse_time(message["time"]))

    async def put(self, key: str, value: bytes, *, expected: int | None = None) -> int:
        """Store ``value`` and return its revision.

        Args:
            key: The key.
            value: The bytes.
            expected: The revision it must replace (0: the key must be absent); None: any.

        Raises:
            ConflictError: the key has another revision.
            LogUnavailableError: no answer in time.
        """
        if expected is None:
            return await self._write(key, value, {})
        try:
            return await self._write(key, value, {EXPECTED: str(expected)})
        except ConflictError:
            marker = await self._last(key) if expected == 0 else None
            if marker is None or not _is_deletion(marker):
                raise
            return await self._write(key, value, {EXPECTED: str(marker["seq"])})

    async def delete(self, key: str) -> None:
        """Remove the value of ``key``; removing nothing is fine."""
        await self._write(key, b"", {"KV-Operation": "DEL"})

    async def keys(self) -> list[str]:
        """Return all keys that were ever written and not aged out."""
        request = {"subjects_filter": f"$KV.{self._name}.>"}
        document = await self._api(f"STREAM.INFO.KV_{self._name}", request)
        found: dict[str, int] = (document or {}).get("state", {}).get("subjects") or {}
        return [subject.removeprefix(f"$KV.{self._name}.") for subject in found]

    async def _last(self, key: str) -> dict[str, Any] | None:
        request = {"last_by_subj": f"$KV.{self._name}.{key}"}
        document = await self._api(f"STREAM.MSG.GET.KV_{self._name}", request)
        return None if document is None else document["message"]

    async def _write(self, key: str, value: bytes, headers: dict[str, str]) -> int:
        subject = f"$KV.{self._name}.{key}"
        give_up_at = boot_seconds() + REQUEST_S
        while True:
            answer = await self._answers.ask(subject, value, timeout_s=REQUEST_S, headers=headers)
            document = json.loads(answer.data)
            error = document.get("error")
            if error is None:
                return int(document["seq"])
            what = f"{subject}: {error.get('description')}"
            if error.get("err_code") == WRONG_LAST_SEQUENCE:
                raise ConflictError(what)
            # In a cluster another write of the key may be under way: what comes of it decides.
            if error.get("err_code") != APPEND_UNDER_WAY or boot_seconds() >= give_up_at:
                raise LogUnavailableError(what)
            await asyncio.sleep(RETRY_S * random.random())  # noqa: S311  # jitter

    async def _api(self, name: str, request: dict[str, str]) -> dict[str, Any] | None:
        payload = json.dumps(request).encode()
        answer = await self._answers.ask(f"$JS.API.{name}", payload, timeout_s=REQUEST_S)
        document: dict[str, Any] = json.loads(answer.data)
        error = document.get("error")
        if error is None:
            return document
        if error.get("err_code") == NOT_FOUND:
            return None
        raise LogUnavailableError(f"{name}: {error.get('description')}")


def _is_deletion(message: dict[str, Any]) -> bool:
    return b"KV-Operation" in base64.b64decode(message.get("hdrs", ""))
