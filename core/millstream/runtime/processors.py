"""How much of the machine this process may use."""

import os
from pathlib import Path


def processors() -> int:
    """Return how many threads or processes can run at once: the processors it may use."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    # A container's share of time isn't in the affinity; more threads than that only wait.
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text(encoding="ascii").split()
        if limit != "max":
            allowed = min(allowed, max(1, round(int(limit) / int(period))))
    return allowed
