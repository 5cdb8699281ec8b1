"""Run the generator: ``python -m millstream_generator``."""

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
    lanes = Lanes(settings)
    await lanes.warm_up()
    # What is loaded now stays: the collector need not look at it again. The little that is left
    # to look at is looked at often, since what litellm's calls leave is 60 KB each.
    memory.give_back()
    gc.freeze()
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
