"""`millstream batch start|list|show|watch|samples`: the options; the work is in `batch`."""

from enum import StrEnum
from typing import Annotated

import typer

from millstream.cli.batch_options import (
    TARGET_MAX,
    At,
    Concurrency,
    Id,
    MaxAttempts,
    MaxAttemptsTotal,
    MaxCostUsd,
    MaxDurationS,
    MaxFailureRatio,
    MaxTokens,
    Model,
    PoolOption,
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
    pool: PoolOption = None,
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
        "reason": reason or None,
    }
    run_start(url, token, body, as_json=json)


@app.command("list")
def list_(
    *,
    state: Annotated[list[State] | None, typer.Option(help="Only these; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Only of this recipe.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only those started for this topic.")] = None,
    text: Annotated[str | None, typer.Option(help="Found in id, model, recipe or topic.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="started, finished, progress, cost or samples; a minus before it puts the"
            " largest first.  [default: -started]"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 20,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List the batches, newest first unless sorted otherwise."""
    from millstream.cli.batch import run_list

    states = [str(one) for one in state or ()]
    filters = {"model": model, "recipe": recipe, "topic": topic, "text": text, "sort": sort}
    run_list(url, token, states=states, limit=limit, filters=filters, at=at, as_json=json)


@app.command()
def show(
    batch_id: Id,
    *,
    figures: Annotated[
        bool, typer.Option("--figures", help="Rates, time left, cost, latencies and errors.")
    ] = False,
    slot: Annotated[
        int | None, typer.Option(help="Every attempt of this slot: why it has a sample.", min=0)
    ] = None,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show one batch, its figures, or one of its slots."""
    from millstream.cli.batch import run_show

    run_show(url, token, batch_id, figures=figures, slot=slot, at=at, as_json=json)


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
    text: Annotated[str | None, typer.Option(help="Found in the sample's texts.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only of this topic, `area - topic`.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Only of this difficulty.")] = None,
    sample_type: Annotated[str | None, typer.Option(help="Only of this sample type.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=TARGET_MAX)] = 20,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print a batch's samples in the order they were made."""
    from millstream.cli.batch import run_samples

    filters = {
        "text": text,
        "topic": topic,
        "difficulty": difficulty,
        "sample_type": sample_type,
    }
    run_samples(url, token, batch_id, limit=limit, filters=filters, at=at, as_json=json)


@app.command()
def search(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Found in the samples of all batches.")
    ],
    *,
    topic: Annotated[str | None, typer.Option(help="Only of this topic, `area - topic`.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Only of this difficulty.")] = None,
    sample_type: Annotated[str | None, typer.Option(help="Only of this sample type.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=TARGET_MAX)] = 20,
    at: At = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Search the samples of all batches, the latest first; Ctrl-C ends the search."""
    from millstream.cli.search import run_search

    filters = {
        "topic": topic,
        "difficulty": difficulty,
        "sample_type": sample_type,
        "model": model,
    }
    run_search(url, token, text, limit=limit, filters=filters, at=at, as_json=json)
