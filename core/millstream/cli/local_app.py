"""`millstream local …`: the real model that runs on this machine."""

import typer

app = typer.Typer(
    help="The local model: a real one of 135 million parameters, for trying things out.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON)
def pull(context: typer.Context) -> None:
    """Fetch the weights (98 MB) into the cache and verify them."""
    _become("local-pull", context.args)


@app.command(context_settings=_PASS_ON)
def serve(context: typer.Context) -> None:
    """Serve the model on an OpenAI-compatible HTTP API."""
    _become("local-model", ["serve", *context.args])


def _become(service: str, arguments: list[str]) -> None:
    from millstream.cli.services import become

    become(service, arguments)
