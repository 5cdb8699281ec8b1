"""Whether clients that are cut off at random, over two APIs of which one is killed, miss anything.

Two API processes and a projector on one nats-server; every client cuts itself off after a random
number of bytes and comes back to either API. In mid-run one API is killed and started again.
"""

import tempfile
from pathlib import Path

from bench.measure import Metric
from millstream.testing.nats import running_log
from millstream.testing.reconnecting import Plan, reconnect

RECONNECTS_LEAST = 1_000
FRAMES_LEAST = 100_000
NONE_OF = ("lost", "doubled", "altered", "wrong_maps", "doubled_updates")
FELT = ("broken", "replayed")


async def measure(seed: int) -> dict[str, Metric]:
    """Return what was lost and doubled, and how often the clients came back."""
    plan = Plan(
        seed=seed,
        event_clients=20,
        state_clients=20,
        batches=30,
        samples=150,
        rate=400,
        bytes_most=150_000,
    )
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        async with running_log(Path(directory)) as log:
            verdict = await reconnect(log, Path(directory), plan)
    return {
        "reconnects": Metric(verdict.reconnects, "connections"),
        "lossless_frames": Metric(verdict.frames, "frames"),
        **{name: Metric(getattr(verdict, name), "") for name in (*NONE_OF, *FELT)},
    }


def missed(metrics: dict[str, Metric]) -> list[str]:
    """Say which marks the figures miss."""
    found = [
        f"{name} is {metrics[name].value:.0f}, more than 0"
        for name in NONE_OF
        if metrics[name].value
    ]
    least = {
        "reconnects": RECONNECTS_LEAST,
        "lossless_frames": FRAMES_LEAST,
        **dict.fromkeys(FELT, 1),
    }
    return found + [
        f"{name} is {metrics[name].value:.0f}, less than {bound:,}"
        for name, bound in least.items()
        if metrics[name].value < bound
    ]
