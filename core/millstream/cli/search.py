"""What `millstream batch search` does: it asks step by step, and prints what each step finds."""

import sys
from collections.abc import Mapping
from typing import Any

import typer

from millstream.cli.at import at_query
from millstream.cli.batch import print_answer
from millstream.cli.client import Server
from millstream.cli.display import sample_line

PATH = "/v1/samples/search"
STEP_MOST = 100


def run_search(
    url: str,
    token: str | None,
    text: str,
    *,
    limit: int,
    filters: Mapping[str, str | None],
    at: str | None = None,
    as_json: bool,
) -> None:
    """Print the latest ``limit`` samples that hold ``text``; an interrupt ends the search."""
    moment = at_query(at)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    with Server(url, token) as server:
        while True:
            size = min(STEP_MOST, limit - len(found))
            page = server.get(PATH, text=text, limit=size, cursor=cursor, **filters, **moment)
            if moment:
                moment = {"at_seq": page["as_of"]}  # all steps are of one moment
            found += page["samples"]
            cursor = page["next_cursor"]
            _show_progress("")
            if not as_json:
                for sample in page["samples"]:
                    typer.echo(sample_line(sample))
            if cursor is None or len(found) >= limit:
                break
            _show_progress(f"{page['progress']:.0%} searched, {len(found)} found")
    if as_json:
        document = {"samples": found, "next_cursor": cursor, "progress": page["progress"]}
        print_answer(document, "", as_json=True)


def _show_progress(words: str) -> None:
    """Write one line over the last one, on a terminal alone."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{words}")
        sys.stderr.flush()
