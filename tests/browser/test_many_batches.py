"""With ten thousand batches the page answers as with ten, and draws no more of them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage
from millstream.testing.many_batches import batch_id, state_of
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

pytestmark = pytest.mark.timeout(600)  # the first one has its batches made, too

COUNT = 10_000
PAGE = 25
ELEMENTS_MOST = 2_000


@pytest.fixture(scope="module")
def stack(browser_type_launch_args: dict[str, Any], models_file: Path) -> Iterator[Stack]:
    """A system of its own, with ten thousand batches that have ended."""
    with Stack.start(env={"MILLSTREAM_MODELS_FILE": str(models_file)}) as running:
        running.freeze("generator-1")  # It would begin to work on what has not ended yet.
        command = [sys.executable, "-m", "millstream.testing.many_batches"]
        subprocess.run([*command, running.nats_url, str(COUNT)], check=True, timeout=240)
        running.thaw("generator-1")
        batches = Batches(running.url)
        wait_until(lambda: batches.total() == COUNT, BOUND_S, f"{COUNT} batches")
        yield running


def elements(hub: HubPage) -> int:
    return int(hub.page.evaluate("document.querySelectorAll('*').length"))


def shown(hub: HubPage) -> list[str]:
    """Return the ids of the history's rows, in their order."""
    rows = hub.part("history-row")
    return list(rows.evaluate_all("rows => rows.map((row) => row.dataset.batch)"))


def expect_first(hub: HubPage, number: int) -> None:
    expect(hub.part("history-row").first).to_have_attribute("data-batch", batch_id(number))


def test_the_hub_comes_up_and_moves(hub: HubPage, batches: Batches) -> None:
    running = batches.start(300, "scripted/steady", recipe="instruction", concurrency=1)
    row = hub.row(running)
    expect(hub.part("progress", row)).to_have_text(re.compile(r"^([3-9]|\d\d+) / 300"))
    total = batches.total()
    expect(hub.part("filter-all")).to_have_text(f"All {total:,}")
    expect(hub.part("statistics-batches")).to_have_text(f"{total:,}")
    expect(hub.part("filter-stopped")).to_contain_text("8,000")
    assert len(shown(hub)) <= PAGE + 1
    assert elements(hub) < ELEMENTS_MOST
    hub.part("stop", row).click()
    hub.expect_state(running, "stopped")
    assert (hub.violations(), hub.overflow()) == ([], 0)


def test_all_are_sorted_filtered_and_searched(hub: HubPage) -> None:
    hub.open("batches")
    hub.part("history-sort").select_option("started")
    expect_first(hub, 0)
    assert shown(hub) == [batch_id(number) for number in range(PAGE)]
    hub.part("filter-completed").click()
    expect(hub.part("history-row").nth(1)).to_have_attribute("data-batch", batch_id(10))
    assert shown(hub) == [batch_id(10 * number) for number in range(PAGE)]
    hub.part("filter-all").click()
    hub.part("history-model").select_option("simulated/flaky")
    expect(hub.part("filter-all")).to_have_text("All 1,000")
    expect_first(hub, 1)
    hub.part("history-model").select_option("")
    hub.part("history-search").fill(batch_id(7_654))
    expect(hub.part("history-row")).to_have_count(1)
    expect_first(hub, 7_654)
    hub.part("history-search").fill("no batch has these words")
    expect(hub.part("history-empty")).to_be_visible()
    hub.part("history-search").fill("")
    expect(hub.part("history-row")).to_have_count(PAGE)


def test_pages_are_turned_and_rows_walked_by_keys(hub: HubPage) -> None:
    hub.open("batches?sort=started")
    seen = []
    for page in range(4):
        expect_first(hub, page * PAGE)
        seen += shown(hub)
        hub.page.mouse.wheel(0, 5_000)
        hub.part("next-page").click()
    assert seen == [batch_id(number) for number in range(4 * PAGE)]
    expect_first(hub, 4 * PAGE)
    assert elements(hub) < ELEMENTS_MOST
    keys = hub.page.keyboard
    focused = hub.page.locator('[data-testid="history-row"]:focus-within')
    for _ in range(3):
        keys.press("j")
    keys.press("k")
    expect(focused).to_have_attribute("data-batch", batch_id(4 * PAGE + 1))
    keys.press("x")
    expect(hub.part("together")).to_contain_text("1 batch chosen")
    keys.press("Enter")
    expect(hub.part("details")).to_have_attribute("data-batch", batch_id(4 * PAGE + 1))


def test_all_are_chosen_and_told_what_would_come_of_it(hub: HubPage) -> None:
    hub.outages = True  # The browser itself tells of the refusal.
    hub.open("batches?state=stopped&model=simulated/slow")
    hub.part("choose-all").click()
    expect(hub.part("together")).to_contain_text("All 8,000 batches that match")
    hub.part("together-continue").click()
    expect(hub.part("toast")).to_contain_text("8,000 batches meet the filter")
    expect(hub.part("toast")).to_contain_text("at most 1,000")
    hub.open("batches?state=failed&model=simulated/flaky")
    hub.part("choose-all").click()
    hub.part("together-continue").click()
    expect(hub.part("confirm")).to_contain_text("1,000 batches will be continued")
    expect(hub.part("confirm-action")).to_have_text("Make what is left 1,000")
    assert hub.violations() == []
    hub.page.keyboard.press("Escape")
    expect(hub.part("confirm")).to_have_count(0)
    assert state_of(1) == "failed"
    expect(hub.part("filter-failed")).to_have_text(re.compile(r"1,000"))
