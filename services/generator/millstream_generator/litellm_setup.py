"""litellm, imported once with the environment it must find; nothing else imports it directly.

Without the first two lines it would fetch its price map over the network when it is imported, and
a list of Anthropic's beta headers in the first call to it, which then blocks the loop.
"""

import functools
import importlib
import os
import warnings
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"
os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", "4096")

import httpx
import litellm

from millstream_generator.litellm_document import watched
from millstream_generator.litellm_stream import TOKENIZER

litellm.suppress_debug_info = True
litellm.drop_params = True
litellm.telemetry = False
litellm.disable_streaming_logging = True
# Else it asks huggingface.co for a tokenizer in the midst of a call, and blocks the loop meanwhile.
litellm.disable_hf_tokenizer_download = True


def _unpriced(**_: object) -> None:
    """Price nothing: our own prices are pinned in the batch, and litellm's are never read."""


# Else it prices each stream as it opens, when nothing of it is known: a quarter of a call's time
# where its price map lacks the model.
litellm.response_cost_calculator = _unpriced  # type: ignore[assignment]


class _Encoding:
    """litellm's tokenizer, loaded by the first who counts with it: 40 MB."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(TOKENIZER).encoding, name)


# litellm hands it to whoever reads an answer; a stream that tells its tokens needs none.
litellm.main.encoding = _Encoding()  # type: ignore[assignment]
# Anthropic's tokenizer, taken apart to be written as one text: 13 MB that nobody reads again.
vars(litellm.utils).pop("json_data", None)

# litellm makes the coroutine of a call in a thread; a cancel meanwhile drops it before it starts.
# No request was sent and nothing is left open, so a stop need not write of it.
warnings.filterwarnings(
    "ignore",
    r"coroutine '\w+\.(async_streaming|acompletion\w*)' was never awaited",
    RuntimeWarning,
)

_send = httpx.AsyncClient.send


async def _send_once(
    client: httpx.AsyncClient, request: httpx.Request, **options: Any
) -> httpx.Response:
    """Send once in a call, and follow no redirect, for which litellm and openai's client ask.

    httpx takes but one header of keys off a call that it carries on to another host.
    """
    document = watched.get()
    send = functools.partial(_send, client, request, **{**options, "follow_redirects": False})
    return await (send() if document is None else document.send(request, send))


httpx.AsyncClient.send = _send_once  # type: ignore[assignment, method-assign]

__all__ = ["litellm"]
