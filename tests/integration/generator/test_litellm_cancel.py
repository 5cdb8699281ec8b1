"""A cancel while litellm makes its call in a thread, in a process with Python's own warnings."""

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
