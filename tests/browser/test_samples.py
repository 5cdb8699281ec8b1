"""Samples are looked through, compared and taken along, of one batch or of all."""

import json
import re

import pytest
from playwright.sync_api import Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

MANY = 350
GROWING = 240
KEYS = 40
REST_LEAST_MS = 100
COUNT_WRITES = """() => {
  window.writes = [];
  const replace = history.replaceState;
  history.replaceState = function (...given) {
    window.writes.push(performance.now());
    return replace.apply(this, given);
  };
}"""
ONWARD = """list => {
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 1;
  list.scrollTop = isAtEnd ? 0 : list.scrollTop + 0.5 * list.clientHeight;
}"""
TO_THE_END = "list => { list.scrollTop = list.scrollHeight; }"


@pytest.fixture(scope="module")
def many(stack: Stack) -> str:
    """The id of a completed batch of 350 samples."""
    batches = Batches(stack.url)
    batch_id = batches.start(MANY, "simulated/instant")
    batches.wait(batch_id)
    return batch_id


def test_a_list_of_any_length_keeps_only_the_rows_in_sight(many: str, hub: HubPage) -> None:
    hub.open(f"batches/{many}?tab=samples")
    expect(hub.part("samples-total")).to_have_text(f"{MANY} samples")
    samples, rows = hub.part("sample-list"), hub.part("sample")
    last = samples.locator(f'[aria-posinset="{MANY}"]')

    def at_the_end() -> bool:
        samples.evaluate(TO_THE_END)
        assert rows.count() < 60
        return last.count() == 1

    wait_until(at_the_end, BOUND_S, "the last sample")
    last.click()
    expect(last).to_have_attribute("aria-selected", "true")
    chosen = str(last.get_attribute("data-sample"))
    expect(hub.part("sample-reader")).to_have_attribute("data-sample", chosen)
    expect(hub.page).to_have_url(re.compile(f"sample={chosen}"))
    hub.page.reload()  # The address names it, though the list begins at its beginning.
    expect(hub.part("sample-reader")).to_have_attribute("data-sample", chosen)


def test_a_sample_that_is_pressed_on_a_narrow_page_comes_into_sight(
    many: str, hub: HubPage
) -> None:
    hub.resize(NARROW)
    hub.open(f"batches/{many}?tab=samples")
    sample = hub.part("sample").nth(2)
    sample.click()
    chosen = str(sample.get_attribute("data-sample"))
    expect(hub.part("sample-reader")).to_have_attribute("data-sample", chosen)
    expect(hub.part("sample-reader").locator("h3")).to_be_in_viewport()


def test_two_samples_stand_side_by_side_and_each_is_copied_as_json(many: str, hub: HubPage) -> None:
    hub.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hub.open(f"batches/{many}?tab=samples")
    reader = hub.part("sample-reader")
    first = str(hub.part("sample").first.get_attribute("data-sample"))
    expect(reader).to_have_attribute("data-sample", first)
    hub.part("compare").click()
    hub.part("sample-list").focus()
    hub.page.keyboard.press("ArrowDown")
    hub.page.keyboard.press("ArrowDown")
    expect(hub.part("sample").nth(2)).to_have_attribute("aria-selected", "true")
    second = str(reader.get_attribute("data-sample"))
    assert second != first
    expect(hub.part("sample-diff").locator("del").first).to_be_visible()
    expect(hub.part("sample-diff").locator("ins").first).to_be_visible()
    expect(hub.page).to_have_url(re.compile(f"sample={second}"))
    hub.page.reload()
    expect(hub.part("sample-diff")).to_be_visible()
    # Now, for before the diff may yet show the sample between the two.
    field = hub.part("field-diff").filter(has_text="question").first
    left, right = field.locator("bdi").all_inner_texts()
    assert left != right
    hub.page.get_by_role("button", name="Swap sides").click()
    expect(reader).to_have_attribute("data-sample", first)
    expect(field.locator("bdi").first).to_have_text(right)
    hub.part("compare-end").click()
    hub.part("raw").click()
    raw = hub.part("raw-json").inner_text()
    hub.part("copy").click()
    expect(hub.part("copy")).to_have_text("Copied")
    copied = hub.page.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied) == json.loads(raw)
    assert json.loads(copied)["id"] == first


