"""The views over real HTTP: history, figures, slots, timelines, nodes; bad filters."""

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from millstream.cli.looks import figure_lines, slot_lines
from millstream.eventlog.limits import route_key
from millstream.eventlog.nodes import Nodes
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import running_log
from millstream.testing.tape import Tape
from millstream.testing.waiting import BOUND_S, until
from millstream_api.relay import feed
from millstream_api.relay.hub import Hub
from millstream_projector.__main__ import main as project
from millstream_schemas import analysis, lanes, subjects, views
from millstream_schemas.answers import NodeBeat, RouteHealth
from millstream_schemas.events import EVENT_TYPES

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, SECOND = "batch_1767225600_0000000a", "batch_1767225600_0000000b"


def two_batches() -> Tape:
    """One completed batch with lost attempts, and a running one of another model."""
    tape = Tape()
    first = Script(tape, batch_id=FIRST, spec=example_spec(6, slice_size=2, topic="Law - Torts"))
    first.run(failed=[1])
    second = Script(tape, batch_id=SECOND, spec=example_spec(8, model="simulated/slow"))
    second.start()
    second.route = "route.a"
    second.claim(0)
    second.fail_attempt(0, "server", "HTTP 500 from req_12ab")
    second.generate(0)
    return tape


async def read(api: Any, path: str, **parameters: Any) -> Any:
    answer = await api.client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_view_answers_over_http_as_of_a_sequence(api: Any) -> None:
    last = await api.append(two_batches().entries)
    wait = {"min_sequence": last}
    history = await read(api, "/v1/batches", sort="-samples", topic="Law - Torts", **wait)
    assert [batch["id"] for batch in history["batches"]] == [FIRST]
    assert history["facets"]["models"] == [{"name": "simulated/fast", "count": 1}]
    page = await read(api, "/v1/batches", sort="cost", limit=1)
    rest = await read(api, "/v1/batches", sort="cost", limit=1, cursor=page["next_cursor"])
    assert {page["batches"][0]["id"], rest["batches"][0]["id"]} == {FIRST, SECOND}
    figures = await read(api, f"/v1/batches/{SECOND}/figures", **wait)
    assert figures["errors"][0]["message"] == "HTTP <n> from <id>"
    assert figures["first_token_ms"] == {"p50": None, "p95": None, "p99": None}
    every = (await read(api, "/v1/samples", sort="-stored"))["samples"]
    found = await read(api, "/v1/samples/search", text="WHAT IS", model="simulated/slow")
    assert found["samples"] == [one for one in every if one["batch_id"] == SECOND] != []
    assert (found["next_cursor"], found["progress"]) == (None, 1.0)
    slot = await read(api, f"/v1/batches/{SECOND}/slots/0")
    assert [one["kind"] for one in slot["attempts"]] == ["attempt_failed", "generated"]
    assert slot["attempts"][0]["wait_s"] is None
    event = await read(
        api, f"/v1/batches/{SECOND}/events", after=slot["attempts"][0]["sequence"] - 1, limit=1
    )
    assert event["events"][0]["event"]["message"] == "HTTP 500 from req_12ab"
    assert [one["route"] for one in (*slot["attempts"], slot["sample"])] == ["route.a"] * 3
    assert slot_lines(slot)[0] == f"slot 0 of {SECOND}: generated"
    assert slot_lines(slot)[1].endswith(
        "on node-1 by simulated/slow over route.a: attempt_failed (server)"
    )
    assert "     1 x server: HTTP <n> from <id>" in figure_lines(figures)
    assert "first token    unknown" in figure_lines(figures)
    samples = await read(api, "/v1/samples", facets=True, difficulty="basic")
    assert samples["total"] == sum(tally["count"] for tally in samples["facets"]["models"])
    one = await read(api, f"/v1/batches/{FIRST}/samples", text="what is 0")
    assert one["total"] == 1
    timeline = await read(api, "/v1/statistics/timeline", bucket="hour", model="simulated/fast")
    assert sum(row["samples"] for row in timeline["rows"]) == 5
    assert {slot["as_of"], timeline["as_of"], samples["as_of"], figures["as_of"]} == {last}
    own, route = (await read(api, f"/v1/batches/{FIRST}/lanes", by="model"))["lanes"]
    assert (own["name"], route["name"], route["provider"]) == (None, "simulated/fast", "simulated")


async def test_events_are_chosen_by_type_and_no_type_is_a_refusal_that_names_all(api: Any) -> None:
    last = await api.append(two_batches().entries)
    path = f"/v1/batches/{FIRST}/events"
    ends = ["sample.failed.v1", "batch.completed.v1", "sample.failed.v1"]
    page = await read(api, path, type=ends, min_sequence=last)
    assert [one["event"]["type"] for one in page["events"]] == ends[:2]
    assert page["next_cursor"] is None
    refusal = await api.client.get(path, params={"type": ["batch.failed.v1", "walking"]})
    error = refusal.json()["errors"][0]
    assert (refusal.status_code, error["field"]) == (400, "type.1")
    assert all(word in error["message"] for word in ("walking", *EVENT_TYPES)), error


