"""/v1/batches: start, stop, pause, resume, priority, retry-failed, continue, clone, bulk."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from millstream_api.answers import model_answer
from millstream_api.command_context import Done
from millstream_api.context import Parts
from millstream_api.routes.asking import AskedMany, AskedNew, AskedOf, Reason, reasoned
from millstream_schemas.answers import BulkAnswer, CommandAnswer
from millstream_schemas.commands import (
    BulkCommand,
    CloneBatch,
    PauseBatch,
    RefillBatch,
    ResumeBatch,
    SetPriority,
    StartBatch,
    StopBatch,
)

router = APIRouter(prefix="/v1", tags=["commands"])

_CREATES: dict[str, Any] = {
    "status_code": 201,
    "response_model": CommandAnswer,
    "responses": {200: {"model": CommandAnswer, "description": "The key's batch existed already."}},
}
_CHANGES: dict[str, Any] = {
    "status_code": 202,
    "response_model": CommandAnswer,
    "responses": {200: {"model": CommandAnswer, "description": "It was so already."}},
}


@router.post("/batches", **_CREATES)
async def start_batch(
    command: StartBatch, parts: Parts, asked: AskedNew, reason: Reason
) -> Response:
    """Start a batch."""
    return _made(await parts.commands.start(reasoned(command, reason), asked))


@router.post("/batches:bulk", status_code=207, response_model=BulkAnswer)
async def command_batches(
    command: BulkCommand, parts: Parts, asked: AskedMany, reason: Reason
) -> Response:
    """Do the same to many batches; the answer tells each one's outcome."""
    return model_answer(await parts.bulk.run(reasoned(command, reason), asked), 207)


@router.post("/batches/{batch_id}/stop", **_CHANGES)
async def stop_batch(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: StopBatch | None = None,
) -> Response:
    """Stop a batch: no call starts after this; its end follows within half a second.

    A draining stop lets calls in flight finish for `grace_s`; a cancelling one, which takes
    none, may follow it.
    """
    body = reasoned(command or StopBatch(), reason)
    return _changed(await parts.commands.stop(batch_id, body, asked))


@router.post("/batches/{batch_id}/pause", **_CHANGES)
async def pause_batch(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: PauseBatch | None = None,
) -> Response:
    """Start no new call until the batch is resumed; calls in flight finish."""
    body = reasoned(command or PauseBatch(), reason)
    return _changed(await parts.commands.pause(batch_id, body, asked))


@router.post("/batches/{batch_id}/resume", **_CHANGES)
async def resume_batch(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: ResumeBatch | None = None,
) -> Response:
    """Let a paused batch go on."""
    body = reasoned(command or ResumeBatch(), reason)
    return _changed(await parts.commands.resume(batch_id, body, asked))


@router.patch("/batches/{batch_id}", response_model=CommandAnswer)
async def change_batch(
    batch_id: str, command: SetPriority, parts: Parts, asked: AskedOf, reason: Reason
) -> Response:
    """Let the slices that are queued from now on wait in another line."""
    done = await parts.commands.set_priority(batch_id, reasoned(command, reason), asked)
    return _answer(done, 200)


@router.post("/batches/{batch_id}/retry-failed", **_CREATES)
async def retry_failed(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: RefillBatch | None = None,
) -> Response:
    """Start a child of the same dataset that makes exactly the samples that failed."""
    body = reasoned(command or RefillBatch(), reason)
    return _made(await parts.children.refill(batch_id, "retry_failed", body, asked))


@router.post("/batches/{batch_id}/continue", **_CREATES)
async def continue_batch(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: RefillBatch | None = None,
) -> Response:
    """Start a child of the same dataset that makes every sample the batch did not."""
    body = reasoned(command or RefillBatch(), reason)
    return _made(await parts.children.refill(batch_id, "continue", body, asked))


@router.post("/batches/{batch_id}/clone", **_CREATES)
async def clone_batch(
    batch_id: str,
    parts: Parts,
    asked: AskedOf,
    reason: Reason,
    command: CloneBatch | None = None,
) -> Response:
    """Start a batch like this one, as a dataset of its own."""
    body = reasoned(command or CloneBatch(), reason)
    return _made(await parts.children.clone(batch_id, body, asked))


def _made(done: Done) -> Response:
    location = {"Location": f"/v1/batches/{done.view.id}"}
    return _answer(done, 201 if done.is_new else 200, location)


def _changed(done: Done) -> Response:
    return _answer(done, 202 if done.is_new else 200)


def _answer(done: Done, status: int, headers: dict[str, str] | None = None) -> Response:
    answer = CommandAnswer(batch=done.view, sequence=done.sequence)
    tag = {"ETag": f'"{done.view.version}"'}
    return model_answer(answer, status, {**tag, **(headers or {})})
