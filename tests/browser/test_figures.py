"""What the hub and the statistics tell in sum: figures that agree, and say what they leave out."""

import re
from functools import partial
from typing import Any

import httpx
from playwright.sync_api import Route, expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import wait_until

STEADY = "scripted/steady"
STATISTICS = re.compile(r"/v1/statistics(\?|$)")


def test_a_sum_of_costs_says_of_how_many_batches_the_price_is_unknown(
    hub: HubPage, batches: Batches
) -> None:
    expect(hub.part("statistics-cost-unpriced")).to_have_count(0)
    batch_id = batches.start(300, "scripted/unpriced", recipe="instruction", concurrency=1)
    words = "unknown prices in 1 batch"
    expect(hub.part("statistics-cost-rate-unpriced")).to_have_text(words)
    expect(hub.part("statistics-cost-rate")).to_have_text("—")
    batches.stop(batch_id)
    for fact in ("cost", "today"):
        expect(hub.part(f"statistics-{fact}-unpriced")).to_contain_text(words)
    expect(hub.part("statistics-cost-rate-unpriced")).to_have_count(0)
    assert hub.violations() == []
    hub.open("statistics")
    expect(hub.part("unpriced")).to_contain_text(words)


def test_the_totals_of_the_hub_move_with_its_rates(hub: HubPage, batches: Batches) -> None:
    expect(hub.part("statistics-total")).not_to_have_text("—")
    batch_id = batches.start(300, STEADY, recipe="instruction", concurrency=1)
    hub.expect_state(batch_id, "running")
    expect(hub.part("statistics-samples-rate")).not_to_have_text("0/min")

    def hold(_: Route) -> None:
        """Let the read model tell nothing from here on."""

    hub.page.route(STATISTICS, hold)
    before = httpx.get(f"{hub.url}/v1/statistics").json()

    def is_reached(fact: str, least: int) -> bool:
        return int(hub.part(f"statistics-{fact}").inner_text().replace(",", "")) >= least

    for fact, least in (
        ("total", before["total"] + 3),
        ("tokens", before["tokens_in"] + before["tokens_out"] + 3),
    ):
        wait_until(partial(is_reached, fact, least), 30, f"{fact} of {least}")
    batches.stop(batch_id)
    batches.wait(batch_id)
    after: dict[str, Any] = httpx.get(f"{hub.url}/v1/statistics").json()
    expect(hub.part("statistics-total")).to_have_text(f"{after['total']:,}")
    hub.page.unroute(STATISTICS)
    hub.open()
    expect(hub.part("statistics-total")).to_have_text(f"{after['total']:,}")


def test_the_time_to_the_first_sample_is_told_per_model_and_per_provider(
    hub: HubPage, batches: Batches
) -> None:
    for model in ("simulated/instant", "simulated/fast"):
        batches.wait(batches.start(2, model))
    hub.open("statistics")
    row = hub.part("first-sample").filter(has_text="simulated/fast")
    expect(row.locator("td.number")).to_have_text([re.compile(r"^\d+$"), *[re.compile(r" s$")] * 2])
    hub.part("split").select_option("provider")
    expect(row).to_have_count(0)
    told = httpx.get(f"{hub.url}/v1/statistics/timeline", params={"by": "provider"}).json()
    counts = [f"{one['batches']:,}" for one in told["first_samples"]]
    expect(hub.part("first-sample").locator("td:nth-child(2)")).to_have_text(counts)
