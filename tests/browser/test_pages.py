"""The pages beyond the hub: each has its address, and the batch page takes every command."""

import csv
import json
import re
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

STEADY = "scripted/steady"
NEVER_LATE = """
const set = window.setTimeout;
window.setTimeout = (act, wait, ...rest) => set(act, wait === 500 ? 1e9 : wait, ...rest);
"""
"""The page's own bound for first answers, after which it shows what it has."""
Looks = tuple[tuple[int, int], Literal["light", "dark"]]
HALF_A_TIME = 40
LOOKS: tuple[Looks, ...] = ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark"))


def start_steady(batches: Batches) -> str:
    return batches.start(300, STEADY, recipe="instruction", concurrency=1)


def test_an_address_within_the_page_is_answered_with_the_page(stack: Stack) -> None:
    home = httpx.get(f"{stack.url}/")
    for path in (
        "/batches",
        "/batches/batch_1_a",
        "/samples",
        "/statistics",
        "/replay",
        "/nodes",
        "/settings",
    ):
        assert httpx.get(stack.url + path).content == home.content
    for path in ("/batches/a/b", "/elsewhere", "/statistics/x"):
        assert httpx.get(stack.url + path).status_code == 404


def test_an_address_of_nothing_leads_back_to_the_hub(stack: Stack, page: Page) -> None:
    asked = {"Accept": "text/html,*/*;q=0.8"}
    answer = httpx.get(f"{stack.url}/nowhere", headers=asked)
    assert answer.status_code == 404
    tagged = asked | {"If-None-Match": answer.headers["ETag"]}
    assert httpx.get(f"{stack.url}/nowhere", headers=tagged).status_code == 404
    problem = httpx.get(f"{stack.url}/nowhere").json()
    assert problem["detail"] == "there is nothing at /nowhere"
    page.goto(f"{stack.url}/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    page.get_by_role("link", name="Go to the hub").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Generation hub")


def test_a_batch_is_paused_resumed_and_cloned_on_its_page(hub: HubPage, batches: Batches) -> None:
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    hub.open(f"batches/{batch_id}")
    state = hub.part("state", hub.part("details"))
    for _ in range(2):  # The second press is no repeat of the first.
        hub.part("do-pause").click()
        expect(state).to_have_text("Paused")
        expect(hub.part("do-pause")).to_have_count(0)
        hub.part("do-resume").click()
        expect(state).to_have_text("Running")
    hub.part("do-priority").select_option("high")
    expect(hub.part("do-priority")).to_have_value("high")
    hub.part("do-drain").click()
    expect(state).to_have_text("Stopped")
    hub.part("do-continue").click()
    expect(hub.part("details")).not_to_have_attribute("data-batch", batch_id)
    child = str(hub.part("details").get_attribute("data-batch"))
    assert batches.view(child)["parent_id"] == batch_id


def test_a_refused_command_is_told_in_the_server_s_words(hub: HubPage, batches: Batches) -> None:
    hub.outages = True  # The browser reports each 4xx answer.
    batch_id = start_steady(batches)
    batches.wait_samples(batch_id, 1)
    hub.open(f"batches/{batch_id}")
    held = hub.hold_posts(f"/v1/batches/{batch_id}/pause")
    hub.part("do-pause").click()
    expect(hub.part("command-asked")).to_have_text("Pausing…")
    batches.stop(batch_id)
    batches.wait(batch_id)
    hub.only(held).continue_()
    error = hub.part("command-error")
    expect(error).to_contain_text(f"batch {batch_id} is stopped and can't be paused")
    expect(error).to_contain_text("It takes now: continue, clone")


