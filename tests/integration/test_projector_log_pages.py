"""Pages of a batch's events of some types, read from a real log."""

import json
from itertools import groupby
from typing import Any

import pytest

from millstream.eventlog.log import PAGE, EventLog
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream.testing.tape import Tape
from millstream_projector import log_pages
from millstream_projector.log_pages import LogPages
from millstream_projector.views.paging import RefusedError
from millstream_schemas import views

pytestmark = pytest.mark.anyio

MOST_BYTES = 900_000
CHAIN = 500
"""Events that are appended together."""


def long_batch() -> Script:
    """A batch that fills two pages of the log with claims, and has little else."""
    script = Script(batch_id="batch_1767225600_0000000d", spec=example_spec(4))
    script.start()
    script.claim(0)
    script.generate(0)
    for _ in range(PAGE):
        script.release(0)
        script.claim(0)
    script.reject(1)
    script.stop("enough")
    return script


async def append(event_log: EventLog, tape: Tape) -> None:
    for _, group in groupby(tape.entries, lambda entry: entry.recorded.event.subject):
        entries = list(group)
        for start in range(0, len(entries), CHAIN):
            chain = [entry.recorded.event for entry in entries[start : start + CHAIN]]
            await event_log.append_chain(chain, expected=entries[start].expected)


class Walk:
    """All pages that answer a question, one after the other."""

    def __init__(self, event_log: EventLog, as_of: int, batch_id: str) -> None:
        self.pages = LogPages(event_log)
        self.as_of = as_of
        self.batch_id = batch_id

    async def page(self, **fields: Any) -> views.EventPage:
        request = views.EventsQuery(batch_id=self.batch_id, **fields)
        body = await self.pages.answer(request, self.as_of, MOST_BYTES)
        return views.EventPage.model_validate_json(body)

    async def all(self, **fields: Any) -> tuple[list[int], int]:
        """Return the sequences found, and how many pages it took."""
        found: list[int] = []
        after, count = 0, 0
        while True:
            page = await self.page(after=after, **fields)
            found += [one.sequence for one in page.events]
            count += 1
            if page.next_cursor is None:
                return found, count
            assert int(page.next_cursor) > after
            after = int(page.next_cursor)


async def test_events_of_some_types_are_found_in_the_whole_batch_in_bounded_steps(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = long_batch()
    stored = script.tape.stored
    await append(running.event_log, script.tape)
    walk = Walk(running.event_log, len(stored), script.batch_id)
    monkeypatch.setattr(log_pages, "STEP_S", 60.0)
    for types in (
        ("sample.rejected.v1",),
        ("batch.started.v1", "batch.stopped.v1"),
        ("batch.stopped.v1", "sample.generated.v1", "sample.rejected.v1"),
        ("batch.stuck_detected.v1",),
        ("sample.redacted.v1",),
    ):
        own = [one.sequence for one in stored if json.loads(one.payload)["type"] in types]
        assert await walk.all(types=types) == (own, 1)
        assert await walk.all(types=types, limit=1) == (own, max(1, len(own)))
    # Without time a step reads one page of the log, whatever it finds there.
    monkeypatch.setattr(log_pages, "STEP_S", 0.0)
    first = await walk.page(types=("sample.rejected.v1",))
    assert (first.events, first.next_cursor) == ((), str(PAGE))
    found, steps = await walk.all(types=("sample.rejected.v1",))
    assert (len(found), steps) == (1, -(-len(stored) // PAGE) + 1)
    # A page of all types is full, however long it takes.
    assert len((await walk.page(limit=1000)).events) == 1000
    unknown = Walk(running.event_log, len(stored), "batch_1767225600_ffffffff")
    for types in ((), ("sample.failed.v1",), ("batch.failed.v1",)):
        with pytest.raises(RefusedError):
            await unknown.page(types=types)
