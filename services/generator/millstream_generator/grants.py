"""The ledger of a batch's budget: which claim of which slice may start how many calls.

One bucket key per batch, moved on by compare-and-set. A grant is written before the claim that
it is for, and only by a dispatcher that has folded as much as the writer before it: so two of
them never grant the same money.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from millstream.domain import budget
from millstream.domain.batch_state import BatchState
from millstream.domain.budget import CallBound, Grant
from millstream.domain.slice import parallel_calls
from millstream.errors import ConflictError
from millstream.eventlog.answers import Answers
from millstream.eventlog.buckets import Bucket
from millstream_generator.windows import Window
from millstream_schemas import subjects


@dataclass(slots=True)
class Ledger:
    """One batch's grants as the bucket holds them: written at ``as_of`` of the log."""

    as_of: int = 0
    grants: dict[int, Grant] = field(default_factory=dict)
    revision: int = 0

    def dumped(self) -> bytes:
        """Return the bucket's value."""
        grants = {
            str(index): [grant.epoch, grant.calls, grant.at_risk]
            for index, grant in self.grants.items()
        }
        # Apart from these, where a version that does not know them leaves them out.
        tails = {str(index): grant.tail for index, grant in self.grants.items()}
        return json.dumps({"as_of": self.as_of, "grants": grants, "tails": tails}).encode()


class Ledgers:
    """Reads and writes ledgers."""

    def __init__(self, answers: Answers) -> None:
        self._bucket = Bucket(answers, subjects.LIMITS_BUCKET)

    async def read(self, batch_id: str) -> Ledger | None:
        """Return the ledger, None when there is none; raises LogUnavailableError."""
        entry = await self._bucket.get(_key(batch_id))
        if entry is None:
            return None
        document = json.loads(entry.value)
        tails = document.get("tails", {})
        grants = {
            int(index): Grant(epoch, calls, at_risk, tails.get(index))
            for index, (epoch, calls, at_risk) in document["grants"].items()
        }
        return Ledger(document["as_of"], grants, entry.revision)

    async def granted(self, batch_id: str, index: int) -> Grant | None:
        """Return the last grant of a slice; raises LogUnavailableError."""
        ledger = await self.read(batch_id)
        return None if ledger is None else ledger.grants.get(index)

    async def write(self, batch_id: str, ledger: Ledger) -> None:
        """Store the ledger in place of the revision it came from; raises ConflictError."""
        ledger.revision = await self._bucket.put(
            _key(batch_id), ledger.dumped(), expected=ledger.revision
        )

    async def drop(self, batch_id: str) -> None:
        """Forget the ledger of a batch that has ended."""
        await self._bucket.delete(_key(batch_id))


class Purse:
    """What a dispatcher grants to one batch."""

    def __init__(self, ledgers: Ledgers, bound: CallBound) -> None:
        self._ledgers = ledgers
        self.bound = bound
        self._ledger: Ledger | None = None
        self.dead: dict[int, int] = {}
        """Slices whose holder has died, with the epoch it claimed them in."""
        self.abandoned: dict[int, int] = {}
        """The same of those that the queue has lost and nobody works on, whoever holds them."""

    @property
    def gone(self) -> dict[int, int]:
        """Slices that nobody works on any more, with the epoch they were claimed in."""
        return self.abandoned | self.dead

    async def allot(self, state: BatchState, as_of: int, wanted: Iterable[int]) -> list[int]:
        """Return those of the slices that have a grant to be claimed with, new ones included.

        Nothing is granted when another dispatcher was faster, or has seen more of the log than
        ``as_of``, the sequence up to which ``state`` was folded.

        Raises:
            LogUnavailableError: the bucket did not answer.
        """
        ledger = await self._load(state, as_of)
        if as_of < ledger.as_of:
            return []
        gone = self._at_risk(state)
        grants, claimable = budget.allot(
            state, ledger.grants, gone, self.bound, dict.fromkeys([*gone, *wanted])
        )
        if any(ledger.grants.get(index) != grant for index, grant in grants.items()):
            ledger.grants, ledger.as_of = grants, as_of
            try:
                await self._ledgers.write(state.batch_id, ledger)
            except ConflictError:
                self._ledger = None
                return []
        return claimable

    async def claimable(
        self, state: BatchState, as_of: int, window: Window, wanted: list[int]
    ) -> list[int]:
        """Return the slices that may be queued: those with a grant for their next claim.

        Slices that wait in the queue without one, or whose holder is gone, get theirs too.
        """
        waiting = sorted(window.queued - window.held)
        given = await self.allot(state, as_of, [*waiting, *wanted])
        return [index for index in given if index in wanted or index in self.gone]

    def is_spent(self, state: BatchState, as_of: int) -> bool:
        """Tell whether no call may be granted any more and none that was is still to be told of."""
        if self._ledger is None or as_of < self._ledger.as_of:
            return False
        if budget.moving_calls(state, self._ledger.grants, self._at_risk(state)):
            return False
        reserved = self.reserved(state)
        return not budget.affordable(state.spec.budgets, state, self.bound, reserved)

    def reserved(self, state: BatchState) -> int:
        """Return how many calls may be in flight, or may start, that no event accounts for."""
        grants = self._ledger.grants if self._ledger is not None else {}
        return budget.reserved_calls(state, grants)

    async def _load(self, state: BatchState, as_of: int) -> Ledger:
        if self._ledger is None:
            found = await self._ledgers.read(state.batch_id)
            self._ledger = found or Ledger(as_of, budget.adopted(state))
        return self._ledger

    def _at_risk(self, state: BatchState) -> Mapping[int, int]:
        """Return what the holders that are gone may have had in flight, by slice."""
        most = parallel_calls(state.spec)
        at_risk: dict[int, int] = {}
        for index, epoch in self.gone.items():
            tail = budget.tail(state, index)
            if tail.epoch != epoch or not tail.node:
                continue
            # What is in flight may grow by a word that is not folded yet, but for those who are
            # dead: their last word is. It never is more than what one slice has at once.
            is_known = tail.in_flight is not None and self.dead.get(index) == epoch
            in_flight = tail.in_flight if is_known else most
            at_risk[index] = min(in_flight or 0, tail.allowance or 0)
        return at_risk


def _key(batch_id: str) -> str:
    return f"budget.{batch_id}"
