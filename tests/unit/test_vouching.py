"""Comparing a log with its checkpoints: every change is found, and nothing else is blamed."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import pytest
from msgspec.structs import replace

from millstream.eventlog.chain import GENESIS, ChainState, extend
from millstream.eventlog.stored import Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_projector.audit.vouching import Source, Voucher
from millstream_schemas.audit import ChainReport, Checkpoint

STREAM = "2026-01-01T00:00:00Z"
Tamper = Callable[[list[Stored], Random], list[Stored]]


@pytest.fixture(scope="module")
def log() -> list[Stored]:
    script = Script(spec=example_spec(100))
    return script.run().tape.stored


def sealed(log: list[Stored], every: int = 30) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    state = ChainState()
    for start in range(0, len(log), every):
        before = state
        state = extend(state, log[start : start + every])
        found.append(
            Checkpoint(
                stream=STREAM,
                from_sequence=before.sequence + 1,
                to_sequence=state.sequence,
                events=state.events,
                root=state.root.hex(),
                previous_root=before.root.hex(),
                node="a",
                sealed_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        )
    return found


def vouched(
    log: list[Stored], checkpoints: list[Checkpoint], *, until: int | None = None, **more: bool
) -> tuple[ChainReport, Voucher]:
    voucher = Voucher([Source("file", checkpoints, **more)], stream=STREAM)
    for start in range(0, len(log), 17):
        voucher.take(log[start : start + 17])
    (report,) = voucher.finish(until or (log[-1].sequence if log else 0))
    return report, voucher


def flip(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def change_a_bit(log: list[Stored], chance: Random) -> list[Stored]:
    place = chance.randrange(len(log))
    stored = log[place]
    return [*log[:place], replace(stored, payload=flip(stored.payload, chance)), *log[place + 1 :]]


def remove_one(log: list[Stored], chance: Random) -> list[Stored]:
    place = chance.randrange(len(log))
    return log[:place] + log[place + 1 :]


def remove_one_and_renumber(log: list[Stored], chance: Random) -> list[Stored]:
    return renumbered(remove_one(log, chance))


def insert_one(log: list[Stored], chance: Random) -> list[Stored]:
    place = chance.randrange(len(log))
    return renumbered([*log[:place], chance.choice(log), *log[place:]])


def swap_two(log: list[Stored], chance: Random) -> list[Stored]:
    one, other = sorted(chance.sample(range(len(log)), 2))
    changed = list(log)
    changed[one], changed[other] = changed[other], changed[one]
    return renumbered(changed)


def renumbered(log: list[Stored]) -> list[Stored]:
    return [replace(stored, sequence=number) for number, stored in enumerate(log, start=1)]


def test_a_sound_log_agrees_with_every_checkpoint(log: list[Stored]) -> None:
    checkpoints = sealed(log)
    report, voucher = vouched(log, checkpoints)
    assert report.faults == ()
    assert (report.compared, report.agreed) == (len(checkpoints), len(checkpoints))
    assert report.agreed_to == len(log) == voucher.chain.sequence
    assert voucher.gap_count == 0


@pytest.mark.parametrize(
    "tamper", [change_a_bit, remove_one, remove_one_and_renumber, insert_one, swap_two]
)
def test_tampering_is_found_a_hundred_times_of_a_hundred(log: list[Stored], tamper: Tamper) -> None:
    checkpoints = sealed(log)
    found = 0
    for seed in range(100):
        report, voucher = vouched(tamper(log, Random(seed)), checkpoints, until=len(log))
        found += bool(report.faults or voucher.gap_count)
    assert found == 100


def test_a_fault_tells_between_which_checkpoints_it_lies(log: list[Stored]) -> None:
    changed = [*log[:69], replace(log[69], payload=b"{}"), *log[70:]]
    report, _ = vouched(changed, sealed(log))
    assert report.agreed_to == 60
    assert "the root at 90" in report.faults[0]
    assert "an event after 60 was changed" in report.faults[0]


def test_a_log_that_was_cut_off_is_found(log: list[Stored]) -> None:
    report, voucher = vouched(log[:50], sealed(log))
    assert report.agreed_to == 30
    assert report.ahead == len(sealed(log)) - 1
    assert "its end was cut off" in report.faults[0]
    assert voucher.gap_count == 0


def test_a_missing_event_at_a_checkpoint_is_found(log: list[Stored]) -> None:
    report, voucher = vouched(log[:29] + log[30:], sealed(log))
    assert report.faults[0] == "event 30, which a checkpoint ends with, is missing"
    assert voucher.gaps == ["30"]


def test_a_missing_end_is_a_gap(log: list[Stored]) -> None:
    _, voucher = vouched(log[:-2], [], until=len(log))
    assert voucher.gaps == [f"{len(log) - 1} to {len(log)}"]


def test_a_checkpoint_that_was_taken_out_is_missed(log: list[Stored]) -> None:
    checkpoints = sealed(log)
    del checkpoints[1]
    report, _ = vouched(log, checkpoints)
    assert "the checkpoint at 90 does not follow the one at 30" in report.faults[0]


def test_checkpoints_of_another_stream_count_only_when_they_were_named(log: list[Stored]) -> None:
    foreign = [one.model_copy(update={"stream": "another"}) for one in sealed(log)]
    report, _ = vouched(log, foreign)
    assert (report.compared, report.foreign, report.faults) == (0, len(foreign), ())
    report, _ = vouched(log, foreign, is_binding=True)
    assert (report.compared, report.agreed) == (len(foreign), len(foreign))
    broken = [foreign[0].model_copy(update={"root": GENESIS.hex()}), *foreign[1:]]
    report, _ = vouched(log, broken, is_binding=True)
    assert report.faults
