"""Rounds of faults: a batch runs, a seeded fault meets it, the log and the model server judge.

Each round takes one node from its slices for longer than their lease (killed or frozen), and may
beside that disturb nats-server or another node. A round whose fault met nothing proves nothing:
``is_felt`` tells.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from millstream.domain import slice as slices
from millstream.errors import LogError
from millstream.eventlog.aggregate import load_batch
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.testing.audit import BatchAudit, audit_batch
from millstream.testing.fleet import NATS, Fleet
from millstream.testing.waiting import BOUND_S

FAULTS: tuple[Literal["kill", "freeze"], ...] = ("kill", "kill", "freeze")
BESIDES = ("", "", "nats-kill", "nats-freeze", "node-freeze")
MODEL = "counting/ms-200"
"""Slow enough that all calls which may be in flight are."""
TRIES_MOST = 5


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What happens in a round, drawn from a seed.

    ``share`` of the samples has been asked for when the fault comes. ``is_alone``: one node holds
    all slices until then. ``beside`` comes ``delay_s`` after the fault (before it, at half of
    ``share``, when that is negative) and lasts ``outage_s``. ``wakes_early``: a frozen node wakes
    as soon as another has taken over, not after the batch's end.
    """

    fault: Literal["kill", "freeze"]
    share: float
    is_alone: bool
    beside: str
    delay_s: float
    outage_s: float
    wakes_early: bool
    victim: float

    @classmethod
    def draw(cls, seed: str, lease_s: float) -> "RoundPlan":
        """Return the plan that ``seed`` stands for; delays and outages go with the lease."""
        chance = random.Random(seed)  # noqa: S311  # a reproducible draw
        return cls(
            fault=chance.choice(FAULTS),
            share=chance.uniform(0.35, 0.65),
            is_alone=chance.random() < 0.3,
            beside=chance.choice(BESIDES),
            delay_s=chance.choice((-1.0, chance.uniform(0, 0.8 * lease_s))),
            outage_s=chance.uniform(0.05, 0.4) * lease_s,
            wakes_early=chance.random() < 0.5,
            victim=chance.random(),
        )

    def words(self) -> str:
        """Return the plan for a table."""
        who = "lone node" if self.is_alone else "node"
        text = f"{self.fault} {who} at {self.share:.0%}"
        if self.beside:
            when = "before" if self.delay_s < 0 else f"+{self.delay_s:.1f} s"
            text += f", {self.beside} {self.outage_s:.1f} s ({when})"
        return text


@dataclass(slots=True)
class RoundResult:
    """What became of a round.

    ``in_flight`` were the calls open at the fault; ``held`` the victim's slices then, ``taken_s``
    how long each waited for another node; ``repaid`` are the calls that arrived and that the log
    does not know; ``faults`` says in words what is wrong.
    """

    plan: RoundPlan
    batch_id: str
    victim: str
    in_flight: int = 0
    held: int = 0
    taken_s: list[float] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    repaid: int = 0
    unconfirmed: int = 0
    seconds: float = 0.0
    beside_felt: bool = True
    faults: list[str] = field(default_factory=list)

    @property
    def is_felt(self) -> bool:
        """Whether the fault met work: calls in flight, slices held, a batch that went on."""
        return self.in_flight > 0 and self.held > 0 and self.beside_felt


async def run_felt_round(
    fleet: Fleet, seed: str, *, samples: int, in_flight: int, lease_s: float
) -> RoundResult:
    """Run a round until one is felt; the sound ones before it are judged too.

    Raises:
        AssertionError: none of several was felt.
    """
    for attempt in range(TRIES_MOST):
        plan = RoundPlan.draw(f"{seed}:{attempt}", lease_s)
        result = await run_round(fleet, plan, samples=samples, in_flight=in_flight)
        if result.is_felt or result.faults:
            return result
    raise AssertionError(f"no fault of round {seed} was felt in {TRIES_MOST} tries")