async def test_an_attempt_tells_how_long_it_waited(api: Any) -> None:
    script = Script()
    script.start()
    script.claim(0)
    made = script.generate(0)
    waited = made.event.model_copy(update={"wait_s": 1.5})
    await api.append(script.tape.entries[:-1])
    last = await api.log.event_log.append(waited, expected=api.placed[waited.subject])
    slot = await read(api, f"/v1/batches/{script.batch_id}/slots/0", min_sequence=last)
    assert [one["wait_s"] for one in slot["attempts"]] == [1.5]


async def test_an_attempt_tells_where_its_route_led_and_no_password(api: Any) -> None:
    spec = example_spec(4)
    base = "https://ada:hush@models.example:8443/v1?token=hush#hush"
    far, here = (
        spec.routes[0].model_copy(update={"api_base": one})
        for one in (base, "http://127.0.0.1:9/v1")
    )
    script = Script(spec=spec.model_copy(update={"routes": (far, here)}))
    script.start()
    script.claim(0)
    for key in (route_key(far, base), route_key(here, here.api_base, gethostname()), "route.x"):
        script.route = key
        script.fail_attempt(0)
    last = await api.append(script.tape.entries)
    slot = await read(api, f"/v1/batches/{script.batch_id}/slots/0", min_sequence=last)
    assert [one["address"] for one in slot["attempts"]] == [
        "https://models.example:8443/v1",
        "http://127.0.0.1:9/v1",
        None,
    ]
    assert slot_lines(slot)[1].split(" over ")[1].startswith("https://models.example:8443/v1: ")


async def test_nodes_tell_their_service_last_beat_and_lag(api: Any) -> None:
    last = await api.append(two_batches().entries)
    async with asyncio.timeout(BOUND_S):
        while True:
            found = await read(api, "/v1/nodes")
            lags = [n["lag"] for n in found["nodes"] if n["service"] == "projector"]
            if lags == [0] and found["as_of"] == last:
                break
            await asyncio.sleep(0.05)
    assert set(found["services"]) == {"api", "projector"}
    assert found["alarms"] == []
    assert all(node["beat_at"] for node in found["nodes"])


async def test_a_node_is_behind_by_what_the_log_held_as_it_beat(api: Any) -> None:
    last = await api.append(two_batches().entries)
    nodes = Nodes(api.log.event_log.answers)
    for node, sequence, due in (("busy", 5, 5), ("late", 1, 4), ("older", 3, None)):
        beat = NodeBeat(node=node, service="projector", started_at=LONG_AGO, sequence=sequence)
        await nodes.beat(beat.model_copy(update={"due_sequence": due}))
    await nodes.beat(NodeBeat(node="g", service="generator", started_at=LONG_AGO))
    found = await read(api, "/v1/nodes")
    lags = {node["node"]: node["lag"] for node in found["nodes"]}
    assert found["as_of"] == last
    assert (lags["busy"], lags["late"], lags["older"], lags["g"]) == (0, 3, last - 3, None)


@pytest.mark.parametrize(("ahead_s", "words"), [(7200, "7,200 s ahead of"), (-4, "4 s behind")])
async def test_a_node_whose_clock_is_off_is_an_alarm(api: Any, ahead_s: float, words: str) -> None:
    nodes, own = Nodes(api.log.event_log.answers), {"service": "generator", "up_s": 60}
    for node, off_s in (("right", 0.4), ("unknown", None), ("wrong", ahead_s)):
        await nodes.beat(NodeBeat(node=node, started_at=LONG_AGO, clock_ahead_s=off_s, **own))
    found = await read(api, "/v1/nodes")
    (wrong,) = (node for node in found["nodes"] if node["node"] == "wrong")
    assert found["alarms"] == [f"wrong: {wrong['alarm']}"]
    assert wrong["alarm"].startswith(f"its clock is {words}")
    began, beat_at = (datetime.fromisoformat(wrong[name]) for name in ("started_at", "beat_at"))
    assert beat_at - began == timedelta(minutes=1)
    assert all(abs(view["clock_ahead_s"] or 0) < 3 for view in found["nodes"] if view != wrong)


