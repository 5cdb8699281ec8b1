"""Seeded rounds of kills and freezes: the short form of ``bench failover``."""

import pytest

from millstream.testing.fault_rounds import run_felt_round
from millstream.testing.fleet import Fleet

pytestmark = [pytest.mark.fault, pytest.mark.anyio, pytest.mark.timeout(600)]

LEASE_S = 2.0
SAMPLES = 300
IN_FLIGHT = 32
SEEDS = ("c", "e", "g")
TAKEOVER_MOST_S = 60.0


async def test_whatever_falls_in_mid_batch_no_sample_is_lost_or_made_twice() -> None:
    """The fault was felt in each round; another node took over by itself; few calls are repaid."""
    async with Fleet(2, lease_s=f"{LEASE_S:g}") as fleet:
        for seed in SEEDS:
            result = await run_felt_round(
                fleet, seed, samples=SAMPLES, in_flight=IN_FLIGHT, lease_s=LEASE_S
            )
            assert result.is_felt
            assert result.faults == [], result.plan.words()
            assert (result.lost, result.doubled) == (0, 0), result.plan.words()
            # At most what was in flight on the node, and what it had not stored yet.
            assert result.repaid <= 2 * IN_FLIGHT, result.plan.words()
            assert result.taken_s[-1] <= TAKEOVER_MOST_S, result.plan.words()
