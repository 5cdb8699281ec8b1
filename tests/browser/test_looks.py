"""The page is readable by everyone: on wide and narrow screens, light and dark, by any means."""

import re
from typing import Literal

import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_STORAGE
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack

Looks = tuple[tuple[int, int], Literal["light", "dark"]]
LOOKS: tuple[Looks, ...] = ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark"))


@pytest.fixture(scope="module")
def ended(stack: Stack) -> str:
    """The id of a completed batch, beside a failed and a stopped one."""
    batches = Batches(stack.url)
    completed = batches.start(12, "scripted/hostile", recipe="instruction")
    failed = batches.start(2, "scripted/refused", recipe="instruction")
    stopped = batches.start(50, "scripted/steady", recipe="instruction", concurrency=1)
    batches.wait_samples(stopped, 1)
    batches.stop(stopped)
    for batch_id in (completed, failed, stopped):
        batches.wait(batch_id)
    return completed


def assert_sound(hub: HubPage, looks: tuple[Looks, ...] = LOOKS) -> None:
    """No violation found by axe, and nothing wider than the window."""
    for size, scheme in looks:
        hub.resize(size)
        hub.page.emulate_media(color_scheme=scheme)
        assert (size, scheme, hub.violations()) == (size, scheme, [])
        assert (size, scheme, hub.overflow()) == (size, scheme, 0)


def test_a_running_hub_is_sound(hub: HubPage, batches: Batches) -> None:
    for _ in range(2):
        batches.start(500, "scripted/steady", recipe="instruction", concurrency=1)
    batches.start(500, "simulated/flaky", concurrency=2)
    expect(hub.part("batch-row")).to_have_count(3)
    assert_sound(hub)


def test_a_hub_with_ended_batches_is_sound(ended: str, hub: HubPage) -> None:
    hub.expect_state(ended, "completed")
    assert_sound(hub)


def test_the_start_dialog_with_its_errors_is_sound(hub: HubPage) -> None:
    hub.outages = True
    hub.submit(target="0", model="nobody/nothing")
    expect(hub.part("start-target-error")).to_be_visible()
    hub.submit(target="1")
    expect(hub.part("start-model-error")).to_be_visible()
    assert_sound(hub)


@pytest.mark.parametrize(
    "tab", ["details", "samples", "cost", "errors", "events", "audit", "quality"]
)
def test_the_details_are_sound(ended: str, hub: HubPage, tab: str) -> None:
    hub.open(f"#{ended}")
    hub.part(f"tab-{tab}").click()
    if tab == "events":
        part = hub.part("event").last
        part.locator("summary").click()
        expect(part.locator("bdi").last).to_be_visible()
    if tab == "samples":
        hub.part("compare").click()
        hub.part("sample").nth(2).click()
        expect(hub.part("sample-diff")).to_be_visible()
    if tab == "quality":
        expect(hub.part("quality")).to_be_visible()
    assert_sound(hub, LOOKS if tab == "details" else (LOOKS[0], LOOKS[3]))


def test_the_question_before_a_stop_of_all_is_sound(hub: HubPage, batches: Batches) -> None:
    for _ in range(2):
        batches.start(500, "scripted/steady", recipe="instruction", concurrency=1)
    hub.part("stop-all").click()
    expect(hub.part("confirm")).to_be_visible()
    assert_sound(hub, (LOOKS[0], LOOKS[3]))


def test_a_dark_scheme_is_dark(hub: HubPage) -> None:
    def brightness() -> int:
        script = "getComputedStyle(document.documentElement).backgroundColor"
        return sum(map(int, re.findall(r"\d+", hub.page.evaluate(script))[:3])) // 3

    assert brightness() > 200
    hub.page.emulate_media(color_scheme="dark")
    assert brightness() < 60


def test_toasts_leave_the_buttons_of_a_dialog_free(hub: HubPage, batches: Batches) -> None:
    for _ in range(4):
        batches.start(1, "scripted/refused", recipe="instruction")
    expect(hub.part("toast")).to_have_count(4)  # Those of failures stay.
    for size in (WIDE, (1000, 700), NARROW):
        hub.resize(size)
        hub.part("start-open").click()
        expect(hub.part("start-dialog")).to_be_visible()
        hub.page.get_by_role("button", name="Cancel").click(trial=True)
        hub.part("start-submit").click(trial=True)  # Fails where another element takes the click.
        hub.page.keyboard.press("Escape")
        expect(hub.part("start-dialog")).to_be_hidden()


def test_toasts_leave_the_sections_of_a_phone_free(hub: HubPage, batches: Batches) -> None:
    hub.resize(NARROW)
    batches.start(1, "scripted/refused", recipe="instruction")
    expect(hub.part("toast")).to_be_visible()
    links = hub.page.get_by_role("navigation").first.get_by_role("link")
    expect(links).to_have_count(7)
    for link in links.all():
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
    expect(hub.part("toast")).to_be_visible()


def test_everything_works_where_the_browser_refuses_storage(
    unopened: HubPage, batches: Batches
) -> None:
    unopened.page.add_init_script(REFUSE_STORAGE)
    unopened.open()
    unopened.part("sound").click()
    expect(unopened.part("sound")).to_have_attribute("aria-pressed", "true")
    unopened.submit(target="3", model="simulated/instant")
    expect(unopened.part("toast")).to_contain_text("3 of 3 samples")


def test_the_page_works_by_keyboard_alone(ended: str, hub: HubPage, batches: Batches) -> None:
    press = hub.page.keyboard.press
    hub.part("start-open").focus()
    press("Enter")
    expect(hub.part("start-dialog")).to_be_visible()
    press("Escape")
    expect(hub.part("start-dialog")).to_be_hidden()
    expect(hub.part("start-open")).to_be_focused()
    hub.part("start-open").press("Enter")
    hub.part("start-target").fill("2")
    hub.part("start-target").press("Enter")
    expect(hub.part("start-dialog")).to_be_hidden()
    expect(hub.part("toast")).to_contain_text("2 of 2 samples")
    hub.past(ended).get_by_role("link", name=ended).press("Enter")
    expect(hub.part("details")).to_be_visible()
    hub.page.get_by_role("link", name="Back to the hub").press("Enter")
    expect(hub.part("details")).to_be_hidden()
