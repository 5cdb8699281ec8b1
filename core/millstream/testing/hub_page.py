"""Millstream's page in a browser, by the test ids that services/dashboard/README.md lists."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Locator, Page, Route, expect

from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

WIDE = (1280, 900)
NARROW = (390, 844)
_LOOK_MS = 20
_LOOKS_MOST = 500

_RECORDER = """
const seen = { toasts: [], connection: [], tones: [] };
window.seen = seen;
const note = (element) => {
  const name = element.dataset?.testid;
  if (name === "toast") seen.toasts.push(element.querySelector("strong").textContent);
  if (name === "connection" && seen.connection.at(-1) !== element.dataset.state)
    seen.connection.push(element.dataset.state);
};
new MutationObserver((records) => {
  for (const { target, addedNodes } of records) {
    note(target);
    for (const node of addedNodes)
      if (node instanceof Element) [node, ...node.querySelectorAll("[data-testid]")].forEach(note);
  }
}).observe(document, {
  subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"],
});
const Oscillator = window.OscillatorNode;
window.OscillatorNode = class extends Oscillator {
  constructor(context, options) {
    super(context, options);
    seen.tones.push(options.frequency);
  }
};
"""


class HubPage:
    """The page of one test. It records what passes: toasts, connection states, tones, complaints.

    ``outages`` says that the test makes requests fail, which the browser itself then reports.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.outages = False
        self._messages: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._messages.append(f"uncaught: {error}"))
        page.add_init_script(_RECORDER)

    def open(self, fragment: str = "") -> None:
        """Load the page and return once it is live."""
        self.page.goto(f"{self.url}/{fragment}")
        self.wait_live()

    def wait_live(self) -> None:
        """Return once the connection is live."""
        expect(self.part("connection")).to_have_attribute("data-state", "live")

    def part(self, name: str, within: Locator | None = None) -> Locator:
        """Return the elements with this test id."""
        return (within or self.page).get_by_test_id(name)

    def row(self, batch_id: str) -> Locator:
        """Return the batch's row in the running panel."""
        return self.page.locator(f'[data-testid="batch-row"][data-batch="{batch_id}"]')

    def past(self, batch_id: str) -> Locator:
        """Return the batch's row in the history."""
        return self.page.locator(f'[data-testid="history-row"][data-batch="{batch_id}"]')

    def expect_state(self, batch_id: str, state: str) -> None:
        """Return once the history shows the batch in ``state``."""
        expect(self.past(batch_id)).to_have_attribute("data-state", state)

    def filled(self, bar: Locator) -> float:
        """Return how much of a progress bar is made, in percent."""
        style = bar.get_attribute("style") or ""
        return float(style.partition("background-size:")[2].partition("%")[0])

    def expect_running(self, count: int) -> None:
        """Return once the badge counts ``count`` live batches."""
        expect(self.part("badge")).to_have_attribute("data-count", str(count))

    def submit(self, **fields: str) -> None:
        """Open the start dialog, fill its fields and send it.

        Keywords are test ids without ``start-``, with underscores: ``target="20"``. ``model`` is
        typed as the name of another model, which switches smart mode off.
        """
        if not self.part("start-dialog").is_visible():
            self.part("start-open").click()
        model = fields.pop("model", None)
        if model is not None:
            self.part("start-smart").uncheck()
            self.part("start-model").select_option(label="Another model…")
            self.part("start-model-other").fill(model)
        for name, value in fields.items():
            self.part(f"start-{name.replace('_', '-')}").fill(value)
        self.part("start-submit").click()

    def hold_posts(self, path: str) -> list[Route]:
        """Keep back each POST to ``path`` until the test lets it go on."""
        held: list[Route] = []

        def on_request(route: Route) -> None:
            if route.request.method == "POST":
                held.append(route)
            else:
                route.continue_()

        self.page.route(f"**{path}", on_request)
        return held

    def only(self, held: list[Route]) -> Route:
        """Return the one call kept back; the browser may tell of it after the page has changed."""
        for _ in range(_LOOKS_MOST):
            if held:
                break
            self.page.wait_for_timeout(_LOOK_MS)  # lets the browser's messages in
        assert len(held) == 1
        return held[0]

    def resize(self, size: tuple[int, int]) -> None:
        """Give the window another size, in CSS pixels."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def violations(self) -> list[str]:
        """Return what axe finds wrong with the page as it is, one line per rule and element."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def seen(self, what: str) -> list[Any]:
        """Return what passed since the page was loaded: ``toasts``, ``connection``, ``tones``."""
        return list(self.page.evaluate(f"window.seen.{what}"))

    def expect_told(self, *titles: str) -> None:
        """Return once the toasts since the page was loaded are these, in any order."""
        wanted = sorted(titles)
        wait_until(lambda: sorted(self.seen("toasts")) == wanted, BOUND_S, f"the toasts {wanted}")

    def has_passed(self, *states: str) -> bool:
        """Tell whether the connection went through ``states`` in this order, among others."""
        passed = iter(self.seen("connection"))
        return all(state in passed for state in states)

    def returns(self) -> int:
        """Return how often the connection was live again after a break."""
        return self.seen("connection").count("live") - 1

    def complaints(self) -> list[str]:
        """Return the errors and warnings of the browser's console, refused content included."""
        return self._messages

    def _note(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        if self.outages and message.text.startswith("Failed to load resource"):
            return
        self._messages.append(f"{message.type}: {message.text} ({message.location.get('url')})")
