"""Cut clients over two APIs, one of them killed: the short form of `bench relay`'s reconnects."""

from pathlib import Path

import pytest

from millstream.testing.nats import running_log
from millstream.testing.reconnecting import Plan, reconnect

pytestmark = [pytest.mark.fault, pytest.mark.anyio]


async def test_cut_clients_miss_nothing_and_double_nothing_over_a_killed_api(
    tmp_path: Path,
) -> None:
    """Every event once, every map the fold; the kill cut streams, and the log was read for some."""
    plan = Plan(
        seed=11,
        event_clients=8,
        state_clients=8,
        batches=9,
        samples=60,
        rate=600,
        bytes_most=50_000,
    )
    async with running_log(tmp_path) as log:
        found = await reconnect(log, tmp_path, plan)
    assert (found.lost, found.doubled, found.altered) == (0, 0, 0)
    assert (found.wrong_maps, found.doubled_updates) == (0, 0)
    assert found.broken > 0
    assert found.replayed > 100
    assert found.reconnects > 10 * (plan.event_clients + plan.state_clients)
    assert found.frames > 5_000
