"""`millstream dataset …`: the options; the work is in `dataset`, and in the projector's package."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.cli.audit_app import Data, Nats
from millstream.cli.options import Json

app = typer.Typer(
    help="Take samples out as files: pinned to a position in the log, with a card.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keep `export` a command of its own though it is the only one."""


@app.command()
def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="BATCH_OR_DATASET",
            help="Id of a batch; of a dataset's first batch: all its batches.",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", help="File to write; with --format hf a new directory.")
    ],
    output: Annotated[
        str, typer.Option("--format", help="parquet, jsonl or hf.", metavar="FORMAT")
    ] = "parquet",
    at_seq: Annotated[
        int | None, typer.Option(help="As of this sequence of the log.  [default: now]", min=0)
    ] = None,
    since: Annotated[int, typer.Option(help="Only samples stored after this sequence.", min=0)] = 0,
    batch_only: Annotated[
        bool, typer.Option("--batch-only", help="This batch without its children.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Export samples as Parquet, JSON lines, or a folder that the Hugging Face hub reads."""
    from millstream.cli.dataset import run_export

    code = run_export(
        nats,
        data,
        {"id": name, "format": output, "at_seq": at_seq, "since": since},
        out=out,
        is_one_batch=batch_only,
        may_replace=force,
        as_json=json,
    )
    raise typer.Exit(code)
