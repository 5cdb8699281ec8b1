"""Telling the log of commands that were refused: who, what, from where and why, within bounds.

What the rules refuse (a batch's state, a stale version, a key used twice) is told; what was never
understood, names what nobody knows, or came from nobody known, is not. A client that asks in a loop
must not fill the log, so the same refusal is told once in ``SAME_S``, and of one actor and address
no more than ``MOST`` within ``SPAN_S``; what is left out is counted in the next one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from millstream.errors import MillstreamError
from millstream.eventlog.log import EventLog
from millstream.eventlog.refusals import append_refusal
from millstream.runtime.clock import boot_seconds, new_id, utc_now
from millstream_api.background import Background
from millstream_api.problems import ProblemError, to_problem
from millstream_schemas import subjects
from millstream_schemas.envelope import Actor
from millstream_schemas.refusals import CommandName, CommandRefused

log = structlog.get_logger()

TOLD = frozenset({402, 403, 404, 409, 412, 413, 429})
"""What a rule refuses; a body that no rule was asked about (400, 422) is a mistake, not a deed."""
SAME_S = 10.0
SPAN_S = 60.0
MOST = 30
KEPT_MOST = 1_000
PATH = "/v1"

Key = TypeVar("Key")
Value = TypeVar("Value")

_Same = tuple[Actor, str, str | None, str | None, str]


@dataclass(slots=True)
class _Told:
    """When the same refusal was told last, and how often it came since."""

    at: float
    repeated: int = 0


@dataclass(slots=True)
class _Teller:
    """What was told of one actor: when, and how much was left out."""

    told: deque[float] = field(default_factory=deque)
    unlisted: int = 0


class Refusals:
    """Appends what was refused, after the answer."""

    def __init__(
        self,
        event_log: EventLog,
        background: Background,
        *,
        node: str,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        """Append to ``event_log`` as the API of ``node``; ``steady`` tells seconds."""
        self._log = event_log
        self._background = background
        self._node = node
        self._steady = steady
        self._same: OrderedDict[_Same, _Told] = OrderedDict()
        self._tellers: OrderedDict[Actor, _Teller] = OrderedDict()
        self._last = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def watching(
        self,
        command: CommandName,
        actor: Actor,
        command_id: str,
        *,
        batch_id: str | None = None,
        reason: str = "",
    ) -> AsyncIterator[None]:
        """Tell the log if what happens inside is refused; the refusal is raised on."""
        try:
            yield
        except MillstreamError as error:
            self.tell(
                to_problem(PATH, error),
                command,
                actor,
                command_id,
                batch_id=batch_id,
                reason=reason,
            )
            raise

    def tell(
        self,
        problem: ProblemError,
        command: CommandName,
        actor: Actor,
        command_id: str,
        *,
        batch_id: str | None = None,
        webhook_id: str | None = None,
        reason: str = "",
    ) -> None:
        """Append one refusal in the background, if it is one to be told."""
        left_out = None
        if problem.status in TOLD:
            left_out = self._left_out(actor, (actor, command, batch_id, webhook_id, problem.code))
        if left_out is None:
            return
        event = CommandRefused(
            id=new_id(),
            source=f"millstream/api/{self._node}",
            subject=subjects.SYSTEM_COMMANDS,
            time=utc_now(),
            actor=actor,
            command_id=command_id,
            command=command,
            batch_id=batch_id[:100] if batch_id is not None else None,
            webhook_id=webhook_id[:100] if webhook_id is not None else None,
            status=problem.status,
            problem=problem.code,
            detail=problem.detail[:500],
            reason=reason[:500],
            repeated=left_out[0],
            unlisted=left_out[1],
        )
        self._background.start(f"refusal {event.id}", self._append(event))

    async def _append(self, event: CommandRefused) -> None:
        async with self._turn:  # Several at once would conflict with each other until some give up.
            self._last = await append_refusal(self._log, event, expected=self._last)
        log.info("command.refused", command=event.command, problem=event.problem)

    def _left_out(self, actor: Actor, same: _Same) -> tuple[int, int] | None:
        """Return how many refusals were left out before this one, None to leave it out too."""
        now = self._steady()
        told = self._same.get(same)
        if told is not None and now - told.at < SAME_S:
            told.repeated += 1
            return None
        teller = _kept(self._tellers, actor, _Teller())
        while teller.told and now - teller.told[0] >= SPAN_S:
            teller.told.popleft()
        if len(teller.told) >= MOST:
            teller.unlisted += 1
            return None
        teller.told.append(now)
        repeated = told.repeated if told is not None else 0
        unlisted, teller.unlisted = teller.unlisted, 0
        self._same.pop(same, None)
        _kept(self._same, same, _Told(now))
        return repeated, unlisted


def _kept(known: OrderedDict[Key, Value], key: Key, new: Value) -> Value:
    """Return what is known under ``key``, else ``new``; the oldest ones are forgotten."""
    found = known.setdefault(key, new)
    known.move_to_end(key)
    while len(known) > KEPT_MOST:
        known.popitem(last=False)
    return found
