"""The read model's file: whatever comes in, whoever opens it, whatever became of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from millstream.domain.recorded import microseconds
from millstream.eventlog.stored import Decoder, Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_projector import store as store_module
from millstream_projector.opening import FILE, ForeignStoreError, StoreLockedError, open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_schemas.notes import StuckFinding
from millstream_schemas.views import FINAL_STATES

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9
FINDING = StuckFinding(
    rule="no_progress", since=Tape().now, idle_s=31, threshold_s=30, cause="nothing came"
)


def opened(path: Path, **fields: Any) -> Store:
    return open_store(path, **{"stream": STREAM, "last_sequence": FAR, **fields})


def rows(store: Store, sql: str) -> list[Any]:
    reader = store.reader()
    try:
        return reader.execute(sql).fetchall()
    finally:
        reader.close()


@pytest.fixture
def script() -> Script:
    return Script(spec=example_spec(6, slice_size=4)).run(failed=[2])


def test_any_chunking_gives_the_same_tables(tmp_path: Path, script: Script) -> None:
    stored = script.tape.stored
    tables: list[list[Any]] = []
    for size in (1, 3, len(stored)):
        store = opened(tmp_path / str(size))
        projection = Projection(store)
        for start in range(0, len(stored), size):
            projection.advance(stored[start : start + size])
        tables.append(
            [
                rows(store, f"SELECT * FROM {table} ORDER BY seq")  # noqa: S608  # names of ours
                for table in ("batches", "samples", "attempts", "events")
            ]
        )
        store.close()
    assert tables[0] == tables[1] == tables[2]


def test_an_ended_batch_leaves_the_memory_and_late_outcomes_stay_out_of_the_dataset(
    tmp_path: Path, script: Script
) -> None:
    store = opened(tmp_path)
    projection = Projection(store)
    projection.advance(script.tape.stored)
    assert script.state.state in FINAL_STATES
    assert not projection.snapshot.live
    before = rows(store, "SELECT count(*) FROM samples")
    late = script.generate(2)
    projection.advance(script.tape.stored)
    loaded = store.load(script.batch_id)
    assert loaded is not None
    assert loaded.state == script.state
    assert rows(store, "SELECT count(*) FROM samples") == before
    assert (late.sequence, "uncounted") in rows(store, "SELECT seq, kind FROM attempts")
    store.close()


def test_what_is_in_the_way_again_and_again_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stands in the way of the file, and an event that is read again."""
    monkeypatch.setattr(store_module, "IDLE_CHECKPOINT_BYTES", 0)
    store, decoder = opened(tmp_path), Decoder()
    unknown = Stored(1, 0, "mill.events.x.note", b'{"type": "batch.danced.v1"}', b"")
    with capture_logs() as logs:
        monkeypatch.setattr(store_module, "has_room", lambda *_: False)
        assert [store.tidy(idle=True) for _ in range(3)] == [False] * 3
        assert [decoder(unknown) for _ in range(3)] == [None] * 3
        monkeypatch.undo()
        monkeypatch.setattr(store_module, "IDLE_CHECKPOINT_BYTES", 0)
        assert store.tidy(idle=True)
        monkeypatch.setattr(store_module, "has_room", lambda *_: False)
        assert not store.tidy(idle=True)
    store.close()
    told = [entry["event"] for entry in logs]
    assert told == ["checkpoint.postponed", "event.unknown", "checkpoint.postponed"]
    assert decoder.unknown == 3


def test_unreadable_events_are_counted_and_passed_over(tmp_path: Path) -> None:
    store = opened(tmp_path)
    projection = Projection(store)
    payloads = [b"{", b'{"type": "batch.dreamt.v9"}']
    at = microseconds(Tape().now)
    projection.advance([Stored(n, at, "x", payload) for n, payload in enumerate(payloads, 1)])
    assert store.checkpoint == 2
    assert (projection.decode.malformed, projection.decode.unknown) == (1, 1)
    store.close()


