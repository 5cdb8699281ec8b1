"""How calls and lanes of litellm end, in processes with Python's own warnings."""

import subprocess
import sys

CANCELLED = """
import asyncio, gc, threading
from millstream_generator.litellm_setup import litellm
from litellm.llms.openai.openai import OpenAIChatCompletion

made, go_on = threading.Event(), threading.Event()
complete = OpenAIChatCompletion.completion

def held(*args, **options):
    coroutine = complete(*args, **options)
    made.set()
    assert go_on.wait(20)
    return coroutine

OpenAIChatCompletion.completion = held

async def main():
    question = [{"role": "user", "content": "Why?"}]
    call = asyncio.create_task(litellm.acompletion(
        model="openai/x", messages=question, stream=True, api_key="none",
        api_base="http://127.0.0.1:9/v1", timeout=5.0, max_retries=0,
    ))
    assert await asyncio.to_thread(made.wait, 20)
    call.cancel()
    await asyncio.wait([call])
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert call.cancelled()

asyncio.run(main())
gc.collect()
print("cancelled")
"""


def test_a_call_cancelled_before_it_starts_writes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CANCELLED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cancelled\n"
    assert done.stderr == ""


CLOSED = """
import asyncio, contextlib, gc
from millstream.runtime.settings import Settings
from millstream_generator.litellm_lane import LitellmLane
from millstream_generator.targets import Targets

async def main():
    lanes = [LitellmLane(Targets(Settings())) for _ in range(2)]
    for lane in lanes:
        await lane.warm_up()
    litellm = lanes[0]._litellm
    with contextlib.suppress(litellm.exceptions.InternalServerError):
        await litellm.acompletion(
            model="openai/x", messages=[{"role": "user", "content": "Why?"}], stream=True,
            api_key="none", api_base="http://127.0.0.1:9/v1", timeout=5.0, max_retries=0,
        )
    with contextlib.suppress(Exception):  # nobody is there; the connection pool stays
        await litellm.module_level_aclient.post("http://127.0.0.1:9/")
    held = litellm.in_memory_llm_clients_cache.cache_dict
    mine = f"-{id(asyncio.get_running_loop())}"
    await lanes[0].close()
    print(sum(key.endswith(mine) for key in held) > 0, end=" ")
    await lanes[1].close()
    await lanes[1].close()
    print(sum(key.endswith(mine) for key in held), "module_level_aclient" in vars(litellm))

asyncio.run(main())
gc.collect()
"""


def test_the_last_lane_of_a_loop_closes_what_litellm_keeps_open() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True 0 False\n"
    assert "Unclosed" not in done.stderr
