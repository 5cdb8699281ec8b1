"""The hash chain: every bit of every event counts, and nothing else does."""

import base64
import hashlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millstream.eventlog.chain import (
    GENESIS,
    RECENT,
    ChainState,
    RecentRoots,
    extend,
    link,
)
from millstream.eventlog.connection import Headers
from millstream.eventlog.stored import (
    IMPORTED,
    Stored,
    from_headers,
    imported_header,
    stored_message,
)

FENCE = b"Nats-Expected-Last-Subject-Sequence: 12"

logs = st.lists(
    st.tuples(
        st.integers(0, 2**50),
        st.text(min_size=1, max_size=8),
        st.binary(max_size=20),
        st.binary(max_size=40),
    ),
    min_size=2,
    max_size=12,
).map(
    lambda rows: [
        Stored(sequence, time_us, subject, payload, headers)
        for sequence, (time_us, subject, headers, payload) in enumerate(rows, start=1)
    ]
)


def example(sequence: int = 7) -> Stored:
    time_us = 1_767_225_600_123_456
    return Stored(sequence, time_us, "mill.events.b.control", b'{"type":"x"}', FENCE)


def root_of(items: list[Stored]) -> bytes:
    return extend(ChainState(), items).root


def test_a_root_is_the_hash_that_the_documentation_says() -> None:
    before = bytes(range(32))
    written = (
        before
        + (7).to_bytes(8, "big")
        + (1_767_225_600_123_456).to_bytes(8, "big", signed=True)
        + len(b"mill.events.b.control").to_bytes(4, "big")
        + len(FENCE).to_bytes(4, "big")
        + b"mill.events.b.control"
        + FENCE
        + hashlib.sha256(b'{"type":"x"}').digest()
    )
    assert link(before, example()) == hashlib.sha256(written).digest()
    assert root_of([]) == GENESIS == bytes(32)


def test_the_root_of_a_known_log_never_changes() -> None:
    root = root_of([example(1), example(2)]).hex()
    assert root == "7fbb24022ef0417429aee517447668a4322fbf2086ca257ec9ee2b80fadf8719"


def flipped(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@given(logs, st.randoms(use_true_random=False))
def test_any_changed_bit_changes_the_root(log: list[Stored], chance: Random) -> None:
    place = chance.randrange(len(log))
    stored = log[place]
    changes = [
        replace(stored, sequence=stored.sequence ^ 1 << chance.randrange(40)),
        replace(stored, time_us=stored.time_us + 1),
        replace(stored, subject=stored.subject + "x"),
    ]
    if stored.headers:
        changes.append(replace(stored, headers=flipped(stored.headers, chance)))
    if stored.payload:
        changes.append(replace(stored, payload=flipped(stored.payload, chance)))
    for changed in changes:
        assert root_of([*log[:place], changed, *log[place + 1 :]]) != root_of(log)


@given(logs, st.data())
def test_removed_inserted_and_swapped_events_change_the_root(
    log: list[Stored], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(log) - 1))
    other = data.draw(st.integers(0, len(log) - 1).filter(lambda index: index != place))
    swapped = list(log)
    swapped[place], swapped[other] = swapped[other], swapped[place]
    # Whoever swaps two events in a store leaves the sequences where they are.
    renumbered = [
        replace(stored, sequence=number) for number, stored in enumerate(swapped, start=1)
    ]
    bare = [replace(stored, sequence=0) for stored in (log[place], log[other])]
    root = root_of(log)
    assert root_of([*log[:place], *log[place + 1 :]]) != root
    assert root_of([*log[:place], example(place + 1), *log[place:]]) != root
    assert root_of(swapped) != root
    assert (root_of(renumbered) != root) == (bare[0] != bare[1])


@given(logs, st.data())
def test_the_root_does_not_depend_on_how_the_log_is_cut(
    log: list[Stored], data: st.DataObject
) -> None:
    state, recent, remembered = ChainState(), RecentRoots(), ChainState()
    rest = log
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        state = extend(state, rest[:size])
        remembered = recent.extend(remembered, rest[:size])
        rest = rest[size:]
    assert state == remembered == extend(ChainState(), log)
    for length in range(1, len(log) + 1):
        assert recent.get(length) == root_of(log[:length])


@settings(max_examples=20)
@given(st.binary(max_size=5), st.binary(max_size=5))
def test_bytes_that_move_from_one_field_to_the_next_change_the_root(
    first: bytes, second: bytes
) -> None:
    subject, headers = "a" + first.hex(), second.hex().encode() + b"x"
    moved = replace(example(), subject=subject + headers.decode(), headers=b"")
    assert link(GENESIS, replace(example(), subject=subject, headers=headers)) != link(
        GENESIS, moved
    )


def test_only_the_last_roots_are_remembered() -> None:
    recent = RecentRoots()
    state = recent.extend(ChainState(), [example(sequence) for sequence in range(1, RECENT + 11)])
    assert recent.get(10) is None
    assert recent.get(11) is not None
    assert recent.get(RECENT + 10) == state.root
    assert recent.get(RECENT + 11) is None
    assert recent.get(0) is None


def test_the_lines_that_the_server_adds_are_not_the_events_own() -> None:
    added = (
        b"Nats-Stream: S\r\nNats-Subject: mill.events.b.control\r\nNats-Sequence: 7\r\n"
        b"Nats-Time-Stamp: 2026-01-01T00:00:00.123456Z\r\n\r\n"
    )
    for own in (b"", FENCE):
        raw = own + b"\r\n" + added if own else added
        assert from_headers(Headers(raw), b'{"type":"x"}') == replace(example(), headers=own)


def test_headers_are_read_as_they_stand_and_keep_their_bytes() -> None:
    raw = b"A: 1\r\nB:two: three \r\nno name\r\nA: 4\r\nC: \xff\r\n\r\n"
    headers = Headers(raw)
    assert headers
    assert headers.raw == raw
    assert dict(headers) == {"A": "4", "B": "two: three", "C": "\ufffd"}
    assert (headers.get("B"), headers.get("D"), "A" in headers, len(headers)) == (
        "two: three",
        None,
        True,
        3,
    )
    assert not Headers(b"")


def test_an_imported_event_is_read_as_what_it_was() -> None:
    line = f"{IMPORTED}: {imported_header(example())}".encode()
    raw = b"Nats-Batch-Id: 1\r\n" + line + b"\r\n\r\n"
    later = 30_000 * 86_400_000_000
    assert stored_message(7, later, example().subject, example().payload, raw) == example()


def test_an_import_header_that_nobody_wrote_is_left_as_it_is() -> None:
    too_late = f"{10**30} {base64.b64encode(b'x').decode()}"
    for value in ("", "12", "x eHg=", "1 $$$", too_late):
        raw = f"{IMPORTED}: {value}".encode()
        stored = stored_message(7, example().time_us, "s", b"", raw + b"\r\n\r\n")
        if value == "12":  # a time alone: headers were empty
            assert stored.headers == b""
        else:
            assert stored.headers == raw
            assert stored.stored_at == example().stored_at
