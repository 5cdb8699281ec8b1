"""`millstream webhook …`: the options; the work is in `webhook`."""

from typing import Annotated

import typer

from millstream.cli.options import DEFAULT_URL, Group, Json, Token, Url

app = typer.Typer(
    cls=Group,
    help="Addresses that are told when batches finish, fail, get stuck or reach a budget.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(help="The webhook's id; `millstream webhook list` shows it.")]


@app.command()
def add(
    address: Annotated[str, typer.Argument(help="Where to send, https://…", metavar="ADDRESS")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="What to tell, such as batch.failed; repeatable.  [default: all]"),
    ] = None,
    description: Annotated[str, typer.Option(help="For whoever reads the list.")] = "",
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Add a webhook and print its secret, this once."""
    from millstream.cli.webhook import run_add

    body: dict[str, object] = {"url": address, "description": description}
    if event:
        body["events"] = event
    run_add(url, token, body, as_json=json)


@app.command("list")
def list_all(*, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Show the webhooks and their last deliveries."""
    from millstream.cli.webhook import run_list

    run_list(url, token, as_json=json)


@app.command()
def deliveries(
    webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False
) -> None:
    """Show a webhook's latest deliveries, newest first."""
    from millstream.cli.webhook import run_deliveries

    run_deliveries(url, token, webhook, as_json=json)


@app.command("test")
def ping(webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Send a ping now; exit code 1 when it is not taken."""
    from millstream.cli.webhook import run_test

    raise typer.Exit(run_test(url, token, webhook, as_json=json))


@app.command()
def replay(
    webhook: Id,
    after: Annotated[int, typer.Option(help="A place in the log; 0: its beginning.", min=0)],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Deliver once more what happened after a place in the log."""
    from millstream.cli.webhook import run_change

    body = {"after": after}
    run_change(url, token, webhook, "replay", body, as_json=json)


@app.command()
def off(webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Send nothing for now; what happens meanwhile is sent once it is on again."""
    from millstream.cli.webhook import run_change

    run_change(url, token, webhook, "change", {"is_active": False}, as_json=json)


@app.command()
def on(webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Send again, beginning with what happened meanwhile."""
    from millstream.cli.webhook import run_change

    run_change(url, token, webhook, "change", {"is_active": True}, as_json=json)


@app.command()
def rotate(webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Print a new secret; the one before signs beside it for a day."""
    from millstream.cli.webhook import run_rotate

    run_rotate(url, token, webhook, as_json=json)


@app.command()
def remove(webhook: Id, *, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """Remove a webhook and its history."""
    from millstream.cli.webhook import run_remove

    run_remove(url, token, webhook, as_json=json)
