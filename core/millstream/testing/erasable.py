"""A batch with texts that have to go, and the means to see whether they went."""

from contextlib import aclosing
from pathlib import Path

from millstream.domain.decide import Stamp
from millstream.eventlog.log import EventLog
from millstream.eventlog.redacting import Outcome, redact
from millstream.eventlog.stored import Stored
from millstream.eventlog.whole import read_range
from millstream.runtime.clock import new_id, utc_now
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_schemas.envelope import Actor

PERSON = "Ada Lovelace of 12 Example Street"


async def publish_person(event_log: EventLog) -> tuple[Script, int]:
    """Append a completed batch of six; return it and the log's end.

    The samples of slots 1 and 5 are secret, and so is an answer of slot 1 that was rejected. The
    event of slot 5 is its slice's last.
    """
    script = Script(spec=example_spec(6, slice_size=3))
    script.start()
    for index in (0, 1):
        script.claim(index)
    script.generate(0)
    script.reject(1, f"question: '{PERSON}' is too long")
    script.generate(2)
    script.generate(1, {"question": f"Who is {PERSON}?", "age": None})
    for slot in (3, 4):
        script.generate(slot)
    script.generate(5, {"answer": PERSON, "question": "Who?"})
    script.complete()
    script.note_child()
    return script, await publish(event_log, script.tape)


async def erase(event_log: EventLog, script: Script, *slots: int, attempts: bool = True) -> Outcome:
    """Redact the slots' samples, and with ``attempts`` what else was made for them."""
    stamp = Stamp(new_id, utc_now(), Actor(kind="user", id="ada"), "test", "command")
    return await redact(
        event_log, script.batch_id, slots, stamp, reason="asked for", attempts=attempts
    )


async def read_whole(event_log: EventLog) -> list[Stored]:
    """Return the log as everybody reads it from end to end: with what stands for the erased."""
    feed = read_range(event_log, after=0, until=(await event_log.head()).last, name="test")
    async with aclosing(feed):
        return [stored async for chunk in feed for stored in chunk]


def files_with(directory: Path, text: str = PERSON) -> list[str]:
    """Return the names of the files under ``directory`` in which the bytes of ``text`` stand."""
    return [
        path.name
        for path in sorted(directory.rglob("*"))
        if path.is_file() and text.encode() in path.read_bytes()
    ]
