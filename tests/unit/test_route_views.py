"""One view of each route from what several generators say of it."""

from datetime import UTC, datetime
from typing import Any

from millstream_api.route_views import merged_routes
from millstream_schemas.answers import NodeBeat, RouteHealth

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)


def beat(node: str, *routes: RouteHealth) -> NodeBeat:
    return NodeBeat(node=node, service="generator", started_at=NOON, routes=routes)


def told(key: str, **fields: Any) -> RouteHealth:
    return RouteHealth(
        **{
            "key": key,
            "model": f"model/{key}",
            "provider": "openai",
            "litellm_model": f"openai/{key}",
            "state": "ok",
            **fields,
        }
    )


def test_calls_are_summed_and_the_worst_state_holds_with_its_cause_and_end() -> None:
    found = merged_routes(
        [
            beat("b", told("x", in_flight=3, waiting=1, rpm=60)),
            beat(
                "a",
                told("x", state="blocked", until=NOON, cause="down", in_flight=2, rpm=60),
                told("y", share=0.5),
            ),
            beat("c", told("x", state="throttled", until=LATER, cause="429", share=0.25, rpm=60)),
            beat("d", told("y", in_flight=1)),
        ]
    )
    assert [view.key for view in found] == ["x", "y"]
    assert (found[0].state, found[0].until, found[0].cause) == ("blocked", NOON, "down")
    assert (found[0].in_flight, found[0].waiting, found[0].share) == (5, 1, 0.25)
    assert (found[0].nodes, found[0].rpm) == (("a", "b", "c"), 60)
    assert (found[1].state, found[1].share, found[1].nodes) == ("ok", 0.5, ("a", "d"))


def test_of_equal_states_the_longest_holds_and_a_node_counts_once() -> None:
    found = merged_routes(
        [
            beat(
                "a",
                told("x", state="throttled", until=NOON, cause="first"),
                told("x", state="throttled", until=LATER, cause="second", rpm=30),
            )
        ]
    )
    assert [(view.cause, view.rpm, view.nodes) for view in found] == [("second", 30, ("a",))]


def test_without_generators_there_are_no_routes() -> None:
    assert merged_routes([beat("a")]) == ()
