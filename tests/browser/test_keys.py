"""The page by keyboard: keys on every page, where the focus goes, and the ways past controls."""

import re

import pytest
from playwright.sync_api import Locator, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack


@pytest.fixture(scope="module")
def two(stack: Stack) -> tuple[str, str]:
    """The ids of two batches that have ended, the older one first."""
    batches = Batches(stack.url)
    ids = [batches.start(2, "simulated/instant") for _ in range(2)]
    for batch_id in ids:
        batches.wait(batch_id)
    return ids[0], ids[1]


def heading(hub: HubPage, name: str) -> Locator:
    return hub.page.get_by_role("heading", level=1, name=name)


def link(hub: HubPage, batch_id: str) -> Locator:
    return hub.past(batch_id).get_by_role("link", name=batch_id)


def test_keys_and_their_help_hold_on_every_page(hub: HubPage, two: tuple[str, str]) -> None:
    keys = hub.page.keyboard
    told = hub.part("key-help")
    hub.open("samples")
    expect(hub.part("sample").first).to_be_visible()
    keys.press("/")
    expect(hub.part("samples-search")).to_be_focused()
    keys.type("?")  # text, and no command
    expect(hub.part("samples-search")).to_have_value("?")
    hub.open(f"batches/{two[0]}")
    expect(hub.part("tab-details")).to_be_visible()
    keys.press("?")
    expect(told.locator("kbd")).to_have_text(["?"])  # Nothing else holds here.
    keys.press("Escape")
    hub.part("tab-samples").click()
    expect(hub.part("sample").first).to_be_visible()
    hub.part("key-help-open").click()
    expect(told.locator("kbd")).to_have_text(["↓ / ↑", "/", "?"])
    keys.press("Escape")
    expect(told).to_have_count(0)
    hub.open("settings")
    hub.part("theme-system").focus()  # A choice is no text.
    keys.press("?")
    expect(told).to_be_visible()
    keys.press("Escape")
    hub.open("batches")
    expect(hub.past(two[0])).to_be_visible()
    keys.press("?")
    expect(told.locator("kbd")).to_have_text(["j / k", "Enter", "x", "s", "/", "?"])


def test_another_page_has_the_focus_at_its_heading_and_a_step_back_at_the_row(
    hub: HubPage, two: tuple[str, str]
) -> None:
    for page, title in (("", "Generation hub"), ("batches", "Batches")):
        hub.open(page)
        link(hub, two[0]).press("Enter")
        expect(heading(hub, two[0])).to_be_focused()
        hub.page.go_back()
        expect(link(hub, two[0])).to_be_focused()
        hub.page.go_forward()
        expect(heading(hub, two[0])).to_be_focused()
        sections = hub.page.get_by_role("navigation", name="Sections")
        sections.get_by_role("link", name="Settings").click()  # Its file comes after the click.
        expect(heading(hub, "Settings")).to_be_focused()
        sections.get_by_role("link", name=re.compile(title, re.IGNORECASE)).click()
        expect(heading(hub, title)).to_be_focused()


def test_the_first_two_stops_lead_past_all_that_stands_before_the_content(
    hub: HubPage, two: tuple[str, str]
) -> None:
    keys = hub.page.keyboard
    hub.open("batches")
    expect(link(hub, two[1])).to_be_visible()
    keys.press("Tab")
    expect(hub.part("skip")).to_be_focused()
    for size in (NARROW, WIDE):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    keys.press("Tab")
    expect(hub.part("skip-history")).to_be_focused()
    keys.press("Enter")
    expect(link(hub, two[1])).to_be_focused()
    assert hub.page.url.endswith("/batches")
    hub.open("nodes")
    keys.press("Tab")
    keys.press("Enter")
    expect(hub.page.get_by_role("main")).to_be_focused()
    expect(hub.part("skip-history")).to_have_count(0)
