"""An hour of ordinary trouble, in simulated time: no batch of it may ever be called stuck."""

import random

import pytest

from millstream.testing.mill import PROFILES, Mill
from millstream.testing.watch import Watch
from millstream_projector.heads import Known
from millstream_projector.stuck.judge import Judge

HOUR_S = 3600


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_hour_of_throttling_pauses_slow_models_and_restarts_raises_no_alarm(seed: int) -> None:
    watch = Watch(Judge(floor_s=30.0, lease_s=10.0), Known)
    mill = Mill(watch, seed)
    chance = random.Random(seed)

    def each() -> None:
        second = round(watch.tape.now.timestamp()) % HOUR_S
        if mill.live < 12 or second % 120 == 0:
            mill.begin(chance.choice(PROFILES), chance.randint(1, 80))
        mill.tick()

    assert [(alarm.batch_id, alarm.finding) for alarm in watch.run(HOUR_S, each)] == []
    ended = len(watch.scripts) - mill.live
    assert ended > 20, "the mill stood still"
    for what in ("killed", "left", "outage", "throttled", "broken", "paused", "stopped"):
        assert mill.felt.get(what), f"no batch felt {what}"
