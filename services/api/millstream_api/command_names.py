"""Which command a request would give, told by its method and path alone."""

import re
from typing import NamedTuple

from millstream_schemas.refusals import CommandName

_OF_A_BATCH = re.compile(r"/v1/batches/([^/]+)/([a-z-]+)")
_BATCH = re.compile(r"/v1/batches/([^/]+)")
_WORDS: dict[str, CommandName] = {
    "stop": "stop",
    "pause": "pause",
    "resume": "resume",
    "retry-failed": "retry_failed",
    "continue": "continue",
    "clone": "clone",
}
_OF_A_WEBHOOK = re.compile(r"/v1/webhooks/([^/]+)(?:/([a-z]+))?")
_HOOK_WORDS: dict[tuple[str, str | None], CommandName] = {
    ("PATCH", None): "webhook_change",
    ("DELETE", None): "webhook_remove",
    ("POST", "replay"): "webhook_replay",
    ("POST", "rotate"): "webhook_rotate",
    ("POST", "test"): "webhook_test",
}
_FIXED: dict[tuple[str, str], CommandName] = {
    ("POST", "/v1/batches"): "start",
    ("POST", "/v1/batches:bulk"): "bulk",
    ("POST", "/v1/webhooks"): "webhook_add",
    ("POST", "/api/generate/batch/start"): "start",
    ("POST", "/api/generate/batch/stop"): "stop",
}


class Named(NamedTuple):
    """A command, and the batch or the webhook that its path names."""

    command: CommandName
    batch_id: str | None = None
    webhook_id: str | None = None


def command_of(method: str, path: str) -> Named | None:
    """Return what the path names, None for what is no command."""
    if (fixed := _FIXED.get((method, path))) is not None:
        return Named(fixed)
    if method == "PATCH" and (batch := _BATCH.fullmatch(path)):
        return Named("priority", batch[1])
    if method == "POST" and (found := _OF_A_BATCH.fullmatch(path)):
        word = _WORDS.get(found[2])
        return Named(word, found[1]) if word is not None else None
    if hook := _OF_A_WEBHOOK.fullmatch(path):
        word = _HOOK_WORDS.get((method, hook[2]))
        return Named(word, webhook_id=hook[1]) if word is not None else None
    return None
