"""Run the generator: ``python -m millstream_generator``."""

from millstream_generator import left_out  # noqa: F401  imported for what it does

# isort: split
import asyncio
import gc
import os
import sys

from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_generator import memory
from millstream_generator.lanes import Lanes
from millstream_generator.service import SERVICE, main

GC_OBJECTS = 1_000


async def _main(settings: Settings, stop: asyncio.Event) -> None:
    lanes = Lanes(settings, settle=memory.keep)
    await lanes.warm_up()
    # What is left to look at is little, and looked at often: litellm leaves 60 KB of each call.
    memory.keep()
    gc.set_threshold(GC_OBJECTS, 5, 2)
    try:
        await main(settings, lanes, stop)
    finally:
        await lanes.close()


if __name__ == "__main__":
    memory.share_one_heap()
    code = start_service(SERVICE, _main)
    sys.stderr.flush()
    # Nothing is left to do, and litellm's modules take seconds to be torn down.
    os._exit(code)
