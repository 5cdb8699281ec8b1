"""Options that several commands share."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

DEFAULT_URL = "http://127.0.0.1:5001"

Url = Annotated[
    str, typer.Option("--url", envvar="MILLSTREAM_URL", help="Address of the Millstream server.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="MILLSTREAM_TOKEN", help="Token of the server, if it has one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Group(TyperGroup):
    """A group of commands whose help answers at once."""

    def get_help_option(self, ctx: Any) -> TyperOption | None:  # a type that typer keeps private
        """Return ``--help`` with a default: without one it is coerced, which loads pydantic."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option
