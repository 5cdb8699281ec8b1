"""From a durable stop to the last call that arrives at the model, and to the batch's last event.

Healthy nodes, and every kind of trouble: deaf nodes, a model that takes 30 s or fails, a frozen
node, all nodes dead, a batch of a million.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass, field

from bench.measure import Metric, percentile, report
from millstream.testing.audit import audit_batch
from millstream.testing.fleet import FAILING, FAILING_MOST, Fleet
from millstream_schemas import subjects

IN_FLIGHT = 64
QUIET_LIMIT_S = 60.0
NO_NEW_CALL_MOST_MS = 250.0
NO_NEW_CALL_DEAF_MOST_MS = 1200.0
TERMINAL_MOST_MS = 500.0
TERMINAL_FAULTY_MOST_MS = 5000.0


@dataclass(frozen=True)
class Case:
    """What is wrong while a batch is stopped; it runs once ``arrived`` calls were seen.

    Frozen nodes wake ``frozen_s`` after the batch's end.
    """

    name: str
    model: str = "ms-50"
    target: int = 20_000
    in_flight: int = IN_FLIGHT
    arrived: int = 200
    frozen: int = 0
    frozen_s: float = 0.0
    killed: int = 0


HEALTHY = Case("healthy")
FAULTY = (
    Case("30 s model", model="ms-30000", arrived=IN_FLIGHT),
    Case("model fails: 500", model="error-500-after-64", arrived=69),
    Case("model fails: 429", model="error-429", arrived=1),
    Case("one node frozen", frozen=1),
    Case("one frozen for 4 s", frozen=1, frozen_s=4.0),
    Case("all nodes frozen", frozen=2, frozen_s=4.0),
    Case("all nodes dead", killed=2),
    Case("a million", target=1_000_000, in_flight=256, arrived=4000),
)
DEAF = Case("live signal lost")


@dataclass
class Trial:
    """One stop: milliseconds from the durable request to the last call and to the last event.

    ``in_flight`` calls were open just before; ``calls_after`` came later than allowed.
    """

    case: Case
    batch_id: str
    in_flight: int
    last_call_ms: float = 0.0
    terminal_ms: float = 0.0
    calls_after: int = 0
    late: int = 0
    faults: list[str] = field(default_factory=list)


async def run_trial(fleet: Fleet, case: Case, number: int) -> Trial:
    """Run a batch, stop it, and make the fleet whole again.

    A model that fails has a route for each ``number``: the last trial's may still be blocked.
    """
    name = f"{case.model}.{number}" if case.model in FAILING else case.model
    model = f"counting/{name}"
    batch_id = await fleet.start_batch(case.target, model, concurrency=case.in_flight)
    await fleet.wait_arrived(batch_id, case.arrived)
    in_flight = 0

    async def is_calling() -> bool:
        nonlocal in_flight
        in_flight = (await fleet.count(batch_id))[1]
        return in_flight > 0

    if case.model.startswith("ms-"):
        await fleet.until(is_calling, QUIET_LIMIT_S, "an open call")
    frozen = fleet.generators[: case.frozen]
    killed = fleet.generators[: case.killed]
    for name in frozen:
        fleet.freeze(name)
    for name in killed:
        fleet.kill(name)
    await fleet.stop_batch(batch_id)
    await fleet.wait_final(batch_id)
    await asyncio.sleep(case.frozen_s)
    for name in frozen:
        fleet.thaw(name)
    for name in frozen:
        await fleet.wait_awake(name)
    successors = [fleet.replace(name) for name in killed]
    for name in successors:
        await fleet.wait_ready(name)

    async def is_quiet() -> bool:
        return not await has_open_calls(fleet, batch_id)

    await fleet.until(is_quiet, QUIET_LIMIT_S, f"the end of all calls of {batch_id}")
    return await judged(fleet, Trial(case, batch_id, in_flight))


async def has_open_calls(fleet: Fleet, batch_id: str) -> bool:
    """Tell whether the model server has calls of the batch in flight."""
    return (await fleet.count(batch_id))[1] > 0


async def judged(fleet: Fleet, trial: Trial) -> Trial:
    """Fill in what the log and the model server say now."""
    audit = await audit_batch(fleet.nats.url, trial.batch_id)
    calls = await fleet.calls(trial.batch_id)
    requested, ended = audit.stop_requested_at, audit.ended_at
    trial.faults = audit.faults()
    trial.late = audit.late
    if requested is None or ended is None or audit.state.state != "stopped":
        trial.faults.append(f"{audit.state.state}, not stopped: {audit.state.error}")
        return trial
    came_ms = [(call["arrived_at"] - requested) * 1000 for call in calls]
    trial.last_call_ms = max(0.0, *came_ms)
    trial.calls_after = sum(came > NO_NEW_CALL_MOST_MS for came in came_ms)
    trial.terminal_ms = (ended - requested) * 1000
    counts = audit.state.counts
    made = counts.generated + counts.failed + counts.abandoned + counts.pending
    if made != audit.state.spec.target:
        trial.faults.append(f"the counts add up to {made}")
    return trial


async def run_cases(cases: dict[Case, int], deaf_to: tuple[str, ...] = ()) -> list[Trial]:
    """Run each case's trials on one fleet; judge all once more at the end, late writes and all."""
    trials: list[Trial] = []
    async with Fleet(2, deaf_to=deaf_to) as fleet:
        await run_trial(fleet, HEALTHY, 0)  # the first calls of a process pay for its imports
        for case, count in cases.items():
            made = [await run_trial(fleet, case, number) for number in range(1, count + 1)]
            show(case, made)
            trials += made
        if len(fleet.swallowed) < len(deaf_to):
            sys.exit(f"the nodes were not deaf to {deaf_to}: no measurement")
        return [await judged(fleet, trial) for trial in trials]


