"""Batches of a running server, over HTTP: what tests start, read and stop beside the page."""

import ssl
from typing import Any

import httpx

from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

REQUEST_LIMIT_S = 60.0
LIVE = ("queued", "running", "paused", "stopping")
ENDED = ("completed", "stopped", "failed")


class Batches:
    """Talks to the API at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Not a client for each request: to make one takes a fifth of a second of certificates.
        self._tls = ssl.create_default_context()

    def start(self, target: int, model: str = "simulated/fast", **fields: object) -> str:
        """Start a batch of ``target`` samples and return its id.

        Raises:
            httpx.HTTPStatusError: the server refused.
        """
        body = {"target": target, "model": model, **fields}
        return str(self._post("/v1/batches", body)["batch"]["id"])

    def view(self, batch_id: str) -> dict[str, Any]:
        """Return the batch as the API shows it now."""
        return dict(self._get(f"/v1/batches/{batch_id}")["batch"])

    def wait(self, batch_id: str, *states: str, limit_s: float = BOUND_S) -> dict[str, Any]:
        """Return the view once the batch is in one of ``states``; any that is final by default.

        Raises:
            TimeoutError: it is in none of them after ``limit_s``.
        """
        wanted = states or ENDED
        wait_until(lambda: self.view(batch_id)["state"] in wanted, limit_s, f"{batch_id} {wanted}")
        return self.view(batch_id)

    def wait_samples(self, batch_id: str, count: int, limit_s: float = BOUND_S) -> None:
        """Return once the batch has ``count`` samples.

        Raises:
            TimeoutError: it has fewer after ``limit_s``.
        """
        wait_until(
            lambda: self.view(batch_id)["counts"]["generated"] >= count,
            limit_s,
            f"{count} samples of {batch_id}",
        )

    def stop(self, batch_id: str) -> None:
        """Ask for the end of a batch."""
        self._post(f"/v1/batches/{batch_id}/stop", {})

    def command(
        self, batch_id: str, command: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a command such as ``continue``; returns the answer.

        Raises:
            httpx.HTTPStatusError: the server refused.
        """
        return self._post(f"/v1/batches/{batch_id}/{command}", body or {})

    def live(self) -> list[str]:
        """Return the ids of all batches that have not ended."""
        page = self._get("/v1/batches", params={"state": list(LIVE), "limit": 1000})
        return [str(batch["id"]) for batch in page["batches"]]

    def total(self) -> int:
        """Return how many batches there are."""
        return int(self._get("/v1/batches", params={"limit": 1})["total"])

    def sequences(self, batch_id: str) -> list[int]:
        """Return the sequences of the batch's first events, at most 1,000."""
        page = self._get(f"/v1/batches/{batch_id}/events", params={"limit": 1000})
        return [int(event["sequence"]) for event in page["events"]]

    def stop_all(self, limit_s: float = BOUND_S) -> None:
        """Stop every live batch and return once all have ended.

        Raises:
            TimeoutError: one is still live after ``limit_s``.
        """
        ids = self.live()
        if ids:
            self._post("/v1/batches:bulk", {"action": "stop", "ids": ids})
            wait_until(lambda: not self.live(), limit_s, "the end of all batches")

    def _get(self, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer; a server that says 503 is asked again, as it says."""

        def ask() -> httpx.Response | None:
            answer = httpx.get(
                self.url + path, params=params, timeout=REQUEST_LIMIT_S, verify=self._tls
            )
            return None if answer.status_code == 503 else answer

        found = wait_until(ask, BOUND_S, f"an answer to {path}")
        return dict(found.raise_for_status().json()) if found is not None else {}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(self.url + path, json=body, timeout=REQUEST_LIMIT_S, verify=self._tls)
        return dict(answer.raise_for_status().json())
