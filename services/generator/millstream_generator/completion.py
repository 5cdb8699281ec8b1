"""What a call to a model gives: a completion, or a failure in one of seven categories."""

import time
from dataclasses import dataclass
from typing import Literal

from millstream_schemas.envelope import EXACT_MOST
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

TOKENS_MOST = 10_000_000
"""No model reads or writes so many tokens in one call."""
ANSWER_CHARACTERS_MOST = 250_000
"""More than validation lets pass: such an answer is refused there, and the rest is not read."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call: chat messages, response format (or None), token limit and seed."""

    batch_id: str
    messages: list[dict[str, str]]
    response_format: dict[str, object] | None
    max_tokens: int
    seed: int
    temperature: float
    top_p: float | None
    extra: dict[str, float | int | str | bool]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer that arrived whole; whether it is a usable sample is for validation to say."""

    text: str
    finish_reason: str | None
    usage: Usage
    request_id: str | None


@dataclass(slots=True)
class Progress:
    """What has arrived of a call so far; read when the call is cancelled."""

    characters: int = 0
    started_at: float = 0.0
    first_token_at: float | None = None

    @property
    def elapsed_ms(self) -> float:
        """How long ago the call began; 0 if it has not."""
        return round((time.monotonic() - self.started_at) * 1000, 3) if self.started_at else 0.0


def storable(text: str) -> str:
    """Return ``text`` with NUL and halves of surrogate pairs replaced: no event can hold them."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\\0")


Link = Literal["refused", "lost"]
"""What a failed connection tells: none could be made, or it broke in the middle of a call."""


class CallFailedError(Exception):
    """A call that gave no answer; ``message`` is safe to show.

    ``is_unpaid``: no provider bills it, since nothing was sent or an HTTP status refused it. Of
    any other one the provider may have counted tokens that it has told nobody.
    """

    def __init__(
        self,
        category: ErrorCategory,
        message: str,
        *,
        status_code: int | None = None,
        retry_after_s: float | None = None,
        link: Link | None = None,
        is_unpaid: bool = False,
    ) -> None:
        super().__init__(message)
        self.category = category
        self.message = storable(message)[:2000]
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        self.link = link
        self.is_unpaid = is_unpaid


class FatalError(CallFailedError):
    """The batch can't succeed: a wrong key, an unknown model, requests that are all refused."""


def priced(route: Route, tokens_in: int | None, tokens_out: int | None) -> int | None:
    """Return the cost in nano-dollars; None where the price or the tokens are not known."""
    if route.price is None or tokens_in is None or tokens_out is None:
        return None
    cost = route.price.cost_nano_usd(tokens_in, tokens_out)
    return cost if cost <= EXACT_MOST else None


def told_tokens(value: object) -> int | None:
    """Return a number of tokens as a provider told it; None where no call can have used so many.

    One absurd number would stand in the log for good, and in every sum over it.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= TOKENS_MOST else None