def show(case: Case, trials: list[Trial]) -> None:
    """Print one line of the table."""
    last = [trial.last_call_ms for trial in trials]
    terminal = [trial.terminal_ms for trial in trials]
    faults = [fault for trial in trials for fault in trial.faults]
    print(
        f"{case.name:20} {len(trials):3} trials  last call ms p50 {percentile(last, 0.5):6.1f} "
        f"max {max(last):6.1f}  terminal ms p50 {percentile(terminal, 0.5):6.1f} "
        f"max {max(terminal):6.1f}  in flight {min(trial.in_flight for trial in trials):3}.."
        f"{max(trial.in_flight for trial in trials):<3}  calls after 250 ms "
        f"{sum(trial.calls_after for trial in trials)}  "
        f"late {sum(trial.late for trial in trials)} {faults or ''}",
        flush=True,
    )


def broken(healthy: list[Trial], faulty: list[Trial], deaf: list[Trial]) -> list[str]:
    """Return the promises that do not hold, in words."""
    found = [fault for trial in (*healthy, *faulty, *deaf) for fault in trial.faults]
    if not all(trial.in_flight for trial in (*healthy, *deaf)):
        found.append("a stop found no call in flight: no measurement")
    bounds = (
        ("last call, healthy", p99([one.last_call_ms for one in healthy]), NO_NEW_CALL_MOST_MS),
        ("last call, deaf", max(one.last_call_ms for one in deaf), NO_NEW_CALL_DEAF_MOST_MS),
        ("last event, healthy", p99([one.terminal_ms for one in healthy]), TERMINAL_MOST_MS),
        (
            "last event, in trouble",
            max(one.terminal_ms for one in (*faulty, *deaf)),
            TERMINAL_FAULTY_MOST_MS,
        ),
    )
    return found + [
        f"{what}: {value:.0f} ms, more than {most:.0f}"
        for what, value, most in bounds
        if value > most
    ]


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return percentile(values, 0.99)


def main() -> None:
    """Run all cases and report; ends with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help="one of the troubles alone, by a part of its name")
    parser.add_argument("--trials", type=int, default=40, help="healthy stops; a tenth per trouble")
    options = parser.parse_args()
    few = min(max(1, options.trials // 10), FAILING_MOST - 1)
    if options.case is not None:
        chosen = [case for case in (HEALTHY, *FAULTY) if options.case in case.name]
        if not chosen:
            parser.error(f"--case {options.case!r}: in none of {[case.name for case in FAULTY]}")
        asyncio.run(run_cases(dict.fromkeys(chosen, few)))
        return
    mixed = asyncio.run(run_cases({HEALTHY: options.trials, **dict.fromkeys(FAULTY, few)}))
    deafness = (subjects.ALL_STOPS, subjects.LIVE_CONTROL)
    deaf = asyncio.run(run_cases({DEAF: options.trials // 2}, deafness))
    healthy = [trial for trial in mixed if trial.case == HEALTHY]
    faulty = [trial for trial in mixed if trial.case != HEALTHY]
    report(
        "stop",
        {
            "no_new_call_ms_p99": Metric(p99([one.last_call_ms for one in healthy]), "ms"),
            "no_new_call_ms_max_deaf": Metric(max(one.last_call_ms for one in deaf), "ms"),
            "no_new_call_ms_max_faulty": Metric(max(one.last_call_ms for one in faulty), "ms"),
            "terminal_ms_p99_healthy": Metric(p99([one.terminal_ms for one in healthy]), "ms"),
            "terminal_ms_max_faulty": Metric(
                max(one.terminal_ms for one in (*faulty, *deaf)), "ms"
            ),
            "late_samples": Metric(sum(one.late for one in (*mixed, *deaf)), "samples"),
            "trials": Metric(len(mixed) + len(deaf), ""),
        },
    )
    faults = broken(healthy, faulty, deaf)
    if faults:
        sys.exit("\n".join(["a promise was broken:", *faults[:20]]))


if __name__ == "__main__":
    main()
