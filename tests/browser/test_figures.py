"""What the hub and the statistics tell in sum: figures that agree, and say what they leave out."""

from playwright.sync_api import expect

from millstream.testing.batches import Batches
from millstream.testing.hub_page import HubPage


def test_a_sum_of_costs_says_of_how_many_batches_the_price_is_unknown(
    hub: HubPage, batches: Batches
) -> None:
    expect(hub.part("statistics-cost-unpriced")).to_have_count(0)
    batch_id = batches.start(300, "scripted/unpriced", recipe="instruction", concurrency=1)
    words = "1 batch of unknown price"
    expect(hub.part("statistics-cost-rate-unpriced")).to_have_text(words)
    expect(hub.part("statistics-cost-rate")).to_have_text("—")
    batches.stop(batch_id)
    for fact in ("cost", "today"):
        expect(hub.part(f"statistics-{fact}-unpriced")).to_contain_text(words)
    expect(hub.part("statistics-cost-rate-unpriced")).to_have_count(0)
    assert hub.violations() == []
    hub.open("statistics")
    expect(hub.part("unpriced")).to_contain_text(words)
