"""A node falls in mid-batch, again and again: what is lost, doubled, paid twice, and how long."""

import argparse
import asyncio
import sys

from bench.measure import Metric, median, percentile, report
from millstream.testing.audit import audit_batch
from millstream.testing.fault_rounds import RoundResult, run_felt_round
from millstream.testing.fleet import Fleet

IN_FLIGHT = 64
TAKEOVER_MOST_S = 20.0
REPAID_MOST = 80


async def run(options: argparse.Namespace) -> list[RoundResult]:
    """Run all rounds on one fleet, then judge every batch once more at the very end."""
    results: list[RoundResult] = []
    async with Fleet(options.generators, lease_s=f"{options.lease:g}") as fleet:
        await warm(fleet)
        for number in range(options.first, options.first + options.rounds):
            result = await run_felt_round(
                fleet,
                f"{options.seed}:{number}",
                samples=options.samples,
                in_flight=IN_FLIGHT,
                lease_s=options.lease,
            )
            results.append(result)
            show(number, result)
        for result in results:
            again = await audit_batch(fleet.nats.url, result.batch_id)
            result.faults += [f"at the end: {fault}" for fault in again.faults()]
    return results


async def warm(fleet: Fleet) -> None:
    """Let every node make its first calls: the imports of the first are nobody's outage."""
    batch_id = await fleet.start_batch(500, concurrency=IN_FLIGHT)
    await fleet.wait_final(batch_id)


def show(number: int, result: RoundResult) -> None:
    """Print one line of the table."""
    taken = f"{result.taken_s[0]:5.1f} {result.taken_s[-1]:5.1f}" if result.taken_s else "-"
    print(
        f"{number:3} {result.plan.words():55} in flight {result.in_flight:3} "
        f"slices {result.held:2} taken over {taken} s  lost {result.lost} twice {result.doubled} "
        f"repaid {result.repaid:3} (told {result.unconfirmed:3}) in {result.seconds:4.1f} s"
        f"{' '.join(['', *result.faults])}",
        flush=True,
    )


def main() -> None:
    """Run the rounds and report; ends with 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--generators", type=int, default=2)
    parser.add_argument("--lease", type=float, default=10.0, help="seconds")
    options = parser.parse_args()
    results = asyncio.run(run(options))
    takeovers = [result.taken_s[-1] for result in results]
    repaid = [result.repaid for result in results]
    report(
        "failover",
        {
            "lost": Metric(sum(result.lost for result in results), "samples"),
            "doubled": Metric(sum(result.doubled for result in results), "samples"),
            "repaid_calls": Metric(max(repaid), "calls"),
            "repaid_calls_p50": Metric(median(repaid), "calls"),
            "untold_calls": Metric(
                max(0, *(result.repaid - result.unconfirmed for result in results)), "calls"
            ),
            "takeover_s_max": Metric(max(takeovers), "s"),
            "takeover_s_p50": Metric(percentile(takeovers, 0.5), "s"),
            "rounds": Metric(len(results), ""),
        },
    )
    broken = [
        result.batch_id
        for result in results
        if result.faults
        or result.lost
        or result.repaid > REPAID_MOST
        or result.taken_s[-1] > TAKEOVER_MOST_S
    ]
    if broken:
        sys.exit(f"{len(broken)} rounds broke a promise: {', '.join(broken[:10])}")


if __name__ == "__main__":
    main()
