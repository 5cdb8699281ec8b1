"""What the original document promises of live progress, each row of its table by its number."""

import re

import httpx
from playwright.sync_api import Page, expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_SHARING
from millstream.testing.gate import Gate
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"
"""Answers in the form of the recipe ``instruction``, after 0.3 s: slow enough to be watched."""


KEEP_DURATIONS = """() => {
  window.durations = [];
  new MutationObserver(() => {
    const text = document.querySelector('[data-testid="duration"]')?.innerText;
    if (text && text !== window.durations.at(-1)) window.durations.push(text);
  }).observe(document, { subtree: true, childList: true, characterData: true });
}"""
"""What stands there for a second only, a look from outside may miss."""
FOURS = [[f"{second + more} s" for more in range(4)] for second in range(56)]
AT_ONCE = """row => ({
  rate: row.querySelector('[data-testid="rate"]').innerText,
  duration: row.querySelector('[data-testid="duration"]').innerText,
  made: Number(row.querySelector('[data-testid="bar"]').getAttribute("aria-valuenow")),
})"""


def start_steady(batches: Batches, target: int = 500) -> str:
    return batches.start(target, STEADY, recipe="instruction", concurrency=1)


def test_promise_02_the_first_message_has_every_live_batch(
    unopened: HubPage, batches: Batches
) -> None:
    unopened.outages = True  # Whatever is asked for beside the stream is refused.
    ids = [start_steady(batches) for _ in range(3)]
    for batch_id in ids:
        batches.wait_samples(batch_id, 1)
    unopened.page.add_init_script(REFUSE_SHARING)
    unopened.page.route("**/v1/batches*", lambda route: route.abort())
    unopened.open()
    for batch_id in ids:
        expect(unopened.part("progress", unopened.row(batch_id))).to_contain_text("/ 500 samples")
    expect(unopened.part("badge")).to_have_text("3 running")


def test_promise_03_without_the_stream_history_and_progress_are_polled(
    page: Page, batches: Batches, gate: Gate
) -> None:
    hub = HubPage(page, gate.url)
    hub.open()
    gate.let("no streams")
    expect(hub.part("connection")).to_have_attribute("data-state", "polling")
    batch_id = start_steady(batches)
    progress = hub.part("progress", hub.row(batch_id))
    expect(progress).to_contain_text("/ 500 samples")
    hub.expect_state(batch_id, "running")
    expect(progress).not_to_have_text(progress.inner_text())
    batches.stop(batch_id)
    hub.expect_state(batch_id, "stopped")
    expect(hub.row(batch_id)).to_have_count(0)
    expect(hub.part("connection")).to_have_attribute("data-state", "polling")


def test_promise_05_a_batch_can_be_added_while_others_run(hub: HubPage, batches: Batches) -> None:
    first = start_steady(batches)
    expect(hub.row(first)).to_be_visible()
    expect(hub.part("start-open")).to_be_enabled()
    hub.submit(target="2", model="simulated/instant")
    expect(hub.part("toast")).to_contain_text("2 of 2 samples")
    expect(hub.row(first)).to_be_visible()
    assert batches.live() == [first]


def test_promise_06_the_dialog_closes_at_once_and_the_batch_shows_everywhere(hub: HubPage) -> None:
    held = hub.hold_posts("/v1/batches")
    hub.part("start-open").click()
    hub.part("start-recipe").select_option("instruction")
    hub.submit(target="500", model=STEADY, concurrency="1")
    expect(hub.part("start-dialog")).to_be_hidden()
    call = hub.only(held)  # The dialog closed before the server has answered.
    expect(hub.page.get_by_text("Starting…")).to_be_visible()
    call.continue_()
    expect(hub.part("chip")).to_have_text("Generating…")
    expect(hub.part("badge")).to_have_text("1 running")
    row = hub.part("batch-row")
    expect(row).to_have_count(1)
    expect(hub.part("progress", row)).to_contain_text("/ 500 samples")
    expect(row).to_contain_text(STEADY)
    hub.expect_state(str(row.get_attribute("data-batch")), "running")
    expect(hub.page).to_have_title("1 running · Millstream")
    icon = hub.page.locator('link[rel="icon"]')
    expect(icon).to_have_attribute("href", "/icons/1.svg")
    drawn = httpx.get(f"{hub.url}/icons/1.svg")
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml")
    expect(hub.part("start-open")).to_be_enabled()


def test_promise_04_the_chip_stands_as_long_as_any_batch_runs(
    hub: HubPage, batches: Batches
) -> None:
    one, other = (start_steady(batches) for _ in range(2))
    hub.part("stop", hub.row(one)).click()
    hub.expect_state(one, "stopped")
    expect(hub.part("chip").locator(".pulse")).to_be_visible()
    expect(hub.part("badge")).to_have_text("1 running")
    expect(hub.part("stop-all")).to_have_count(0)
    made = batches.view(other)["counts"]["generated"]
    batches.wait_samples(other, made + 2)


