"""Text from models and users is text: it runs nothing, marks up nothing and moves nothing."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage

LONG_LINE = "\u202e" + "unbreakable😀" * 8_000
"""Some 100,000 characters without a break, after a mark that turns their direction."""


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


def test_a_line_of_a_hundred_thousand_characters_stays_in_its_box(
    foreign: HubPage, batches: Batches
) -> None:
    def lengthen(route: Route) -> None:  # Beyond what the recipes let a model answer.
        answer = route.fetch()
        body = answer.json()
        for sample in body["samples"]:
            sample["content"]["response"] += LONG_LINE
        route.fulfill(response=answer, json=body)

    batch_id = batches.start(3, "scripted/hostile", recipe="instruction")
    batches.wait(batch_id)
    foreign.page.route("**/samples?*", lengthen)
    foreign.open(f"batches/{batch_id}?tab=samples")
    field = foreign.part("sample-reader").locator("dd").filter(has_text=LONG_LINE[:9])
    assert len(str(field.text_content())) > len(LONG_LINE)
    foreign.part("compare").click()
    foreign.part("sample").nth(1).click()
    expect(foreign.part("sample-diff")).to_be_visible()
    for size in (WIDE, NARROW):
        foreign.resize(size)
        assert foreign.overflow() == 0
