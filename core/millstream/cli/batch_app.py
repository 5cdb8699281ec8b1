"""`millstream batch …`: the options; the work is in `batch` and `watch`."""

from enum import StrEnum
from typing import Annotated, Literal

import typer

from millstream.cli.options import DEFAULT_URL, Json, Token, Url

TARGET_MAX = 1_000_000
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a batch.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of batches.")]

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
    model: Annotated[
        str | None, typer.Option(help="Model alias or provider/model.  [default: the server's]")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe.  [default: the server's]")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="LLM calls in flight.", min=1, max=4096)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the plan.", min=0, max=2**63 - 1)
    ] = None,
    priority: Annotated[
        Literal["high", "normal", "low"] | None, typer.Option(help="Before or after others.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="Only this difficulty.")] = None,
    sample_type: Annotated[str | None, typer.Option(help="Only this sample type.")] = None,
    instruction: Annotated[str | None, typer.Option(help="More words for the prompt.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Start a batch and print its id."""
    from millstream.cli.batch import run_start

    body = {
        "target": count,
        "model": model,
        "recipe": recipe,
        "concurrency": concurrency,
        "seed": seed,
        "priority": priority,
        "topic": topic,
        "difficulty": difficulty,
        "sample_type": sample_type,
        "instruction": instruction,
    }
    run_start(url, token, body, as_json=json)


@app.command()
def stop(
    ids: Ids,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="Let calls in flight finish.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Stop batches and print their final states."""
    from millstream.cli.batch import run_stop

    mode = "drain" if drain else "cancel"
    run_stop(url, token, ids, mode=mode, reason=reason, as_json=json)


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
