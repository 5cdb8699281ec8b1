"""One view of each route, from what every generator says of it."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from millstream_schemas.answers import NodeBeat, RouteHealth, RouteView

_BEST_FIRST = ("ok", "throttled", "blocked")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def merged_routes(beats: Iterable[NodeBeat]) -> tuple[RouteView, ...]:
    """Return the routes over all nodes, those with trouble first.

    Nodes learn of a change one after the other, so the worst of what they say holds, and of equal
    states the one that lasts longest.
    """
    told: dict[str, list[tuple[str, RouteHealth]]] = defaultdict(list)
    for beat in beats:
        for route in beat.routes:
            told[route.key].append((beat.node, route))
    views = [_merged(parts) for parts in told.values()]
    views.sort(key=lambda view: (-_BEST_FIRST.index(view.state), view.model, view.key))
    return tuple(views)


def _merged(parts: list[tuple[str, RouteHealth]]) -> RouteView:
    routes = [route for _, route in parts]
    worst = max(
        routes, key=lambda route: (_BEST_FIRST.index(route.state), route.until or _LONG_AGO)
    )
    return RouteView(
        **worst.model_dump(exclude={"share", "in_flight", "waiting"}),
        share=min(route.share for route in routes),
        in_flight=sum(route.in_flight for route in routes),
        waiting=sum(route.waiting for route in routes),
        nodes=tuple(sorted({node for node, _ in parts})),
    )
