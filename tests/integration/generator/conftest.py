"""The generator inside the test's own loop, on a real log and with the real litellm lane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millstream.runtime.settings import Settings
from millstream.testing.nats import running_log
from millstream.testing.site import Serve, Site
from millstream_generator.lanes import Lanes
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.service import main
from millstream_generator.targets import Targets


def unsettled() -> None:
    """Give no memory back: with all that tests load it would take most of a test's time."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A log of one's own with short leases, and generators to run on it.

    The lane is warm: litellm's first call blocks the loop for longer than a lease.
    """
    warm = LitellmLane(Targets(Settings()), settle=unsettled)
    await warm.warm_up()

    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        lane = LitellmLane(Targets(settings), settle=unsettled)
        try:
            await main(settings, lane, stop)
        finally:
            await lane.close()

    try:
        async with running_log(tmp_path, lease_s=2.0, probe_after_s=0.1) as log:
            yield Site(log, serve)
    finally:
        await warm.close()


@pytest.fixture
def serve_direct() -> Serve:
    """A generator with the lanes of a real node: a plain endpoint is called directly."""

    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        lanes = Lanes(settings, settle=unsettled)
        try:
            await main(settings, lanes, stop)
        finally:
            await lanes.close()

    return serve


@pytest.fixture
async def direct_site(tmp_path: Path, serve_direct: Serve) -> AsyncIterator[Site]:
    """The same with such generators."""
    async with running_log(tmp_path, lease_s=2.0, probe_after_s=0.1) as log:
        yield Site(log, serve_direct)
