"""From an event stored to its number standing on the page, in a real browser."""

import asyncio
import shutil
import sys

import httpx
from playwright.sync_api import Page, sync_playwright

from bench.measure import Metric, percentile, report
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.runtime.settings import load_settings
from millstream.testing.browser import chromium_arguments
from millstream.testing.stack import Stack
from millstream_schemas import subjects
from millstream_schemas.slices import SampleGenerated, SliceEvent

SAMPLES = 1000
IN_FLIGHT = 8
OBSERVE = """
() => {
  window.seen = [];
  const look = () => {
    const rows = '[data-testid="batch-row"] [data-testid="progress"]';
    for (const node of document.querySelectorAll(rows)) {
      const count = Number.parseInt(node.textContent.replace(/,/g, ''), 10);
      const last = window.seen.at(-1);
      if (!Number.isNaN(count) && (!last || last[0] !== count)) {
        window.seen.push([count, performance.timeOrigin + performance.now()]);
      }
    }
  };
  new MutationObserver(look).observe(document.body, {
    childList: true, subtree: true, characterData: true,
  });
}
"""


async def stored_times(nats_url: str, batch_id: str) -> tuple[list[float], list[float]]:
    """Return when the n-th sample was stored (ms), and how long each waited to be stored (ms)."""
    stored_ms: list[float] = []
    waited_ms: list[float] = []
    async with connected(load_settings(nats_url=nats_url), "bench") as connection:
        async for page in EventLog(connection).history(subjects.all_slices(batch_id)):
            for stored in page:
                recorded = decode(stored)
                if recorded and isinstance(recorded.event, SampleGenerated):
                    at = stored.stored_at.timestamp() * 1000
                    stored_ms.append(at)
                    waited_ms.append(at - answered_ms(recorded.event))
    return stored_ms, waited_ms


def answered_ms(event: SliceEvent) -> float:
    """Return when the answer was validated, on the writer's clock (the same machine's)."""
    return event.time.timestamp() * 1000


def watch(page: Page, stack: Stack) -> tuple[str, list[tuple[int, float]]]:
    """Run one batch before the open page; return its id and (count, ms) as they stood there."""
    page.goto(stack.url)
    page.wait_for_selector('[data-testid="connection"]')
    page.evaluate(OBSERVE)
    body = {"target": SAMPLES, "model": "simulated/fast", "concurrency": IN_FLIGHT}
    batch_id = httpx.post(f"{stack.url}/v1/batches", json=body, timeout=10).json()["batch"]["id"]
    stack.wait_until(
        lambda: (
            httpx.get(f"{stack.url}/v1/batches/{batch_id}", timeout=10).json()["batch"]["state"]
            == "completed"
        ),
        120,
    )
    seen: list[tuple[int, float]] = page.evaluate("() => window.seen")
    return batch_id, seen


def main() -> None:
    """Measure one batch."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("bench latency needs a browser: apt-get install chromium")
    with Stack.start() as stack:
        # The browser's driver holds a running loop until it is left.
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=chromium_arguments()
            )
            batch_id, seen = watch(browser.new_page(), stack)
            browser.close()
        stored_ms, waited_ms = asyncio.run(stored_times(stack.nats_url, batch_id))
    lags = [at - stored_ms[count - 1] for count, at in seen if 0 < count <= len(stored_ms)]
    if len(lags) < 50:
        sys.exit(f"only {len(lags)} counts were seen on the page: no measurement")
    report(
        "latency",
        {
            "stored_to_page_ms_p99": Metric(percentile(lags, 0.99), "ms"),
            "stored_to_page_ms_p50": Metric(percentile(lags, 0.5), "ms"),
            "answer_to_event_ms_p95": Metric(percentile(waited_ms, 0.95), "ms"),
            "counts_seen": Metric(len(lags), ""),
        },
    )


if __name__ == "__main__":
    main()
