"""Checkpoints of the hash chain: in the audit stream, and in a file outside NATS."""

import base64
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millstream.errors import ConflictError, LogError, LogUnavailableError, UsageError
from millstream.eventlog.answers import Answers, receive
from millstream_schemas import subjects
from millstream_schemas.audit import Checkpoint, CheckpointView

FILE = "checkpoints.jsonl"
REQUEST_S = 2.0
PAGE = 500
_NO_MESSAGE = 10037
_WRONG_LAST = {10071, 10164}


class CheckpointLog:
    """One connection's access to the audit stream."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def append(self, checkpoint: Checkpoint, *, expected: int) -> int:
        """Append after ``expected`` (0 for none) and return the sequence.

        Raises:
            ConflictError: somebody else sealed first.
            LogUnavailableError: no answer; it may or may not be stored.
            LogError: the server refused.
        """
        answer = await self._answers.ask(
            subjects.AUDIT_CHECKPOINT,
            checkpoint.model_dump_json().encode(),
            timeout_s=REQUEST_S,
            headers={"Nats-Expected-Last-Subject-Sequence": str(expected)},
        )
        document = json.loads(answer.data)
        error = document.get("error")
        if error is None:
            return int(document["seq"])
        if error.get("err_code") in _WRONG_LAST:
            raise ConflictError(f"checkpoint: {error.get('description')}")
        raise LogError(f"checkpoint: {error.get('description')} ({error.get('err_code')})")

    async def last(self) -> CheckpointView | None:
        """Return the newest checkpoint as its leader has it."""
        return await self._get({"last_by_subj": subjects.AUDIT_CHECKPOINT})

    async def first_beyond(self, stream: str, sequence: int) -> int:
        """Return where the first checkpoint of ``stream`` beyond ``sequence`` stands, or would.

        Their ranges only grow within one stream, so the place is found by halving.
        """
        last = await self.last()
        low, high = 1, last.sequence + 1 if last else 1
        while low < high:
            middle = (low + high) // 2
            found = await self._get({"seq": middle})
            sealed = found.checkpoint if found else None
            if sealed and sealed.stream == stream and sealed.to_sequence > sequence:
                high = middle
            else:
                low = middle + 1
        return low

    async def newest(self, limit: int) -> list[CheckpointView]:
        """Return the last ``limit`` checkpoints, the oldest of them first."""
        last = await self.last()
        found: list[CheckpointView] = []
        if last is not None:
            async with contextlib.aclosing(self.after(max(0, last.sequence - limit))) as pages:
                async for page in pages:
                    found += page
        return found[-limit:]

    async def after(self, sequence: int) -> AsyncGenerator[list[CheckpointView], None]:
        """Yield the checkpoints after ``sequence`` of the audit stream, page by page."""
        left = 1
        while left:
            page, left = await self.page(sequence, PAGE)
            if page:
                sequence = page[-1].sequence
                yield page

    async def page(self, after: int, limit: int) -> tuple[list[CheckpointView], int]:
        """Return up to ``limit`` checkpoints after ``after``, and how many follow them.

        Raises:
            LogUnavailableError: the audit stream does not answer.
            LogError: a message is no checkpoint.
        """
        request = {"seq": after + 1, "batch": limit, "next_by_subj": subjects.AUDIT_CHECKPOINT}
        subject = f"$JS.API.DIRECT.GET.{subjects.AUDIT}"
        found: list[CheckpointView] = []
        async with self._answers.expected() as (reply, queue):
            await self._answers.send(subject, json.dumps(request).encode(), reply=reply)
            while True:
                message = await receive(queue, subject, REQUEST_S)
                headers = message.headers or {}
                status = headers.get("Status")
                if status in {"204", "404"}:
                    return found, int(headers.get("Nats-Num-Pending", "0"))
                if status is not None:
                    raise LogUnavailableError(f"checkpoints can't be read: {status}")
                found.append(_view(int(headers["Nats-Sequence"]), message.data))

    async def _get(self, request: dict[str, Any]) -> CheckpointView | None:
        name = f"$JS.API.STREAM.MSG.GET.{subjects.AUDIT}"
        answer = await self._answers.ask(name, json.dumps(request).encode(), timeout_s=REQUEST_S)
        document: dict[str, Any] = json.loads(answer.data)
        error = document.get("error")
        if error is None:
            message = document["message"]
            return _view(message["seq"], base64.b64decode(message.get("data", "")))
        if error.get("err_code") == _NO_MESSAGE:
            return None
        raise LogUnavailableError(f"checkpoints: {error.get('description')}")


def _view(sequence: int, payload: bytes) -> CheckpointView:
    try:
        checkpoint = Checkpoint.model_validate_json(payload)
    except ValidationError as error:
        raise LogError(f"message {sequence} of {subjects.AUDIT} is no checkpoint") from error
    return CheckpointView(sequence=sequence, checkpoint=checkpoint)


class CheckpointFile:
    """One projector's own checkpoints, a JSON line each, synced to the disk one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, checkpoint: Checkpoint) -> None:
        """Add a line and return once it is on the disk.

        Raises:
            OSError: it can't be written.
        """
        line = checkpoint.model_dump_json().encode() + b"\n"
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash left half a line
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self) -> list[Checkpoint]:
        """Return the checkpoints; half a line that a crash left counts for nothing.

        Raises:
            OSError: it can't be read.
        """
        if not self.path.exists():
            return []
        return [checkpoint for _, checkpoint in _lines(self.path) if checkpoint is not None]

    def put_aside(self, name: str) -> None:
        """Rename the file: it tells of another stream."""
        self.path.replace(self.path.with_name(name))


def read_checkpoints(path: Path) -> tuple[list[Checkpoint], int]:
    """Return the checkpoints of a file, and how many lines can't be read (a crash leaves halves).

    Raises:
        UsageError: it can't be read, or holds something else.
    """
    try:
        lines = list(_lines(path))
    except OSError as error:
        raise UsageError(
            f"{path} can't be read ({error.strerror}); name a file of checkpoints such as {FILE}",
            field="from-file",
            value=str(path),
        ) from error
    found = [checkpoint for _, checkpoint in lines if checkpoint is not None]
    if lines and not found:
        raise UsageError(
            f"{path} holds no checkpoint; name a file such as {FILE} of a projector's directory",
            field="from-file",
            value=str(path),
        )
    return found, len(lines) - len(found)


def _lines(path: Path) -> Iterator[tuple[int, Checkpoint | None]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield number, Checkpoint.model_validate_json(line)
            except ValidationError:
                yield number, None