async def run_round(fleet: Fleet, plan: RoundPlan, *, samples: int, in_flight: int) -> RoundResult:
    """Run one round; the fleet is whole again at its end."""
    began = boot_seconds()
    victim = await _victim(fleet, plan)
    others = [name for name in fleet.generators if name != victim]
    if plan.is_alone:
        for name in others:
            fleet.freeze(name)
        await fleet.wait_pulling(1)
    batch_id = await fleet.start_batch(samples, MODEL, concurrency=in_flight)
    result = RoundResult(plan, batch_id, victim)
    besides: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        if plan.beside and plan.delay_s < 0:
            await fleet.wait_arrived(batch_id, int(samples * plan.share / 2))
            tasks.create_task(_disturb(fleet, plan, others[0], besides))
        await fleet.wait_arrived(batch_id, int(samples * plan.share))
        result.in_flight = (await fleet.count(batch_id))[1]
        if plan.fault == "kill":
            at, successor = fleet.kill(victim), fleet.replace(victim)
        else:
            at, successor = fleet.freeze(victim), victim
        for name in others if plan.is_alone else ():
            fleet.thaw(name)
        if plan.beside and plan.delay_s >= 0:
            await asyncio.sleep(plan.delay_s)
            tasks.create_task(_disturb(fleet, plan, others[0], besides))
        if plan.fault == "freeze" and plan.wakes_early:
            await fleet.until(
                lambda: _is_taken_over(fleet, batch_id, victim), BOUND_S, "a takeover"
            )
            fleet.thaw(victim)
        await fleet.wait_final(batch_id)
    await _make_whole(fleet, batch_id, successor)
    audit = await audit_batch(fleet.nats.url, batch_id)
    _judge(result, audit, await fleet.calls(batch_id), at)
    ended_at = audit.ended_at or 0.0
    result.beside_felt = all(ended_at > end for end in besides)
    result.seconds = boot_seconds() - began
    return result


async def _victim(fleet: Fleet, plan: RoundPlan) -> str:
    """Return who is to fall; a node that is to work alone must also lead."""
    if not plan.is_alone:
        return fleet.generators[int(plan.victim * len(fleet.generators))]
    leaders: list[str] = []

    async def leads() -> bool:
        leaders.append(await fleet.leader())
        return leaders[-1] in fleet.generators

    await fleet.until(leads, BOUND_S, "a dispatcher that leads")
    return leaders[-1]


async def _disturb(fleet: Fleet, plan: RoundPlan, other: str, ends: list[float]) -> None:
    """Do what comes beside the fault, and undo it after its outage; tells when it was over."""
    name = other if plan.beside == "node-freeze" else NATS
    if plan.beside == "nats-kill":
        fleet.kill(name)
        await asyncio.sleep(plan.outage_s)
        await fleet.nats.start()
    else:
        fleet.freeze(name)
        await asyncio.sleep(plan.outage_s)
        fleet.thaw(name)
    ends.append(utc_now().timestamp())


async def _is_taken_over(fleet: Fleet, batch_id: str, victim: str) -> bool:
    """Tell whether the victim holds no slice any more in which something is left to do."""
    try:
        state = await load_batch(fleet.event_log, batch_id)
    except LogError:
        return False
    return not any(
        tail.state.node == victim and not slices.is_done(tail.state, state.slice_size(index))
        for index, tail in state.slices.items()
    )


async def _make_whole(fleet: Fleet, batch_id: str, node: str) -> None:
    """Wait for the woken node, or the new one, until nothing of the round is under way."""
    if node in fleet.frozen:
        fleet.thaw(node)
        await fleet.wait_awake(node)
    else:
        await fleet.wait_ready(node)

    async def is_quiet() -> bool:
        return (await fleet.count(batch_id))[1] == 0

    await fleet.until(is_quiet, BOUND_S, f"the end of all calls of {batch_id}")


def _judge(result: RoundResult, audit: BatchAudit, calls: list[dict[str, Any]], at: float) -> None:
    """Fill in what the log and the model server say."""
    # What the victim had sent may be stored after its end, and may even finish a slice.
    result.taken_s = sorted(audit.taken_over_s(result.victim, at).values())
    result.held = len(result.taken_s)
    result.lost = len(audit.lost())
    result.doubled = sum(count > 1 for count in audit.outcomes.values())
    result.repaid = len(calls) - audit.attempts
    result.unconfirmed = getattr(audit.state.counts, "unconfirmed_calls", 0)
    result.faults = audit.faults()
    counts = audit.state.counts
    if audit.state.state != "completed" or counts.generated != audit.state.spec.target:
        result.faults.append(f"{audit.state.state} with {counts.model_dump()}")