def test_promise_07_bar_count_and_tokens_move_by_the_stream_alone(
    unopened: HubPage, batches: Batches
) -> None:
    hub = unopened
    hub.page.add_init_script(REFUSE_SHARING)
    hub.open()
    hub.outages = True  # Whatever the page would ask for now is refused: nothing is polled.
    hub.page.route("**/v1/**", lambda route: route.abort())
    batch_id = start_steady(batches)
    row = hub.row(batch_id)
    bar = hub.part("bar", row)
    expect(hub.part("progress", row)).to_have_text(re.compile(r"^([3-9]|\d\d+) / 500 samples"))
    first, tokens = hub.filled(bar), hub.part("tokens", row).inner_text()
    assert first > 0
    wait_until(lambda: hub.filled(bar) > first, BOUND_S, "a longer bar")
    expect(hub.part("tokens", row)).not_to_have_text(tokens)
    made = int(bar.get_attribute("aria-valuenow") or 0)
    assert made <= batches.view(batch_id)["counts"]["generated"]
    expect(hub.part("connection")).to_have_attribute("data-state", "live")


def test_promise_08_the_duration_ticks_every_second(hub: HubPage, batches: Batches) -> None:
    hub.page.evaluate(KEEP_DURATIONS)
    batch_id = batches.start(100, "simulated/slow", concurrency=1)
    expect(hub.row(batch_id)).to_be_visible()

    def has_ticked() -> bool:
        told = hub.page.evaluate("window.durations")
        return any(told[place : place + 4] == four for four in FOURS for place in range(len(told)))

    wait_until(has_ticked, BOUND_S, "four seconds one after the other")
    expect(hub.part("last-sample", hub.row(batch_id))).to_have_text(
        re.compile(r"last sample \d+ s ago")
    )


def test_the_rate_its_course_and_the_time_left_are_told_and_are_true(
    hub: HubPage, batches: Batches
) -> None:
    hub.open()
    batch_id = batches.start(300, STEADY, recipe="instruction", concurrency=1)
    row = hub.row(batch_id)
    expect(hub.part("rate", row)).to_have_text(re.compile(r"^[\d.]+/(s|min)$"))
    expect(hub.part("eta", row)).to_have_text(re.compile(r"^about .+ left$"))
    expect(hub.part("duration", row)).to_have_text(re.compile(r"^([89]|\d\d+) s$"))
    told = row.evaluate(AT_ONCE)
    rate = float(told["rate"].partition("/")[0]) / (60 if told["rate"].endswith("min") else 1)
    seconds = int(told["duration"].removesuffix(" s"))
    assert told["made"] / (seconds + 1.5) * 0.6 <= rate <= told["made"] / (seconds - 0.5) * 1.4
    course = hub.part("rate-course", row)
    points = re.compile(r"^\d+,[\d.]+ (\d+,[\d.]+ )*19,[\d.]+$")
    expect(course.locator("polyline")).to_have_attribute("points", points)
    expect(course).to_have_attribute("aria-hidden", "true")
    assert course.evaluate("line => line.getAnimations({ subtree: true }).length") == 0
    batches.stop(batch_id)
    expect(hub.part("rate", row)).to_have_count(0)


def test_promise_09_each_batch_is_stopped_alone_or_all_after_their_count(
    hub: HubPage, batches: Batches
) -> None:
    ids = [start_steady(batches) for _ in range(3)]
    expect(hub.part("badge")).to_have_text("3 running")
    for batch_id in ids:
        expect(hub.row(batch_id)).to_be_visible()
    hub.part("stop-all").click()
    expect(hub.part("confirm")).to_contain_text("Stop 3 batches?")
    hub.page.get_by_role("button", name="Cancel").click()
    expect(hub.part("confirm")).to_be_hidden()
    assert sorted(batches.live()) == sorted(ids)
    hub.part("stop-all").click()
    expect(hub.part("confirm-action")).to_have_text("Stop 3")
    hub.part("confirm-action").click()
    for batch_id in ids:
        hub.expect_state(batch_id, "stopped")
    hub.expect_running(0)


def test_promise_11_a_stopped_batch_is_stopping_then_stopped_and_another_starts(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    held = hub.hold_posts("/stop")
    button = hub.part("stop", hub.row(batch_id))
    button.click()
    expect(button).to_have_text("Stopping…")
    expect(button).to_be_disabled()
    hub.only(held).continue_()
    hub.expect_state(batch_id, "stopped")
    expect(hub.part("state", hub.past(batch_id))).to_have_text("Stopped")
    expect(hub.row(batch_id)).to_have_count(0)
    expect(hub.part("chip")).to_have_count(0)
    expect(hub.part("toast")).to_have_attribute("data-kind", "info")
    view = batches.view(batch_id)
    assert view["state"] == "stopped"
    assert view["stop_reason"] == "stopped on the page"
    made = view["counts"]["generated"]
    expect(hub.part("progress", hub.past(batch_id))).to_have_text(f"{made} / 500")
    hub.submit(target="2", model="simulated/instant")
    expect(hub.part("toast").last).to_contain_text("completed")
