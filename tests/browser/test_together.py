"""Several batches at once, and the history by single keys."""

import re

from playwright.sync_api import Locator, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage

STEADY = "scripted/steady"


def start_steady(batches: Batches) -> str:
    return batches.start(300, STEADY, recipe="instruction", concurrency=1)


def choose(hub: HubPage, *batch_ids: str) -> None:
    for batch_id in batch_ids:
        hub.part("choose", hub.past(batch_id)).check()


def choose_none(hub: HubPage) -> None:
    hub.part("together-clear").click()
    expect(hub.part("together")).to_have_count(0)


def focused(hub: HubPage) -> Locator:
    """Return the row of the history that has the focus."""
    return hub.page.locator('[data-testid="history-row"]:focus-within')


def test_chosen_batches_are_paused_and_stopped_after_a_look_at_what_would_come(
    hub: HubPage, batches: Batches
) -> None:
    ended = batches.start(2, STEADY, recipe="instruction", concurrency=1)
    batches.wait(ended)
    running = [start_steady(batches) for _ in range(2)]
    left_alone = start_steady(batches)
    for batch_id in (*running, left_alone):
        batches.wait_samples(batch_id, 1)
    hub.open("batches")
    expect(hub.part("together")).to_have_count(0)
    choose(hub, ended, *running)
    expect(hub.part("together")).to_contain_text("3 batches chosen")
    hub.part("together-pause").click()
    expect(hub.part("confirm")).to_contain_text("2 batches will be paused.")
    expect(hub.part("outlook-refused")).to_contain_text(f"batch {ended} is completed")
    assert {batches.view(one)["state"] for one in running} == {"running"}
    for size in (NARROW, WIDE):
        hub.resize(size)
        assert hub.overflow() <= 0
        assert hub.violations() == []
    hub.part("confirm-action").click()
    for batch_id in running:
        hub.expect_state(batch_id, "paused")
    expect(hub.part("toast")).to_contain_text("2 batches paused")
    expect(hub.part("together")).to_have_count(0)
    choose(hub, *running, left_alone)
    hub.resize(NARROW)
    hub.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(hub.part("together-pause")).to_be_in_viewport()
    hub.resize(WIDE)
    hub.part("together-pause").click()  # Only what would change is counted as a change.
    expect(hub.part("confirm")).to_contain_text("1 batch will be paused.")
    expect(hub.part("outlook-same")).to_have_text("2 batches are paused already.")
    hub.page.keyboard.press("Escape")
    choose_none(hub)
    choose(hub, *running)
    hub.part("together-pause").click()
    expect(hub.part("confirm")).to_contain_text("All of them are paused already")
    expect(hub.part("confirm-action")).to_have_count(0)
    hub.page.keyboard.press("Escape")
    hub.part("together-stop").click()
    expect(hub.part("confirm-action")).to_have_text("Stop 2")
    hub.part("confirm-action").click()
    for batch_id in running:
        hub.expect_state(batch_id, "stopped")
    hub.expect_state(left_alone, "running")
    choose(hub, ended)
    hub.part("together-resume").click()
    expect(hub.part("confirm")).to_contain_text("None of them can be resumed")
    expect(hub.part("confirm-action")).to_have_count(0)
    hub.page.keyboard.press("Escape")
    choose_none(hub)
    assert hub.complaints() == []


def test_paused_batches_are_not_told_as_running(hub: HubPage, batches: Batches) -> None:
    one, other = (start_steady(batches) for _ in range(2))
    for batch_id in (one, other):
        batches.wait_samples(batch_id, 1)
    hub.open()
    panel = hub.part("running-panel")
    expect(panel).to_contain_text("2 batches running")
    batches.command(one, "pause")
    expect(panel).to_contain_text("1 batch running, 1 paused")
    expect(hub.part("badge")).to_contain_text("1 running")
    batches.command(other, "pause")
    expect(panel).to_contain_text("2 batches paused")
    expect(hub.part("chip")).to_have_count(0)
    expect(hub.page.locator("body")).to_contain_text("All is paused. Resume a batch, or add one.")