def test_the_past_of_a_batch_is_shown_by_its_address_and_left_again(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(12, STEADY, recipe="instruction", concurrency=1)
    ended = batches.wait(batch_id)
    middle = batches.sequences(batch_id)
    at = middle[len(middle) // 2]
    hub.open(f"batches/{batch_id}?at={at}")
    expect(hub.part("past-note")).to_contain_text(f"As of sequence {at:,}")
    expect(hub.part("details-progress")).not_to_contain_text("12 / 12")
    expect(hub.part("stop")).to_have_count(0)
    expect(hub.part("slider")).to_have_attribute("max", str(ended["sequence"]))
    hub.part("slider").focus()
    hub.page.keyboard.press("End")
    expect(hub.part("details-progress")).to_have_text("12 / 12 samples")
    assert hub.page.url.endswith(f"at={ended['sequence']}")
    hub.part("back-to-live").click()
    expect(hub.part("past-note")).to_have_count(0)
    expect(hub.part("do-clone")).to_be_visible()


def test_errors_stand_in_groups_and_a_slot_tells_its_story(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(60, "simulated/flaky")
    batches.wait(batch_id)
    hub.open(f"batches/{batch_id}?tab=errors")
    group = hub.part("error-group").first
    group.get_by_role("button").first.click()
    expect(hub.part("story")).to_contain_text("attempt 1")
    known = httpx.get(f"{hub.url}/v1/routes").json()["routes"]
    (way,) = [route for route in known if route["model"] == "simulated/flaky"]
    tried = hub.part("attempt-route").first
    expect(tried).to_have_attribute("title", way["key"])
    expect(tried).to_contain_text(f"over {way['address']}")
    expect(hub.page).to_have_url(re.compile(r"[?&]slot=\d+"))  # The story is part of the address.
    hub.part("tab-samples").click()
    facet = hub.part("facet-difficulties")
    expect(facet.locator("option")).not_to_have_count(1)
    facet.select_option(index=1)
    expect(hub.page).to_have_url(re.compile("difficulty="))
    expect(hub.part("samples-total")).to_have_text(re.compile(r"^[1-5]?\d sample"))


def test_the_filtered_history_is_kept_as_a_file(
    hub: HubPage, batches: Batches, tmp_path: Path
) -> None:
    batch_id = batches.start(3, "simulated/fast")
    batches.wait(batch_id)

    def kept(name: str) -> str:
        with hub.page.expect_download() as download:
            hub.part(f"history-{name}").click()
        assert download.value.suggested_filename == f"batches.{name}"
        download.value.save_as(tmp_path / name)
        return (tmp_path / name).read_text(encoding="utf-8")

    hub.open(f"batches?q={batch_id}")
    (line,) = kept("jsonl").splitlines()
    assert json.loads(line) == batches.view(batch_id)
    (row,) = csv.DictReader(kept("csv").splitlines())
    assert (row["id"], row["state"], row["generated"]) == (batch_id, "completed", "3")


def test_the_sort_and_the_filter_of_the_history_are_in_its_address(
    hub: HubPage, batches: Batches
) -> None:
    batches.wait(batches.start(1, "simulated/instant"))
    hub.open("batches")
    hub.part("filter-completed").click()
    hub.part("history-sort").select_option("started")
    expect(hub.page).to_have_url(re.compile("state=completed.*sort=started"))
    hub.page.reload()
    expect(hub.part("filter-completed")).to_have_attribute("aria-pressed", "true")
    expect(hub.part("history-sort")).to_have_value("started")


def test_the_history_as_a_file_is_of_one_moment(
    hub: HubPage, batches: Batches, tmp_path: Path
) -> None:
    for batch_id in [batches.start(5, "simulated/instant") for _ in range(3)]:
        batches.wait(batch_id)
    moving = batches.start(300, STEADY, recipe="instruction", concurrency=3)
    batches.wait_samples(moving, 1)
    hub.open("batches?sort=-samples")
    expect(hub.past(moving)).to_be_visible()
    pages: list[str] = []

    def answer(route: Route) -> None:
        pages.append(route.request.url)
        if len(pages) == 2:  # between two pages it moves ahead of batches behind which it was
            batches.wait_samples(moving, 8)
        route.fulfill(response=route.fetch(url=route.request.url.replace("limit=1000", "limit=3")))

    hub.page.route("**/v1/batches?*limit=1000*", answer)
    with hub.page.expect_download() as download:
        hub.part("history-jsonl").click()
    download.value.save_as(tmp_path / "batches")
    found = [json.loads(line) for line in (tmp_path / "batches").read_text("utf-8").splitlines()]
    [at] = {re.findall(r"at_seq=(\d+)", url)[0] for url in pages}
    parameters = {"sort": "-samples", "at_seq": at, "limit": 1000}
    told = httpx.get(f"{hub.url}/v1/batches", params=parameters).json()
    assert len(pages) == -(-told["total"] // 3) > 1
    assert found == told["batches"]
    assert batches.view(moving) not in found


@pytest.mark.parametrize("section", ["statistics", "nodes", "batches", "samples", "settings"])
def test_the_other_pages_are_sound(hub: HubPage, batches: Batches, section: str) -> None:
    batches.wait(batches.start(5, "simulated/instant"))
    hub.open(section)
    own = {"statistics": "measure", "batches": "history-row", "settings": "about-version"}
    first = own.get(section, section[:-1])
    expect(hub.part(first).first).to_be_visible()
    expect(hub.page).to_have_title(f"{section.capitalize()} · Millstream")
    for size, scheme in LOOKS:
        hub.resize(size)
        hub.page.emulate_media(color_scheme=scheme)
        assert (size, scheme, hub.violations(), hub.overflow()) == (size, scheme, [], 0)


def test_the_statistics_are_told_per_provider_and_all_samples_per_topic(
    hub: HubPage, batches: Batches
) -> None:
    for model in ("simulated/instant", "simulated/fast"):
        batches.wait(batches.start(3, model))
    hub.open("statistics")
    head = hub.part("measure").first.locator("thead")
    expect(head).to_contain_text("simulated/fast")
    hub.part("split").select_option("provider")
    expect(hub.page).to_have_url(re.compile("split=provider"))
    expect(head).not_to_contain_text("simulated/")
    expect(head).to_contain_text("simulated")
    latency = hub.part("measure").filter(has_text="Latency p95, ms")
    latency.locator("summary").click()
    expect(latency.locator("td.number").last).to_have_text(re.compile(r"^\d"))
    total = httpx.get(f"{hub.url}/v1/statistics").json()["total"]
    cells = hub.part("spread-difficulties").locator("td.number")

    def is_all() -> bool:
        return sum(int(one.replace(",", "")) for one in cells.all_inner_texts()) == total

    wait_until(is_all, BOUND_S, "the spread of all samples")
    expect(hub.part("spread-topics").locator("tr").first).to_be_visible()


def test_the_last_time_on_a_chart_has_room(hub: HubPage, batches: Batches) -> None:
    batches.wait(batches.start(2, "simulated/instant"))
    hub.open("statistics")
    plotted, whole = (hub.page.locator(name).first.bounding_box() for name in (".u-over", ".chart"))
    assert plotted is not None
    assert whole is not None
    room = whole["x"] + whole["width"] - plotted["x"] - plotted["width"]
    assert room >= HALF_A_TIME


def test_a_slow_answer_is_waited_for_while_the_rest_of_the_page_lives(
    unopened: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(5, "simulated/instant")
    batches.wait(batch_id)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    unopened.page.route("**/v1/batches?*", hold)
    unopened.open("batches")
    expect(unopened.part("history-search")).to_be_visible()
    expect(unopened.page.get_by_text("Reading the history…")).to_be_visible()
    assert unopened.violations() == []
    for route in held:
        route.continue_()
    unopened.page.unroute_all(behavior="wait")
    unopened.expect_state(batch_id, "completed")


def test_what_stands_below_the_nodes_is_shown_with_them(hub: HubPage) -> None:
    hub.page.add_init_script(NEVER_LATE)
    hub.open()
    hub.wait_live()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    hub.page.route("**/v1/nodes*", hold)
    routes = hub.page.get_by_role("heading", name="Routes to models", include_hidden=True)
    with hub.page.expect_response("**/v1/routes*"):
        hub.page.locator("nav a[href='/nodes']").click()
    expect(routes).to_be_hidden()
    for route in held:
        route.continue_()
    hub.page.unroute_all(behavior="wait")
    expect(hub.part("node").first).to_be_visible()
    expect(routes).to_be_visible()