@pytest.mark.parametrize(
    "text", ["NUL \x00 in it", 'quotes " and \\ and \n', "\U0001f600", "lone \ud83d surrogate"]
)
def test_whatever_a_model_answers_is_stored(tmp_path: Path, text: str) -> None:
    script = Script()
    script.start()
    script.claim(0)
    script.generate(0)
    script.tape.entries.pop()
    wanted = script.tape.stored
    document = Script(spec=script.spec)
    document.start()
    document.claim(0)
    document.generate(0, {"question": "placeholder", "number": 2**70})
    last = document.tape.stored[-1]
    escaped = "".join(f"\\u{ord(sign):04x}" if ord(sign) < 2**16 else sign for sign in text)
    payload = last.payload.replace(b"placeholder", escaped.encode())
    store = opened(tmp_path)
    Projection(store).advance([*wanted, Stored(last.sequence, last.time_us, last.subject, payload)])
    ((content,),) = rows(store, "SELECT json_extract_string(content, '$.question') FROM samples")
    assert content == text.replace("\ud83d", "?")
    store.close()


def test_a_second_process_is_refused_in_words(tmp_path: Path) -> None:
    store = opened(tmp_path)
    code = (
        "import sys; from pathlib import Path; from millstream_projector.opening import *\n"
        "try: open_store(Path(sys.argv[1]), stream='s', last_sequence=0)\n"
        "except StoreLockedError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"another process has {tmp_path / FILE} open (PID " in ran.stdout
    assert "MILLSTREAM_DATA_DIR" in ran.stdout
    store.close()


def test_the_same_file_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(StoreLockedError):
        opened(tmp_path)
    store.close()


@pytest.mark.parametrize("damage", ["version", "garbage", "cut"])
def test_a_file_that_does_not_fit_is_put_aside_and_rebuilt(
    tmp_path: Path, script: Script, damage: str
) -> None:
    store = opened(tmp_path)
    Projection(store).advance(script.tape.stored)
    if damage == "version":
        writer = store.reader()
        writer.execute("UPDATE checkpoint SET schema_version = schema_version + 1")
        writer.close()
    store.close()
    path = tmp_path / FILE
    if damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    again = opened(tmp_path)
    assert again.checkpoint == 0
    assert (tmp_path / f"{FILE}.bad").exists()
    Projection(again).advance(script.tape.stored)
    assert rows(again, "SELECT count(*) FROM samples") == [(5,)]
    again.close()
    once_more = opened(tmp_path)
    assert once_more.checkpoint == len(script.tape.stored)
    once_more.close()


@pytest.mark.parametrize("change", [{"stream": "another"}, {"last_sequence": 3}])
def test_a_file_of_another_stream_is_refused_with_both_names_and_stays(
    tmp_path: Path, script: Script, change: dict[str, Any]
) -> None:
    store = opened(tmp_path)
    Projection(store).advance(script.tape.stored)
    store.close()
    end = len(script.tape.stored)
    with pytest.raises(ForeignStoreError) as caught:
        opened(tmp_path, **change)
    words = str(caught.value)
    for part in (str(tmp_path / FILE), STREAM, f"event {end}", *map(str, change.values())):
        assert part in words
    assert "move the file away" in words
    assert not (tmp_path / f"{FILE}.bad").exists()
    again = opened(tmp_path)
    assert again.checkpoint == end
    again.close()


def test_a_reader_sees_no_half_transaction_and_files_stay_out_of_reach(
    tmp_path: Path, script: Script
) -> None:
    store = opened(tmp_path)
    projection = Projection(store)
    projection.advance(script.tape.stored[:3])
    reader = store.reader()
    reader.begin()
    assert reader.execute("SELECT seq FROM checkpoint").fetchone() == (3,)
    projection.advance(script.tape.stored)
    assert reader.execute("SELECT max(seq) FROM batches").fetchone() == (3,)
    reader.rollback()
    assert reader.execute("SELECT seq FROM checkpoint").fetchone() == (store.checkpoint,)
    with pytest.raises(Exception, match="disabled by configuration"):
        reader.execute("SELECT * FROM read_text('/etc/hostname')")
    reader.close()
    store.close()
