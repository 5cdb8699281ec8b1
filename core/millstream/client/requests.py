"""What both clients share: how a request is written, when it is repeated, how it is read."""

import os
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from millstream.client.errors import ApiError, UnreachableError, refusal
from millstream.errors import UsageError
from millstream.runtime.clock import new_id

AnswerT = TypeVar("AnswerT", bound=BaseModel)

TIMEOUT = httpx.Timeout(15.0, connect=3.0)
ATTEMPTS = 4
PAUSE_S = 0.3
PAUSE_MAX_S = 5.0
"""A server that asks for a longer pause is asked again by the caller, not here."""
BUSY = frozenset({429, 503})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request: ``query`` and ``headers`` without a value are left out."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: BaseModel | Mapping[str, Any] | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return httpx's keywords; a command gets a key, so that repeating it is safe."""
        headers = {name: value for name, value in self.headers.items() if value is not None}
        if self.method in {"POST", "PATCH"}:
            headers.setdefault("Idempotency-Key", new_id())
        found: dict[str, Any] = {
            "params": {name: _plain(value) for name, value in self.query.items() if _given(value)}
        }
        if isinstance(self.body, BaseModel):
            found["json"] = self.body.model_dump(mode="json", exclude_unset=True)
        elif self.body is not None:
            found["json"] = self.body
        return {**found, "headers": headers}


def options(url: str, token: str | None) -> dict[str, Any]:
    """Return httpx's keywords for a client of the server at ``url``.

    Raises:
        UsageError: ``url`` is not an http(s) address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"url {url!r} is not an address; give one such as http://127.0.0.1:5001", field="url"
        )
    return {
        "base_url": url.rstrip("/"),
        "timeout": TIMEOUT,
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        # A proxy from the environment can't reach this machine's own loopback.
        "trust_env": parts.hostname not in LOOPBACK,
        "verify": _authorities() if parts.scheme == "https" else True,
    }


def _authorities() -> ssl.SSLContext | bool:
    """Return whose certificates are taken: SSL_CERT_FILE's, else the well-known ones.

    Raises:
        UsageError: that file can't be used.
    """
    file = os.environ.get("SSL_CERT_FILE")
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"SSL_CERT_FILE={file} can't be used ({error}); give a PEM file of certificates",
            field="SSL_CERT_FILE",
            value=file,
        ) from error


def segment(value: str | int) -> str:
    """Return ``value`` as one segment of a path: what a caller gives can't lead elsewhere.

    Raises:
        UsageError: it is no name of anything.
    """
    if value in {"", ".", ".."}:
        raise UsageError(f"{value!r} names nothing; give an id", field="id")
    return quote(str(value), safe="")


def pause_after(answer: httpx.Response, attempt: int) -> float | None:
    """Return how long to wait before asking again, in seconds; None when the answer is final."""
    if answer.status_code not in BUSY or attempt >= ATTEMPTS:
        return None
    asked = answer.headers.get("Retry-After", "")
    pause = float(asked) if asked.isascii() and asked.isdigit() else 0.0
    return None if pause > PAUSE_MAX_S else max(pause, backoff(attempt))


def backoff(attempt: int) -> float:
    """Return a pause with full jitter, doubling from ``PAUSE_S`` seconds."""
    return random.uniform(0.5, 1.0) * PAUSE_S * 2.0 ** (attempt - 1)  # noqa: S311  # no secret


def unreachable(base_url: object, error: Exception) -> UnreachableError:
    """Return the error that says which server gave no answer, and what to do."""
    return UnreachableError(
        f"no answer from {base_url} ({str(error) or type(error).__name__}); "
        "start a server with `millstream up` or name another with --url"
    )


def read(answer: httpx.Response, kind: type[AnswerT]) -> AnswerT:
    """Return the body of ``answer``, which has been read, as ``kind``.

    Raises:
        ApiError: it is a refusal, or not what this version of the client knows.
    """
    check(answer)
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise ApiError(
            answer.status_code,
            f"{answer.url} did not answer with a {kind.__name__}; is a Millstream server of this "
            "version there?",
        ) from error


def check(answer: httpx.Response) -> None:
    """Raise what ``answer``, whose body has been read, refuses with."""
    if answer.is_success:
        return
    try:
        body = answer.json()
    except ValueError:
        body = None
    raise refusal(answer.status_code, str(answer.url), body)


def _given(value: Any) -> bool:
    return value is not None and value != ()


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else value
