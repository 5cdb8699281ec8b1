"""What a browser notes of itself while the page bench runs, and the yardstick's page."""

import asyncio
from dataclasses import dataclass
from typing import Any

import psutil
from playwright.async_api import Page

from bench.measure import percentile
from millstream.runtime.clock import utc_now

NOTE = """
{
  const bench = { seen: [], frames: [], long: [], ready: 0, isOn: false, isFramed: false };
  window.bench = bench;
  const counts = new Map();
  const places = new WeakMap();
  const placeOf = (element) => {
    if (!places.has(element)) {
      const progress = element.closest('[data-testid="progress"]');
      const id = progress?.closest('[data-testid="batch-row"]')?.dataset.batch;
      places.set(element, id ? { id, progress } : null);
    }
    return places.get(element);
  };
  const look = (records) => {
    const now = performance.timeOrigin + performance.now();
    for (const { type, target } of records) {
      const element = target instanceof Element ? target : target.parentElement;
      const place = element && placeOf(element);
      if (place) note(place.id, place.progress, now);
      if (type !== "childList") continue;
      for (const row of element?.querySelectorAll('[data-testid="batch-row"]') ?? [])
        note(row.dataset.batch, row.querySelector('[data-testid="progress"]'), now);
    }
    if (bench.ready === 0 && document.querySelector('[data-testid="history-row"]')
        && document.querySelector('[data-testid="connection"]')?.dataset.state === "live")
      document.documentElement.dataset.ready = bench.ready = performance.now();
  };
  const note = (id, progress, now) => {
    const count = Number.parseInt(progress.textContent.replace(/[^0-9/]/g, ""), 10);
    if (counts.get(id) === count) return;
    counts.set(id, count);
    if (bench.isOn) bench.seen.push([id, count, now]);
  };
  new MutationObserver(look).observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: ["data-state"],
  });
  let last = 0;
  const frame = (now) => {
    if (!bench.isOn || !bench.isFramed) return;
    if (last) bench.frames.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  new PerformanceObserver((list) => {
    if (bench.isOn) for (const task of list.getEntries()) bench.long.push(task.duration);
  }).observe({ type: "longtask" });
  bench.begin = (isFramed) => {
    bench.counted = Object.fromEntries(counts);
    Object.assign(bench, { seen: [], frames: [], long: [], isOn: true, isFramed });
    last = 0;
    requestAnimationFrame(frame);
  };
  bench.end = () => {
    bench.isOn = false;
    const { seen, frames, long, counted } = bench;
    return { seen, frames, long, counted };
  };
  bench.sizes = () => performance.getEntriesByType("resource")
    .filter(({ name, startTime }) => /[.](js|css)$/.test(name) && startTime < bench.ready)
    .map(({ name, encodedBodySize }) => [name, encodedBodySize]);
}
"""

_YARDSTICK = """<!doctype html><title>yardstick</title><ul id="list"></ul><script>
const rows = new Map();
const list = document.getElementById("list");
DRAW
fetch("/v1/batches?limit=1000").then((answer) => answer.json()).then((page) => {
  for (const batch of page.batches) rows.set(batch.id, batch);
  const stream = new EventSource("/v1/stream");
  stream.addEventListener("all_batches", ({ data }) => {
    for (const batch of Object.values(JSON.parse(data).batches)) rows.set(batch.id, batch);
    for (const batch of rows.values()) draw(batch);
  });
  stream.addEventListener("batch_update", ({ data }) => {
    const { batch } = JSON.parse(data);
    rows.set(batch.id, batch);
    draw(batch);
  });
});
</script>"""
WHOLE_LIST = """
const draw = () => {
  let text = "";
  for (const batch of rows.values()) {
    const share = (100 * batch.counts.generated) / batch.target;
    text += `<li data-testid="batch-row" data-batch="${batch.id}"><b>${batch.id}</b> ` +
      `<i style="display:block;background:#36c;height:8px;width:${share}%"></i>` +
      `<span data-testid="progress">${batch.counts.generated} / ${batch.target}</span></li>`;
  }
  list.innerHTML = text;
};
"""
"""The whole list into innerHTML on every message: the way that needs no thought."""

ONE_NUMBER = """
const numbers = new Map();
const draw = ({ id, state, counts }) => {
  if (!numbers.has(id)) {
    if (state !== "running") return;
    list.insertAdjacentHTML("beforeend", `<li data-testid="batch-row" data-batch="${id}">` +
      `<span data-testid="progress">0</span></li>`);
    numbers.set(id, list.lastChild.firstChild.firstChild);
  }
  numbers.get(id).data = counts.generated;
};
"""
"""One number of one line on every message: the least that a page can do."""


def yardstick(draw: str) -> str:
    """Return a page that follows the stream itself and calls the script's ``draw(batch)``."""
    return _YARDSTICK.replace("DRAW", draw)


@dataclass(frozen=True, slots=True)
class Noted:
    """What one run left: (batch, count, ms) as it came to stand there, and the page's health.

    The load had ended at ``loaded_ms`` of the log's clock; until then all cores together had been
    idle for so much of the time. A slowed page takes a whole core: where little is left, what is
    measured is what the services and the page's other threads take from one another.
    """

    seen: list[tuple[str, int, float]]
    counted: dict[str, int]
    loaded_ms: float
    frames_ms: list[float]
    long_ms: list[float]
    idle_percent: float

    @property
    def frame_words(self) -> str:
        """What to tell of the frames, if they were noted."""
        if not self.frames_ms:
            return ""
        p99_ms = percentile(self.frames_ms, 0.99)
        a_second = 1000 * len(self.frames_ms) / sum(self.frames_ms)
        return f"frames p99 {p99_ms:.1f} ms, {a_second:.1f} frames/s, "


async def begin(page: Page, *, is_framed: bool = True) -> None:
    """Note from now on; with ``is_framed`` how long each frame takes too.

    Whoever counts frames makes the page prepare sixty of them a second, also where nothing has
    changed: a slowed page has its changes some 20 ms later for that.
    """
    psutil.cpu_percent()
    await page.evaluate("(isFramed) => window.bench.begin(isFramed)", is_framed)


async def end(page: Page, settle_s: float) -> Noted:
    """Return what was noted since ``begin``, once the last events have come to stand there."""
    loaded_ms = utc_now().timestamp() * 1000
    idle = 100 - psutil.cpu_percent()
    await asyncio.sleep(settle_s)
    found: dict[str, Any] = await page.evaluate("window.bench.end()")
    seen = [(str(batch), int(count), float(at)) for batch, count, at in found["seen"]]
    return Noted(seen, found["counted"], loaded_ms, found["frames"], found["long"], idle)
