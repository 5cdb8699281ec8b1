"""`millstream batch start|list|show|watch|samples`: the options; the work is in `batch`."""

from enum import StrEnum
from typing import Annotated

import typer

from millstream.cli.batch_options import (
    TARGET_MAX,
    Concurrency,
    Id,
    MaxAttempts,
    MaxAttemptsTotal,
    MaxCostUsd,
    MaxDurationS,
    MaxFailureRatio,
    MaxTokens,
    Model,
    PriorityOption,
    Provider,
    ReasonOption,
    Seed,
    budgets,
)
from millstream.cli.options import DEFAULT_URL, Json, Token, Url

app = typer.Typer(
    help="Start, stop and look at batches.", rich_markup_mode=None, no_args_is_help=True
)


class State(StrEnum):
    """States of a batch (the option's choices; typer takes lists of enums only)."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


@app.command()
def start(
    *,
    count: Annotated[int, typer.Option("--count", help="How many samples.", min=1, max=TARGET_MAX)],
    model: Model = None,
    provider: Provider = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe.  [default: the server's]")] = None,
    concurrency: Concurrency = None,
    seed: Seed = None,
    max_attempts: MaxAttempts = None,
    priority: PriorityOption = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Only this difficulty.")] = None,
    sample_type: Annotated[str | None, typer.Option(help="Only this sample type.")] = None,
    instruction: Annotated[str | None, typer.Option(help="More words for the prompt.")] = None,
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
    """Start a batch and print its id."""
    from millstream.cli.batch import run_start

    body = {
        "target": count,
        "model": model,
        "provider": provider,
        "recipe": recipe,
        "concurrency": concurrency,
        "seed": seed,
        "max_attempts": max_attempts,
        "priority": priority,
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
        "reason": reason or None,
    }
    run_start(url, token, body, as_json=json)


@app.command("list")
def list_(
    *,
    state: Annotated[list[State] | None, typer.Option(help="Only these; repeatable.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 20,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List the batches, newest first."""
    from millstream.cli.batch import run_list

    run_list(url, token, states=[str(one) for one in state or ()], limit=limit, as_json=json)


@app.command()
def show(batch_id: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Show one batch."""
    from millstream.cli.batch import run_show

    run_show(url, token, batch_id, as_json=json)


@app.command()
def watch(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Ids; none: all that run.")
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Watch batches live until all have ended; exit code 0 when all were completed."""
    from millstream.cli.batch import run_watch

    raise typer.Exit(run_watch(url, token, list(ids or ()), as_json=json))


@app.command()
def samples(
    batch_id: Id,
    *,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=TARGET_MAX)] = 20,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print a batch's samples in the order they were made."""
    from millstream.cli.batch import run_samples

    run_samples(url, token, batch_id, limit=limit, as_json=json)
