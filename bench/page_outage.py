"""Ten tabs on one connection and outages of ten seconds: what each tab told, and when.

A proxy before a real `millstream up` cuts the streams alone, then everything, then answers all
with 502 as a proxy before a dead server does; at last the API is killed. A short batch ends in
each outage. At rest each tab must show what the log holds, as a tab does that was opened after.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
from playwright.async_api import BrowserContext, Page, async_playwright

from bench.measure import Metric
from millstream.runtime.clock import utc_now
from millstream.testing.batches import Batches
from millstream.testing.browser import chromium_arguments, find_chromium
from millstream.testing.gate import Gate, Passing
from millstream.testing.stack import Stack

TABS = 10
OUTAGE_S = 10.0
REST_S = 3.0
"""After a pause: calls in flight are answered and stored by then."""
LIMIT_MS = 20_000
KINDS: tuple[Passing, ...] = ("no streams", "nothing", "errors")
BOUNDS = {
    "connections": 1.0,
    "indicator_s": 2.0,
    "polling_s": 5.0,
    "live_s": 2.0,
    "missed": 0.0,
    "doubled": 0.0,
    "digests_differ": 0.0,
}
_NOTE = """
{
  const told = { states: [], toasts: [], steps: [] };
  window.told = told;
  const counts = new Map();
  const now = () => performance.timeOrigin + performance.now();
  const look = (element) => {
    const { testid, state } = element.dataset ?? {};
    if (testid === "connection" && told.states.at(-1)?.[0] !== state)
      told.states.push([state, now()]);
    if (testid === "toast") told.toasts.push(element.querySelector("strong").textContent);
    const progress = element.closest('[data-testid="progress"]');
    const id = progress?.closest('[data-testid="batch-row"]')?.dataset.batch;
    if (!id) return;
    const count = Number.parseInt(progress.textContent.replace(/[^0-9/]/g, ""), 10);
    if (count < (counts.get(id) ?? 0)) told.steps.push([id, counts.get(id), count]);
    counts.set(id, count);
  };
  new MutationObserver((records) => {
    for (const { target, addedNodes } of records) {
      const element = target instanceof Element ? target : target.parentElement;
      if (element) look(element);
      for (const node of addedNodes)
        if (node instanceof HTMLElement)
          [node, ...node.querySelectorAll("[data-testid]")].forEach(look);
    }
  }).observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: ["data-state"],
  });
}
"""
_ROWS = """() => [...document.querySelectorAll('[data-testid="batch-row"]')].map((row) => [
  row.dataset.batch,
  ...["state", "progress", "failed", "tokens", "cost"].map((name) =>
    row.querySelector(`[data-testid="${name}"]`)?.textContent ?? ""),
]).sort()"""
_SETTLED = """(texts) => texts.every(([id, text]) => document.querySelector(
  `[data-testid="batch-row"][data-batch="${id}"] [data-testid="progress"]`,
)?.textContent.startsWith(text))"""


def now_ms() -> float:
    """Return the time of the machine's clock, which the browser reads too."""
    return utc_now().timestamp() * 1000


async def opened(context: BrowserContext, url: str) -> Page:
    """Return one more tab, live."""
    page = await context.new_page()
    await page.add_init_script(_NOTE)
    await page.goto(url)
    await page.wait_for_selector('[data-testid="connection"][data-state="live"]')
    return page


async def worst(
    tabs: Sequence[Page], since_ms: float, *, leaves: str = "", comes: str = ""
) -> float:
    """Return after how many seconds the last of the tabs left a state, or came to one.

    Raises:
        SystemExit: one did not.
    """
    waits: list[float] = []
    for tab in tabs:
        states = await tab.evaluate("window.told.states")
        times = [
            at
            for state, at in states
            if at >= since_ms and (state == comes if comes else state != leaves)
        ]
        if not times:
            raise SystemExit(f"a tab was never {comes or f'other than {leaves}'}: {states[-6:]}")
        waits.append((times[0] - since_ms) / 1000)
    return max(waits)


async def all_live(tabs: Sequence[Page]) -> None:
    """Return once each tab says that it is live."""
    for tab in tabs:
        await tab.wait_for_selector('[data-testid="connection"][data-state="live"]')


def connections(stack: Stack) -> int:
    """Return how many streams the server serves."""
    text = httpx.get(f"{stack.url}/metrics", timeout=10).text
    found = re.findall(r"^millstream_stream_clients\{.*\} ([\d.]+)$", text, re.MULTILINE)
    return round(sum(map(float, found)))


