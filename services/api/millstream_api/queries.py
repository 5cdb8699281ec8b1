"""Questions to the projectors over request-reply."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

from millstream.errors import LogUnavailableError, QueryFailedError
from millstream.eventlog.answers import Answers
from millstream_schemas import analysis, audit, lanes, subjects, views
from millstream_schemas.envelope import Contract

TIMEOUT_S = 5.0
"""Longer than the two seconds that a projector itself waits for ``min_sequence``."""
DIGESTS_TIMEOUT_S = 55.0
ERROR_HEADER = "Millstream-Error"
BATCHES_PER_PAGE = 500
SAMPLES_PER_PAGE = 100
"""Pages small enough for one reply; longer answers are put together here."""

BegunAt = Callable[[str], Awaitable[int | None]]
"""The sequence of a batch's first event; None for one that is not in the log."""
AnswerT = TypeVar("AnswerT", bound=Contract)
ItemT = TypeVar("ItemT")


class Queries:
    """Asks any one of the projectors.

    Every method raises QueryFailedError: the code tells whether there is no such thing, the read
    model is behind ``min_sequence``, or nobody answers.
    """

    def __init__(self, answers: Answers, begun_at: BegunAt | None = None) -> None:
        """Ask over ``answers``; ``begun_at`` tells where in the log a batch begins."""
        self._answers = answers
        self._begun_at = begun_at

    async def batch(self, query: views.BatchQuery) -> views.BatchAnswer:
        """Return one batch."""
        return await self._ask("batch", query, views.BatchAnswer)

    async def history(self, query: views.HistoryQuery) -> views.BatchPage:
        """Return up to ``query.limit`` batches, newest first."""

        async def ask(part: views.HistoryQuery) -> views.BatchPage:
            return await self._ask("history", part, views.BatchPage)

        first, found, cursor = await _collect(
            ask, lambda page: page.batches, query, BATCHES_PER_PAGE
        )
        return first.model_copy(update={"batches": tuple(found), "next_cursor": cursor})

    async def samples(self, query: views.SamplesQuery) -> views.SamplePage:
        """Return up to ``query.limit`` samples, as sorted."""

        async def ask(part: views.SamplesQuery) -> views.SamplePage:
            return await self._ask("samples", part, views.SamplePage)

        first, found, cursor = await _collect(
            ask, lambda page: page.samples, query, SAMPLES_PER_PAGE
        )
        return first.model_copy(update={"samples": tuple(found), "next_cursor": cursor})

    async def search(self, query: analysis.SearchQuery) -> analysis.SearchPage:
        """Return one step of a search in all samples."""
        return await self._ask("search", query, analysis.SearchPage)

    async def events(self, query: views.EventsQuery) -> views.EventPage:
        """Return events of one batch in stream order."""
        return await self._ask("events", query, views.EventPage)

    async def statistics(self, query: views.PlainQuery) -> views.Statistics:
        """Return the whole dataset in numbers."""
        return await self._ask("statistics", query, views.Statistics)

    async def figures(self, query: analysis.FiguresQuery) -> analysis.Figures:
        """Return one batch in figures."""
        return await self._ask("figures", query, analysis.Figures)

    async def attempts(self, query: analysis.SlotQuery) -> analysis.SlotAttempts:
        """Return what happened to one slot, without what the log alone tells (``slot_log``)."""
        return await self._ask("attempts", query, analysis.SlotAttempts)

    async def timeline(self, query: analysis.TimelineQuery) -> analysis.Timeline:
        """Return statistics over time."""
        return await self._ask("timeline", query, analysis.Timeline)

    async def lanes(self, query: lanes.LanesQuery) -> lanes.Lanes:
        """Return one batch's events along time, in lanes."""
        return await self._ask("lanes", query, lanes.Lanes)

    async def stuck(self, query: views.PlainQuery) -> views.StuckAnswer:
        """Return the batches that a watchdog held for stuck at the query's moment."""
        return await self._ask("stuck", query, views.StuckAnswer)

    async def quality(self, query: views.BatchQuery) -> views.Quality:
        """Return how one batch's samples look."""
        return await self._ask("quality", query, views.Quality)

    async def checkpoints(self, query: audit.CheckpointsQuery) -> audit.CheckpointPage:
        """Return sealed roots of the hash chain, oldest first."""
        return await self._ask("audit_checkpoints", query, audit.CheckpointPage)

    async def digests(self, query: audit.DigestsQuery) -> audit.Digests:
        """Return the digests of one projector's tables, which take seconds to make."""
        return await self._ask("audit_digests", query, audit.Digests, DIGESTS_TIMEOUT_S)

    async def _ask(
        self, name: str, query: Contract, answer: type[AnswerT], timeout_s: float = TIMEOUT_S
    ) -> AnswerT:
        payload = query.model_dump_json().encode()
        try:
            reply = await self._answers.ask(subjects.query(name), payload, timeout_s=timeout_s)
        except LogUnavailableError as error:
            raise QueryFailedError(
                "unavailable",
                "no projector answers, so history can't be read now; live batches go on. "
                "Start one (`millstream projector`) and try again",
            ) from error
        if reply.headers and ERROR_HEADER in reply.headers:
            refused = views.QueryError.model_validate_json(reply.data)
            begun_at = await self._unfolded(query) if refused.code == "not_found" else None
            if begun_at is not None:
                later = query.model_copy(update={"min_sequence": begun_at})
                return await self._ask(name, later, answer, timeout_s)
            raise QueryFailedError(refused.code, refused.message)
        try:
            return answer.model_validate_json(reply.data)
        except ValidationError as error:
            raise QueryFailedError("failed", f"the answer to {name} can't be read") from error

    async def _unfolded(self, query: Contract) -> int | None:
        """Return where the batch that is asked for begins, if an answer may have come too early.

        Its start was acknowledged by the log; a projector may not have folded it yet.
        """
        batch_id = getattr(query, "batch_id", None)
        if self._begun_at is None or not batch_id or not isinstance(query, views.Query):
            return None
        if query.is_past:
            return None
        begun_at = await self._begun_at(batch_id)
        return begun_at if begun_at is not None and begun_at > query.min_sequence else None


QueryT = TypeVar("QueryT", views.HistoryQuery, views.SamplesQuery)
PageT = TypeVar("PageT", views.BatchPage, views.SamplePage)


async def _collect(
    ask: Callable[[QueryT], Awaitable[PageT]],
    items_of: Callable[[PageT], tuple[ItemT, ...]],
    query: QueryT,
    page_most: int,
) -> tuple[PageT, list[ItemT], str | None]:
    """Ask page after page; return the first page, the items together and the next cursor.

    All are of the first one's moment: what moves in the order meanwhile would else be missed, or
    told twice.
    """
    first = page = await ask(query.model_copy(update={"limit": min(query.limit, page_most)}))
    found = list(items_of(page))
    moment = {} if query.is_past else {"at_seq": first.as_of}
    while page.next_cursor and items_of(page) and len(found) < query.limit:
        limit = min(query.limit - len(found), page_most)
        part = query.model_copy(update={**moment, "limit": limit, "cursor": page.next_cursor})
        page = await ask(part)
        found.extend(items_of(page))
    return first, found, page.next_cursor
