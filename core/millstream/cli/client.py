"""A small client of the /v1 API: timeouts everywhere, failures as one clear line."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from millstream.errors import MillstreamError

TIMEOUT = httpx.Timeout(15.0, connect=3.0)
ATTEMPTS = 3
RETRY_PAUSE_S = 0.3
BATCHES = "/v1/batches"
BATCH_ID = re.compile(r"batch_[0-9]{9,11}_[0-9a-f]{8}")
ID_SHOWN_MAX = 80
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class ServerRequestError(MillstreamError):
    """The server refused a request or did not answer; the message is one line for a person."""


class Server:
    """The API at ``url``; ``token`` is sent as a bearer token when given. Use as a context.

    Raises:
        ServerRequestError: ``url`` is not an http(s) address.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerRequestError(
                f"--url {url!r} is not an address such as http://127.0.0.1:5001"
            )
        self.url = url.rstrip("/")
        self.answered_at: float | None = None  # on the monotonic clock
        self._client = httpx.Client(
            base_url=self.url,
            timeout=TIMEOUT,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # A proxy from the environment can't reach this machine's own loopback.
            trust_env=parts.hostname not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the JSON object at ``path``; query values that are None are left out.

        Raises:
            ServerRequestError: it was refused or not answered.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", path, params=given)

    def post(self, path: str, body: dict[str, Any], *, key: str) -> dict[str, Any]:
        """Send ``body``; repeated with the same ``Idempotency-Key`` when a connection is lost.

        Raises:
            ServerRequestError: it was refused or not answered.
        """
        return self._request("POST", path, json=body, headers={"Idempotency-Key": key})

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a change; repeated when a connection is lost, since it says how things shall be.

        Raises:
            ServerRequestError: it was refused or not answered.
        """
        return self._request("PATCH", path, json=body)

    def stream(self, path: str, *, last_id: str, silence_s: float) -> Iterator[bytes]:
        """Yield the bytes of an event stream until its end.

        Raises:
            ServerRequestError: the server refused.
            httpx.TransportError: the connection failed or was silent for ``silence_s``.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(TIMEOUT.connect, read=silence_s)
        with self._client.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status_code >= 500:
                raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise ServerRequestError(problem_line(answer))
            for chunk in answer.iter_raw():
                self.answered_at = time.monotonic()
                yield chunk

    def unreachable(self, error: Exception) -> str:
        """Return the line that says why the server can't be reached, and what to do."""
        return (
            f"no answer from {self.url} ({str(error) or type(error).__name__}); "
            "start a server with `millstream up` or name another with --url"
        )

    def _request(self, method: str, path: str, **more: Any) -> dict[str, Any]:  # httpx's keywords
        attempt = 1
        while True:
            try:
                answer = self._client.request(method, path, **more)
            except httpx.TransportError as error:
                nobody_there = self.answered_at is None and isinstance(error, httpx.ConnectError)
                if nobody_there or attempt == ATTEMPTS:
                    raise ServerRequestError(self.unreachable(error)) from error
            else:
                self.answered_at = time.monotonic()
                busy = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
                if not busy or attempt == ATTEMPTS:
                    return _document(answer)
            time.sleep(RETRY_PAUSE_S * attempt)
            attempt += 1


def batch_path(batch_id: str) -> str:
    """Return the path of a batch; what a user typed can't lead elsewhere.

    Raises:
        ServerRequestError: no batch can have this id.
    """
    if not BATCH_ID.fullmatch(batch_id):
        shown = batch_id if len(batch_id) <= ID_SHOWN_MAX else f"{batch_id[:ID_SHOWN_MAX]}..."
        raise ServerRequestError(
            f"ID {json.dumps(shown, ensure_ascii=False)} is not a batch's: ids look like "
            "batch_1700000000_0a1b2c3d, and `millstream batch list` shows them"
        )
    return f"{BATCHES}/{batch_id}"


def _document(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise ServerRequestError(problem_line(answer))
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServerRequestError(
            f"{answer.url} did not answer with a JSON object; is a Millstream server there?"
        )
    return document


def problem_line(answer: httpx.Response) -> str:
    """Return what a refusal says as one line: problem+json's detail and fields, or the status."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return f"{answer.url} answered HTTP {answer.status_code} {answer.reason_phrase}"
    words = str(problem.get("detail") or problem.get("title") or f"HTTP {answer.status_code}")
    for wrong in problem.get("errors") or ():
        if isinstance(wrong, dict) and str(wrong.get("message", "")) not in words:
            value = json.dumps(wrong.get("value"), ensure_ascii=False)
            words += f"; {wrong.get('field', '?')}={value}: {wrong.get('message')}"
    return " ".join(words.split())
