"""The yardstick of the direct lane: a bare aiohttp loop that reads the same streamed chunks.

Usage: raw_aiohttp.py SIMULATED_URL SAMPLES IN_FLIGHT; prints one JSON document.
"""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from millstream import recipe_prompts as prompts
from millstream.recipes import RecipeBook, recipe_directories
from millstream_schemas.recipes import Cell


async def run(url: str, samples: int, in_flight: int) -> dict[str, float]:
    """Make ``samples`` calls, ``in_flight`` at a time, and read every byte of each."""
    pinned = RecipeBook.load(recipe_directories(None)).pin("legal-qa")
    recipe = pinned.recipe
    cell = Cell(
        area=recipe.topics[0].area,
        topic=recipe.topics[0].topic,
        difficulty=recipe.difficulties[0].id,
        sample_type=recipe.sample_types[0].id,
    )
    body = {
        "model": "fast",
        "messages": prompts.render(pinned, cell, None, 1, 1, ""),
        "response_format": prompts.response_format(pinned, cell),
        "max_tokens": prompts.max_tokens(pinned),
        "temperature": 0.7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    numbers = iter(range(samples))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def loop() -> None:
            for number in numbers:
                payload = json.dumps({**body, "seed": number})
                async with session.post(
                    f"{url}/v1/chat/completions",
                    data=payload,
                    headers={"Content-Type": "application/json"},
                ) as response:
                    async for _ in response.content.iter_any():
                        pass

        began, cpu = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(loop())
        seconds = time.monotonic() - began
    return {
        "samples_per_s": samples / seconds,
        "cpu_s_per_1000": (time.process_time() - cpu) / samples * 1000,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
