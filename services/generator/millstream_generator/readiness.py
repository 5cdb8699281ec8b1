"""The ready file: how a model server tells its starter where it listens."""

import json
import os
import tempfile
from pathlib import Path


def write_ready_file(path: Path, url: str) -> None:
    """Write ``{"url": ..., "pid": ...}`` of this process; a reader sees all of it or nothing.

    Raises:
        OSError: the folder doesn't exist or can't be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"url": url, "pid": os.getpid()}, file)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
