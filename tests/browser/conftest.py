"""A real Chromium before a real `millstream up`; these tests run after all others."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from millstream.testing.batches import Batches
from millstream.testing.browser import chromium_arguments, find_chromium
from millstream.testing.gate import Gate
from millstream.testing.hub_page import WIDE, HubPage
from millstream.testing.scripted_answers import Answer, Delayed, HttpError, Ok, Request
from millstream.testing.scripted_llm import ScriptedLLMThread
from millstream.testing.stack import Stack

LIMIT_MS = 90_000
STEADY_S = 0.3
HERE = Path(__file__).parent

expect.set_options(timeout=LIMIT_MS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright's loop stays the thread's running one until the session ends, so no test with a
    # loop of its own may come after it.
    items.sort(key=_is_here)
    for item in filter(_is_here, items):
        item.add_marker(pytest.mark.browser)


def _is_here(item: pytest.Item) -> bool:
    return HERE in item.path.parents


@pytest.fixture(scope="session")
def base_url() -> None:
    """Stand before the plugin's own, which pytest warns of: each stack has its own address."""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = find_chromium()
    if chromium is None:
        words = "no Chromium on the PATH; install it, for instance: apt-get install chromium"
        # A skipped test must not pass for a tested page where nobody reads the output.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    return {**browser_type_launch_args, "executable_path": chromium, "args": chromium_arguments()}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_context_args,
        "viewport": {"width": WIDE[0], "height": WIDE[1]},
        "locale": "en-US",
        "color_scheme": "light",
        "reduced_motion": "reduce",
    }


@pytest.fixture(scope="session")
def hostile_text() -> str:
    """What a model may answer to break out of the page, or to break its layout."""
    return (
        "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
        " </bdi></dd><style>body { display: none }</style> &lt;b&gt; ${title} {0} "
        "\u202egnp.exe\u202c \u2067right\u2069 \u200b\u200d👩\u200d👩\u200d👧 שלום Z̷͉̓a̵l̴g̸o̷ "
        + "unbreakable"
        * 12
    )


@pytest.fixture(scope="session")
def models_file(tmp_path_factory: pytest.TempPathFactory, hostile_text: str) -> Iterator[Path]:
    """Names ``scripted/steady``, ``/hostile``, ``/refused``, which a real HTTP server answers.

    ``/unpriced`` is as steady, but nobody knows its price, ``/single`` takes one call at a time.

    All answer in the form of the recipe ``instruction``.
    """

    def answer(request: Request) -> Answer:
        words = hashlib.sha256(str(request.index).encode()).hexdigest()
        own = " ".join(words[start : start + 6] for start in range(0, 60, 6))
        if request.body["model"] == "refused":
            return HttpError(401, {"error": {"message": hostile_text, "code": "invalid_api_key"}})
        if request.body["model"] == "hostile":
            return Ok({"instruction": f"Explain {own} <b>", "response": hostile_text})
        fine = Ok({"instruction": f"Explain {own}.", "response": f"This is why: {own}."})
        return Delayed(fine, STEADY_S)

    with ScriptedLLMThread(answer) as llm:
        path = tmp_path_factory.mktemp("models") / "models.toml"
        path.write_text(
            "".join(
                f'[[models]]\nid = "scripted/{name}"\n[[models.routes]]\n'
                f'litellm_model = "openai/{name}"\napi_base = "{llm.base_url}"\n'
                "input_usd_per_million = 0.5\noutput_usd_per_million = 2\n"
                for name in ("steady", "hostile", "refused")
            )
            + '[[models]]\nid = "scripted/single"\n[[models.routes]]\nmax_concurrency = 1\n'
            f'litellm_model = "openai/single"\napi_base = "{llm.base_url}"\n'
            + '[[models]]\nid = "scripted/unpriced"\n[[models.routes]]\n'
            f'litellm_model = "openai/unpriced"\napi_base = "{llm.base_url}"\n',
            encoding="utf-8",
        )
        yield path


@pytest.fixture(scope="session")
def stack(browser_type_launch_args: dict[str, Any], models_file: Path) -> Iterator[Stack]:
    """The system that most tests share: each begins and ends without a live batch."""
    settings = {"MILLSTREAM_MODELS_FILE": str(models_file), "MILLSTREAM_WEBHOOK_PRIVATE": "true"}
    with Stack.start(env=settings) as running:
        yield running


@pytest.fixture
def batches(stack: Stack) -> Iterator[Batches]:
    asked = Batches(stack.url)
    yield asked
    asked.stop_all()


@pytest.fixture
def gate(stack: Stack) -> Iterator[Gate]:
    """The way to the shared system that can be shut, and that knows what was asked."""
    with Gate(int(stack.url.rpartition(":")[2])) as opened:
        yield opened


@pytest.fixture
def unopened(page: Page, stack: Stack, batches: Batches) -> Iterator[HubPage]:
    """The page before it is loaded; a complaint in the browser's console fails the test."""
    hub = HubPage(page, stack.url)
    page.set_default_timeout(LIMIT_MS)
    yield hub
    assert hub.complaints() == []


@pytest.fixture
def hub(unopened: HubPage) -> HubPage:
    """The loaded page, live."""
    unopened.open()
    return unopened
