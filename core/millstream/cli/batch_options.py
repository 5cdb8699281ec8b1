"""Options that several `millstream batch` commands share."""

from typing import Annotated, Literal

import typer

from millstream.cli.at import parse_at
from millstream.errors import UsageError

TARGET_MAX = 1_000_000


def _checked_at(text: str | None) -> str | None:
    try:
        parse_at(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    return text


Level = Literal["high", "normal", "low"]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a batch.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of batches.")]
Model = Annotated[
    str | None, typer.Option(help="Model alias or provider/model.  [default: the server's]")
]
Provider = Annotated[str | None, typer.Option(help="Only this provider of the model.")]
Concurrency = Annotated[int | None, typer.Option(help="LLM calls in flight.", min=1, max=4096)]
Seed = Annotated[int | None, typer.Option(help="Seed of the plan.", min=0, max=2**63 - 1)]
MaxAttempts = Annotated[
    int | None, typer.Option(help="Calls per sample.  [default: 3]", min=1, max=20)
]
PriorityOption = Annotated[Level | None, typer.Option("--priority", help="Before or after others.")]
PoolOption = Annotated[
    str | None, typer.Option("--pool", help="Whose generators make it.  [default: the server's]")
]
MaxCostUsd = Annotated[
    float | None, typer.Option(help="Budget: US dollars; the prices must be known.", min=1e-9)
]
MaxTokens = Annotated[int | None, typer.Option(help="Budget: tokens, in and out.", min=1)]
MaxDurationS = Annotated[float | None, typer.Option(help="Budget: seconds.", min=0.001)]
MaxFailureRatio = Annotated[
    float | None,
    typer.Option(help="Budget: failed of all outcomes, from the 20th on.", min=0, max=1),
]
MaxAttemptsTotal = Annotated[
    int | None, typer.Option(help="Budget: calls of the whole batch.", min=1)
]
At = Annotated[
    str | None,
    typer.Option(help="As of this sequence or time.", metavar="SEQ|TIME", callback=_checked_at),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


def budgets(**bounds: float | None) -> dict[str, float] | None:
    """Return the budgets that were given, None when none was."""
    given = {name: value for name, value in bounds.items() if value is not None}
    return given or None
