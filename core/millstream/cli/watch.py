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
    limited: dict[str, View] = {}
    with contextlib.closing(follow(server)) as events:
        for event in events:
            body = json.loads(event.data)
            if event.name == "all_batches":
                live: dict[str, View] = body["batches"]
                if everything:
                    watched.update({one: {} for one in live})
                    everything = False
                news = _newest(server, watched, live)
            elif event.name == "batch_update":
                news = [body["batch"]]
            elif event.name == "limited":
                changed = limited.keys() | body["batches"].keys()
                limited = body["batches"]
                news = [view for one, view in watched.items() if one in changed and view]
            else:
                continue
            for view in news:
                known = watched.get(view["id"])
                if known is not None and view["sequence"] >= known.get("sequence", 0):
                    watched[view["id"]] = view
                    display.show(view, limited.get(view["id"]))
            if _all_final(watched):
                return


def _newest(server: Server, watched: dict[str, View], live: dict[str, View]) -> list[View]:
    """Return the watched batches as of a snapshot of those that live."""
    # A batch that is not live any more ended before this snapshot.
    return [
        live.get(one) or server.get(batch_path(one))["batch"]
        for one, view in watched.items()
        if one in live or not _is_final(view)
    ]


def _is_final(view: View) -> bool:
    return view.get("state") in FINAL_STATES


def _all_final(watched: dict[str, View]) -> bool:
    return all(_is_final(view) for view in watched.values())