def test_all_that_match_are_given_a_priority_after_their_count_is_shown(
    hub: HubPage, batches: Batches
) -> None:
    batches.wait(batches.start(2, STEADY, recipe="instruction", concurrency=1))
    running = [start_steady(batches) for _ in range(2)]
    other = batches.start(300, "simulated/slow", concurrency=1)
    for batch_id in (*running, other):
        batches.wait(batch_id, "running")
    hub.open("batches")
    hub.part("history-model").select_option(STEADY)
    expect(hub.past(other)).to_have_count(0)
    hub.part("choose-all").click()
    expect(hub.part("together")).to_contain_text(re.compile(r"All \d+ batches that match"))
    hub.part("together-priority").select_option("high")
    expect(hub.part("confirm")).to_contain_text("Priority high: 2 batches?")
    hub.part("confirm-action").click()
    expect(hub.part("toast")).to_contain_text("2 batches given high priority")
    expect(hub.part("together")).to_have_count(0)  # Done, none is meant any more.
    priorities = [batches.view(one)["priority"] for one in (*running, other)]
    assert priorities == ["high", "high", "normal"]
    hub.part("choose-all").click()
    hub.part("filter-running").click()  # Another filter: what was chosen is let go.
    expect(hub.part("together")).to_have_count(0)
    hub.part("choose-all").click()
    hub.part("together-stop").click()
    expect(hub.part("confirm-action")).to_have_text("Stop 2")
    hub.part("confirm-action").click()
    for batch_id in running:
        batches.wait(batch_id, "stopped")
    assert batches.view(other)["state"] == "running"


def test_the_history_is_worked_by_single_keys(hub: HubPage, batches: Batches) -> None:
    first, second = start_steady(batches), start_steady(batches)
    for batch_id in (first, second):
        batches.wait_samples(batch_id, 1)
    hub.open("batches")
    expect(hub.past(first)).to_be_visible()
    keys = hub.page.keyboard
    keys.press("j")
    expect(focused(hub)).to_have_attribute("data-batch", second)
    keys.press("j")
    expect(focused(hub)).to_have_attribute("data-batch", first)
    keys.press("k")
    expect(focused(hub)).to_have_attribute("data-batch", second)
    keys.press("x")
    expect(hub.part("choose", hub.past(second))).to_be_checked()
    keys.press("x")
    expect(hub.part("choose", hub.past(second))).not_to_be_checked()
    keys.press("s")
    expect(hub.part("confirm-action")).to_have_text("Stop 1")
    hub.part("confirm-action").click()
    hub.expect_state(second, "stopped")
    hub.expect_state(first, "running")
    keys.press("?")
    expect(hub.part("key-help")).to_be_visible()
    assert hub.violations() == []
    keys.press("j")  # a dialog is open: nothing moves behind it
    keys.press("Escape")
    expect(hub.part("key-help")).to_have_count(0)
    keys.press("/")
    expect(hub.part("history-search")).to_be_focused()
    keys.type("x j s")  # text, and no command
    expect(hub.part("history-search")).to_have_value("x j s")
    expect(hub.part("history-empty")).to_be_visible()
    hub.part("history-search").fill("")
    hub.part("choose", hub.past(first)).focus()
    keys.press("k")
    expect(focused(hub)).to_have_attribute("data-batch", second)
    keys.press("Enter")
    expect(hub.page).to_have_url(re.compile(rf"/batches/{second}$"))
    hub.page.go_back()
    expect(hub.past(first)).to_be_visible()
    keys.press("j")  # goes on from the one that was opened
    expect(focused(hub)).to_have_attribute("data-batch", first)
    assert hub.complaints() == []


def test_the_past_offers_no_choice(hub: HubPage, batches: Batches) -> None:
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    hub.open(f"?at={batches.sequences(batch_id)[-1]}")
    expect(hub.past(batch_id)).to_be_visible()
    expect(hub.part("choose")).to_have_count(0)
