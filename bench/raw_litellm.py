"""The yardstick: the same streamed litellm calls in a bare loop, in a process of its own.

Usage: raw_litellm.py SIMULATED_URL SAMPLES IN_FLIGHT; prints one JSON document.
"""

import asyncio
import json
import sys
import time

from millstream.domain.plan import Plan, attempt_seed
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.clock import new_id
from millstream.runtime.settings import load_settings
from millstream_generator import prompts
from millstream_generator.completion import Progress, Prompt
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.targets import Targets
from millstream_schemas.control import BatchSpec
from millstream_schemas.routes import Route


async def run(url: str, samples: int, in_flight: int) -> dict[str, float]:
    """Make ``samples`` calls, ``in_flight`` at a time, and read every chunk of each."""
    lane = LitellmLane(Targets(load_settings(simulated_url=url)))
    await lane.warm_up()
    route = Route(model="simulated/fast", provider="simulated", litellm_model="openai/fast")
    spec = BatchSpec(
        recipe=RecipeBook.load(recipe_directories(None)).pin("legal-qa"),
        model=route.model,
        routes=(route,),
        target=samples,
        slice_size=64,
        seed=1,
        concurrency=in_flight,
    )
    plan = Plan(spec)
    slots = iter(range(samples))
    batch_id = new_id()

    async def loop() -> None:
        for slot in slots:
            cell = plan.cell(slot)
            prompt = Prompt(
                batch_id=batch_id,
                messages=prompts.render(spec.recipe, cell, None, slot, 1, ""),
                response_format=prompts.response_format(spec.recipe, cell),
                max_tokens=prompts.max_tokens(spec.recipe),
                seed=attempt_seed(spec, slot, 1),
                temperature=0.7,
                top_p=None,
                extra={},
            )
            await lane.complete(route, prompt, Progress())

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
    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
