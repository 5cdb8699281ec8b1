"""What `millstream batch start|list|show|watch|samples` and `demo` do on a server."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from millstream.cli.at import at_query
from millstream.cli.client import BATCHES, Server, batch_path
from millstream.cli.display import batch_lines, batch_table, sample_line
from millstream.cli.looks import figure_lines, slot_lines
from millstream.cli.watch import watch_batches
from millstream.runtime.clock import new_id

PAGE_LIMIT = 1000

DEMO_BATCHES: tuple[dict[str, Any], ...] = (
    {"target": 20},
    # Two calls at a time, so that a person sees the hundred samples come.
    {"target": 100, "model": "simulated/flaky", "concurrency": 2},
)


def run_start(url: str, token: str | None, body: dict[str, Any], *, as_json: bool) -> None:
    """Start a batch and print its id."""
    with Server(url, token) as server:
        answer = _start(server, body)
    print_answer(answer, answer["batch"]["id"], as_json=as_json)


def run_demo(url: str, token: str | None, *, watch: bool, as_json: bool) -> int:
    """Start the two batches of the demo; returns the exit code of watching them."""
    with Server(url, token) as server:
        batches = [_start(server, body)["batch"] for body in DEMO_BATCHES]
        if not watch:
            lines = [f"{one['id']}  {one['target']} samples of {one['model']}" for one in batches]
            print_answer({"batches": batches}, "\n".join(lines), as_json=as_json)
            return 0
        return _watch(server, [one["id"] for one in batches], as_json=as_json)


def run_list(
    url: str,
    token: str | None,
    *,
    states: Sequence[str],
    limit: int,
    filters: Mapping[str, str | None],
    at: str | None = None,
    as_json: bool,
) -> None:
    """Print batches that meet the filters as a table, as of ``at`` (a sequence or a time)."""
    moment = at_query(at)
    with Server(url, token) as server:
        page = server.get(BATCHES, limit=limit, state=list(states) or None, **filters, **moment)
    if as_json:
        print_answer(page, "", as_json=True)
    else:
        batch_table(page["batches"], page["limited"], total=page["total"])


def run_show(
    url: str,
    token: str | None,
    batch_id: str,
    *,
    figures: bool = False,
    slot: int | None = None,
    at: str | None = None,
    as_json: bool,
) -> None:
    """Print one batch as of ``at``, or its figures, or what happened to one of its slots."""
    moment = at_query(at)
    path = batch_path(batch_id)
    with Server(url, token) as server:
        if slot is not None:
            answer = server.get(f"{path}/slots/{slot}", **moment)
            lines = slot_lines(answer)
        elif figures:
            answer = server.get(f"{path}/figures", **moment)
            lines = figure_lines(answer)
        else:
            answer = server.get(path, **moment)
            lines = batch_lines(answer["batch"], answer["limited_by"])
    print_answer(answer, "\n".join(lines), as_json=as_json)


def run_watch(url: str, token: str | None, ids: Sequence[str], *, as_json: bool) -> int:
    """Watch batches to their ends; returns 0 when all were completed, else 1."""
    with Server(url, token) as server:
        return _watch(server, ids, as_json=as_json)


def run_samples(
    url: str,
    token: str | None,
    batch_id: str,
    *,
    limit: int,
    filters: Mapping[str, str | None],
    at: str | None = None,
    as_json: bool,
) -> None:
    """Print the first ``limit`` samples that meet the filters as of ``at``, page by page."""
    moment = at_query(at)
    path = f"{batch_path(batch_id)}/samples"
    shown: list[dict[str, Any]] = []
    cursor: str | None = None
    with Server(url, token) as server:
        while True:
            size = min(PAGE_LIMIT, limit - len(shown))
            page = server.get(path, limit=size, cursor=cursor, **filters, **moment)
            if moment:
                moment = {"at_seq": page["as_of"]}  # all pages are of one moment
            shown += page["samples"]
            cursor = page.get("next_cursor")
            if not as_json:
                for sample in page["samples"]:
                    typer.echo(sample_line(sample))
            if cursor is None or len(shown) >= limit:
                break
    if as_json:
        document = {"samples": shown, "total": page["total"], "next_cursor": cursor}
        print_answer(document, "", as_json=True)


def _start(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if value is not None}
    return server.post(BATCHES, given, key=new_id())


def _watch(server: Server, ids: Sequence[str], *, as_json: bool) -> int:
    final = watch_batches(server, ids, draw=not as_json)
    if as_json:
        print_answer({"batches": final}, "", as_json=True)
    return 0 if all(one["state"] == "completed" for one in final) else 1


def print_answer(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print ``document`` as JSON, or else ``text``."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else text)
