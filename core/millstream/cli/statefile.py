"""``up.json`` in the data directory: where each process of a running `up` is to be found."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import psutil

STATE_FILE = "up.json"
LEFTOVER_LIMIT_S = 5.0


def write_state(directory: Path, document: dict[str, Any]) -> None:
    """Replace the state file; a reader sees the old document or the new one, whole."""
    path = directory / STATE_FILE
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_state(directory: Path) -> dict[str, Any] | None:
    """Return the state file's document, or None when there is none (or half of one)."""
    with contextlib.suppress(OSError, ValueError):
        document = json.loads((directory / STATE_FILE).read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else None
    return None


def remove_state(directory: Path) -> None:
    """Remove the state file: nothing runs any more."""
    (directory / STATE_FILE).unlink(missing_ok=True)


def process_entry(pid: int, **more: object) -> dict[str, Any]:
    """Return what the state file says of a process: its id and, against reuse, its birth."""
    try:
        born = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        born = 0.0
    return {"pid": pid, "born": born, **more}


def is_running(state: dict[str, Any] | None) -> bool:
    """Tell whether the `up` that wrote ``state`` still runs."""
    return state is not None and _living(state) is not None


def await_leftovers(directory: Path, *, limit_s: float = LEFTOVER_LIMIT_S) -> None:
    """Wait until no process of an earlier `up` lives, and kill what outlasts the limit.

    The guard has killed them already; but a store must not be opened while its last owner is
    still on its way out. Call it with the directory's lock held.
    """
    entries = ((read_state(directory) or {}).get("processes") or {}).values()
    left = [process for entry in entries if (process := _living(entry)) is not None]
    _, alive = psutil.wait_procs(left, timeout=limit_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=LEFTOVER_LIMIT_S)


def _living(entry: dict[str, Any]) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error, KeyError, TypeError, ValueError):
        process = psutil.Process(int(entry["pid"]))
        if abs(process.create_time() - float(entry["born"])) < 0.01:
            return process
    return None
