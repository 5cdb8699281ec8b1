"""The history finds any batch, and its details show samples, events and quality."""

import re
from typing import NamedTuple

import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

PAGE = 25


class Past(NamedTuple):
    """Ids of batches that ended in each way."""

    completed: str
    stopped: str
    failed: str


@pytest.fixture(scope="module")
def past(stack: Stack) -> Past:
    batches = Batches(stack.url)
    completed = batches.start(30, "simulated/fast", instruction="Mention the harbour.")
    failed = batches.start(5, "scripted/refused", recipe="instruction")
    stopped = batches.start(20, "scripted/steady", recipe="instruction", concurrency=1)
    batches.wait_samples(stopped, 2)
    batches.stop(stopped)
    for batch_id, state in ((completed, "completed"), (failed, "failed"), (stopped, "stopped")):
        assert batches.wait(batch_id)["state"] == state
    return Past(completed, stopped, failed)


def open_details(hub: HubPage, batch_id: str, tab: str | None = None) -> None:
    hub.past(batch_id).click()
    expect(hub.part("details")).to_have_attribute("data-batch", batch_id)
    if tab is not None:
        hub.part(f"tab-{tab}").click()


def test_each_end_has_its_own_word_and_a_filter(past: Past, hub: HubPage) -> None:
    colours = set()
    for state, batch_id in past._asdict().items():
        chip = hub.part("state", hub.past(batch_id))
        expect(chip).to_have_text(state.capitalize())
        colours.add(chip.evaluate("chip => getComputedStyle(chip).backgroundColor"))
    assert len(colours) == 3
    for state, batch_id in past._asdict().items():
        hub.part(f"filter-{state}").click()
        expect(hub.past(batch_id)).to_be_visible()
        others = f'[data-testid="history-row"]:not([data-state="{state}"])'
        expect(hub.page.locator(others)).to_have_count(0)
    hub.part("filter-all").click()
    for batch_id in past:
        expect(hub.past(batch_id)).to_be_visible()


def test_the_search_finds_by_id_and_by_model(past: Past, hub: HubPage) -> None:
    search = hub.part("history-search")
    search.fill(past.stopped)
    expect(hub.part("history-row")).to_have_count(1)
    expect(hub.past(past.stopped)).to_be_visible()
    search.fill("scripted/refused")
    expect(hub.past(past.stopped)).to_have_count(0)
    expect(hub.past(past.failed)).to_be_visible()
    search.fill("no batch has these words")
    expect(hub.part("history-empty")).to_contain_text("No batch matches")
    search.fill("")
    for batch_id in past:
        expect(hub.past(batch_id)).to_be_visible()


def test_older_batches_are_on_the_next_page(past: Past, hub: HubPage, batches: Batches) -> None:
    made = [batches.start(1, "simulated/instant") for _ in range(PAGE)]
    wait_until(lambda: not batches.live(), BOUND_S, "the end of all batches")
    hub.open()
    expect(hub.part("history-row")).to_have_count(PAGE)
    expect(hub.past(past.completed)).to_have_count(0)
    hub.part("next-page").click()
    expect(hub.past(past.completed)).to_be_visible()
    hub.page.get_by_role("button", name="Previous").click()
    expect(hub.past(made[-1])).to_be_visible()


def test_promise_18_the_details_tell_what_was_asked_for_and_what_failed(
    past: Past, hub: HubPage
) -> None:
    hub.open(f"#{past.completed}")
    details = hub.part("details")
    expect(details).to_have_attribute("data-batch", past.completed)
    expect(hub.part("details-progress")).to_have_text("30 / 30 samples")
    for words in ("Mention the harbour.", "simulated/fast", "legal-qa"):
        expect(details).to_contain_text(words)
    assert hub.page.url == f"{hub.url}/batches/{past.completed}"
    hub.page.get_by_role("link", name="Back to the hub").click()
    expect(details).to_have_count(0)
    assert hub.page.url == f"{hub.url}/"
    hub.open(f"#{past.failed}")
    expect(hub.part("details-errors")).to_contain_text("The batch failed (auth)")


