"""`millstream admin …`: what the operator of a NATS cluster does once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="For whoever runs the NATS cluster (settings: MILLSTREAM_*).",
    rich_markup_mode=None,
    no_args_is_help=True,
)
tokens = typer.Typer(
    help="Tokens of the API: viewer reads, operator gives commands, admin does all.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(tokens, name="token")

TokenFile = Annotated[
    Path | None, typer.Option(help="The tokens' file.  [default: MILLSTREAM_TOKENS_FILE]")
]
TokenName = Annotated[str, typer.Argument(help="Who holds it; stands in what it does.")]


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


@tokens.command("create")
def create(
    name: TokenName,
    role: Annotated[
        Literal["viewer", "operator", "admin"], typer.Option(help="What it may do.")
    ] = "viewer",
    expires_in: Annotated[
        str | None,
        typer.Option(help="How long it lasts: 30d, 12h, 90m, 4w.  [default: until it is revoked]"),
    ] = None,
    file: TokenFile = None,
) -> None:
    """Make a token and print it: it is kept as a hash and can't be shown again."""
    from millstream.cli.admin_token import run_create

    raise typer.Exit(run_create(name=name, role=role, expires_in=expires_in, file=file))


@tokens.command("list")
def list_all(file: TokenFile = None) -> None:
    """Show names, roles, when each was made and expires, never a token."""
    from millstream.cli.admin_token import run_list

    raise typer.Exit(run_list(file=file))


@tokens.command("revoke")
def revoke(name: TokenName, file: TokenFile = None) -> None:
    """Take a token out; it is refused from the next request on."""
    from millstream.cli.admin_token import run_revoke

    raise typer.Exit(run_revoke(name=name, file=file))
