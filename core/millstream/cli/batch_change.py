"""What `millstream batch stop|pause|…|clone` do on a server."""

from collections.abc import Mapping, Sequence
from typing import Any

from millstream.cli.batch import print_answer
from millstream.cli.client import Server, batch_path
from millstream.cli.display import state_line
from millstream.cli.watch import watch_batches
from millstream.runtime.clock import new_id


def run_stop(
    url: str, token: str | None, ids: Sequence[str], body: dict[str, Any], *, as_json: bool
) -> None:
    """Stop batches, wait for their ends and print them."""
    paths = [batch_path(batch_id) for batch_id in ids]
    with Server(url, token) as server:
        for path in paths:
            server.post(f"{path}/stop", body, key=new_id())
        final = watch_batches(server, ids, draw=False)
    _print_all(final, as_json=as_json)


def run_change(
    url: str,
    token: str | None,
    ids: Sequence[str],
    command: str,
    body: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Send a command to each batch and print their states."""
    paths = [batch_path(batch_id) for batch_id in ids]
    with Server(url, token) as server:
        answers = [server.post(f"{path}/{command}", body, key=new_id()) for path in paths]
    _print_all([answer["batch"] for answer in answers], as_json=as_json)


def run_priority(
    url: str, token: str | None, batch_id: str, body: dict[str, Any], *, as_json: bool
) -> None:
    """Give a batch another priority and print it."""
    with Server(url, token) as server:
        answer = server.patch(batch_path(batch_id), body)
    batch = answer["batch"]
    print_answer(answer, f"{state_line(batch)}, priority {batch['priority']}", as_json=as_json)


def run_child(
    url: str,
    token: str | None,
    batch_id: str,
    command: str,
    overrides: Mapping[str, Any],
    *,
    reason: str,
    as_json: bool,
) -> None:
    """Start a batch that follows another one and print its id."""
    given = {name: value for name, value in overrides.items() if value is not None}
    body = {"overrides": given, "reason": reason}
    with Server(url, token) as server:
        answer = server.post(f"{batch_path(batch_id)}/{command}", body, key=new_id())
    print_answer(answer, answer["batch"]["id"], as_json=as_json)


def _print_all(batches: list[dict[str, Any]], *, as_json: bool) -> None:
    print_answer({"batches": batches}, "\n".join(map(state_line, batches)), as_json=as_json)
