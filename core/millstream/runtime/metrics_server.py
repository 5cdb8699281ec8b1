"""The small HTTP server beside a service that has none: /metrics, /healthz and /readyz."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import structlog
from aiohttp import web

from millstream.errors import SettingsError
from millstream.runtime.metrics import CONTENT_TYPE, Figure, rendered
from millstream.runtime.settings import Settings

log = structlog.get_logger()

HEAD_MOST = 8190
SHUTDOWN_S = 1.0

Read = Callable[[], Iterable[Figure]]
IsReady = Callable[[], tuple[bool, str]]
"""Whether the service does its work, and how far it is in words."""


@contextlib.asynccontextmanager
async def metrics_served(settings: Settings, read: Read, is_ready: IsReady) -> AsyncIterator[None]:
    """Serve the figures of ``read`` while the context is open, if a port is set.

    Raises:
        SettingsError: the port can't be bound.
    """
    if settings.metrics_port is None:
        yield
        return

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=rendered(read), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        ready, words = is_ready()
        return web.json_response({"status": words}, status=200 if ready else 503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=HEAD_MOST,
        max_field_size=HEAD_MOST,
    )
    await runner.setup()
    try:
        host, port = settings.metrics_host, settings.metrics_port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(
                f"MILLSTREAM_METRICS_PORT={port} can't be bound on {host}: {error.strerror}; give"
                " each process a port of its own, or leave it unset"
            ) from error
        log.info("metrics.listening", url=f"http://{host}:{runner.addresses[0][1]}/metrics")
        yield
    finally:
        await runner.cleanup()
