"""The settings page: colours, sound, webhooks, and what answers."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.browser import REFUSE_STORAGE
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

NAME = "<i>operations</i>"


class Taking(BaseHTTPRequestHandler):
    """Takes every message, and leaves them with its server."""

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.server.taken.append(self.rfile.read(length))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def taker() -> Iterator[tuple[str, list[bytes]]]:
    """A receiver's address, and what it has taken."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    server.taken = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", server.taken  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def brightness(hub: HubPage) -> int:
    script = "getComputedStyle(document.documentElement).backgroundColor"
    return sum(map(int, re.findall(r"\d+", hub.page.evaluate(script))[:3])) // 3


def test_the_colours_follow_the_system_until_they_are_chosen(hub: HubPage) -> None:
    hub.open("settings")
    expect(hub.part("theme-system")).to_be_checked()
    assert brightness(hub) > 200
    hub.part("theme-dark").check()
    assert brightness(hub) < 60
    hub.open("nodes")  # Loaded anew: it is remembered.
    assert brightness(hub) < 60
    hub.page.emulate_media(color_scheme="dark")
    hub.open("settings")
    hub.part("theme-light").check()
    assert brightness(hub) > 200
    hub.part("theme-system").check()
    assert brightness(hub) < 60


def test_promise_16_each_kind_of_turn_has_tones_of_its_own(hub: HubPage) -> None:
    hub.open("settings")
    expect(hub.part("sound-failure")).to_have_count(0)
    hub.part("settings-sound").check()
    expect(hub.part("sound")).to_have_attribute("aria-pressed", "true")
    rising = [523, 659, 784]
    wait_until(lambda: hub.seen("tones") == rising, BOUND_S, "the tones of the switch itself")
    hub.part("sound-failure").click()
    wait_until(lambda: hub.seen("tones") == [*rising, 392, 262], BOUND_S, "two falling tones")
    hub.part("sound-warning").click()
    wait_until(lambda: hub.seen("tones")[5:] == [660] * 3, BOUND_S, "three urgent tones")


def test_a_webhook_is_added_tested_switched_and_removed(
    hub: HubPage, batches: Batches, taker: tuple[str, list[bytes]]
) -> None:
    hub.outages = True  # The browser reports the refused address.
    url, taken = taker
    hub.open("settings")
    expect(hub.part("webhooks-empty")).to_be_visible()
    hub.part("webhook-url").fill("ftp://somewhere")
    hub.part("webhook-add").click()
    expect(hub.part("webhook-url-error")).to_contain_text("is no http(s) address")
    hub.part("webhook-url").fill(url)
    hub.part("webhook-description").fill(NAME)
    hub.part("webhook-add").click()
    expect(hub.part("webhook-secret")).to_contain_text("whsec_")
    row = hub.part("webhook")
    expect(row).to_contain_text(NAME)
    hub.part("webhook-test").click()
    expect(hub.part("toast").last).to_contain_text("The test was delivered")
    batch_id = batches.start(1, "simulated/instant")
    expect(hub.part("webhook-last")).to_contain_text("completed delivered")
    hub.part("webhook-deliveries").click()
    expect(hub.part("delivery").first).to_contain_text(batch_id)
    assert [b"ping" in taken[0], b"batch.completed" in taken[1]] == [True, True]
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    hub.part("webhook-switch").click()
    expect(row).to_contain_text("off")
    hub.part("webhook-switch").click()
    expect(hub.part("webhook-switch")).to_have_text("Switch off")
    hub.part("webhook-remove").click()
    hub.part("confirm-action").click()
    expect(hub.part("webhooks-empty")).to_be_visible()


def test_the_page_tells_which_server_answers(hub: HubPage, stack: Stack) -> None:
    about = httpx.get(f"{stack.url}/v1/about").raise_for_status().json()
    hub.open("settings")
    expect(hub.part("about-version")).to_have_text(about["version"])
    expect(hub.part("about-stream")).to_have_text("MILLSTREAM_EVENTS")
    expect(hub.part("about-epoch")).to_have_text(about["epoch"])
    expect(hub.part("about-sequence")).to_have_text(re.compile(r"^[\d,]+$"))


def test_the_nodes_are_told_one_by_one_and_in_all(hub: HubPage, batches: Batches) -> None:
    batches.start(300, "simulated/slow", concurrency=3)
    hub.open("nodes")
    expect(hub.part("node")).to_have_count(3)
    for service in ("api", "generator", "projector"):
        expect(hub.part(f"fleet-{service}")).to_have_text("1")
    expect(hub.part("fleet-in-flight")).to_have_text("3")
    slow = hub.part("route").filter(has_text="simulated/slow")
    expect(slow).to_contain_text("no limit")
    expect(slow).to_have_attribute("data-state", "ok")
    expect(hub.part("fleet-behind")).to_have_text(re.compile(r"^\d+ events?$"))


def test_a_browser_that_keeps_nothing_says_so_where_a_choice_would_be_kept(
    unopened: HubPage,
) -> None:
    told = unopened.part("keeps-nothing")
    unopened.open("settings")
    expect(unopened.page.get_by_text("Kept in this browser alone.")).to_be_visible()
    expect(told).to_have_count(0)
    unopened.page.add_init_script(REFUSE_STORAGE)
    unopened.open("settings")
    expect(told).to_have_text("This browser keeps nothing: it lasts until you reload.")
    expect(unopened.page.get_by_text("Kept in this browser alone.")).to_have_count(0)
    unopened.open("batches?sort=started")
    unopened.part("view-open").click()
    unopened.part("view-name").fill("Mine")
    unopened.part("view-name").press("Enter")
    expect(unopened.part("saved-view")).to_have_text("Mine")
    expect(told).to_be_visible()
    assert (unopened.violations(), unopened.overflow()) == ([], 0)
    unopened.open()
    unopened.part("start-open").click()
    unopened.part("start-target").fill("21")
    expect(told).to_be_visible()
    assert (unopened.violations(), unopened.overflow()) == ([], 0)
