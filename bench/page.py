"""From an event stored to its number standing on the page, with 50 running and 10,000 batches.

The services, the load and the browser are processes of their own; the log's and the page's times
are of one machine's clock. Every sample counts, also one whose number was never shown because a
later one was shown with it: it waited until that one stood there.
"""

import argparse
import asyncio
import gzip
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, async_playwright

from bench import page_heap, page_outage, page_watch
from bench.history import serve
from bench.measure import Metric, end, median, percentile, report
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.testing.browser import chromium_arguments, find_chromium
from millstream.testing.hub_page import NARROW, WIDE
from millstream_schemas import subjects
from millstream_schemas.slices import SampleGenerated

BATCHES, SAMPLES = 10_000, 100_000
RUNNING = 50
EVENTS = 70_000
REACHED_LEAST = 0.95
SEEN_LEAST = 0.98
SETTLE_S = 1.0
LOADS = 5
YARDSTICKS = (
    ("innerHTML", page_watch.WHOLE_LIST, 20),
    ("one number", page_watch.ONE_NUMBER, 500),
)
NEVER_STUCK_S = "3600"
"""The load rests between runs; rows of stuck batches would be a second panel."""
LIMIT_S = 420.0
BOUNDS = {
    "dom_ms_p99_20": 60.0,
    "dom_ms_p99_500": 60.0,
    "dom_ms_p99_slow4x": 100.0,
    "dom_ms_p99_slow4x_20": 100.0,
    "frame_ms_p99": 17.0,
    "long_tasks": 0.0,
    "first_load_kb_gz": 130.0,
    "ready_ms": 600.0,
    "heap_mb": 40.0,
    "axe_violations": 0.0,
}


@dataclass(slots=True)
class Load:
    """The process that appends events."""

    process: asyncio.subprocess.Process
    ids: list[str] = field(default_factory=list)

    async def line(self) -> str:
        """Return the next line that it prints."""
        if self.process.stdout is None:
            raise SystemExit("the load has no pipes")
        return (await self.process.stdout.readline()).decode()

    async def run(self, rate: int, seconds: float, *, counts: bool = True) -> None:
        """Append at ``rate`` for so long.

        Raises:
            SystemExit: it did not reach the rate, and this run ``counts``.
        """
        if self.process.stdin is None:
            raise SystemExit("the load has no pipes")
        self.process.stdin.write(f"{rate} {seconds}\n".encode())
        done = json.loads(await self.line())
        # The one that was due at the very end may be missing.
        if counts and done["events"] + 1 < rate * done["seconds"] * REACHED_LEAST:
            raise SystemExit(f"{done} appended where {rate} a second were due: no figures")


async def started_load(stack: AsyncExitStack, url: str) -> Load:
    """Start the load; it has begun its batches."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.page_load", url, str(RUNNING), str(EVENTS)),
        cwd=Path(__file__).parent.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stack.callback(end, process)
    load = Load(process)
    load.ids = json.loads(await load.line())
    return load


async def stored_times(event_log: EventLog, ids: list[str]) -> dict[str, list[float]]:
    """Return by batch when its n-th sample was stored, in milliseconds."""
    times: dict[str, list[float]] = {}
    for batch_id in ids:
        found = times[batch_id] = []
        async for page in event_log.history(subjects.all_slices(batch_id)):
            for stored in page:
                recorded = decode(stored)
                if recorded and isinstance(recorded.event, SampleGenerated):
                    found.append(stored.stored_at.timestamp() * 1000)
    return times


def lags_of(noted: page_watch.Noted, stored: dict[str, list[float]]) -> list[float]:
    """Return how long each sample waited to be on the page.

    Raises:
        SystemExit: one that was stored by the end of the load was never shown.
    """
    shown = dict(noted.counted)
    lags: list[float] = []
    for batch_id, count, at in noted.seen:
        before = shown.get(batch_id, 0)
        lags += [at - time for time in stored.get(batch_id, [])[before:count]]
        shown[batch_id] = max(before, count)
    for batch_id, times in stored.items():
        due = sum(time <= noted.loaded_ms for time in times)
        if shown.get(batch_id, 0) < due:
            raise SystemExit(f"{batch_id} shows {shown.get(batch_id, 0)} of {due}: no figures")
    return lags


async def watched(
    page: Page, load: Load, rate: int, seconds: float, *, is_framed: bool = True
) -> page_watch.Noted:
    """Return what the page noted while ``rate`` events a second came in."""
    await load.run(rate, SETTLE_S, counts=False)
    await page_watch.begin(page, is_framed=is_framed)
    await load.run(rate, seconds)
    noted = await page_watch.end(page, SETTLE_S)
    if len({batch for batch, _, _ in noted.seen}) < RUNNING * SEEN_LEAST:
        raise SystemExit(f"only some of the {RUNNING} batches moved on the page: no figures")
    if await page.get_by_test_id("stuck-row").count():
        raise SystemExit("batches that ought to run are shown as stuck: no figures")
    return noted


async def opened(browser: Browser, url: str) -> Page:
    """Return the loaded hub in a browser window of its own, with nothing cached."""
    context = await browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    page = await context.new_page()
    await page.add_init_script(page_watch.NOTE)
    await page.goto(url)
    await page.wait_for_selector("html[data-ready]")
    return page


async def loads(browser: Browser, url: str) -> tuple[float, float]:
    """Return the median time until the hub is ready, and what came for it, in kB."""
    ready: list[float] = []
    sizes: dict[str, float] = {}
    for _ in range(LOADS):
        page = await opened(browser, url)
        ready.append(await page.evaluate("window.bench.ready"))
        sizes = dict(await page.evaluate("window.bench.sizes()"))
        await page.context.close()
    worker = next(
        (Path(__file__).parents[1] / "services/api/millstream_api/dashboard/assets").glob(
            "worker-*.js"
        )
    )
    shared = len(gzip.compress(worker.read_bytes(), 9))
    return median(ready), (sum(sizes.values()) + shared) / 1000


async def violations(page: Page) -> int:
    """Return how many elements axe finds wrong, wide and narrow, light and dark."""
    count = 0
    for size in (WIDE, NARROW):
        await page.set_viewport_size({"width": size[0], "height": size[1]})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            found = (await Axe().run(page)).response["violations"]
            count += sum(len(one["nodes"]) for one in found)
    await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    return count


async def heap_mb(page: Page) -> float:
    """Return what the page's scripts hold after a collection."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.enable")
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return float(usage["usedSize"]) / 1e6


