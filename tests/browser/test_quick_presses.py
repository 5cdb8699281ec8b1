"""Buttons of a batch's page that are pressed faster than the page is drawn."""

import httpx
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage

STEADY = "scripted/steady"


def ids(batches: Batches) -> set[str]:
    """Return the newest batches."""
    url, query = f"{batches.url}/v1/batches", {"sort": "-started", "limit": 20}
    return {one["id"] for one in httpx.get(url, params=query).json()["batches"]}


def test_quick_presses_make_one_clone_and_none_of_the_batch_that_then_is_shown(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(2, STEADY, recipe="instruction")
    batches.wait(batch_id)
    hub.open(f"batches/{batch_id}")
    known = ids(batches)
    sent: list[str] = []
    hub.page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    hub.part("do-clone").evaluate("button => { button.click(); button.click(); }")
    expect(hub.part("details")).not_to_have_attribute("data-batch", batch_id)
    clone = str(hub.part("details").get_attribute("data-batch"))
    hub.part("do-clone").hover()
    hub.page.mouse.down(click_count=2)
    hub.page.mouse.up(click_count=2)
    batches.wait(clone)
    assert not any(clone in url for url in sent)
    assert ids(batches) - known == {clone}
    hub.part("do-clone").click()
    expect(hub.part("details")).not_to_have_attribute("data-batch", clone)