async def test_a_relay_that_folds_no_more_says_where_the_log_ends(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = await api.append(two_batches().entries)
    head = await api.log.event_log.head()
    monkeypatch.setattr(feed, "HEAD_INTERVAL_S", 0.01)
    stalled = Hub()
    stalled.restore((), 2, head.epoch)
    assert stalled.due == 2, "what comes while it starts is not behind"
    stalled.ready.set()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(feed.watch_stream(api.log.event_log, stalled))
        await until(lambda: stalled.due == last, what=f"the log's end at {last} is known")
        watching.cancel()
    assert stalled.sequence == 2


async def test_the_server_tells_its_version_its_stream_and_what_models_cost(api: Any) -> None:
    about = await read(api, "/v1/about")
    assert about["version"] == version("millstream")
    assert (about["stream"], bool(about["epoch"])) == (subjects.EVENTS, True)
    prices = {one["id"]: one["price"] for one in (await read(api, "/v1/models"))["models"]}
    assert prices["simulated/fast"]["output_nano_usd_per_1k"] == 0
    assert prices["gpt-oss-120b"]["output_nano_usd_per_1k"] > 0


BAD: list[tuple[str, dict[str, str], str]] = [
    ("/v1/batches", {"sort": "name"}, "sort='name'"),
    ("/v1/batches", {"state": "gone"}, "state"),
    ("/v1/batches", {"cursor": "zzz"}, "cursor='zzz' is not one of an answer"),
    ("/v1/batches", {"started_after": "yesterday"}, "started_after='yesterday'"),
    ("/v1/batches", {"started_after": "2026-01-01T00:00:00"}, "timezone"),
    (
        "/v1/batches",
        {"started_after": "2026-01-02T00:00:00Z", "started_before": "2026-01-01T00:00:00Z"},
        "exchange them",
    ),
    ("/v1/batches", {"limit": "0"}, "limit='0'"),
    ("/v1/samples", {"cursor": "bm90IGEgbnVtYmVy"}, "leave it out"),
    ("/v1/samples", {"facets": "maybe"}, "facets='maybe'"),
    ("/v1/statistics/timeline", {"bucket": "week"}, "bucket='week'"),
    ("/v1/statistics/timeline", {"start": "soon"}, "start='soon'"),
    (f"/v1/batches/{FIRST}/lanes", {"by": "mood"}, "by='mood'"),
    (f"/v1/batches/{FIRST}/slots/-1", {}, "slot='-1'"),
    (f"/v1/batches/{FIRST}/slots/x", {}, "slot='x'"),
    (f"/v1/batches/{FIRST}/figures", {"errors": "201"}, "errors='201'"),
]


async def test_bad_filters_are_refused_in_words_that_name_them(api: Any) -> None:
    for path, parameters, words in BAD:
        answer = await api.client.get(path, params=parameters)
        assert answer.status_code == 400, (path, parameters, answer.text)
        assert words in answer.json()["detail"], answer.text
    for path in (f"/v1/batches/{FIRST}/figures", f"/v1/batches/{FIRST}/slots/0"):
        assert (await api.client.get(path)).status_code == 404


async def test_whoever_wrote_reads_it_from_either_of_two_projectors(
    tmp_path: Path, make_api: Any
) -> None:
    stop = asyncio.Event()
    async with running_log(tmp_path / "one") as log:
        other = log.settings.model_copy(update={"data_dir": tmp_path / "other", "node": "other"})
        async with asyncio.TaskGroup() as tasks:
            try:
                async with make_api(log, projector=True) as api:
                    tasks.create_task(project(other, stop))
                    script = Script(spec=example_spec(40))
                    script.start()
                    script.claim(0)
                    await api.append(script.tape.entries)
                    for slot in range(4):
                        done = len(script.tape.entries)
                        script.generate(slot)
                        last = await api.append(script.tape.entries[done:])
                        answers = await asyncio.gather(
                            *(
                                read(
                                    api,
                                    f"/v1/batches/{script.batch_id}/samples",
                                    min_sequence=last,
                                )
                                for _ in range(8)
                            )
                        )
                        assert {found["total"] for found in answers} == {slot + 1}
                        assert all(found["as_of"] >= last for found in answers)
            finally:
                stop.set()


def test_every_new_query_is_part_of_the_contract() -> None:
    new = analysis.QUERIES | lanes.QUERIES
    assert not views.QUERIES.keys() & new.keys()
    assert all(issubclass(request, views.Query) for request, _ in new.values())


async def test_routes_are_told_as_the_generators_know_them(api: Any) -> None:
    assert await read(api, "/v1/routes") == {"routes": []}
    route = RouteHealth(
        key="route.1",
        model="gpt-oss-120b",
        provider="cerebras",
        litellm_model="cerebras/gpt-oss-120b",
        state="blocked",
        until=datetime(2026, 1, 1, tzinfo=UTC),
        cause="5 calls in a row failed",
        in_flight=2,
        rpm=600,
    )
    nodes = Nodes(api.log.event_log.answers)
    for node in ("g1", "g2"):
        beat = NodeBeat(node=node, service="generator", started_at=route.until, routes=(route,))
        await nodes.beat(beat)
    (found,) = (await read(api, "/v1/routes"))["routes"]
    assert (found["state"], found["cause"]) == ("blocked", "5 calls in a row failed")
    assert (found["in_flight"], found["rpm"], found["nodes"]) == (4, 600, ["g1", "g2"])
