"""The timeline of a batch in lanes: who worked when, and the way from a mark to its event."""

import re

from playwright.sync_api import Locator, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage

STEADY = "scripted/steady"


def flaky_batch(batches: Batches) -> str:
    """Return a batch of 60 that has ended and lost some calls on its way."""
    batch_id = batches.start(60, "simulated/flaky", concurrency=6)
    batches.wait(batch_id)
    return batch_id


def made(table: Locator, row: int) -> int:
    return int(table.locator("tbody tr").nth(row).locator("td").nth(2).inner_text())


def test_the_lanes_tell_who_worked_when_by_node_or_by_model(hub: HubPage, batches: Batches) -> None:
    batch_id = flaky_batch(batches)
    hub.open(f"batches/{batch_id}?tab=events")
    lanes = hub.part("lane")
    expect(lanes).to_have_count(2)
    expect(lanes.first).to_contain_text("The batch")
    expect(lanes.last.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile(r"\d+ calls? lost, .*60 samples made, .*slices? claimed")
    )
    expect(hub.part("lane-mark", lanes.last).first).to_be_visible()
    expect(hub.part("lanes-legend")).to_contain_text("calls lost (")
    hub.page.get_by_text("The same as a table").click()
    table = hub.part("lanes-table")
    assert (made(table, 0), made(table, 1)) == (0, 60)
    for size in (WIDE, NARROW):
        for scheme in ("light", "dark"):
            hub.resize(size)
            hub.page.emulate_media(color_scheme=scheme)
            assert (hub.violations(), hub.overflow()) == ([], 0)
    hub.part("lanes-by").select_option("model")
    expect(lanes.last).to_contain_text("simulated/flaky")
    assert "by=model" in hub.page.url
    assert made(table, 1) == 60


def test_a_mark_leads_to_its_event_by_mouse_and_by_keyboard(hub: HubPage, batches: Batches) -> None:
    batch_id = flaky_batch(batches)
    hub.open(f"batches/{batch_id}?tab=events&type=batch.started.v1")
    marks = hub.part("lane-mark")
    expect(hub.page.locator("button[data-sequence][tabindex='0']")).to_have_count(1)
    last = marks.last
    sequence = last.get_attribute("data-sequence")
    last.click()
    expect(hub.page).to_have_url(re.compile(f"tab=events&from={sequence}$"))
    wanted = hub.part("event").first
    expect(wanted).to_contain_text(sequence or "")
    expect(wanted.locator("summary")).to_be_focused()
    marks.first.focus()
    begin = marks.first.get_attribute("data-sequence")
    hub.page.keyboard.press("ArrowDown")
    there = hub.page.evaluate("document.activeElement.dataset.sequence")
    assert int(there) > int(begin or 0)
    hub.page.keyboard.press("Home")
    expect(marks.first).to_be_focused()
    expect(marks.first).to_have_attribute("tabindex", "0")
    hub.page.keyboard.press("Enter")
    expect(wanted).to_contain_text("batch.started.v1")
    expect(wanted.locator("summary")).to_be_focused()
    hub.part("events-from-travel").click()
    expect(hub.part("past-note")).to_contain_text(f"As of sequence {int(begin or 0):,}")
    expect(hub.part("event")).to_have_count(1)
    hub.part("events-from-all").click()
    assert "from=" not in hub.page.url


def test_the_lanes_follow_time_travel_and_a_batch_that_grows(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(300, STEADY, recipe="instruction", concurrency=2)
    batches.wait_samples(batch_id, 4)
    hub.open(f"batches/{batch_id}?tab=events")
    hub.page.get_by_text("The same as a table").click()
    table = hub.part("lanes-table")
    before = made(table, 1)
    batches.wait_samples(batch_id, before + 4)
    expect(table.locator("tbody tr").nth(1).locator("td").nth(2)).not_to_have_text(str(before))
    marks = hub.part("lane-mark", hub.part("lane").first)
    expect(marks).to_have_count(1)
    batches.command(batch_id, "stop", {"mode": "cancel", "reason": "seen"})
    batches.wait(batch_id)
    expect(marks.last).to_have_attribute("data-kind", "stop")
    started = batches.sequences(batch_id)[0]
    hub.open(f"batches/{batch_id}?tab=events&at={started}")
    expect(hub.part("lanes")).to_contain_text("No node has worked on this batch yet.")
    expect(marks).to_have_count(1)
    expect(marks).to_have_attribute("data-kind", "command")
