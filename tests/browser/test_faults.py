"""What the page shows of trouble is true: stuck batches, failed stops, lost and healed servers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"


@pytest.fixture(scope="module")
def stack(browser_type_launch_args: dict[str, Any], models_file: Path) -> Iterator[Stack]:
    """A system of its own: it is killed now and then, and calls a batch stuck early."""
    settings = {"MILLSTREAM_STUCK_AFTER_S": "3", "MILLSTREAM_MODELS_FILE": str(models_file)}
    with Stack.start(env=settings) as running:
        yield running


@pytest.fixture
def empty_stack(stack: Stack) -> Stack:
    """The same system without a batch, begun anew if it holds one."""
    if Batches(stack.url).total():
        stack.stop()
        stack.data_dir.mkdir()
        stack.launch()
    return stack


def start_steady(batches: Batches, target: int = 500) -> str:
    return batches.start(target, STEADY, recipe="instruction", concurrency=1)


def expect_told(hub: HubPage, words: str, count: int) -> None:
    """Return once so many toasts had these words, and no more."""

    def is_told() -> bool:
        return sum(words in title for title in hub.seen("toasts")) == count

    wait_until(is_told, BOUND_S, f"{count} toasts with {words}")


def test_a_page_without_batches_says_what_to_do(empty_stack: Stack, hub: HubPage) -> None:
    expect(hub.part("history-empty")).to_contain_text("Press “Add new batch”")
    expect(hub.part("statistics-total")).to_have_text("0")
    expect(hub.part("statistics-cost")).to_have_text("—")
    for absent in ("chip", "running-panel", "stuck-panel", "trouble", "stale-note"):
        expect(hub.part(absent)).to_have_count(0)
    assert hub.violations() == []


def test_a_batch_that_its_routes_limit_slows_down_says_so_calmly_until_it_goes_on(
    hub: HubPage, batches: Batches
) -> None:
    """Two batches share one call in flight: the words follow what shares, and go with the wait."""
    words = "waits for its route's limit: 1 of 1 calls in flight"
    shared = f"{words} (shared with 1 other batch)"
    first, second = (
        batches.start(500, "scripted/single", recipe="instruction", concurrency=2) for _ in "ab"
    )
    for batch_id in (first, second):
        expect(hub.part("limited", hub.row(batch_id))).to_have_text(shared)
        expect(hub.part("held-up", hub.row(batch_id))).to_have_count(0)
    own = HubPage(hub.page.context.new_page(), hub.url)
    own.open(f"batches/{first}")
    expect(own.part("limited")).to_have_text(shared)
    batches.command(second, "pause")
    expect(hub.part("limited", hub.row(second))).to_have_count(0)
    expect(own.part("limited")).to_have_text(words)
    expect(own.part("stuck-note")).to_have_count(0)
    batches.command(first, "pause")
    expect(own.part("limited")).to_have_count(0)
    assert (own.violations(), own.complaints(), hub.violations()) == ([], [], [])


def test_promises_10_and_15_stuck_batches_are_told_and_only_they_are_stopped(
    hub: HubPage, batches: Batches
) -> None:
    stuck = [batches.start(count, "simulated/stall") for count in (30, 40)]
    healthy = start_steady(batches)
    panel = hub.part("stuck-panel")
    expect(hub.part("stuck-row")).to_have_count(2)
    for batch_id in stuck:
        row = panel.locator(f'[data-batch="{batch_id}"]')
        expect(row).to_contain_text("10 / ")
        expect(hub.part("stuck-cause", row)).to_contain_text("no outcome for")
        expect(hub.part("stuck-cause", row)).to_contain_text(re.compile(r"\(by now [\dm ]+s\)$"))
        expect(hub.part("stuck-suggestion", row)).to_contain_text("stop the batch")
        events = f"/batches/{batch_id}?tab=events"
        expect(hub.part("stuck-events", row)).to_have_attribute("href", events)
    expect(hub.part("badge")).to_contain_text("2 stuck")
    expect_told(hub, "is stuck", 2)
    own = HubPage(hub.page.context.new_page(), hub.url)
    own.open(f"batches/{stuck[0]}")  # A batch's own page tells the same.
    expect(own.part("stuck-note")).to_contain_text("no outcome for")
    assert (own.violations(), own.complaints()) == ([], [])
    expect(hub.row(healthy)).to_be_visible()  # The running panel stays, with all three.
    expect(hub.part("batch-row")).to_have_count(3)
    assert hub.violations() == []
    expect(hub.part("stop-stuck")).to_have_text("Stop these 2")
    hub.part("stop-stuck").click()
    for batch_id in stuck:
        hub.expect_state(batch_id, "stopped")
    expect(panel).to_have_count(0)
    made = batches.view(healthy)["counts"]["generated"]
    batches.wait_samples(healthy, made + 2)
    assert batches.view(healthy)["state"] == "running"


def test_the_others_are_stopped_while_one_stuck_batch_is_waited_for(
    hub: HubPage, batches: Batches
) -> None:
    waited, *others = (batches.start(count, "simulated/stall") for count in (30, 40, 50))
    expect(hub.part("stuck-row")).to_have_count(3)
    tab = HubPage(hub.page.context.new_page(), hub.url)
    tab.open()
    for one in (hub, tab):
        expect(one.part("stop-stuck")).to_have_text("Stop these 3")
    row = hub.part("stuck-panel").locator(f'[data-batch="{waited}"]')
    hub.part("stuck-wait", row).click()
    expect(hub.part("stuck-waits", row)).to_contain_text("Waited for until")
    assert (hub.violations(), tab.complaints()) == ([], [])
    for one in (hub, tab):
        expect(one.part("stop-stuck")).to_have_text("Stop the other 2")
    hub.part("stuck-wait", row).click()
    for one in (hub, tab):
        expect(one.part("stop-stuck")).to_have_text("Stop these 3")
    expect(hub.part("stuck-waits", row)).to_be_empty()
    hub.part("stuck-wait", row).click()
    hub.page.reload()
    expect(hub.part("stop-stuck")).to_have_text("Stop the other 2")
    hub.part("stop-stuck").click()
    for batch_id in others:
        hub.expect_state(batch_id, "stopped")
    expect(hub.part("stuck-row")).to_have_count(1)
    expect(hub.part("stop-stuck")).to_have_count(0)
    assert batches.view(waited)["state"] == "running"
    name = "millstream.waits"
    # What another rule has found is not waited for.
    value = f'{{"rule": "poison", "until": {4e12:.0f}}}'
    tab.page.evaluate(
        f'localStorage.setItem("{name}", \'[{{"name":"{waited}","value":{value}}}]\')'
    )
    expect(hub.part("stop-stuck")).to_have_text("Stop this one")


def test_a_stop_that_failed_is_shown_as_failed_and_can_be_repeated(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    batch_id = start_steady(batches)
    row = hub.row(batch_id)
    expect(row).to_be_visible()
    stack.kill("api")
    hub.part("stop", row).click()
    expect(hub.part("stop-error", row)).to_contain_text("Not stopped: No answer from")
    expect(hub.part("toast").first).to_contain_text("was not stopped")
    expect(hub.part("stop", row)).to_have_text("Stop")
    hub.wait_live()
    assert batches.view(batch_id)["state"] == "running"
    expect(row).to_be_visible()
    hub.part("stop", row).click()
    hub.expect_state(batch_id, "stopped")


def test_a_killed_api_is_seen_and_the_page_is_right_once_it_is_back(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    short, long = start_steady(batches, 14), start_steady(batches)
    expect(hub.row(short)).to_be_visible()
    stack.kill("api")
    wait_until(lambda: hub.has_passed("live", "reconnecting"), BOUND_S, "another state than live")
    hub.wait_live()
    hub.expect_state(short, "completed")
    expect(hub.part("progress", hub.past(short))).to_have_text("14 / 14")
    expect(hub.part("badge")).to_have_text("1 running")
    made = batches.view(long)["counts"]["generated"]
    expect(hub.part("progress", hub.row(long))).not_to_have_text(f"{made} / 500 samples")
    expect_told(hub, "completed", 1)


def test_a_killed_store_is_waited_out_and_nothing_is_counted_twice(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    batch_id = start_steady(batches, 12)
    batches.wait_samples(batch_id, 2)
    stack.wait_back("nats-server", stack.kill("nats-server"))
    hub.expect_state(batch_id, "completed")
    expect(hub.part("progress", hub.past(batch_id))).to_have_text("12 / 12")
    hub.wait_live()
    hub.expect_running(0)
    expect_told(hub, "completed", 1)


def test_a_frozen_log_is_told_though_the_server_answers(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    batch_id = start_steady(batches, 12)
    batches.wait_samples(batch_id, 2)
    stack.freeze("nats-server")
    try:
        expect(hub.part("connection")).to_have_attribute("data-state", "waiting")
    finally:
        stack.thaw("nats-server")
    hub.wait_live()
    hub.expect_state(batch_id, "completed")


def test_a_frozen_server_is_told_and_the_page_goes_on_when_it_does(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    batch_id = start_steady(batches, 12)
    batches.wait_samples(batch_id, 2)
    stack.freeze("api")
    pill = hub.part("connection")
    try:
        expect(pill).to_contain_text("Reconnecting")
        expect(pill).to_contain_text("Offline")
        expect(hub.part("stale-note")).to_contain_text("The server does not answer")
    finally:
        stack.thaw("api")
    hub.wait_live()
    expect(pill).to_contain_text("Live")
    expect(hub.part("stale-note")).to_have_count(0)
    hub.expect_state(batch_id, "completed")
    expect(hub.part("progress", hub.past(batch_id))).to_have_text("12 / 12")
    expect_told(hub, "completed", 1)
    assert hub.has_passed("live", "reconnecting", "offline", "live")
    assert batches.view(batch_id)["counts"]["generated"] == 12


def test_progress_and_stop_need_no_projector(stack: Stack, hub: HubPage, batches: Batches) -> None:
    hub.outages = True  # The history can't be read meanwhile, and says so.
    stack.freeze("projector")
    try:
        batch_id = start_steady(batches)
        row = hub.row(batch_id)
        expect(hub.part("progress", row)).to_have_text(re.compile(r"^([3-9]|\d\d+) / 500"))
        hub.part("stop", row).click()
        expect(row).to_have_count(0)
        expect(hub.part("toast")).to_contain_text("stopped")
    finally:
        stack.thaw("projector")
    hub.expect_state(batch_id, "stopped")


def test_a_dead_server_is_told_and_the_page_heals_by_itself(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    hub.outages = True
    batch_id = start_steady(batches, 25)
    batches.wait_samples(batch_id, 2)
    stack.freeze("up")  # Else the API would be back before the page calls it dead.
    stack.kill("api")
    expect(hub.part("connection")).to_have_attribute("data-state", "offline")
    expect(hub.part("stale-note")).to_contain_text("The server does not answer")
    duration = hub.part("duration", hub.row(batch_id)).inner_text()
    assert hub.violations() == []
    expect(hub.part("duration", hub.row(batch_id))).to_have_text(duration)
    stack.thaw("up")
    hub.wait_live()
    expect(hub.part("stale-note")).to_have_count(0)
    hub.expect_state(batch_id, "completed")
    expect(hub.part("progress", hub.past(batch_id))).to_have_text("25 / 25")
    expect(hub.part("trouble")).to_have_count(0)


def test_a_stuck_row_tells_an_error_once(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(2, "simulated/instant")
    ended = batches.wait(batch_id)
    error = {"category": "server", "message": "HTTP 500 from the model"}
    finding = {"rule": "no_sample", "since": ended["started_at"], "idle_s": 900, "threshold_s": 600}
    stuck = ended | {"state": "running", "last_error": error, "finished_at": None}

    def open_with(cause: str) -> None:
        def answer(route: Route) -> None:
            response = route.fetch()
            found = [stuck | {"stuck": {**finding, "cause": cause, "suggestion": ""}}]
            route.fulfill(response=response, json={**response.json(), "batches": found})

        with_live = re.compile(r"/v1/batches\?.*state=running")
        hub.page.route(with_live, answer)
        hub.open(f"?at={ended['sequence']}")
        expect(hub.part("stuck-cause")).to_contain_text(cause)
        hub.page.unroute(with_live)

    open_with(f"calls go on to fail; the last one said: {error['message']}")
    expect(hub.part("stuck-error")).to_have_count(0)
    open_with("calls go on to fail")
    expect(hub.part("stuck-error")).to_contain_text(error["message"])
