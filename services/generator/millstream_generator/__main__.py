"""Run the generator: ``python -m millstream_generator``."""

import asyncio
import os
import sys

from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_generator.lanes import Lanes
from millstream_generator.service import SERVICE, main


async def _main(settings: Settings, stop: asyncio.Event) -> None:
    lanes = Lanes(settings)
    await lanes.warm_up()
    try:
        await main(settings, lanes, stop)
    finally:
        await lanes.close()


if __name__ == "__main__":
    code = start_service(SERVICE, _main)
    sys.stderr.flush()
    # Nothing is left to do, and litellm's modules take seconds to be torn down.
    os._exit(code)
