"""Which command of batches a request would give, told by its method and path alone."""

import re

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
_FIXED: dict[tuple[str, str], CommandName] = {
    ("POST", "/v1/batches"): "start",
    ("POST", "/v1/batches:bulk"): "bulk",
    ("POST", "/api/generate/batch/start"): "start",
    ("POST", "/api/generate/batch/stop"): "stop",
}


def command_of(method: str, path: str) -> tuple[CommandName, str | None] | None:
    """Return the command and the batch that the path names, None for what is no such command."""
    fixed = _FIXED.get((method, path))
    if fixed is not None:
        return fixed, None
    if method == "PATCH" and (batch := _BATCH.fullmatch(path)):
        return "priority", batch[1]
    found = _OF_A_BATCH.fullmatch(path) if method == "POST" else None
    if found is None:
        return None
    name = _WORDS.get(found[2])
    return (name, found[1]) if name is not None else None
