"""What the original document promises to tell, each row of its table by its number."""

import re

from playwright.sync_api import Page, expect

from millstream.testing.batches import Batches
from millstream.testing.gate import Gate
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"
"""Answers in the form of the recipe ``instruction``, after 0.3 s: slow enough to be watched."""


SOME_RATE = re.compile(r"^[\d.,]*[1-9][\d.,]*/(s|min)$")


def start_steady(batches: Batches, target: int = 500) -> str:
    return batches.start(target, STEADY, recipe="instruction", concurrency=1)


def test_promise_12_a_row_of_the_history_lives_and_ends_in_its_colour(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = start_steady(batches)
    row = hub.past(batch_id)
    expect(hub.part("state", row)).to_have_text("Running")
    expect(hub.part("state", row).locator(".spinner")).to_be_visible()
    for name in ("progress", "tokens", "duration"):
        cell = hub.part(name, row)
        expect(cell).not_to_have_text(cell.inner_text())
    bar = hub.part("bar", row)
    before = hub.filled(bar)
    wait_until(lambda: hub.filled(bar) > before, BOUND_S, "a longer bar")
    running = colours(hub, batch_id)
    hub.part("stop", row).click()
    hub.expect_state(batch_id, "stopped")
    expect(hub.part("state", row).locator(".spinner")).to_have_count(0)
    other = batches.start(2, "simulated/instant")
    hub.expect_state(other, "completed")
    assert len({running, colours(hub, batch_id), colours(hub, other)}) == 3


def colours(hub: HubPage, batch_id: str) -> tuple[str, str]:
    """Return those of a row's chip and bar."""
    row = hub.past(batch_id)
    chip = hub.part("state", row).evaluate("(one) => getComputedStyle(one).backgroundColor")
    bar = hub.part("bar", row).evaluate("(one) => getComputedStyle(one).backgroundImage")
    return str(chip), str(bar).partition(")")[0]  # The first layer of the bar: what was made.


def test_promise_13_the_badge_counts_on_every_page(hub: HubPage, batches: Batches) -> None:
    ids = [start_steady(batches) for _ in range(3)]
    for section in ("", "batches", "samples", "statistics", "replay", "nodes", "settings"):
        hub.open(section)
        link = hub.page.get_by_role("link", name=re.compile(r"^Generation\s*Hub\s*:\s*3 running$"))
        expect(link).to_be_visible()
    batches.stop(ids[0])
    expect(hub.part("badge")).to_have_text("2 running")
    batches.stop_all()
    expect(hub.part("badge")).to_have_text("")
    expect(hub.part("badge")).to_have_attribute("data-count", "0")


def test_the_hub_sums_what_all_live_batches_make_and_what_the_day_has_cost(
    hub: HubPage, batches: Batches
) -> None:
    expect(hub.part("statistics-samples-rate")).to_have_text("0/min")
    expect(hub.part("statistics-cost-rate")).to_have_text("$0.00/h")
    ids = [start_steady(batches) for _ in range(2)]
    for batch_id in ids:
        expect(hub.part("rate", hub.row(batch_id))).to_have_text(SOME_RATE)
    for fact in ("samples", "tokens"):
        expect(hub.part(f"statistics-{fact}-rate")).to_have_text(SOME_RATE)
    expect(hub.part("statistics-today")).to_have_text(re.compile(r"^(\$[\d.]+|—)$"))
    batches.stop_all()
    expect(hub.part("statistics-samples-rate")).to_have_text("0/min")


def test_promise_14_a_completion_is_told_once_and_the_statistics_follow(
    hub: HubPage, batches: Batches
) -> None:
    total = hub.part("statistics-total")
    expect(total).to_have_text(re.compile(r"^[\d,]+$"))
    before = int(total.inner_text().replace(",", ""))
    first = batches.start(7, "simulated/fast")
    hub.expect_state(first, "completed")
    expect(hub.part("toast").first).to_contain_text("7 of 7 samples")
    expect(total).to_have_text(f"{before + 7:,}")
    second = batches.start(5, "simulated/fast")
    hub.expect_state(second, "completed")
    expect(total).to_have_text(f"{before + 12:,}")
    hub.expect_told(*(f"batch {one[-8:]} completed" for one in (first, second)))
    assert hub.filled(hub.part("bar", hub.past(first))) == 100
    expect(hub.part("state", hub.past(first))).to_have_text("Completed")
    assert hub.seen("tones") == [], "sound is off until it is switched on"


def test_promise_16_the_sound_is_played_when_on_and_the_switch_is_remembered(
    hub: HubPage, batches: Batches
) -> None:
    switch = hub.part("sound")
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.click()
    rising = [523, 659, 784]
    wait_until(lambda: hub.seen("tones") == rising, BOUND_S, "the tones of the switch itself")
    hub.expect_state(batches.start(2, "simulated/instant"), "completed")
    wait_until(lambda: hub.seen("tones") == rising * 2, BOUND_S, "the tones of a completion")
    hub.open()
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    hub.open()
    expect(switch).to_have_attribute("aria-pressed", "false")


def test_promise_20_the_dialog_offers_every_choice_and_keeps_the_last(hub: HubPage) -> None:
    hub.part("start-open").click()
    expect(hub.part("start-smart")).to_be_checked()
    hub.part("start-preset").select_option("A working set")
    expect(hub.part("start-target")).to_have_value("500")
    hub.part("start-target").fill("5")
    for step in (10, 50, 100, 500):
        hub.part(f"start-add-{step}").click()
    expect(hub.part("start-target")).to_have_value("665")
    hub.part("start-smart").uncheck()
    hub.part("start-recipe").select_option("instruction")
    hub.part("start-provider").select_option("simulated")
    hub.part("start-topic").select_option(index=1)
    hub.part("start-difficulty").select_option("easy")
    hub.part("start-sample-type").select_option("explanation")
    hub.submit(target="2", model="simulated/instant", instruction="Stay short.")
    expect(hub.part("toast")).to_contain_text("2 of 2 samples")
    hub.open()
    hub.part("start-open").click()
    expect(hub.part("start-recipe")).to_have_value("instruction")
    expect(hub.part("start-provider")).to_have_value("simulated")
    expect(hub.part("start-topic")).not_to_have_value("")
    expect(hub.part("start-difficulty")).to_have_value("easy")
    expect(hub.part("start-model-other")).to_have_value("simulated/instant")
    expect(hub.part("start-instruction")).to_have_value("Stay short.")


def test_promise_21_what_the_stream_tells_is_whole_and_is_asked_for_by_nobody(
    page: Page, gate: Gate, batches: Batches
) -> None:
    hub = HubPage(page, gate.url)
    hub.open()
    batch_id = start_steady(batches, 24)
    hub.expect_state(batch_id, "running")
    assert "GET /v1/batches" in {request.partition("?")[0] for request in gate.asked}
    batches.wait_samples(batch_id, 4)
    gate.asked.clear()
    batches.wait_samples(batch_id, 12)
    batches.command(batch_id, "pause")  # Its end would come soon, and be asked after.
    hub.expect_state(batch_id, "paused")
    expect(hub.part("progress", hub.row(batch_id))).to_have_text(re.compile("^(1[2-9]|2.) / 24"))
    assert [request for request in gate.asked if "/v1/batches" in request] == []
    batches.command(batch_id, "resume")
    hub.expect_state(batch_id, "completed")
    expect(hub.part("progress", hub.past(batch_id))).to_have_text("24 / 24")
    counts = batches.view(batch_id)["counts"]
    tokens = counts["tokens_in"] + counts["tokens_out"]
    expect(hub.part("tokens", hub.past(batch_id))).to_have_text(f"{tokens:,}")
    hub.page.reload()
    expect(hub.part("tokens", hub.past(batch_id))).to_have_text(f"{tokens:,}")
    assert hub.complaints() == []
