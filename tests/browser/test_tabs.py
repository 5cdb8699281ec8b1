"""All tabs of a browser live on one connection, and each is as live as if it were alone."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_SHARING
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

TABS = 10
REFUSALS = {
    "absent": REFUSE_SHARING,
    "refused": "window.SharedWorker = class { constructor() { throw new Error('refused'); } };",
    "broken": "window.SharedWorker = class extends SharedWorker {"
    " constructor() { super('/assets/no-such-worker.js'); } };",
}


@pytest.fixture
def another_tab(unopened: HubPage, page: Page) -> Callable[[], HubPage]:
    """Open the page in one more tab of the same browser."""

    def open_one() -> HubPage:
        tab = HubPage(page.context.new_page(), unopened.url)
        tab.open()
        return tab

    return open_one


def connections(stack: Stack) -> int:
    """Return how many streams the server serves."""
    text = httpx.get(f"{stack.url}/metrics", timeout=10).text
    found = re.findall(r"^millstream_stream_clients\{.*\} ([\d.]+)$", text, re.MULTILINE)
    return round(sum(map(float, found)))


def start_steady(batches: Batches) -> str:
    return batches.start(500, "scripted/steady", recipe="instruction", concurrency=1)


def expect_moving(tab: HubPage, batch_id: str) -> None:
    """Return once the batch's number in ``tab`` has changed under the eyes."""
    progress = tab.part("progress", tab.row(batch_id))
    expect(progress).to_contain_text("/ 500")
    expect(progress).not_to_have_text(progress.inner_text())


def test_ten_tabs_are_live_on_one_connection_whichever_of_them_is_closed(
    stack: Stack, hub: HubPage, batches: Batches, another_tab: Callable[[], HubPage]
) -> None:
    tabs = [hub, *(another_tab() for _ in range(TABS - 1))]
    wait_until(lambda: connections(stack) == 1, BOUND_S, "one connection")
    batch_id = start_steady(batches)
    for tab in tabs:
        expect_moving(tab, batch_id)
    hub.page.close()
    for tab in tabs[1:]:
        expect_moving(tab, batch_id)
        tab.wait_live()
        assert tab.complaints() == []
    wait_until(lambda: connections(stack) == 1, BOUND_S, "one connection")
    for tab in tabs[1:]:
        tab.page.close()
    wait_until(lambda: connections(stack) == 0, BOUND_S, "the end of a connection without tabs")


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_browser_that_shares_nothing_gets_a_connection_for_each_tab(
    stack: Stack,
    unopened: HubPage,
    batches: Batches,
    another_tab: Callable[[], HubPage],
    refusal: str,
) -> None:
    unopened.outages = refusal == "broken"  # The browser reports the missing file.
    unopened.page.context.add_init_script(REFUSALS[refusal])
    unopened.open()
    other = another_tab()
    wait_until(lambda: connections(stack) == 2, BOUND_S, "two connections")
    batch_id = start_steady(batches)
    for tab in (unopened, other):
        expect_moving(tab, batch_id)
