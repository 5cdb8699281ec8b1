"""The command line's way to the /v1 API: documents as they come, failures as one clear line."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx

from millstream.client.requests import ApiRequest, check
from millstream.client.sync_requests import SyncRequests
from millstream.errors import MillstreamError, UsageError

CONNECT_TIMEOUT_S = 3.0
BATCHES = "/v1/batches"
BATCH_ID = re.compile(r"batch_[0-9]{9,11}_[0-9a-f]{8}")
ID_SHOWN_MAX = 80


class ServerRequestError(MillstreamError):
    """What was asked can be no request, or its answer no answer; one line for a person."""


class Server(SyncRequests):
    """The API at ``url``, asked as `millstream.client` asks it. Use as a context.

    Documents stay as the server sent them: `--json` prints what a newer server adds, too.

    Raises:
        ServerRequestError: ``url`` is not an http(s) address.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            super().__init__(url, token)
        except UsageError as error:
            raise ServerRequestError(f"--{error}") from error

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the JSON object at ``path``; query values that are None are left out.

        Raises:
            ApiError: it was refused.
            UnreachableError: it was not answered.
        """
        return document(self.send(ApiRequest("GET", path, query=query)))

    def post(self, path: str, body: dict[str, Any], *, key: str) -> dict[str, Any]:
        """Send ``body``; repeated with the same ``Idempotency-Key`` when a connection is lost.

        Raises:
            ApiError: it was refused.
            UnreachableError: it was not answered.
        """
        headers = {"Idempotency-Key": key}
        return document(self.send(ApiRequest("POST", path, body=body, headers=headers)))

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a change; repeated with the same ``Idempotency-Key`` when a connection is lost.

        Raises:
            ApiError: it was refused.
            UnreachableError: it was not answered.
        """
        return document(self.send(ApiRequest("PATCH", path, body=body)))

    def stream(self, path: str, *, last_id: str, silence_s: float) -> Iterator[bytes]:
        """Yield the bytes of an event stream until its end.

        Raises:
            ApiError: the server refused.
            httpx.TransportError: the connection failed or was silent for ``silence_s``.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(CONNECT_TIMEOUT_S, read=silence_s)
        with self._client.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status_code >= 500:
                raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
            if answer.status_code != httpx.codes.OK:
                answer.read()
                check(answer)
            for chunk in answer.iter_raw():
                self.answered_at = time.monotonic()
                yield chunk


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


def document(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that the server answered with.

    Raises:
        ApiError: it refused.
        ServerRequestError: it is no JSON object.
    """
    check(answer)
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServerRequestError(
            f"{answer.url} did not answer with a JSON object; is a Millstream server there?"
        )
    return found
