"""Following batches live until they have ended."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from millstream.cli.client import Server, batch_path
from millstream.cli.display import Lines, ProgressBars, Silence
from millstream.cli.sse import follow

FINAL_STATES = {"stopped", "completed", "failed"}

View = dict[str, Any]


def watch_batches(server: Server, ids: Sequence[str], *, draw: bool) -> list[View]:
    """Show batches as they change and return their final views, in the order of ``ids``.

    Without ids, all batches that live now are watched.

    Raises:
        ServerRequestError: an id is unknown, or the server can't be reached.
    """
    watched = {one: server.get(batch_path(one))["batch"] for one in ids}
    with ProgressBars.or_lines() if draw else Silence() as display:
        for view in watched.values():
            display.show(view)
        if not ids or not _all_final(watched):
            _follow(server, watched, display, everything=not ids)
    return list(watched.values())


def _follow(
    server: Server,
    watched: dict[str, View],
    display: ProgressBars | Lines | Silence,
    *,
    everything: bool,
) -> None:
    with contextlib.closing(follow(server)) as events:
        for event in events:
            if event.name == "all_batches":
                live: dict[str, View] = json.loads(event.data)["batches"]
                if everything:
                    watched.update({one: {} for one in live})
                    everything = False
                # A batch that is not live any more ended before this snapshot.
                news = [
                    live.get(one) or server.get(batch_path(one))["batch"]
                    for one, view in watched.items()
                    if one in live or not _is_final(view)
                ]
            elif event.name == "batch_update":
                news = [json.loads(event.data)["batch"]]
            else:
                continue
            for view in news:
                known = watched.get(view["id"])
                if known is not None and view["sequence"] >= known.get("sequence", 0):
                    watched[view["id"]] = view
                    display.show(view)
            if _all_final(watched):
                return


def _is_final(view: View) -> bool:
    return view.get("state") in FINAL_STATES


def _all_final(watched: dict[str, View]) -> bool:
    return all(_is_final(view) for view in watched.values())
