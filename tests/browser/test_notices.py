"""What happened is told once, and can be read again behind the bell."""

import re

from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_STORAGE
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

AGO = re.compile(r"just now|(?:1 m )?\d+ s ago")
KEPT_MOST = 20


def finish(hub: HubPage, batches: Batches) -> str:
    """Let a small batch run to its end; return its id."""
    batch_id = batches.start(2, "simulated/instant")
    hub.expect_state(batch_id, "completed")
    return batch_id


def test_promise_17_the_bell_keeps_what_was_told_until_it_is_cleared(
    hub: HubPage, batches: Batches
) -> None:
    bell, notices = hub.part("bell"), hub.part("notice")
    expect(bell).to_have_accessible_name("Notices")
    bell.click()
    expect(hub.part("notices")).to_contain_text("No notices yet")
    hub.page.keyboard.press("Escape")
    first, second = finish(hub, batches), finish(hub, batches)
    expect(bell).to_have_accessible_name("Notices, 2 unread")
    hub.open()
    expect(bell).to_have_accessible_name("Notices, 2 unread")
    bell.click()
    expect(bell).to_have_accessible_name("Notices")
    expect(notices).to_have_count(2)
    expect(notices.first).to_contain_text(f"batch {second[-8:]} completed")
    expect(notices.last).to_contain_text(f"batch {first[-8:]} completed")
    expect(notices.first).to_contain_text("2 of 2 samples")
    expect(notices.first).to_contain_text(AGO)
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    hub.part("notices-clear").click()
    expect(notices).to_have_count(0)
    hub.open()
    bell.click()
    expect(hub.part("notices")).to_contain_text("No notices yet")


def test_tabs_keep_a_notice_once_and_one_of_them_makes_the_sound(
    hub: HubPage, batches: Batches
) -> None:
    hub.part("sound").click()
    other = HubPage(hub.page.context.new_page(), hub.url)
    other.open()
    batch_id = finish(hub, batches)
    other.expect_state(batch_id, "completed")
    other.part("bell").click()
    expect(other.part("notice")).to_have_count(1)
    expect(hub.part("bell")).to_have_accessible_name("Notices")  # It was read in the other tab.
    own = [523, 659, 784]  # The switch plays it too.
    wait_until(lambda: other.seen("tones") == own, BOUND_S, "the tones in the tab in front")
    assert hub.seen("tones") == own
    other.part("notices-clear").click()
    hub.part("bell").click()
    expect(hub.part("notice")).to_have_count(0)


def test_a_notice_is_followed_and_those_that_come_under_the_eyes_are_read(
    hub: HubPage, batches: Batches
) -> None:
    finish(hub, batches)
    bell, notices = hub.part("bell"), hub.part("notice")
    bell.click()
    expect(notices).to_have_count(1)
    second = finish(hub, batches)
    expect(notices).to_have_count(2)
    expect(bell).to_have_accessible_name("Notices")
    notices.first.get_by_role("link").click()
    expect(hub.part("notices")).to_be_hidden()
    expect(hub.part("details")).to_have_attribute("data-batch", second)


def test_the_bell_holds_the_last_twenty(hub: HubPage, batches: Batches) -> None:
    ids = [batches.start(1, "simulated/instant") for _ in range(KEPT_MOST + 2)]
    for batch_id in ids:
        batches.wait(batch_id)
    expect(hub.part("bell")).to_have_accessible_name(f"Notices, {KEPT_MOST} unread")
    hub.part("bell").click()
    expect(hub.part("notice")).to_have_count(KEPT_MOST)


def test_the_bell_works_where_the_browser_refuses_storage(
    unopened: HubPage, batches: Batches
) -> None:
    unopened.page.add_init_script(REFUSE_STORAGE)
    unopened.open()
    finish(unopened, batches)
    expect(unopened.part("bell")).to_have_accessible_name("Notices, 1 unread")
    unopened.part("bell").click()
    expect(unopened.part("notice")).to_contain_text("2 of 2 samples")
    unopened.part("notices-clear").click()
    expect(unopened.part("notice")).to_have_count(0)
