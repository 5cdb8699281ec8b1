"""The seven categories into which every failed attempt falls."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from millstream_schemas.envelope import Contract

ErrorCategory = Literal[
    "rate_limit",
    "timeout",
    "auth",
    "invalid_request",
    "content_filter",
    "server",
    "validation",
]
"""Which policy an error follows: see docs/operations.md."""


class ErrorInfo(Contract):
    """One error in words that are safe to show: no key, no traceback."""

    category: ErrorCategory
    message: Annotated[str, StringConstraints(max_length=2000)]
    slot: int | None = None
