"""The only place that reads clocks and makes ids; everything else is given them."""

import random
import secrets
import time
from datetime import UTC, datetime

_ids = random.Random(secrets.randbits(256))  # noqa: S311  # unique, not secret: one an event


def utc_now() -> datetime:
    """Return the wall clock's time in UTC; for display, never for order."""
    return datetime.now(UTC)


def boot_seconds() -> float:
    """Return seconds on a clock that counts suspend, for leases (monotonic elsewhere)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def new_id() -> str:
    """Return a random id of 32 hex characters."""
    return f"{_ids.getrandbits(128):032x}"


def new_batch_id() -> str:
    """Return ``batch_<unix seconds>_<8 hex>``."""
    return f"batch_{int(time.time())}_{secrets.token_hex(4)}"


def new_seed() -> int:
    """Return a random seed (53 bits: every reader of JSON takes it in exactly)."""
    return secrets.randbits(53)
