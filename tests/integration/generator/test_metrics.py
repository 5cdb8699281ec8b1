"""What a generator and a projector tell of themselves, scraped as Prometheus scrapes it."""

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millstream.errors import SettingsError
from millstream.eventlog.server import free_port
from millstream.runtime.metrics import plain
from millstream.runtime.metrics_server import metrics_served
from millstream.runtime.settings import Settings
from millstream.testing import site as sites
from millstream.testing.scripted_answers import HttpError, Request
from millstream.testing.scripted_llm import ScriptedLLM
from millstream.testing.site import Site
from millstream_projector.__main__ import main as project

pytestmark = pytest.mark.anyio

Figures = dict[tuple[str, ...], float]
BOUND_S = 30


async def get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", timeout=BOUND_S)


async def scraped(port: int) -> Figures:
    """Return the figures by name and label values."""
    answer = await get(port, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def flaky(request: Request) -> Any:
    return HttpError(500) if request.index % 4 == 1 else sites.sample(request)


async def test_a_generator_counts_its_calls_by_how_they_ended(direct_site: Site) -> None:
    port = free_port()
    async with ScriptedLLM(flaky) as llm, direct_site.generator(metrics_port=port):
        state = await direct_site.ended(await direct_site.begin(llm.base_url, 20))
        found = await scraped(port)
        assert (await get(port, "/healthz")).json() == {"status": "alive"}
        assert (await get(port, "/readyz")).status_code == 200
        assert (await get(port, "/v1/batches")).status_code == 404
    assert state.counts.generated == found["millstream_calls_total", "test/model", "generated"]
    failed = sum(
        value
        for key, value in found.items()
        if key[0] == "millstream_calls_total" and key[2] not in {"generated", "rejected"}
    )
    assert failed == state.counts.attempts_failed > 0
    assert found["millstream_tokens_total", "out"] == state.counts.tokens_out
    assert found["millstream_calls_in_flight",] == found["millstream_log_full",] == 0
    assert found["millstream_calls_waiting", "test/model"] == 0
    assert found["millstream_events_stored_total",] >= 20


async def test_a_projector_tells_how_far_it_is(direct_site: Site) -> None:
    async with ScriptedLLM(sites.sample) as llm, direct_site.generator():
        await direct_site.ended(await direct_site.begin(llm.base_url, 20))
    head = (await direct_site.log.event_log.head()).last
    port, stop = free_port(), asyncio.Event()
    settings = direct_site.log.settings.model_copy(update={"metrics_port": port})
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(BOUND_S):
        tasks.create_task(project(settings, stop))
        try:
            found: Figures = {}
            while found.get(("millstream_folded_sequence",), 0) < head:
                await asyncio.sleep(0.05)
                try:
                    found = await scraped(port)
                except httpx.ConnectError:
                    continue  # it still starts
            while (ready := await get(port, "/readyz")).status_code == 503:
                await asyncio.sleep(0.05)  # the log's end was not looked at yet
        finally:
            stop.set()
    assert ready.json()["status"].startswith("at event ")
    assert found["millstream_events_folded_total",] == head
    assert found["millstream_lag_events",] == 0
    assert found["millstream_file_bytes",] > 0


async def test_a_port_that_is_taken_is_told_with_its_setting_and_unset_there_is_none() -> None:
    settings = Settings(metrics_port=free_port())

    def read() -> Any:
        return [plain("one", "words", 1)]

    def ready() -> tuple[bool, str]:
        return False, "at event 1 of 9"

    async with metrics_served(settings, read, ready):
        assert settings.metrics_port is not None
        answer = await get(settings.metrics_port, "/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "at event 1 of 9")
        with pytest.raises(SettingsError, match=f"MILLSTREAM_METRICS_PORT={settings.metrics_port}"):
            async with metrics_served(settings, read, ready):
                pass
    async with metrics_served(Settings(), read, ready):
        with pytest.raises(httpx.ConnectError):
            await get(settings.metrics_port, "/metrics")
