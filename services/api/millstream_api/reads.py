"""Reads that know both sides: the relay's fold, which is live, and the read model."""

from millstream.errors import QueryFailedError
from millstream_api.queries import Queries
from millstream_api.relay.hub import Hub
from millstream_api.relay.limits import Limits
from millstream_schemas import views

MIN_SEQUENCE_WAIT_S = 2.0


class Reads:
    """Answers about batches; what runs (or ended lately) is answered without any projector."""

    def __init__(self, hub: Hub, queries: Queries, limits: Limits) -> None:
        self._hub = hub
        self._limits = limits
        self.queries = queries

    async def caught_up(self, min_sequence: int) -> None:
        """Wait until the relay has folded ``min_sequence``.

        Raises:
            QueryFailedError: it has not within two seconds, or the cold fold is not done.
        """
        reached = await self._hub.reach(min_sequence, MIN_SEQUENCE_WAIT_S)
        if not self._hub.ready.is_set():
            words = "this server has just started and is reading the log; ask again in a second"
            raise QueryFailedError("behind", words)
        if not reached:
            raise QueryFailedError(
                "behind",
                f"everything up to {self._hub.sequence} is known here, not yet {min_sequence}; "
                "ask again soon, or with a lower min_sequence",
            )

    async def batch(self, batch_id: str, min_sequence: int = 0) -> views.BatchAnswer:
        """Return one batch as it is now.

        Raises:
            QueryFailedError: unknown, or neither side knows ``min_sequence`` yet.
        """
        await self.caught_up(min_sequence)
        version = self._hub.versions.get(batch_id)
        if version is not None:
            view, as_of = version.view, self._hub.sequence
            return views.BatchAnswer(batch=view, limited_by=self._limits.of(view), as_of=as_of)
        return await self.queries.batch(
            views.BatchQuery(batch_id=batch_id, min_sequence=min_sequence)
        )

    async def batch_at(self, query: views.BatchQuery) -> views.BatchAnswer:
        """Return one batch as it was at the query's moment, or as ``batch`` does for the present.

        Raises:
            QueryFailedError: as ``batch``, or the moment is not in the log.
        """
        if query.is_past:
            return await self.queries.batch(query)
        return await self.batch(query.batch_id, query.min_sequence)

    async def history(self, query: views.HistoryQuery) -> views.BatchPage:
        """Return a page of batches, the live ones as they are now.

        Raises:
            QueryFailedError: no projector answers, or none has folded ``min_sequence`` yet.
        """
        page = await self.queries.history(query)
        if query.is_past:
            return page
        shown = [self._newest(view) for view in page.batches]
        if query.states:
            shown = [view for view in shown if view.state in query.states]
        young = self._younger_than(page.as_of, query) if _is_newest_first(query) else []
        states = dict(page.states)
        for view in young:
            states[view.state] = states.get(view.state, 0) + 1
        batches = (*young, *shown)
        limited = ((view.id, self._limits.of(view)) for view in batches)
        return page.model_copy(
            update={
                "batches": batches,
                "limited": {one: by for one, by in limited if by is not None},
                "total": page.total + len(young),
                "states": states,
            }
        )

    def stuck(self) -> views.StuckAnswer:
        """Return the batches that a watchdog holds for stuck; changes nothing."""
        live = self._hub.versions.live()
        found = sorted(
            (version.view for version in live if version.state.stuck is not None),
            key=lambda view: view.started_at,
        )
        return views.StuckAnswer(batches=tuple(found), as_of=self._hub.sequence)

    def live(self) -> list[views.BatchView]:
        """Return the live batches, newest first."""
        found = (version.view for version in self._hub.versions.live())
        return sorted(found, key=lambda view: view.started_at, reverse=True)

    def _newest(self, view: views.BatchView) -> views.BatchView:
        version = self._hub.versions.get(view.id)
        if version is None or version.view.sequence <= view.sequence:
            return view
        return version.view

    def _younger_than(self, as_of: int, query: views.HistoryQuery) -> list[views.BatchView]:
        """Return the live batches that the read model has not heard of, newest first."""
        found = [
            version.view
            for version in self._hub.versions.live()
            if version.state.started is not None and version.state.started.sequence > as_of
        ]
        matching = [
            view
            for view in found
            if (not query.states or view.state in query.states)
            and query.model in {None, view.model}
            and query.recipe in {None, view.recipe}
            and query.topic in {None, view.topic}
        ]
        return sorted(matching, key=lambda view: view.started_at, reverse=True)


def _is_newest_first(query: views.HistoryQuery) -> bool:
    """Tell whether batches that the read model has not heard of would begin the page."""
    is_open = query.started_before is None and query.started_after is None
    return query.sort == "-started" and is_open and not query.cursor and not query.text