def test_promise_18_the_samples_are_searched_and_read(past: Past, hub: HubPage) -> None:
    hub.open(f"#{past.completed}")
    hub.part("tab-samples").click()
    total = hub.part("samples-total")
    expect(total).to_have_text("30 samples")
    hub.part("samples-search").fill("no sample has these words")
    expect(hub.part("samples-empty")).to_contain_text("No sample contains this text")
    hub.part("samples-search").fill("")
    hub.part("sample").nth(1).click()
    question = hub.part("sample-reader").locator("dd").nth(2).inner_text()
    hub.part("samples-search").fill(question[:60])
    expect(total).to_have_text(re.compile("^[1-9] sample"))
    expect(hub.part("sample").filter(has_text=question[:60])).to_have_count(1)


def test_events_are_shown_as_they_were_stored(past: Past, hub: HubPage) -> None:
    hub.open(f"#{past.stopped}")
    hub.part("tab-events").click()
    events = hub.part("event")
    expect(events.first).to_contain_text("batch.started.v1")
    for kind in ("slice.claimed.v1", "sample.generated.v1", "batch.stopped.v1"):
        expect(events.filter(has_text=kind).first).to_be_attached()
    events.first.click()
    expect(events.first.locator("pre")).to_contain_text('"target": 20')


def test_events_are_chosen_by_type_among_all_of_the_batch(past: Past, hub: HubPage) -> None:
    hub.open(f"batches/{past.completed}?tab=events")
    events = hub.part("event")
    expect(hub.part("event-types")).to_have_text("Types: all")
    expect(events.first).to_contain_text("batch.started.v1")
    hub.part("event-types").click()
    choice = hub.page.locator("[data-testid=event-type]")
    for kind in ("batch.completed.v1", "sample.generated.v1"):
        choice.and_(hub.page.locator(f"[data-type='{kind}']")).check()
    expect(hub.part("event-types")).to_have_text("Types: 2 types")
    expect(events).to_have_count(31)
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    assert "type=sample.generated.v1%2Cbatch.completed.v1" in hub.page.url
    hub.page.reload()
    expect(events).to_have_count(31)
    hub.open(f"batches/{past.completed}?tab=events&type=batch.failed.v1")
    expect(hub.part("events-lack")).to_have_text("The batch has no event of these types.")
    hub.part("event-types").click()
    hub.part("event-types-all").click()
    expect(events.first).to_contain_text("batch.started.v1")
    assert "type=" not in hub.page.url


def test_promise_19_the_quality_is_rated_measured_and_spread(past: Past, hub: HubPage) -> None:
    hub.open(f"#{past.completed}")
    hub.part("tab-quality").click()
    expect(hub.part("rating")).to_contain_text("Good")
    expect(hub.part("quality")).to_contain_text("30")
    expect(hub.part("quality")).to_contain_text("Tokens of the samples kept")
    for spread in ("Difficulties", "Sample types", "Topics", "Average length"):
        expect(hub.part("details")).to_contain_text(spread)
    hub.open(f"batches/{past.failed}?tab=quality")
    expect(hub.part("details")).to_contain_text("No sample yet")


def test_the_details_of_a_running_batch_move(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(200, "scripted/steady", recipe="instruction", concurrency=1)
    expect(hub.row(batch_id)).to_be_visible()
    hub.row(batch_id).get_by_role("link", name=batch_id).click()
    progress = hub.part("details-progress")
    expect(progress).to_have_text(re.compile("^[2-9] / 200"))
    now = progress.inner_text()
    expect(progress).not_to_have_text(now)
    hub.part("tab-samples").click()
    expect(hub.part("sample").nth(3)).to_be_visible()
    hub.page.go_back()
    hub.part("stop", hub.row(batch_id)).click()
    hub.expect_state(batch_id, "stopped")
