"""`millstream admin …`: what the operator of a NATS cluster does once."""

from typing import Annotated

import typer

app = typer.Typer(
    help="For whoever runs the NATS cluster (settings: MILLSTREAM_*).",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Keep `init` a command of its own: a Typer with one command would swallow its name."""


@app.command()
def init(
    pool: Annotated[
        list[str] | None,
        typer.Option(help="A pool of generators; may be repeated.  [default: MILLSTREAM_POOL]"),
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the cluster to answer.", min=0, max=3600)
    ] = 60.0,
) -> None:
    """Make the streams, buckets and consumers, or bring them up to date; safe to repeat."""
    from millstream.cli.admin import run_init

    raise typer.Exit(run_init(pools=tuple(pool or ()), wait_s=wait))
