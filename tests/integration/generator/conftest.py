"""The generator inside the test's own loop, on a real log and with the real litellm lane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millstream.runtime.settings import Settings
from millstream.testing.nats import running_log
from millstream.testing.site import Site
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.service import main
from millstream_generator.targets import Targets


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A log of one's own with short leases, and generators to run on it.

    The lane is warm: litellm's first call blocks the loop for longer than a lease.
    """
    await LitellmLane(Targets(Settings())).warm_up()

    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        await main(settings, LitellmLane(Targets(settings)), stop)

    async with running_log(tmp_path, lease_s=2.0) as log:
        yield Site(log, serve)
