"""Takes the README's picture of the page from a real run: ``python -m millstream.testing.picture``.

The local model makes the samples of the running batch where it can be loaded.
"""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from millstream.testing.batches import Batches
from millstream.testing.browser import chromium_arguments, find_chromium
from millstream.testing.hub_page import HubPage
from millstream.testing.stack import Stack

LIMIT_MS = 60_000
SIZE_MOST = 200_000


def main(path: Path) -> int:
    """Run a few batches, and write the page with one of them at work; returns the exit code."""
    chromium = find_chromium()
    if chromium is None:
        sys.stderr.write("no Chromium on the PATH; install it: apt-get install chromium\n")
        return 1
    expect.set_options(timeout=LIMIT_MS)
    with Stack.start(model="auto") as stack, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=chromium_arguments())
        page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
        picture = _take(HubPage(page, stack.url), Batches(stack.url))
        browser.close()
    if len(picture) > SIZE_MOST:
        sys.stderr.write(f"the picture has {len(picture):,} bytes; show less\n")
        return 1
    path.write_bytes(picture)
    return 0


def _take(hub: HubPage, batches: Batches) -> bytes:
    hub.open()
    batches.wait(batches.start(300, "simulated/flaky"))
    stopped = batches.start(250, "simulated/slow", concurrency=16)
    batches.wait_samples(stopped, 32)
    batches.stop(stopped)
    batches.wait(batches.start(120, "simulated/fast"))
    batches.wait(stopped)
    slow = batches.start(2000, "simulated/slow", concurrency=24)
    made = batches.start(60, "auto", recipe="instruction")
    batches.wait_samples(slow, 96)
    batches.wait_samples(made, 10)
    expect(hub.part("batch-row").first).to_be_visible()
    expect(hub.part("toast")).to_have_count(0)  # They leave by themselves.
    return hub.page.screenshot(full_page=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
