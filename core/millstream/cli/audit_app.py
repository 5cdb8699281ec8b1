"""`millstream audit …`: the options; the work is in `audit`, and in the projector's package."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.cli.options import Json

Id = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch.")]
Nats = Annotated[
    str | None,
    typer.Option(
        "--nats",
        help="Address of NATS.  [default: MILLSTREAM_NATS_URL, else that of `up` on --data]",
        metavar="URL",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data directory of `up`; its log is read when nothing runs.", file_okay=False
    ),
]

app = typer.Typer(
    help="Prove what the log says: verify, look back, export. Reads the log itself, over NATS.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command()
def verify(
    *,
    from_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--from-file", help="Compare with the checkpoints of this file too; repeatable."
        ),
    ] = None,
    log_only: Annotated[
        bool, typer.Option("--log-only", help="Compare no tables; needs no projector.")
    ] = False,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Recompute the chain, fold the log anew and compare; exit code 1 on any difference."""
    from millstream.cli.audit import run_verify

    files = tuple(from_file or ())
    raise typer.Exit(run_verify(nats, data, files, log_only=log_only, as_json=json))


@app.command()
def rebuild(*, nats: Nats = None, data: Data = None, json: Json = False) -> None:
    """Make a projector's read model anew beside the old one, and swap it in."""
    from millstream.cli.audit import run_rebuild

    raise typer.Exit(run_rebuild(nats, data, as_json=json))


@app.command()
def show(
    batch_id: Id,
    *,
    at: Annotated[
        str | None,
        typer.Option(help="A sequence, or a time such as 2026-01-31T12:00:00Z.  [default: now]"),
    ] = None,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show a batch as it was at a moment."""
    from millstream.cli.audit import run_show

    raise typer.Exit(run_show(nats, data, batch_id, at=at, as_json=json))


@app.command()
def diff(
    batch_id: Id,
    first: Annotated[str, typer.Argument(metavar="A", help="A sequence or a time.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one, or `now`.")],
    *,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show what changed in a batch from one moment to another, and who did it."""
    from millstream.cli.audit import run_diff

    raise typer.Exit(run_diff(nats, data, batch_id, between=(first, second), as_json=json))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)],
    *,
    batch: Annotated[str | None, typer.Option(help="Only this batch's events.")] = None,
    at: Annotated[
        int | None,
        typer.Option(min=1, help="As of this sequence: the same bytes each time.  [default: now]"),
    ] = None,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write the raw events as JSON lines, with a manifest."""
    from millstream.cli.audit import run_export

    raise typer.Exit(run_export(nats, data, file, batch_id=batch, at=at, as_json=json))


@app.command()
def redact(
    batch_id: Id,
    slots: Annotated[
        list[int] | None, typer.Argument(metavar="SLOT...", help="Slots of the batch.", min=0)
    ] = None,
    *,
    reason: Annotated[
        str, typer.Option(help="Why; kept in the log for ever, so without what is erased.")
    ] = "",
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Erase rejected answers and error messages too.")
    ] = False,
    contains: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Erase nothing: list the slots that hold this text."),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Have every projector make its file anew afterwards."),
    ] = False,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Erase the texts of samples from the log and the read model; the proof stays valid.

    The batch must have ended. Repeat the command when it was cut off.
    """
    from millstream.cli.redact import Wanted, run_find, run_redact

    if contains is not None:
        raise typer.Exit(run_find(nats, data, batch_id, contains, as_json=json))
    wanted = Wanted(tuple(slots or ()), reason.strip(), attempts=attempts, rebuild=rebuild)
    raise typer.Exit(run_redact(nats, data, batch_id, wanted, as_json=json))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)],
    *,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Bring an export into an empty log; sequences, times and roots stay what they were."""
    from millstream.cli.audit import run_import

    raise typer.Exit(run_import(nats, data, file, as_json=json))


@app.command()
def checkpoints(
    *,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 20,
    nats: Nats = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List the sealed roots of the hash chain."""
    from millstream.cli.audit import run_checkpoints

    raise typer.Exit(run_checkpoints(nats, data, limit=limit, as_json=json))
