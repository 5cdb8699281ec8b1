"""Options that several commands share."""

from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:5001"

Url = Annotated[
    str, typer.Option("--url", envvar="MILLSTREAM_URL", help="Address of the Millstream server.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="MILLSTREAM_TOKEN", help="Token of the server, if it has one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
