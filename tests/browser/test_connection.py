"""What the page tells of its connection is true, and an outage costs no change."""

import re
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from millstream.runtime.clock import utc_now
from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_SHARING
from millstream.testing.gate import Gate
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

HOUR_MS = 3_600_000
LOAD = timedelta(seconds=30)
SHIFT = """
{
  const Right = Date;
  const off = %d;
  globalThis.Date = class extends Right {
    constructor(...parts) {
      if (parts.length > 0) super(...parts);
      else super(Right.now() + off);
    }
    static now() { return Right.now() + off; }
  };
  const origin = performance.timeOrigin + off;
  Object.defineProperty(performance, "timeOrigin", { get: () => origin });
}
"""
KEEP_TIMES = """
window.times = new Set();
new MutationObserver(() => {
  for (const name of ["lag", "duration", "last-sample", "node"])
    for (const { innerText } of document.querySelectorAll(`[data-testid="${name}"]`))
      window.times.add(innerText);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
SECONDS = r"(?:\d m )?\d+ s"
AN_HOUR = re.compile(r"\d h \d\d m|\d,\d{3},\d{3} ms")


def start_steady(batches: Batches, target: int = 500) -> str:
    return batches.start(target, "scripted/steady", recipe="instruction", concurrency=1)


def test_the_pill_tells_more_on_a_click(stack: Stack, hub: HubPage, batches: Batches) -> None:
    start_steady(batches)
    expect(hub.part("lag")).to_have_text(re.compile(r"^\d+ ms$"))
    pill, details = hub.part("connection"), hub.part("connection-details")
    expect(details).to_be_hidden()
    pill.click()
    expect(details).to_be_visible()
    expect(details).to_contain_text("Every change arrives as it happens")
    expect(hub.part("connection-lag")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(hub.part("connection-heard")).to_have_text(re.compile(rf"^{SECONDS} ago$"))
    expect(hub.part("connection-healed")).to_have_text(str(hub.returns()))
    expect(hub.part("connection-sharing")).to_have_text("1 tab")
    batches.stop_all()

    def is_at_the_end() -> bool:
        end = httpx.get(f"{stack.url}/readyz", timeout=10).json()["as_of"]
        return hub.part("connection-sequence").inner_text() == f"{end:,}"

    wait_until(is_at_the_end, BOUND_S, "the log's end")
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    hub.page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(pill).to_be_focused()


def shift(page: Page, off_ms: int) -> None:
    """Set the clock of the whole browser: of the page and of its workers."""
    script = SHIFT % off_ms

    def in_worker(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=script + answer.text())

    page.add_init_script(script)
    page.context.route("**/assets/worker-*.js", in_worker)


def test_a_page_that_could_not_be_fetched_is_there_once_the_server_is_back(
    page: Page, batches: Batches, gate: Gate
) -> None:
    batches.wait(batches.start(2, "simulated/instant"))
    hub = HubPage(page, gate.url)
    hub.open()
    gate.let("nothing")
    page.locator("nav a[href='/statistics']").click()
    expect(hub.part("broken-page")).to_be_visible()
    expect(hub.part("connection")).not_to_have_attribute("data-state", "live")
    gate.let("all")
    expect(hub.part("measure").first).to_be_visible()


def test_what_could_not_be_asked_is_not_told_as_none(page: Page, stack: Stack) -> None:
    hub = HubPage(page, stack.url)
    hub.open()
    page.route("**/v1/routes*", lambda route: route.fulfill(json={"routes": [], "as_of": 1}))
    none = page.get_by_text("No generator has called a model yet")
    page.locator("nav a[href='/nodes']").click()
    expect(none).to_be_visible()
    page.route(re.compile(r"/v1/(routes|recipes|models|batches)"), lambda route: route.abort())
    expect(hub.part("trouble").filter(has_text="The routes could not be read")).to_be_visible()
    expect(none).to_have_count(0)
    page.locator("nav a[href='/']").click()
    hub.part("start-open").click()
    expect(hub.part("start-estimate")).to_contain_text("no earlier batch has been looked at")
    page.unroute_all(behavior="wait")


@pytest.mark.parametrize("off_ms", [HOUR_MS, -HOUR_MS])
@pytest.mark.parametrize("sharing", ["", REFUSE_SHARING], ids=["shared", "alone"])
def test_a_clock_that_is_an_hour_off_spoils_no_time_not_even_the_first_one(
    unopened: HubPage, batches: Batches, off_ms: int, sharing: str
) -> None:
    page = unopened.page
    shift(page, off_ms)
    page.add_init_script(sharing + KEEP_TIMES)
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    with page.expect_request("**/v1/statistics/timeline*") as asked:
        unopened.open("statistics?range=hour")
    start = datetime.fromisoformat(parse_qs(urlsplit(asked.value.url).query)["start"][0])
    assert abs(utc_now() - timedelta(hours=1) - start) < LOAD
    unopened.open("nodes")
    expect(unopened.part("node").first).to_contain_text(re.compile(rf"last beat {SECONDS} ago"))
    assert not list(filter(AN_HOUR.search, page.evaluate("[...window.times]")))
    unopened.open()
    row = unopened.row(batch_id)
    expect(unopened.part("duration", row)).to_have_text(re.compile(rf"^{SECONDS}$"))
    expect(unopened.part("last-sample", row)).to_have_text(
        re.compile(rf"^last sample {SECONDS} ago$")
    )
    expect(unopened.part("lag")).to_have_text(re.compile(r"^\d{1,4} ms$"))
    assert not list(filter(AN_HOUR.search, page.evaluate("[...window.times]")))
    batches.stop(batch_id)
    unopened.part("bell").click()
    expect(unopened.part("notice").first).to_contain_text(re.compile(rf"just now|{SECONDS} ago"))


def test_promise_01_an_outage_is_told_and_costs_no_change(
    page: Page, stack: Stack, batches: Batches, gate: Gate
) -> None:
    hub = HubPage(page, gate.url)
    hub.open()
    short, long = start_steady(batches, 20), start_steady(batches)
    expect(hub.row(short)).to_be_visible()
    expect(hub.part("chip")).to_be_visible()
    state = hub.part("connection")
    gate.let("no streams")
    expect(state).to_have_attribute("data-state", "polling")
    gate.let("nothing")
    expect(state).to_have_attribute("data-state", "offline")
    expect(hub.part("chip")).to_have_count(0)  # Nobody knows what goes on.
    batches.wait(short)  # It ends while nobody can tell the page so.
    gate.let("all")
    hub.wait_live()
    assert hub.has_passed("live", "reconnecting", "polling", "offline", "live")
    hub.expect_state(short, "completed")
    expect(hub.part("progress", hub.past(short))).to_have_text("20 / 20")
    batches.stop(long)
    hub.expect_state(long, "stopped")
    for batch_id in (short, long):
        made = batches.view(batch_id)["counts"]["generated"]
        expect(hub.part("progress", hub.past(batch_id))).to_contain_text(f"{made} / ")
    hub.expect_told(f"batch {short[-8:]} completed", f"batch {long[-8:]} stopped")
    hub.part("connection").click()
    expect(hub.part("connection-healed")).to_have_text(str(hub.returns()))


@pytest.mark.parametrize("sharing", ["", REFUSE_SHARING], ids=["shared", "alone"])
def test_a_network_that_falls_dead_is_told_though_no_connection_ends(
    page: Page, batches: Batches, gate: Gate, sharing: str
) -> None:
    page.add_init_script(sharing)
    hub = HubPage(page, gate.url)
    hub.open()
    batch_id = start_steady(batches, 12)
    batches.wait_samples(batch_id, 1)
    gate.let("silence")
    expect(hub.part("connection")).to_contain_text("Reconnecting")
    expect(hub.part("connection")).to_contain_text("Offline")
    expect(hub.part("stale-note")).to_be_visible()
    batches.wait(batch_id)
    gate.let("all")
    hub.wait_live()
    hub.expect_state(batch_id, "completed")
    expect(hub.part("progress", hub.past(batch_id))).to_have_text("12 / 12")
    hub.expect_told(f"batch {batch_id[-8:]} completed")
    # Between the two a poll may land before the stream, and a slow machine may tell of more breaks.
    assert hub.has_passed("live", "reconnecting", "offline", "live")


def test_a_page_of_another_version_than_the_server_offers_to_reload(
    unopened: HubPage, stack: Stack
) -> None:
    build = httpx.get(f"{stack.url}/healthz", timeout=10).json()["page"]

    def older(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace(build, "f" * len(build))
        route.fulfill(body=body, headers={**answer.headers, "cache-control": "no-store"})

    unopened.page.route("**/assets/*.js", older)
    unopened.open()
    note = unopened.part("version-note")
    expect(note).to_contain_text("The server is of another version than this page.")
    assert unopened.violations() == []
    # Files that are fetched in idle time may be on their way through it.
    unopened.page.unroute_all(behavior="wait")
    with unopened.page.expect_navigation():
        unopened.part("reload").click()
    unopened.wait_live()
    expect(note).to_have_count(0)
