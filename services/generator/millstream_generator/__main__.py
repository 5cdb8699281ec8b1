"""Run the generator: ``python -m millstream_generator``."""

import asyncio
import sys

from millstream.runtime.lifecycle import run_service
from millstream.runtime.settings import Settings, load_settings
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.service import SERVICE, main


async def _main(settings: Settings, stop: asyncio.Event) -> None:
    lane = LitellmLane(settings)
    await lane.warm_up()
    await main(settings, lane, stop)


if __name__ == "__main__":
    sys.exit(run_service(SERVICE, _main, load_settings()))
