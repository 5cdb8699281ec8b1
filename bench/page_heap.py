"""What the page holds over an hour of events (20 a second), which pass as fast as may be.

Batches begin, run and end all the while. After each quarter the page and the worker that holds the
connection are made to collect their garbage and are asked what is left, and how many nodes and
listeners the page has. Flat means that the second half grows by less than five percent.
"""

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from playwright.async_api import CDPSession, Page, async_playwright

from bench.history import serve
from bench.measure import Metric, end
from millstream.testing.browser import chromium_arguments, find_chromium

BATCHES, SAMPLES = 10_000, 100_000
TOGETHER, TARGET = 20, 100
HOUR = 20 * 3_600
"""Events."""
WARM = 2_400
RATE = 800
PARTS = 4
SETTLE_S = 7.0
"""Toasts leave by themselves, and what was asked for last is answered."""
BOUNDS = {"heap_mb": 40.0, "growth_percent": 5.0}


class Memory:
    """The heaps of a page and of the worker that all tabs share, over the browser's own session."""

    def __init__(self, page: CDPSession, browser: CDPSession) -> None:
        self._page = page
        self._browser = browser
        self._worker = ""
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        browser.on(
            "Target.receivedMessageFromTarget",
            lambda told: self._answers.put_nowait(json.loads(told["message"])),
        )

    async def attach(self) -> None:
        """Find the worker; there is one."""
        await self._page.send("Performance.enable")
        targets = (await self._browser.send("Target.getTargets"))["targetInfos"]
        (worker,) = [one["targetId"] for one in targets if one["type"] == "shared_worker"]
        attached = await self._browser.send(
            "Target.attachToTarget", {"targetId": worker, "flatten": False}
        )
        self._worker = attached["sessionId"]

    async def _ask_worker(self, method: str) -> dict[str, Any]:
        message = json.dumps({"id": 1, "method": method})
        await self._browser.send(
            "Target.sendMessageToTarget", {"sessionId": self._worker, "message": message}
        )
        while "id" not in (answer := await self._answers.get()):
            pass  # It tells of itself, too.
        return dict(answer["result"])

    async def look(self) -> dict[str, float]:
        """Return what is held after a collection."""
        await self._page.send("HeapProfiler.collectGarbage")
        await self._ask_worker("HeapProfiler.collectGarbage")
        told = (await self._page.send("Performance.getMetrics"))["metrics"]
        figures = {one["name"]: float(one["value"]) for one in told}
        worker = await self._ask_worker("Runtime.getHeapUsage")
        return {
            "page_mb": figures["JSHeapUsedSize"] / 1e6,
            "worker_mb": float(worker["usedSize"]) / 1e6,
            "nodes": figures["Nodes"],
            "listeners": figures["JSEventListeners"],
        }


async def looks(memory: Memory, load: asyncio.subprocess.Process) -> list[dict[str, float]]:
    """Return what was held at the start and after each quarter of the hour.

    Raises:
        SystemExit: the load ended.
    """
    if load.stdin is None or load.stdout is None:
        raise SystemExit("the load has no pipes")
    found: list[dict[str, float]] = []
    for part in range(PARTS + 1):
        events = HOUR // PARTS if part else WARM
        load.stdin.write(f"{events} {RATE}\n".encode())
        line = await load.stdout.readline()
        if not line:
            raise SystemExit("the load has ended: no figures")
        await asyncio.sleep(SETTLE_S)
        found.append(await memory.look())
        shown = ", ".join(f"{name} {value:.2f}" for name, value in found[-1].items())
        print(f"{100 * part // PARTS} %: {shown}; {line.decode().strip()}", flush=True)
    return found


async def opened(stack: AsyncExitStack, url: str) -> tuple[Page, Memory]:
    """Return the loaded hub, live, and what tells of its memory."""
    playwright = await stack.enter_async_context(async_playwright())
    browser = await playwright.chromium.launch(
        executable_path=find_chromium(), args=chromium_arguments()
    )
    stack.push_async_callback(browser.close)
    page = await browser.new_page()
    await page.goto(url)
    await page.wait_for_selector('[data-testid="connection"][data-state="live"]')
    session = await page.context.new_cdp_session(page)
    memory = Memory(session, await browser.new_browser_cdp_session())
    await memory.attach()
    return page, memory


async def measure() -> dict[str, Metric]:
    """Run all of it."""
    async with AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-bench-"))
        )
        served = await serve(stack, directory, BATCHES, SAMPLES)
        words = (served.running.settings.nats_url, TOGETHER, TARGET, HOUR + WARM)
        load = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.page_turnover", *map(str, words)),
            cwd=Path(__file__).parent.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        stack.callback(end, load)
        if load.stdout is None or not await load.stdout.readline():
            raise SystemExit("the load did not start")
        _, memory = await opened(stack, str(served.client.base_url))
        found = await looks(memory, load)
    total = [one["page_mb"] + one["worker_mb"] for one in found]
    half, last = total[PARTS // 2], total[-1]
    metrics = {"heap_mb": Metric(max(total), "MB")}
    metrics["growth_percent"] = Metric(100 * (last - half) / half, "%")
    for part, one in enumerate(found):
        for name, value in one.items():
            unit = "MB" if name.endswith("_mb") else ""
            metrics[f"{name}_at_{100 * part // PARTS}"] = Metric(value, unit)
    return metrics
