"""Text from models and users is text: it runs nothing, marks up nothing and moves nothing."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, HubPage


@pytest.fixture
def foreign(unopened: HubPage, hostile_text: str) -> Iterator[HubPage]:
    """The page; at the end nothing in it may have come from the text."""
    unopened.open()
    yield unopened
    page = unopened.page
    assert page.title() != "taken"
    assert page.locator("img, main script, main style, [data-testid=details] style").count() == 0
    assert page.locator("body").evaluate("body => getComputedStyle(body).display") != "none"


def assert_held(holder: Locator, text: str) -> None:
    """The text stands there letter by letter, alone in an element that isolates its direction."""
    element = holder.locator("bdi").filter(has_text="</bdi></dd><style>")
    expect(element).to_have_count(1)
    assert element.text_content() == text
    assert element.evaluate("one => one.childElementCount") == 0
    assert element.evaluate("one => getComputedStyle(one).unicodeBidi") == "isolate"


def test_an_answer_full_of_markup_is_shown_letter_by_letter(
    foreign: HubPage, batches: Batches, hostile_text: str
) -> None:
    batch_id = batches.start(3, "scripted/hostile", recipe="instruction", instruction=hostile_text)
    assert batches.wait(batch_id)["counts"]["generated"] == 3
    foreign.open(f"#{batch_id}")
    details = foreign.part("details")
    assert_held(details, hostile_text)  # The instruction, as the user gave it.
    foreign.part("tab-samples").click()
    foreign.part("sample").first.click()
    assert_held(foreign.part("sample-reader"), hostile_text)
    foreign.resize(NARROW)
    assert foreign.overflow() == 0
    assert details.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    foreign.part("samples-search").fill("<script>document.title")
    expect(foreign.part("sample")).to_have_count(3)
    foreign.part("tab-events").click()
    event = foreign.part("event").filter(has_text="sample.generated").first
    event.locator("summary").click()
    shown = json.loads(event.locator("pre").inner_text())
    assert shown["content"]["response"] == hostile_text


def test_a_provider_s_words_are_shown_letter_by_letter(
    foreign: HubPage, batches: Batches, hostile_text: str
) -> None:
    batch_id = batches.start(2, "scripted/refused", recipe="instruction")
    view = batches.wait(batch_id)
    assert view["state"] == "failed"
    assert "<script>" in view["error"]["message"]
    toast = foreign.part("toast")
    expect(toast).to_have_attribute("data-kind", "error")
    assert view["error"]["message"] in toast.inner_text()
    foreign.past(batch_id).click()
    expect(foreign.part("details-errors")).to_contain_text("<script>document.title")
    foreign.resize(NARROW)
    assert foreign.overflow() == 0


def test_a_search_for_markup_finds_nothing_and_breaks_nothing(
    foreign: HubPage, hostile_text: str
) -> None:
    foreign.part("history-search").click()
    foreign.page.keyboard.insert_text(hostile_text)  # As pasted: a field's limit holds.
    expect(foreign.part("history-empty")).to_be_visible()
    foreign.open("#batch_%3Cscript%3E")
    expect(foreign.part("details")).to_have_count(0)
