"""The only place that reads clocks and makes ids; everything else is given them."""

import secrets
import time
import uuid
from datetime import UTC, datetime


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
    return uuid.uuid4().hex


def new_batch_id() -> str:
    """Return ``batch_<unix seconds>_<8 hex>``."""
    return f"batch_{int(time.time())}_{secrets.token_hex(4)}"


def new_seed() -> int:
    """Return a random seed (53 bits: every reader of JSON takes it in exactly)."""
    return secrets.randbits(53)
