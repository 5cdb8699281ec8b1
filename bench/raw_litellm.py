"""The yardstick: the same streamed calls as anybody makes them with litellm, in a process alone.

Usage: raw_litellm.py SIMULATED_URL SAMPLES IN_FLIGHT; prints one JSON document.
"""

import asyncio
import json
import sys
import time

from millstream import recipe_prompts as prompts
from millstream.domain.plan import Plan, attempt_seed
from millstream.recipes import RecipeBook, recipe_directories
from millstream_generator.litellm_setup import litellm
from millstream_schemas.control import BatchSpec
from millstream_schemas.routes import Route

MODEL = "hosted_vllm/fast"
"""litellm's own HTTP handler makes the calls, as for most providers that it alone can call."""


async def run(url: str, samples: int, in_flight: int) -> dict[str, float]:
    """Make ``samples`` calls, ``in_flight`` at a time, and read every chunk of each."""
    route = Route(model="simulated/fast", provider="simulated", litellm_model=MODEL)
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

    async def call(slot: int) -> None:
        cell = plan.cell(slot)
        answer = await litellm.acompletion(
            model=MODEL,
            api_base=f"{url}/v1",
            api_key="none",
            messages=prompts.render(spec.recipe, cell, None, slot, 1, ""),
            response_format=prompts.response_format(spec.recipe, cell),
            max_tokens=prompts.max_tokens(spec.recipe),
            seed=attempt_seed(spec, slot, 1),
            temperature=0.7,
            stream=True,
            stream_options={"include_usage": True},
            max_retries=0,
        )
        async for _ in answer:
            pass

    async def loop() -> None:
        for slot in slots:
            await call(slot)

    await call(0)  # warm: litellm loads half of itself in its first call
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
