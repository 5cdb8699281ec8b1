"""The typed client on the real API: its answers, its refusals, its repeats; and its own source."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import millstream.client
from millstream.client import ApiError, AsyncClient, Client, UnreachableError
from millstream.errors import UsageError
from millstream.eventlog.server import free_port
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_api import client_code
from millstream_schemas.commands import BulkCommand, StartBatch, StopBatch

UNKNOWN = "batch_1111111111_00000000"
READY = b'{"models": [], "default": null}'


@pytest.mark.anyio
async def test_both_clients_start_read_and_stop(api: Any) -> None:
    command = StartBatch(target=12, seed=3)

    def in_a_thread() -> str:
        with Client(api.url) as client:
            started = client.start_batch(command, idempotency_key="one")
            again = client.start_batch(command, idempotency_key="one")
            assert (again.batch.id, again.sequence) == (started.batch.id, started.sequence)
            found = client.get_batch(started.batch.id, min_sequence=started.sequence)
            assert (found.batch.target, found.batch.state) == (12, "queued")
            past = client.list_batches(at_seq=started.sequence - 1)
            assert past.total == 0
            return started.batch.id

    batch_id = await asyncio.to_thread(in_a_thread)
    async with AsyncClient(api.url) as client:
        stopped = await client.stop_batch(batch_id, StopBatch(reason="seen"))
        await api.folded(stopped.sequence)
        listed = await client.list_batches(
            state=["stopping", "stopped"], min_sequence=stopped.sequence
        )
        assert [one.id for one in listed.batches] == [batch_id]
        bulk = await client.command_batches(
            BulkCommand(action="pause", ids=(batch_id, UNKNOWN), dry_run=True)
        )
        assert [item.status for item in bulk.results] == [409, 404]
        assert (await client.list_models()).default == "simulated/fast"


@pytest.mark.anyio
async def test_a_refusal_tells_its_code_and_what_is_allowed(api: Any) -> None:
    made = Script(batch_id="batch_1767225600_00000001", spec=example_spec(6, slice_size=2)).run()
    sequence = await api.append(made.tape.entries)
    async with AsyncClient(api.url) as client:
        with pytest.raises(ApiError, match="completed") as caught:
            await client.pause_batch(made.batch_id)
        error = caught.value
        assert (error.status, error.problem is not None) == (409, True)
        assert error.problem is not None
        assert error.problem.allowed == ("clone",)
        with pytest.raises(ApiError) as unknown:
            await client.get_batch(UNKNOWN, min_sequence=sequence)
        assert (unknown.value.status, unknown.value.code) == (404, "not_found")
        with pytest.raises(ApiError, match=r"\.\./\.\./metrics"):
            await client.get_batch("../../metrics")
        with pytest.raises(UsageError, match="names nothing"):
            await client.get_batch("..")
        async with client.export_batch(made.batch_id, format="jsonl") as pieces:
            lines = b"".join([piece async for piece in pieces]).splitlines()
        assert len(lines) == 6
        with pytest.raises(ApiError):
            async with client.export_batch(UNKNOWN):
                pass


@asynccontextmanager
async def scripted(answers: list[Callable[[web.Request], Any]]) -> AsyncIterator[tuple[str, Any]]:
    """Serve one answer after another; yields the address and the keys that came."""
    keys: list[str | None] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers.get("Idempotency-Key"))
        answer = answers.pop(0)(request)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        assert isinstance(answer, web.Response)
        return answer

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", keys
    finally:
        await runner.cleanup()


def busy(_: web.Request) -> web.Response:
    return web.Response(status=503, headers={"Retry-After": "0"})


def gone(_: web.Request) -> None:
    """Break the connection off."""


def ready(_: web.Request) -> web.Response:
    return web.Response(body=READY, content_type="application/json")


@pytest.mark.anyio
async def test_a_lost_or_busy_request_is_repeated_with_its_key_and_no_oftener_than_four_times() -> (
    None
):
    async with scripted([busy, gone, ready]) as (url, _), AsyncClient(url) as client:
        assert (await client.list_models()).default is None
    async with scripted([gone, busy, busy, busy]) as (url, keys), AsyncClient(url) as client:
        with pytest.raises(ApiError, match="HTTP 503"):
            await client.start_batch(StartBatch(target=1))
        assert len(keys) == 4
        assert len(set(keys)) == 1
        assert keys[0]
    async with scripted([gone] * 4) as (url, keys):

        def ask() -> None:
            with Client(url) as client, pytest.raises(UnreachableError, match="no answer from"):
                client.list_models()

        await asyncio.to_thread(ask)
        assert len(keys) == 4


@pytest.mark.anyio
async def test_a_long_pause_and_a_foreign_answer_are_told_to_the_caller() -> None:
    def later(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "600"})

    def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with scripted([later, page]) as (url, keys), AsyncClient(url) as client:
        with pytest.raises(ApiError) as caught:
            await client.list_models()
        assert caught.value.status == 503
        with pytest.raises(ApiError, match="did not answer with a ModelList"):
            await client.list_models()
        assert len(keys) == 2


def test_a_wrong_address_and_an_empty_place_are_told() -> None:
    with pytest.raises(UsageError, match="is not an address"):
        Client("localhost:5001")
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(UnreachableError, match="millstream up"),
    ):
        client.list_models()


def test_the_committed_clients_are_what_the_routes_give(tmp_path: Path) -> None:
    client_code.main(tmp_path)
    for command in (["check", "--select", "I,F401", "--fix"], ["format"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", str(tmp_path)],
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
        )
    folder = Path(millstream.client.__file__).parent
    for kind in client_code.KINDS:
        name = f"{kind}_client.py"
        assert (tmp_path / name).read_text() == (folder / name).read_text(), "run `just docs`"
