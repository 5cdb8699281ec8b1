"""Pages that take several answers of a projector, while batches move in their order."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from millstream.eventlog.answers import Answers
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_api import queries
from millstream_schemas import views

pytestmark = pytest.mark.anyio


class Meanwhile(Answers):
    """Answers after the first of which something happens."""

    def __init__(self, connection: Client, happens: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(connection)
        self._happens = happens
        self.asked = 0

    async def ask(self, *args: Any, **kwargs: Any) -> Msg:
        """Ask, and let happen what shall."""
        answer = await super().ask(*args, **kwargs)
        self.asked += 1
        if self.asked == 1:
            await self._happens()
        return answer


async def test_a_page_of_several_answers_is_of_one_moment(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "BATCHES_PER_PAGE", 2)
    monkeypatch.setattr(queries, "SAMPLES_PER_PAGE", 3)
    tape = Tape()
    scripts = [
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(20))
        for number in range(4)
    ]
    for number, script in enumerate(scripts):
        script.start()
        script.claim(0)
        for slot in range(4 - number):
            script.generate(slot)
    await api.append(tape.entries)
    stored = len(tape.entries)

    async def last_overtakes() -> None:
        nonlocal stored
        for _ in range(6):
            scripts[3].generate(next(iter(scripts[3].open_slots())))
        await api.append(tape.entries[stored:])
        stored = len(tape.entries)

    answers = Meanwhile(api.log.connection, last_overtakes)
    page = await queries.Queries(answers).history(views.HistoryQuery(sort="-samples", limit=4))
    assert answers.asked == 2
    assert [view.id for view in page.batches] == [script.batch_id for script in scripts]
    assert [view.counts.generated for view in page.batches] == [4, 3, 2, 1]

    answers = Meanwhile(api.log.connection, last_overtakes)
    samples = await queries.Queries(answers).samples(views.SamplesQuery(limit=50))
    assert answers.asked > 2
    assert len(samples.samples) == samples.total == 16
    assert max(sample.sequence for sample in samples.samples) <= samples.as_of
