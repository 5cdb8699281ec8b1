"""`millstream batch stop|pause|…|clone`: the options; the work is in `batch_change`."""

from typing import Annotated

import typer

from millstream.cli.batch_app import app
from millstream.cli.batch_options import (
    TARGET_MAX,
    Concurrency,
    Id,
    Ids,
    Level,
    MaxAttempts,
    MaxAttemptsTotal,
    MaxCostUsd,
    MaxDurationS,
    MaxFailureRatio,
    MaxTokens,
    PriorityOption,
    Provider,
    ReasonOption,
    Seed,
    budgets,
)
from millstream.cli.options import DEFAULT_URL, Json, Token, Url

__all__ = ["app"]

OldModel = Annotated[
    str | None, typer.Option("--model", help="Another model.  [default: the batch's]")
]
OldPool = Annotated[
    str | None, typer.Option("--pool", help="Another pool.  [default: the batch's]")
]


@app.command()
def stop(
    ids: Ids,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="Let calls in flight finish.")] = False,
    grace: Annotated[
        float | None,
        typer.Option(help="Seconds that --drain waits.  [default: 30]", min=0, max=600),
    ] = None,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Stop batches and print their final states."""
    from millstream.cli.batch_change import run_stop

    if grace is not None and not drain:
        raise typer.BadParameter("it goes with --drain", param_hint="--grace")
    body: dict[str, object] = {"mode": "drain" if drain else "cancel", "reason": reason}
    if grace is not None:
        body["grace_s"] = grace
    run_stop(url, token, ids, body, as_json=json)


@app.command()
def pause(
    ids: Ids,
    *,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Let batches start no new call; those in flight finish."""
    from millstream.cli.batch_change import run_change

    run_change(url, token, ids, "pause", {"reason": reason}, as_json=json)


@app.command()
def resume(
    ids: Ids,
    *,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Let paused batches go on."""
    from millstream.cli.batch_change import run_change

    run_change(url, token, ids, "resume", {"reason": reason}, as_json=json)


@app.command()
def priority(
    batch_id: Id,
    level: Annotated[Level, typer.Argument(metavar="LEVEL", help="high, normal or low.")],
    *,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Let what a batch queues from now on go before or after others."""
    from millstream.cli.batch_change import run_priority

    body = {"priority": level, "reason": reason}
    run_priority(url, token, batch_id, body, as_json=json)


@app.command(
    "retry-failed", help="Start a batch that makes the samples that failed, and print its id."
)
@app.command(
    "continue",
    help="Start a batch that makes every sample an ended one did not, and print its id.",
)
def refill(
    context: typer.Context,
    batch_id: Id,
    *,
    model: OldModel = None,
    provider: Provider = None,
    concurrency: Concurrency = None,
    seed: Seed = None,
    max_attempts: MaxAttempts = None,
    priority: PriorityOption = None,
    pool: OldPool = None,
    max_cost_usd: MaxCostUsd = None,
    max_tokens: MaxTokens = None,
    max_duration_s: MaxDurationS = None,
    max_failure_ratio: MaxFailureRatio = None,
    max_attempts_total: MaxAttemptsTotal = None,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Start the child of an ended batch; which, says the name under which this was called."""
    from millstream.cli.batch_change import run_child

    overrides = {
        "model": model,
        "provider": provider,
        "concurrency": concurrency,
        "seed": seed,
        "max_attempts": max_attempts,
        "priority": priority,
        "pool": pool,
        "budgets": budgets(
            max_cost_usd=max_cost_usd,
            max_tokens=max_tokens,
            max_duration_s=max_duration_s,
            max_failure_ratio=max_failure_ratio,
            max_attempts=max_attempts_total,
        ),
    }
    command = str(context.info_name)
    run_child(url, token, batch_id, command, overrides, reason=reason, as_json=json)


@app.command()
def clone(
    batch_id: Id,
    *,
    count: Annotated[
        int | None,
        typer.Option(help="How many samples.  [default: as many]", min=1, max=TARGET_MAX),
    ] = None,
    model: OldModel = None,
    provider: Provider = None,
    recipe: Annotated[
        str | None, typer.Option(help="Another recipe.  [default: the batch's own, as it was]")
    ] = None,
    concurrency: Concurrency = None,
    seed: Seed = None,
    max_attempts: MaxAttempts = None,
    priority: PriorityOption = None,
    pool: OldPool = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic; balance: all.")] = None,
    difficulty: Annotated[
        str | None, typer.Option(help="Only this difficulty; balance: all.")
    ] = None,
    sample_type: Annotated[
        str | None, typer.Option(help="Only this sample type; balance: all.")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="Other words for the prompt.")] = None,
    max_cost_usd: MaxCostUsd = None,
    max_tokens: MaxTokens = None,
    max_duration_s: MaxDurationS = None,
    max_failure_ratio: MaxFailureRatio = None,
    max_attempts_total: MaxAttemptsTotal = None,
    reason: ReasonOption = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Start a batch like another one, as a dataset of its own, and print its id."""
    from millstream.cli.batch_change import run_child

    overrides = {
        "target": count,
        "model": model,
        "provider": provider,
        "recipe": recipe,
        "concurrency": concurrency,
        "seed": seed,
        "max_attempts": max_attempts,
        "priority": priority,
        "pool": pool,
        "topic": topic,
        "difficulty": difficulty,
        "sample_type": sample_type,
        "instruction": instruction,
        "budgets": budgets(
            max_cost_usd=max_cost_usd,
            max_tokens=max_tokens,
            max_duration_s=max_duration_s,
            max_failure_ratio=max_failure_ratio,
            max_attempts=max_attempts_total,
        ),
    }
    run_child(url, token, batch_id, "clone", overrides, reason=reason, as_json=json)
