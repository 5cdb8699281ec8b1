"""`millstream sql …`: the options; the work is in `sql`, and in the projector's package."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.cli.audit_app import Data, Nats


def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="STATEMENT", help="One SELECT, in quotes.")
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Read the statement from a file; - is stdin.", allow_dash=True),
    ] = None,
    output: Annotated[
        str, typer.Option("--format", help="table, json or csv.", metavar="FORMAT")
    ] = "table",
    limit_rows: Annotated[
        int, typer.Option(help="Print so many rows at most.", min=1, max=1_000_000)
    ] = 1_000,
    timeout: Annotated[
        float, typer.Option(help="Cut the statement off after so many seconds.", max=600)
    ] = 30.0,
    min_sequence: Annotated[
        int, typer.Option(help="Read only once everything up to it is folded.", min=0)
    ] = 0,
    nats: Nats = None,
    data: Data = None,
) -> None:
    """Run a read-only statement on a copy of the read model (docs/datasets.md has the tables)."""
    from millstream.cli.sql import run_sql

    code = run_sql(
        nats,
        data,
        statement,
        file=file,
        form=output,
        rows_most=limit_rows,
        seconds_most=timeout,
        min_sequence=min_sequence,
    )
    raise typer.Exit(code)
