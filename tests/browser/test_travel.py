"""The hub and a batch as they were: shown by their address, played, and left again."""

import re

import httpx
from playwright.sync_api import Page, Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"


def moment_of(batches: Batches, batch_id: str, share: float) -> int:
    """Return a sequence at this share of a batch's life."""
    found = batches.sequences(batch_id)
    return found[int(len(found) * share)]


def test_the_hub_of_the_past_shows_what_ran_then_and_takes_no_command(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    first = batches.start(12, STEADY, recipe="instruction", concurrency=1)
    batches.wait(first)
    at = moment_of(batches, first, 0.5)
    then = httpx.get(f"{stack.url}/v1/batches/{first}?at_seq={at}").json()["batch"]
    assert 0 < then["counts"]["generated"] < 12
    hub.open(f"?at={at}")
    expect(hub.part("past-note")).to_contain_text(f"As of sequence {at:,}")
    row = hub.row(first)
    expect(hub.part("progress", row)).to_have_text(f"{then['counts']['generated']} / 12 samples")
    hub.expect_state(first, "running")
    expect(hub.part("statistics-batches")).not_to_have_text("—")
    for name in ("stop", "stop-all", "start-open", "chip"):
        expect(hub.part(name)).to_have_count(0)
    hub.expect_running(0)  # the badge tells of now
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert hub.overflow() <= 0
        assert hub.violations() == []
    row.get_by_role("link").click()
    expect(hub.page).to_have_url(re.compile(rf"/batches/{first}\?at={at}$"))
    expect(hub.part("details-progress")).to_contain_text(f"{then['counts']['generated']} / 12")
    hub.page.go_back()
    hub.part("back-to-live").click()
    expect(hub.part("past-note")).to_have_count(0)
    expect(hub.row(first)).to_have_count(0)
    hub.expect_state(first, "completed")
    expect(hub.part("start-open")).to_be_visible()
    before = moment_of(batches, first, 0) - 1
    hub.open(f"?at={before}")
    expect(hub.past(first)).to_have_count(0)
    slider = hub.part("slider")
    wait_until(lambda: int(slider.get_attribute("max") or 0) >= before + 10, BOUND_S, "its end")
    hub.page.get_by_role("button", name="Step on").click()  # as far as the choice beside it says
    expect(hub.page).to_have_url(re.compile(rf"at={before + 10}$"))
    hub.open("?at=abc")
    expect(hub.part("moment-note")).to_have_text(
        "at=abc is no sequence of the log: this is the present."
    )
    assert hub.complaints() == []


def test_time_that_goes_back_over_a_running_batch_takes_its_numbers_back(
    stack: Stack, hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(8, STEADY, recipe="instruction", concurrency=1)
    batches.wait(batch_id)
    late, early = (moment_of(batches, batch_id, share) for share in (0.8, 0.4))
    url = f"{stack.url}/v1/batches/{batch_id}"
    counts = {at: httpx.get(f"{url}?at_seq={at}").json()["batch"]["counts"] for at in (late, early)}
    assert 0 < counts[early]["generated"] < counts[late]["generated"] < 8
    hub.open(f"?at={late}")
    for at in (late, early, late):
        hub.part("slider").fill(str(at))
        expect(hub.part("past-note")).to_contain_text(f"As of sequence {at:,}")
        made = counts[at]["generated"]
        tokens = counts[at]["tokens_in"] + counts[at]["tokens_out"]
        for row in (hub.row(batch_id), hub.past(batch_id)):
            expect(hub.part("progress", row)).to_contain_text(f"{made} / 8")
            expect(hub.part("tokens", row)).to_contain_text(f"{tokens:,}")
            expect(hub.part("bar", row)).to_have_attribute("aria-valuenow", str(made))


def test_a_moment_that_is_still_read_is_not_told_as_the_one_shown(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(8, STEADY, recipe="instruction", concurrency=1)
    batches.wait(batch_id)
    early, late = (moment_of(batches, batch_id, share) for share in (0.4, 0.8))
    held = Held()
    hub.page.route(re.compile(r"[?&]at_seq=\d+\b"), held.take)
    for place in ("", f"batches/{batch_id}"):
        held.is_holding = True
        hub.open(f"{place}?at={early}")
        if place == "":
            expect(hub.page.locator("body")).to_contain_text("Nobody has told yet what was running")
            expect(hub.part("statistics-samples-rate")).to_have_text("—")
        held.release()
        expect(hub.part("past-note")).to_contain_text(f"As of sequence {early:,}, ")
        held.is_holding = True
        hub.part("slider").fill(str(late))
        expect(hub.part("past-note")).to_contain_text(f"Reading sequence {late:,}…")
        expect(hub.part("past-note")).to_contain_text(f"As of sequence {early:,}, ")
        held.release()
        expect(hub.part("past-note")).to_contain_text(f"As of sequence {late:,}, ")
        expect(hub.part("past-note")).not_to_contain_text("Reading")
    assert hub.complaints() == []


class Held:
    """Requests that wait until they are released."""

    def __init__(self) -> None:
        self.is_holding = False
        self._routes: list[Route] = []

    def take(self, route: Route) -> None:
        if self.is_holding:
            self._routes.append(route)
        else:
            route.continue_()

    def release(self) -> None:
        self.is_holding = False
        for route in self._routes:
            route.continue_()
        self._routes.clear()


def test_a_batch_is_played_from_its_beginning_to_its_end(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(60, STEADY, recipe="instruction", concurrency=8)
    ended = batches.wait(batch_id)
    hub.open(f"batches/{batch_id}")
    expect(hub.part("details-progress")).to_have_text("60 / 60 samples")
    hub.part("speed").select_option("10")
    hub.part("play").click()
    expect(hub.part("past-note")).to_be_visible()
    expect(hub.part("details-progress")).not_to_have_text("60 / 60 samples")
    expect(hub.part("play")).to_have_text("Pause")
    expect(hub.part("past-note")).to_contain_text(f"As of sequence {ended['sequence']:,}")
    expect(hub.part("details-progress")).to_have_text("60 / 60 samples")
    expect(hub.part("play")).to_have_text("Play")
    assert hub.complaints() == []


def test_a_moment_stays_from_page_to_page_and_each_leads_back_to_live(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(8, STEADY, recipe="instruction", concurrency=1)
    batches.wait(batch_id)
    at = moment_of(batches, batch_id, 0.5)
    hub.open(f"batches?at={at}")
    expect(hub.part("past-note")).to_contain_text(f"As of sequence {at:,}")
    expect(hub.page.get_by_role("heading", level=1)).to_have_text("Batches then")
    expect(hub.past(batch_id)).to_have_attribute("data-state", "running")
    expect(hub.part("progress", hub.past(batch_id))).not_to_have_text("8 / 8")
    hub.past(batch_id).get_by_role("link").click()
    hub.page.get_by_role("link", name="Back to the hub").click()
    expect(hub.page).to_have_url(re.compile(rf"/\?at={at}$"))
    expect(hub.row(batch_id)).to_be_visible()
    hub.open(f"batches?at={at}")
    hub.part("back-to-live").click()
    expect(hub.past(batch_id)).to_have_attribute("data-state", "completed")
    expect(hub.part("past-note")).to_have_count(0)


def test_a_moment_before_a_batch_began_leads_to_the_present(
    page: Page, stack: Stack, batches: Batches
) -> None:
    batch_id = batches.start(2, "simulated/instant")
    batches.wait(batch_id)
    hub = HubPage(page, stack.url)
    hub.open(f"batches/{batch_id}?at={batches.sequences(batch_id)[0] - 1}")
    hub.part("back-to-live", hub.part("trouble")).click()
    expect(hub.part("details-progress")).to_have_text("2 / 2 samples")
    expect(hub.part("trouble")).to_have_count(0)