async def yardstick(browser: Browser, url: str, draw: str) -> Page:
    """Return an open page that does no more than ``draw`` what a message holds."""
    page = await browser.new_page(viewport={"width": WIDE[0], "height": WIDE[1]})
    await page.add_init_script(page_watch.NOTE)

    async def give(route: Route) -> None:
        await route.fulfill(body=page_watch.yardstick(draw), content_type="text/html")

    await page.route("**/yardstick", give)
    await page.goto(f"{url}/yardstick")
    await page.wait_for_selector("[data-testid=progress]")
    return page


async def measure(seconds: float) -> dict[str, Metric]:
    """Run all of it."""
    async with AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-bench-"))
        )
        served = await serve(stack, directory, BATCHES, SAMPLES, stuck_after_s=NEVER_STUCK_S)
        url = str(served.client.base_url)
        load = await started_load(stack, served.running.settings.nats_url)
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=chromium_arguments()
        )
        stack.push_async_callback(browser.close)
        ready_ms, first_kb = await loads(browser, url)
        page = await opened(browser, url)
        runs = {"20": await watched(page, load, 20, seconds / 2)}
        runs["500"] = await watched(page, load, 500, seconds)
        heap = await heap_mb(page)
        wrong = await violations(page)
        session = await page.context.new_cdp_session(page)
        await session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        runs["slow4x"] = await watched(page, load, 500, seconds / 3, is_framed=False)
        runs["slow4x_20"] = await watched(page, load, 20, seconds / 3, is_framed=False)
        await page.context.close()
        for name, draw, rate in YARDSTICKS:
            page = await yardstick(browser, url, draw)
            runs[name] = await watched(page, load, rate, seconds / 3)
            await page.close()
        stored = await stored_times(served.running.event_log, load.ids)
    lags = {name: lags_of(noted, stored) for name, noted in runs.items()}
    for name, noted in runs.items():
        print(
            f"{name}: {len(lags[name])} samples, p50 {percentile(lags[name], 0.5):.1f} ms,"
            f" max {max(lags[name]):.1f} ms, {noted.frame_words}"
            f"long tasks {[round(one) for one in noted.long_ms][:8]},"
            f" machine idle {noted.idle_percent:.0f} %"
        )
    p99 = {name: percentile(found, 0.99) for name, found in lags.items()}
    frame_ms = {name: percentile(runs[name].frames_ms, 0.99) for name in ("500", "one number")}
    busy = runs["500"]
    return {
        "dom_ms_p99_20": Metric(p99["20"], "ms", "innerHTML", p99["20"] / p99["innerHTML"]),
        "dom_ms_p99_500": Metric(p99["500"], "ms", "one number", p99["500"] / p99["one number"]),
        "dom_ms_p99_slow4x": Metric(p99["slow4x"], "ms"),
        "dom_ms_p99_slow4x_20": Metric(p99["slow4x_20"], "ms"),
        "frame_ms_p99": Metric(
            frame_ms["500"], "ms", "one number", frame_ms["500"] / frame_ms["one number"]
        ),
        "long_tasks": Metric(len(busy.long_ms) + len(runs["20"].long_ms), ""),
        "first_load_kb_gz": Metric(first_kb, "kB"),
        "ready_ms": Metric(ready_ms, "ms"),
        "heap_mb": Metric(heap, "MB"),
        "axe_violations": Metric(wrong, ""),
    }


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=("hub", "outage", "heap"), default="hub")
    options = parser.parse_args()
    if find_chromium() is None:
        sys.exit("bench page needs a browser: apt-get install chromium")

    runs: dict[str, tuple[str, Callable[[], Awaitable[dict[str, Metric]]], dict[str, float]]] = {
        "hub": ("page", lambda: measure(options.seconds), BOUNDS),
        "outage": ("page_outage", page_outage.measure, page_outage.BOUNDS),
        "heap": ("page_heap", page_heap.measure, page_heap.BOUNDS),
    }
    name, run, bounds = runs[options.only]

    async def bounded() -> dict[str, Metric]:
        async with asyncio.timeout(LIMIT_S):
            return await run()

    metrics = asyncio.run(bounded())
    report(name, metrics)
    missed = [name for name, most in bounds.items() if metrics[name].value > most]
    for name in missed:
        print(f"MISSED: {name} is {metrics[name].value:.1f}, more than {bounds[name]:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