def test_a_held_key_writes_the_address_seldom_and_where_it_came_to_rest(
    many: str, hub: HubPage
) -> None:
    hub.open(f"batches/{many}?tab=samples")
    expect(hub.part("sample").first).to_have_attribute("aria-selected", "true")
    hub.page.evaluate(COUNT_WRITES)
    hub.part("sample-list").focus()
    for _ in range(KEYS):
        hub.page.keyboard.press("ArrowDown")
    reached = hub.part("sample-list").locator(f'[aria-posinset="{KEYS + 1}"]')
    expect(reached).to_have_attribute("aria-selected", "true")
    chosen = str(reached.get_attribute("data-sample"))
    expect(hub.page).to_have_url(re.compile(f"sample={chosen}$"))
    gaps = hub.page.evaluate("window.writes.slice(1).map((at, place) => at - window.writes[place])")
    assert min(gaps, default=REST_LEAST_MS) >= REST_LEAST_MS


def test_samples_of_a_running_batch_come_and_keep_the_reader_s_place(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(GROWING, "simulated/fast")
    batches.wait_samples(batch_id, 150)
    hub.open(f"batches/{batch_id}?tab=samples&order=-stored")
    samples = hub.part("sample-list")
    expect(hub.part("sample").first).to_be_visible()
    samples.evaluate(TO_THE_END)
    batches.wait(batch_id)
    expect(hub.part("samples-total")).to_have_text(f"{GROWING} samples")
    assert samples.evaluate("list => list.scrollTop") > 0
    seen: set[str] = set()

    def looked_through() -> bool:
        rows = "rows => rows.map(row => row.dataset.sample)"
        seen.update(hub.part("sample").evaluate_all(rows))
        samples.evaluate(ONWARD)
        return len(seen) == GROWING

    wait_until(looked_through, BOUND_S, "every sample")


def test_the_samples_of_all_batches_are_one_list_newest_first(
    many: str, hub: HubPage, batches: Batches
) -> None:
    other = batches.start(3, "simulated/fast", recipe="instruction")
    batches.wait(other)
    hub.open("samples")
    newest = hub.part("sample").first
    expect(newest).to_have_attribute("data-sample", re.compile(f"^{other}-"))
    hub.part("facet-models").select_option("simulated/instant")
    expect(newest).not_to_have_attribute("data-sample", re.compile(f"^{other}-"))
    expect(hub.page).to_have_url(re.compile("model=simulated%2Finstant"))
    hub.open("samples?order=stored")
    expect(newest).not_to_have_attribute("data-sample", re.compile(f"^{other}-"))
    hub.part("samples-search").fill("no sample has these words")
    expect(hub.part("samples-empty")).to_be_visible()


def test_a_search_through_all_samples_tells_how_far_it_is_and_can_be_ended(
    many: str, hub: HubPage
) -> None:
    hub.open("samples")
    word = hub.part("sample").first.locator("bdi").last.inner_text().split()[-1]
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    hub.page.route("**/v1/samples/search*", hold)
    hub.part("samples-search").fill(word)
    expect(hub.part("search-progress")).to_contain_text("0 % looked through")
    hub.only(held)
    assert (hub.violations(), hub.overflow()) == ([], 0)
    hub.part("search-end").click()
    expect(hub.part("search-progress")).to_contain_text("ended")
    expect(hub.part("samples-total")).to_have_text("0 samples found so far")
    hub.page.unroute_all(behavior="ignoreErrors")
    hub.part("search-on").click()
    expect(hub.part("samples-total")).to_have_text(re.compile(r"^[1-9]\d* samples? found"))
    expect(hub.part("sample").first).to_be_visible()
    hub.part("samples-search").fill("no sample has these words")
    expect(hub.part("samples-empty")).to_be_visible()
    expect(hub.part("samples-total")).to_have_text("0 samples found")
    assert (hub.violations(), hub.overflow()) == ([], 0)


def test_a_sample_that_is_not_there_is_told(hub: HubPage, many: str) -> None:
    hub.outages = True  # The browser reports the answer.
    hub.open(f"batches/{many}?tab=samples&sample={many}-{MANY + 5}")
    expect(hub.part("details")).to_contain_text(re.compile("slot|no such sample"))
