"""The commands and their options; each imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.cli import (
    admin_app,
    audit_app,
    batch_change_app,
    dataset_app,
    local_app,
    sql_app,
    webhook_app,
)
from millstream.cli.options import DEFAULT_URL, Group, Json, Token, Url

app = typer.Typer(
    cls=Group,
    help="Millstream generates LLM training data in batches and keeps every event of it.",
    rich_markup_mode=None,  # rich would double the time to the help text
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
app.add_typer(batch_change_app.app, name="batch", cls=Group)
app.add_typer(local_app.app, name="local", cls=Group)
app.add_typer(admin_app.app, name="admin", cls=Group)
app.add_typer(audit_app.app, name="audit", cls=Group)
app.add_typer(dataset_app.app, name="dataset", cls=Group)
app.add_typer(webhook_app.app, name="webhook", cls=Group)
app.command()(sql_app.sql)


@app.command()
def up(
    host: Annotated[
        str | None, typer.Option(help="Address to bind.  [default: 127.0.0.1]", metavar="ADDRESS")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port of page and API; 0 takes a free one.  [default: 5001]", max=65535),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Directory of the event store and the read model.", file_okay=False),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="Model of a batch that names none: auto, local, simulated or a name."),
    ] = "auto",
    generators: Annotated[
        int, typer.Option(help="How many generator processes to run.", min=1, max=64)
    ] = 1,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    from millstream.cli.up import run_up

    raise typer.Exit(run_up(host=host, port=port, data=data, model=model, generators=generators))


@app.command()
def api() -> None:
    """Run the API with the page, alone (settings: MILLSTREAM_*)."""
    _become("api")


@app.command()
def generator() -> None:
    """Run one generator, alone (settings: MILLSTREAM_*)."""
    _become("generator")


@app.command()
def projector() -> None:
    """Run one projector, alone (settings: MILLSTREAM_*)."""
    _become("projector")


@app.command()
def demo(
    *,
    watch: Annotated[bool, typer.Option(help="Watch both batches to their end.")] = True,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Start 20 samples of the default model and 100 simulated ones on a running `up`."""
    from millstream.cli.batch import run_demo

    raise typer.Exit(run_demo(url, token, watch=watch, as_json=json))


@app.command()
def doctor(
    host: Annotated[str | None, typer.Option(help="Address that `up` would bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that `up` would bind.", max=65535)] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory that `up` would use.", file_okay=False)
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Check whether this machine can run Millstream; exit code 1 when something is missing."""
    from millstream.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(host=host, port=port, data=data, as_json=json))


@app.command()
def version(*, json: Json = False) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    text = installed("millstream")
    typer.echo(f'{{"version": "{text}"}}' if json else f"millstream {text}")


def _become(service: str) -> None:
    from millstream.cli.services import become

    become(service)