async def cut(tabs: Sequence[Page], gate: Gate, kind: Passing) -> dict[str, float]:
    """Let nothing but ``kind`` pass for ten seconds; return the times of it."""
    begun = now_ms()
    gate.let(kind)
    await asyncio.sleep(OUTAGE_S)
    back = now_ms()
    gate.let("all")
    await all_live(tabs)
    found = {
        "indicator_s": await worst(tabs, begun, leaves="live"),
        "live_s": await worst(tabs, back, comes="live"),
    }
    if kind == "no streams":
        found["polling_s"] = await worst(tabs, begun, comes="polling")
    return found


async def killed(tabs: Sequence[Page], stack: Stack) -> dict[str, float]:
    """Kill the API; return the times of it. It is back once it answers."""
    begun = now_ms()
    old = stack.kill("api")
    await asyncio.to_thread(stack.wait_back, "api", old, 20)
    async with httpx.AsyncClient() as client:
        while True:
            try:
                await client.get(f"{stack.url}/healthz")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.01)
    back = now_ms()
    indicator = await worst(tabs, begun, leaves="live")
    await all_live(tabs)
    return {"indicator_s": indicator, "live_s": await worst(tabs, back, comes="live")}


async def compared(
    context: BrowserContext, url: str, tabs: Sequence[Page], batches: Batches, ended: Sequence[str]
) -> dict[str, float]:
    """Return what the tabs show too few or too many of, now that nothing moves."""
    made = {id_: batches.view(id_)["counts"]["generated"] for id_ in batches.live()}
    texts = [[id_, f"{count:,} /"] for id_, count in made.items()]
    fresh = await opened(context, url)
    missed = doubled = 0
    digests: list[str] = []
    for tab in (fresh, *tabs):
        # What is still on its way is late, not missed; after this long it is missed.
        await tab.wait_for_function(_SETTLED, arg=texts)
        rows: list[list[str]] = await tab.evaluate(_ROWS)
        digests.append(hashlib.sha256(json.dumps(rows).encode()).hexdigest())
        if tab is fresh:
            continue
        told: dict[str, Any] = await tab.evaluate("window.told")
        for id_ in ended:
            count = told["toasts"].count(f"batch {id_[-8:]} completed")
            missed += max(0, 1 - count)
            doubled += max(0, count - 1)
        doubled += len(told["steps"])
        shown = {row[0]: int(re.sub(r"[^0-9/]", "", row[2]).partition("/")[0]) for row in rows}
        missed += sum(max(0, count - shown.get(id_, 0)) for id_, count in made.items())
        doubled += sum(max(0, shown.get(id_, 0) - count) for id_, count in made.items())
    differing = sum(one != digests[0] for one in digests)
    return {"missed": missed, "doubled": doubled, "digests_differ": differing}


async def measure() -> dict[str, Metric]:
    """Run all of it."""
    async with AsyncExitStack() as entered:
        stack = entered.enter_context(Stack.start())
        gate = entered.enter_context(Gate(int(stack.url.rpartition(":")[2])))
        playwright = await entered.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=chromium_arguments()
        )
        entered.push_async_callback(browser.close)
        batches = Batches(stack.url)
        ids = [batches.start(100_000, "simulated/fast", concurrency=1) for _ in range(3)]
        context = await browser.new_context()
        context.set_default_timeout(LIMIT_MS)
        tabs = [await opened(context, gate.url) for _ in range(TABS)]
        figures: dict[str, float] = {"connections": connections(stack)}
        ended: list[str] = []
        for kind in (*KINDS, None):
            ended.append(batches.start(2, "simulated/slow", concurrency=1))
            for tab in tabs:  # Each knows of the batch before it can't hear of it.
                await tab.wait_for_selector(f'[data-testid="batch-row"][data-batch="{ended[-1]}"]')
            times = await (cut(tabs, gate, kind) if kind else killed(tabs, stack))
            print(
                kind or "killed",
                ", ".join(f"{name} {seconds:.2f}" for name, seconds in times.items()),
            )
            for name, seconds in times.items():
                figures[name] = max(seconds, figures.get(name, 0.0))
            batches.wait(ended[-1])
        for id_ in ids:
            batches.command(id_, "pause")
        await asyncio.sleep(REST_S)
        figures |= await compared(context, gate.url, tabs, batches, ended)
        batches.stop_all()
    return {
        name: Metric(value, "s" if name.endswith("_s") else "") for name, value in figures.items()
    }
