"""/api/generate/batch: start and stop, as older pages know them."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from millstream.errors import UsageError
from millstream_api.answers import plain_answer
from millstream_api.command_context import Asked
from millstream_api.context import Asker, Context, Parts
from millstream_schemas import commands
from millstream_schemas.answers import BulkItem
from millstream_schemas.commands import BULK_MOST, BulkCommand, StartBatch, StopBatch
from millstream_schemas.control import TARGET_MAX
from millstream_schemas.views import PlainQuery

router = APIRouter(prefix="/api/generate/batch", tags=["seed"])


class SeedStart(BaseModel):
    """The start form; ``target_count`` is the wanted size of the whole dataset."""

    model_config = ConfigDict(extra="ignore")

    target_count: Annotated[int, Field(strict=True, gt=0, lt=2**53)]
    provider: commands.ProviderName | None = "auto"
    model: commands.ModelWords | None = None
    recipe: commands.RecipeName | None = None
    topic: commands.TopicWords | None = None
    difficulty: commands.ChoiceWords | None = None
    sample_type: commands.ChoiceWords | None = None
    reasoning_instruction: commands.Instruction | None = None
    smart_mode: bool = False


class SeedStop(BaseModel):
    """One batch, or all when ``batch_id`` is left out."""

    model_config = ConfigDict(extra="ignore")

    batch_id: Annotated[str, Field(max_length=200)] = ""


@router.post("/start")
async def start(form: SeedStart, parts: Parts, actor: Asker) -> Response:
    """Start a batch that brings the dataset to ``target_count`` samples."""
    needed = await _needed(form.target_count, parts)
    command = StartBatch(
        recipe=form.recipe or None,
        model=form.model or None,
        provider=form.provider or None,
        target=needed,
        topic=None if form.smart_mode else form.topic or None,
        difficulty=None if form.smart_mode else form.difficulty or None,
        sample_type=form.sample_type or None,
        instruction=form.reasoning_instruction or None,
        smart_mode=form.smart_mode,
    )
    done = await parts.commands.start(command, Asked(actor))
    view = done.view
    return plain_answer(
        {
            "success": True,
            "batch_id": view.id,
            "provider": view.provider,
            "model": view.model,
            "smart_mode": view.smart_mode,
            "target": view.target,
            "features": ["live progress", "resume after a crash", "exact sample count"],
            "message": f"Started batch {view.id}: {view.target} samples with {view.model}",
        }
    )


@router.post("/stop")
async def stop(form: SeedStop, parts: Parts, actor: Asker) -> Response:
    """Stop one batch, or all that live."""
    if "batch_id" in form.model_fields_set:
        done = await parts.commands.stop(form.batch_id, StopBatch(), Asked(actor))
        words = "Stopped" if done.is_new else "Already stopped"
        return plain_answer(
            {
                "success": True,
                "batch_id": done.view.id,
                "stopped": [done.view.id],
                "message": f"{words} batch {done.view.id}",
            }
        )
    await parts.reads.caught_up(0)
    ids = tuple(view.id for view in parts.reads.live() if view.state != "stopping")
    asked = Asked(actor)
    results: list[BulkItem] = []
    for start in range(0, len(ids), BULK_MOST):
        command = BulkCommand(ids=ids[start : start + BULK_MOST])
        results += (await parts.bulk.run(command, asked)).results
    return plain_answer(_stopped_all(results))


def _stopped_all(results: list[BulkItem]) -> dict[str, Any]:
    """Return the answer to a stop of all; who ended by itself meanwhile is no failure."""
    stopped = [result.id for result in results if result.status in {200, 202}]
    failed = [result for result in results if result.status >= 500]
    answer: dict[str, Any] = {
        "success": not failed,
        "stopped": stopped,
        "message": f"Stopped batches: {len(stopped)}" if results else "No batch was running",
    }
    if failed:
        answer["error"] = f"{len(failed)} batches were not stopped: {failed[0].detail}"
    return answer


async def _needed(target_count: int, parts: Context) -> int:
    """Return how many samples are missing to ``target_count``.

    Raises:
        UsageError: none, or more than one batch may have.
        QueryFailedError: the size of the dataset can't be read.
    """
    query = PlainQuery(min_sequence=parts.hub.sequence)
    total = (await parts.reads.queries.statistics(query)).total
    needed = target_count - total
    if needed <= 0:
        raise UsageError(
            f"target_count={target_count} is reached: the dataset has {total} samples already; "
            f"give more than {total}",
            field="target_count",
            value=target_count,
        )
    if needed > TARGET_MAX:
        raise UsageError(
            f"target_count={target_count} asks for {needed:,} new samples; a batch makes at most "
            f"{TARGET_MAX:,}, so give at most {total + TARGET_MAX}",
            field="target_count",
            value=target_count,
        )
    return needed
