"""A log of 100,000 events replayed on the page: how long it opens, how it seeks, what it holds.

One batch is exported as a file of some 140 MB and chosen at ``/replay`` of a real `millstream up`,
in a Chromium. Opening counts from the choice to the first moment shown; a seek from the slider's
change to the moment drawn. The heap is the page's and its workers' after a collection. The
yardstick is what the same page needs to read the same file and parse each line once.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

from bench.measure import Metric, percentile, report
from bench.sound_log import copies
from millstream.eventlog.archive import export_line
from millstream.eventlog.chain import ChainState, extend
from millstream.runtime.clock import utc_now
from millstream.testing.browser import chromium_arguments, find_chromium
from millstream.testing.stack import Stack
from millstream_schemas.audit import ExportManifest

EVENTS = 100_000
SEEKS = 400
LIMIT_MS = 60_000
BOUNDS = {"open_s": 2.0, "seek_ms_p99": 16.0, "heap_mb": 40.0}
_CLOCK = """
window.moments = [];
new MutationObserver(() => {
  const shown = document.querySelector("[data-testid=replay-moment]");
  const events = shown?.dataset.events;
  if (events && events !== window.moments.at(-1)?.events)
    window.moments.push({ events, at: performance.now() });
}).observe(document, { subtree: true, childList: true, attributes: true });
document.addEventListener("change", ({ target }) => {
  if (target.type === "file") window.chosenAt = performance.now();
}, true);
"""
_SEEK = """async (events) => {
  const slider = document.querySelector("[data-testid=slider]");
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  const seen = window.moments.length;
  const begun = performance.now();
  set.call(slider, String(events));
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  while (window.moments.length === seen) await new Promise((done) => setTimeout(done));
  return window.moments.at(-1).at - begun;
}"""
_PARSE = """async (input) => {
  const begun = performance.now();
  const text = await input.files[0].text();
  let lines = 0;
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf("\\n", from);
    JSON.parse(text.slice(from, end));
    lines += 1;
    from = end + 1;
  }
  return [lines, performance.now() - begun];
}"""


def write_log(path: Path) -> int:
    """Write one batch of about ``EVENTS`` events as an export; return how many there are."""
    (log,) = copies(1, samples=int(EVENTS * 64 / 65))
    chain = extend(ChainState(), log)
    manifest = ExportManifest(
        stream="2026-01-01T00:00:00Z",
        batch_id=log[0].subject.split(".")[2],
        count=chain.events,
        first_sequence=log[0].sequence,
        last_sequence=chain.sequence,
        root=chain.root.hex(),
        exported_at=utc_now(),
    )
    with path.open("wb") as out:
        out.writelines(map(export_line, log))
        out.write(manifest.model_dump_json().encode() + b"\n")
    return chain.events


class Heaps:
    """The heaps of a page and of its workers."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._workers: list[str] = []
        self._answers: list[dict[str, Any]] = []
        session.on("Target.attachedToTarget", lambda told: self._workers.append(told["sessionId"]))
        session.on(
            "Target.detachedFromTarget", lambda told: self._workers.remove(told["sessionId"])
        )
        session.on(
            "Target.receivedMessageFromTarget",
            lambda told: self._answers.append(json.loads(told["message"])),
        )
        session.send(
            "Target.setAutoAttach",
            {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False},
        )

    def megabytes(self, page: Page) -> float:
        """Return what all of them hold after a collection."""
        self._session.send("HeapProfiler.collectGarbage")
        used = self._session.send("Runtime.getHeapUsage")["usedSize"]
        for worker in self._workers:
            self._ask(page, worker, "HeapProfiler.collectGarbage")
            used += self._ask(page, worker, "Runtime.getHeapUsage")["usedSize"]
        return float(used) / 1e6

    def _ask(self, page: Page, worker: str, method: str) -> dict[str, Any]:
        self._answers.clear()
        message = json.dumps({"id": 1, "method": method})
        self._session.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
        while not self._answers:
            page.wait_for_timeout(10)
        return dict(self._answers[0]["result"])


def measure(page: Page, path: Path, events: int) -> dict[str, Metric]:
    """Replay the file and return the figures."""
    page.add_init_script(_CLOCK)
    page.reload()
    file = page.get_by_test_id("replay-file")
    file.wait_for(state="attached")
    page.evaluate("""() => {
      const input = document.createElement("input");
      input.type = "file"; input.id = "yardstick"; document.body.append(input);
    }""")
    page.locator("#yardstick").set_input_files(path)
    lines, parse_ms = page.locator("#yardstick").evaluate(_PARSE)
    if lines != events + 1:
        raise RuntimeError(f"the page read {lines} lines, not {events + 1}")
    page.evaluate("document.querySelector('#yardstick').remove()")
    heaps = Heaps(page.context.new_cdp_session(page))
    before = heaps.megabytes(page)
    file.set_input_files(path)
    page.wait_for_function("() => window.moments.length > 0")
    open_ms = page.evaluate("window.moments[0].at - window.chosenAt")
    page.wait_for_selector("[data-testid=replay-check][data-kind=whole]")
    check_ms = page.evaluate("performance.now() - window.chosenAt")
    chance = random.Random(1)
    seeks = [page.evaluate(_SEEK, chance.randrange(1, events)) for _ in range(SEEKS)]
    heap_mb = heaps.megabytes(page)
    yardstick = "JSON.parse of each line"
    return {
        "open_s": Metric(open_ms / 1e3, "s", yardstick, open_ms / parse_ms),
        "checked_s": Metric(check_ms / 1e3, "s", yardstick, check_ms / parse_ms),
        "seek_ms_p50": Metric(percentile(seeks, 0.5), "ms"),
        "seek_ms_p99": Metric(percentile(seeks, 0.99), "ms"),
        "heap_mb": Metric(heap_mb, "MB"),
        "heap_before_mb": Metric(before, "MB"),
    }


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    if find_chromium() is None:
        sys.exit("bench replay needs a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory) / "log.jsonl"
        events = write_log(path)
        print(f"{events:,} events, {path.stat().st_size / 1e6:.0f} MB")
        with Stack.start() as stack, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=chromium_arguments()
            )
            page = browser.new_page()
            page.set_default_timeout(LIMIT_MS)
            page.goto(f"{stack.url}/replay")
            metrics = measure(page, path, events)
            browser.close()
    report("replay", metrics)
    missed = [name for name, most in BOUNDS.items() if metrics[name].value > most]
    for name in missed:
        print(f"MISSED: {name} is {metrics[name].value:.1f}, more than {BOUNDS[name]:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
