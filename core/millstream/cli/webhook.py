"""What `millstream webhook …` does on a server."""

from typing import Any, Literal

from millstream.cli.batch import print_answer
from millstream.cli.client import Server, document
from millstream.client.requests import ApiRequest, segment

WEBHOOKS = "/v1/webhooks"


def run_add(url: str, token: str | None, body: dict[str, Any], *, as_json: bool) -> None:
    """Add a webhook and print its id and its secret."""
    _print_secret(_ask(url, token, "POST", WEBHOOKS, body), as_json=as_json)


def run_rotate(url: str, token: str | None, webhook: str, *, as_json: bool) -> None:
    """Renew a webhook's secret and print it."""
    _print_secret(_ask(url, token, "POST", f"{_path(webhook)}/rotate"), as_json=as_json)


def run_list(url: str, token: str | None, *, as_json: bool) -> None:
    """Print every webhook."""
    answer = _ask(url, token, "GET", WEBHOOKS)
    lines = [webhook_line(one) for one in answer["webhooks"]] or ["There are no webhooks."]
    print_answer(answer, "\n".join(lines), as_json=as_json)


def run_deliveries(url: str, token: str | None, webhook: str, *, as_json: bool) -> None:
    """Print a webhook's deliveries."""
    answer = _ask(url, token, "GET", f"{_path(webhook)}/deliveries")
    lines = [delivery_line(one) for one in answer["deliveries"]] or ["Nothing was sent yet."]
    print_answer(answer, "\n".join(lines), as_json=as_json)


def run_test(url: str, token: str | None, webhook: str, *, as_json: bool) -> int:
    """Send a ping and print what became of it; 0 when it was taken."""
    answer = _ask(url, token, "POST", f"{_path(webhook)}/test")
    print_answer(answer, delivery_line(answer), as_json=as_json)
    return 0 if answer["state"] == "delivered" else 1


def run_change(
    url: str,
    token: str | None,
    webhook: str,
    command: Literal["change", "replay"],
    body: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Change a webhook, or replay the log to it, and print it."""
    path = _path(webhook)
    if command == "replay":
        answer = _ask(url, token, "POST", f"{path}/replay", body)
    else:
        answer = _ask(url, token, "PATCH", path, body)
    print_answer(answer, webhook_line(answer["webhook"]), as_json=as_json)


def run_remove(url: str, token: str | None, webhook: str, *, as_json: bool) -> None:
    """Remove a webhook and print what it was."""
    answer = _ask(url, token, "DELETE", _path(webhook))
    print_answer(answer, f"removed: {webhook_line(answer['webhook'])}", as_json=as_json)


def webhook_line(webhook: dict[str, Any]) -> str:
    """Say in one line what a webhook tells whom, and how its last delivery went."""
    events = ", ".join(name.removeprefix("batch.") for name in webhook["events"])
    last = webhook.get("last")
    state = "" if webhook["is_active"] else "  OFF"
    words = f"\n    last: {delivery_line(last)}" if last else ""
    about = f"  ({webhook['description']})" if webhook["description"] else ""
    return f"{webhook['id']}{state}  {webhook['url']}{about}\n    tells: {events}{words}"


def delivery_line(delivery: dict[str, Any]) -> str:
    """Say in one line what became of a delivery."""
    batch = f" of {delivery['batch_id']}" if delivery.get("batch_id") else ""
    tries = "" if delivery["attempts"] == 1 else f", {delivery['attempts']} attempts"
    error = f": {delivery['error']}" if delivery.get("error") else ""
    again = f"; again at {_clock(delivery['next_at'])}" if delivery.get("next_at") else ""
    return (
        f"{_clock(delivery['last_at'])}  {delivery['state'].replace('_', ' ')}  {delivery['type']}"
        f"{batch} (sequence {delivery['sequence']}, {delivery['latency_ms']:.0f} ms{tries})"
        f"{error}{again}"
    )


def _clock(time: str) -> str:
    return f"{time[:10]} {time[11:19]} UTC"


def _print_secret(answer: dict[str, Any], *, as_json: bool) -> None:
    text = (
        f"{answer['webhook']['id']}\n{answer['secret']}\n"
        "Keep the secret now: it is not shown again."
    )
    print_answer(answer, text, as_json=as_json)


def _path(webhook: str) -> str:
    return f"{WEBHOOKS}/{segment(webhook)}"


def _ask(
    url: str, token: str | None, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    with Server(url, token) as server:
        return document(server.send(ApiRequest(method, path, body=body)))
