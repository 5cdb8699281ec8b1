"""A batch's trail of who did what, its cost over time, and its samples as files."""

import json
import re

import httpx
from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import NARROW, WIDE, HubPage

STEADY = "scripted/steady"


def test_the_trail_tells_who_did_what_and_what_was_refused(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(
        300, STEADY, recipe="instruction", concurrency=1, reason="<b>for the demo</b>"
    )
    batches.wait_samples(batch_id, 1)
    batches.command(batch_id, "pause", {"reason": "lunch"})
    url = f"{batches.url}/v1/batches/{batch_id}/retry-failed"
    assert httpx.post(url, json={"reason": "impatient"}).status_code == 409
    batches.command(batch_id, "resume")
    hub.open(f"batches/{batch_id}?tab=audit")
    entries = hub.part("audit-entry")
    expect(entries).to_have_count(4)
    started, paused, refused, resumed = (entries.nth(place) for place in range(4))
    expect(started).to_contain_text("<b>for the demo</b>")
    expect(started).to_contain_text("127.0.0.1")
    expect(started.locator(".command-id")).to_have_text(re.compile("^[0-9a-f]{32}$"))
    expect(paused).to_contain_text("lunch")
    expect(refused).to_have_attribute("data-kind", "refused")
    expect(refused).to_contain_text(f"409: batch {batch_id} is paused and can't be retried")
    expect(refused).to_contain_text("impatient")
    expect(resumed).to_contain_text("resumed")
    hub.part("stop").click()
    expect(entries.last).to_contain_text("stopped")
    expect(hub.part("audit-entry").filter(has_text="stop requested")).to_contain_text(
        "stopped on the page"
    )
    for size in (WIDE, NARROW):
        hub.resize(size)
        assert (hub.violations(), hub.overflow()) == ([], 0)
    at = int(paused.locator("small").inner_text())
    hub.open(f"batches/{batch_id}?tab=audit&at={at}")
    expect(entries).to_have_count(2)


def test_the_cost_is_told_over_time_to_its_projected_end(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(
        300, STEADY, recipe="instruction", concurrency=1, budgets={"max_cost_usd": 0.03}
    )
    batches.wait_samples(batch_id, 3)
    hub.open(f"batches/{batch_id}?tab=cost")
    expect(hub.part("burn")).to_have_attribute("data-unit", "money")
    expect(hub.part("burn-spent")).to_have_text(re.compile(r"^\$0\.0"))
    expect(hub.part("burn-per-hour")).to_have_text(re.compile(r"^\$\d"))
    expect(hub.part("burn-projected")).to_have_text(re.compile(r"^\$0\.0"))
    expect(hub.part("burn-budget-at")).to_contain_text("about")
    expect(hub.part("burn").locator("canvas")).to_be_visible()
    hub.page.get_by_text("The same as a table").click()
    expect(hub.part("burn").locator("tbody tr").last).to_contain_text("$")
    assert (hub.violations(), hub.overflow()) == ([], 0)
    batches.stop(batch_id)
    batches.wait(batch_id)
    expect(hub.part("burn-projected")).to_have_text("—")


def test_the_samples_of_a_batch_are_taken_along_as_files(hub: HubPage, batches: Batches) -> None:
    batch_id = batches.start(3, STEADY, recipe="instruction")
    batches.wait(batch_id)
    hub.open(f"batches/{batch_id}")
    files = {}
    for form in ("parquet", "jsonl", "hf"):
        with hub.page.expect_download() as download:
            hub.part(f"export-batches-{form}").click()
        assert download.value.suggested_filename.startswith(batch_id)
        files[form] = download.value.path().read_bytes()
    assert files["parquet"][:4] == b"PAR1"
    lines = [json.loads(line) for line in files["jsonl"].splitlines()]
    assert [line["provenance"]["batch_id"] for line in lines] == [batch_id] * 3
    assert b"ustar" in files["hf"][:512]
    with hub.page.expect_download() as download:
        hub.part("download-log").click()
    assert download.value.path().read_bytes().count(b"sample.generated.v1") == 3
