"""A batch is proven by the page's own fold of its log, and replayed from it with no server."""

import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Route, expect

from millstream.domain.digest import view_digest
from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage
from millstream.testing.stack import Stack
from millstream_schemas.views import BatchView

DROP = """(text) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], "dropped.events.jsonl"));
  document.body.dispatchEvent(
    new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""
WORKER_IS_HERE = """() => performance.getEntriesByType("resource")
  .some(({ name }) => name.includes("/folding-"))"""


@pytest.fixture(scope="module")
def ended(stack: Stack) -> str:
    """The id of a completed batch whose samples hold hostile text."""
    batches = Batches(stack.url)
    batch_id = batches.start(12, "scripted/hostile", recipe="instruction")
    batches.wait(batch_id)
    return batch_id


@pytest.fixture(scope="module")
def log(stack: Stack, ended: str) -> str:
    return httpx.get(f"{stack.url}/v1/audit/export?batch_id={ended}").text


def expect_proof(hub: HubPage, kind: str) -> None:
    expect(hub.part("proof")).to_have_attribute("data-kind", kind)


def expect_sound(hub: HubPage) -> None:
    """Nothing for axe, and nothing wider than the window, in either scheme and width."""
    for size, scheme in ((WIDE, "light"), (NARROW, "dark")):
        hub.resize(size)
        hub.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert (size, hub.violations(), hub.overflow()) == (size, [], 0)


def test_an_ended_batch_is_proven_by_the_page_itself(
    stack: Stack, hub: HubPage, ended: str
) -> None:
    hub.open(f"batches/{ended}")
    expect_proof(hub, "proven")
    answer = httpx.get(f"{stack.url}/v1/batches/{ended}").json()["batch"]
    events = len(Batches(stack.url).sequences(ended))
    words = f"Proven at sequence {answer['sequence']:,}: {events} events folded here"
    expect(hub.part("proof")).to_contain_text(words)
    expect(hub.part("proof")).to_contain_text(view_digest(BatchView.model_validate(answer)))
    expect_sound(hub)


def test_a_moment_of_the_past_and_a_live_batch_are_proven_when_asked(
    hub: HubPage, batches: Batches
) -> None:
    batch_id = batches.start(500, "scripted/steady", recipe="instruction", concurrency=1)
    batches.wait_samples(batch_id, 2)
    hub.open(f"batches/{batch_id}")
    expect_proof(hub, "none")
    hub.part("prove").click()
    expect_proof(hub, "proven")
    at = batches.sequences(batch_id)[2]
    hub.open(f"batches/{batch_id}?at={at}")
    hub.part("prove").click()
    expect(hub.part("proof")).to_contain_text(f"Proven at sequence {at:,}: 3 events folded here")


def test_a_tampered_read_model_is_shown_with_the_fields_that_differ(
    hub: HubPage, ended: str
) -> None:
    def tamper(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        document["batch"]["counts"]["tokens_out"] += 1
        document["batch"]["last_progress_at"] = None
        route.fulfill(response=answer, json=document)

    hub.page.route("**/v1/batches/*at_seq=*", tamper)
    hub.open(f"batches/{ended}")
    expect_proof(hub, "differs")
    found = hub.part("difference")
    expect(found).to_have_count(2)
    assert {row.get_attribute("data-field") for row in found.all()} == {
        "counts.tokens_out",
        "last_progress_at",
    }
    expect(hub.part("proof")).not_to_contain_text("Proven")
    expect_sound(hub)


@pytest.mark.parametrize("damage", ["cut off", "changed", "refused"])
def test_a_log_that_does_not_come_whole_proves_nothing(
    hub: HubPage, ended: str, log: str, damage: str
) -> None:
    hub.outages = True
    bodies = {"cut off": log[: len(log) // 2], "changed": log.replace("Explain", "explain", 1)}

    def spoil(route: Route) -> None:
        if damage in bodies:
            route.fulfill(body=bodies[damage])
        else:
            route.fulfill(status=403, json={"detail": "this token may not read the log"})

    hub.page.route("**/v1/audit/export*", spoil)
    hub.open(f"batches/{ended}")
    expect_proof(hub, "failed" if damage == "refused" else "unproven")
    expect(hub.part("proof")).to_contain_text("Not proven")


def test_a_downloaded_log_is_replayed_with_no_server(
    hub: HubPage, ended: str, tmp_path: Path, hostile_text: str
) -> None:
    hub.open(f"batches/{ended}")
    with hub.page.expect_download() as download:
        hub.part("download-log").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"{ended}.events.jsonl"
    hub.open()
    hub.page.wait_for_function(WORKER_IS_HERE)
    hub.outages = True
    hub.page.context.set_offline(True)
    hub.page.evaluate(DROP, path.read_text())
    expect(hub.part("replay-check")).to_have_attribute("data-kind", "whole")
    expect(hub.part("details-progress")).to_have_text("12 / 12 samples")
    hub.part("speed").select_option("1")
    hub.page.get_by_role("button", name="Step back").click()
    expect(hub.part("state")).to_have_attribute("data-state", "running")
    hub.part("tab-samples").click()
    hub.part("sample").first.locator("summary").click()
    field = hub.page.locator(".sample-content > div", has_text="response").first
    shown = field.locator("dd")
    assert (shown.text_content() or "").strip() == hostile_text.strip()
    hub.part("slider").fill("1")
    expect(hub.part("details-progress")).to_have_text("0 / 12 samples")
    hub.part("speed").select_option("10")
    hub.part("play").click()
    events = len(path.read_text().splitlines()) - 1
    expect(hub.part("replay-moment")).to_have_attribute("data-events", str(events))
    expect(hub.part("play")).to_have_text("Play")
    hub.part("tab-events").click()
    expect(hub.part("event").last).to_contain_text("batch.completed.v1")
    assert hub.page.title().endswith("Millstream")
    expect_sound(hub)
    hub.page.context.set_offline(False)


def test_a_file_that_is_none_or_was_changed_says_so(
    hub: HubPage, ended: str, log: str, tmp_path: Path
) -> None:
    hub.open("replay")
    expect_sound(hub)
    file = tmp_path / "log.jsonl"
    second = log.splitlines()[1]
    broken = json.dumps({**json.loads(second), "sequence": "<img src=x>"})
    file.write_text(log.replace(second, broken))
    hub.part("replay-file").set_input_files(file)
    refused = hub.part("replay-refused")
    expect(refused).to_contain_text("Line 2 is no line of an export: its sequence is no whole")
    expect(refused).to_contain_text("Download the log again")
    expect_sound(hub)
    file.write_text(log.replace("Explain", "explain", 1))
    hub.part("replay-file").set_input_files(file)
    expect(hub.part("replay-check")).to_have_attribute("data-kind", "damaged")
    expect(hub.part("replay-check")).to_contain_text("an event was changed or moved")
    expect_sound(hub)
    file.write_text(log)
    hub.part("replay-file").set_input_files(file)
    expect(hub.part("replay-check")).to_have_attribute("data-kind", "whole")
