"""Making the streams with the admin's NATS user, since no service may."""

import asyncio
import re
import sys
from collections.abc import Sequence

import structlog

from millstream.errors import LogError, LogRefusedError, MillstreamError, UsageError
from millstream.eventlog.connection import connected
from millstream.eventlog.topology import make_topology
from millstream.runtime.clock import boot_seconds
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings, load_settings

log = structlog.get_logger()

AGAIN_S = 0.5
CONNECT_S = 10.0
_POOL = re.compile(r"[a-z0-9-]{1,32}")


def run_init(*, pools: Sequence[str], wait_s: float) -> int:
    """Make the topology; 0 when it stands, 1 when it could not be made, 2 for a wrong option."""
    try:
        settings = load_settings()
        chosen = tuple(dict.fromkeys(pools)) or (settings.pool,)
        for pool in chosen:
            _check_pool(pool)
        configure_logs(settings, "admin")
        asyncio.run(_init(settings, chosen, wait_s))
    except MillstreamError as error:
        sys.stderr.write(f"millstream admin init: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    sys.stdout.write(
        f"The streams and buckets stand ({settings.replicas} replicas), and the consumers of "
        f"{', '.join(chosen)}.\n"
    )
    return 0


def _check_pool(pool: str) -> None:
    if not _POOL.fullmatch(pool):
        raise UsageError(
            f"--pool {pool!r} is no name of a pool; take 1 to 32 of a-z, 0-9 and -",
            field="pool",
            value=pool,
        )


async def _init(settings: Settings, pools: Sequence[str], wait_s: float) -> None:
    """Try until a cluster that is just starting has its leaders, or ``wait_s`` is over."""
    deadline = boot_seconds() + wait_s
    while True:
        left_s = max(deadline - boot_seconds(), AGAIN_S)
        try:
            async with connected(settings, "admin", bound_s=min(left_s, CONNECT_S)) as connection:
                await make_topology(connection, settings, pools)
        except LogError as error:  # servers that have not found each other yet refuse replicas
            if isinstance(error, LogRefusedError) or boot_seconds() > deadline:
                raise
            log.warning("topology.postponed", reason=str(error))
            await asyncio.sleep(AGAIN_S)
        else:
            return
