"""What one node knows of a route: limits, throttling, an open circuit, and what calls tell of it.

What concerns every node goes into the shared document; what is learned here holds here at once.
"""

import math
from collections.abc import Callable

from millstream.domain import limits as rules
from millstream.domain import route_health as health
from millstream.domain.limits import RouteState
from millstream.eventlog.limits import SharedLimits, Step, limits_of
from millstream.runtime.clock import boot_seconds
from millstream_generator.completion import CallFailedError
from millstream_generator.hints import Hints
from millstream_generator.turns import Trouble, Turn
from millstream_generator.waits_asked import RETRY_AFTER_MOST_S
from millstream_schemas.routes import Route

NEVER = -1e9
PENDING_MOST = 200
MESSAGE_MOST = 300
TAKEN_LEAST_S = 0.01
LONGEST_UNKNOWN_S = 5.0
UNKNOWN_MOST_S = 10.0
"""A route whose shared state could not be read for so long is called without."""

Changed = Callable[["Condition", RouteState, RouteState], None]
"""(condition, state before, state after); told after every change of either state."""


class Condition:
    """The state of one route as this node knows it.

    ``own`` holds what concerns this node alone: a key that is refused here may be right on
    another node, whose environment has another one.
    """

    def __init__(
        self,
        key: str,
        route: Route,
        shared: SharedLimits,
        *,
        node: str,
        first_probe_s: float,
    ) -> None:
        self.key = key
        self.route = route
        self.model = route.model
        self.limits = limits_of(route)
        self.node = node
        self.state = RouteState()
        self.own = RouteState()
        self.pending: list[Step] = []
        self.tried = 0
        """Calls that this node has started at the route's pace and told nobody of yet."""
        self.read_at = NEVER
        self._hints = Hints(with_permits=self.limits.concurrency is not None)
        self.is_known = False
        """Whether what all nodes share was read once; before that no call may start."""
        self.is_free = False
        self._known_by = math.inf
        self.refusal: tuple[float, CallFailedError] | None = None
        """When the key was refused last (this machine's clock), and how; None: it is not."""
        self.answered_from = NEVER
        """When the latest call started that was answered (the log's time)."""
        self.listeners: list[Changed] = []
        self._shared = shared
        self._first_probe_s = first_probe_s
        self._outcomes = health.Outcomes()
        self._usual_s, self.longest_s = 1.0, LONGEST_UNKNOWN_S
        """How long calls that are answered take, of late, in the middle and at most."""

    def now(self) -> float:
        """Return the log's time."""
        return self._shared.clock.now()

    @property
    def is_open(self) -> bool:
        """Whether the route's circuit is open: what fails now says nothing about a slot."""
        return self.state.breaker is not None or self.own.breaker is not None

    def trouble(self, *, may_probe: bool) -> Trouble | None:
        """Return why no call starts now; None when the route takes calls at its pace."""
        if self.is_free:
            return None
        now = self.now()
        for state in (self.own, self.state):
            breaker = state.breaker
            if breaker is not None:
                wants_probe = may_probe and health.may_probe(state, self.node, now)
                return Trouble("blocked", breaker.open_until, breaker.message, wants_probe)
        if self.state.cooldown_until > now:
            return Trouble("throttled", self.state.cooldown_until, self.state.cause)
        return None

    def note_answer(self, turn: Turn, used_tokens: int | None) -> None:
        """Learn that a call was answered; ``used_tokens`` is None where nobody said."""
        turn.is_judged = True
        taken_s = max(TAKEN_LEAST_S, self.now() - turn.started_at)
        self.longest_s = max(taken_s, 0.99 * self.longest_s)
        self._usual_s = (
            taken_s if self.answered_from == NEVER else 0.9 * self._usual_s + 0.1 * taken_s
        )
        self.answered_from = max(self.answered_from, turn.started_at)
        self._outcomes = self._outcomes.after(turn.started_at, failed=False)
        if turn.is_probe:
            self._close()
        started_at = turn.started_at
        if health.answered(self.state, self.now(), started_at=started_at) is not self.state:
            self.apply(lambda state, at: health.answered(state, at, started_at=started_at))
        self.settle(turn, used_tokens)
        turn.end()

    def note_failure(self, turn: Turn, failure: CallFailedError, in_flight: int = 1) -> float:
        """Learn that one of ``in_flight`` calls failed; return how long the route takes none."""
        noted_at = self.now()
        turn.is_judged = True
        match failure.category:
            case "server" | "timeout":
                self._note_outage(turn, failure)
            case "auth":
                self._note_refused_key(turn, failure)
            case "rate_limit":
                self._note_limit(turn, failure, in_flight)
            case _:
                self.note_answer(turn, 0 if failure.is_unpaid else None)
        if failure.category != "timeout":  # an answer that was cut off may have been paid
            self.settle(turn, 0)
        turn.end()
        trouble = self.trouble(may_probe=False)
        return 0.0 if trouble is None else max(0.0, trouble.until - noted_at)

    def try_key_again(self) -> None:
        """Let a probe find out at once whether a key is still refused: a new batch asks."""
        breaker = self.own.breaker
        if breaker is not None and breaker.open_until > self.now():
            now = {"open_until": self.now()}
            self.own = self.own.model_copy(update={"breaker": breaker.model_copy(update=now)})

    def drop_probe(self) -> None:
        """Leave an open circuit to the next probe: this one was cancelled."""
        self.own = health.probe_dropped(self.own, self.node)
        self.apply(lambda state, _: health.probe_dropped(state, self.node))

    def settle(self, turn: Turn, used_tokens: int | None) -> None:
        """Give back what a call reserved and did not use, or charge what it used beyond."""
        reserved, limits = turn.tokens, self.limits
        turn.tokens = 0
        if limits.tpm is None or used_tokens is None or used_tokens == reserved:
            return
        unused = reserved - used_tokens
        self.pending.append(lambda state, _: rules.settled(state, limits, unused, reserved))

    @property
    def is_stale(self) -> bool:
        """Whether another node has told of a change that is not known here yet."""
        return self._hints.is_open

    def hear(self, state: RouteState) -> None:
        """Take a hint that another node may have changed the shared state."""
        self._hints.hear(state, self.state)

    def apply(self, step: Step) -> None:
        """Change what is known here at once, and what all share with the next ``store``."""
        if len(self.pending) < PENDING_MOST:
            self.pending.append(step)
        self.take(step(self.state, self.now()))

    def take(self, state: RouteState) -> None:
        """Take ``state`` as what all nodes share now."""
        before, self.state = self.state, state
        if before.breaker is not None and state.breaker is None:  # some node's probe was answered
            self.answered_from = self.now()
            self._outcomes = health.Outcomes()
        if state is not before:
            self._tell(before, state)

    def doubt(self) -> None:
        """Let what all share be read before it is used: the last change may be stored or not."""
        self.read_at = NEVER

    def look_again(self) -> None:
        """Find out whether calls may pass at once: time heals."""
        self.is_free = self.is_known and not self.is_scarce

    @property
    def is_scarce(self) -> bool:
        """Whether calls may have to wait for each other here, as far as the route is known."""
        now = self.now()
        return (
            self.limits.is_any
            or self.is_open
            or self.state.cooldown_until > now
            or rules.is_paced(self.state, self.limits, now)
        )

    async def read(self) -> None:
        """Read what all nodes share; raises LogUnavailableError."""
        self._take_stored(await self._shared.read(self.key))

    async def store(self, step: Step | None = None) -> None:
        """Store all that was learned here, and then ``step``; raises LogUnavailableError."""
        pending, tried = list(self.pending), self.tried
        steps = [*pending, *([step] if step else [])]

        def all_of(state: RouteState, now: float) -> RouteState:
            state = rules.tried(state, now, tried)
            for one in steps:
                state = one(state, now)
            return state

        state = await self._shared.change(self.key, all_of)
        del self.pending[: len(pending)]
        self.tried -= tried
        self._take_stored(state)

    def do_without(self) -> None:
        """Let calls start in a while though what all nodes share can't be read."""
        self._known_by = min(self._known_by, boot_seconds() + UNKNOWN_MOST_S)
        self.is_known = self.is_known or boot_seconds() >= self._known_by
        self.look_again()

    def _take_stored(self, state: RouteState) -> None:
        self.read_at = boot_seconds()
        self.is_known = True
        if rules.cut_at(state) > rules.cut_at(self.state):  # those from before count no more
            self.tried = 0
        for step in self.pending:  # learned since: what is stored does not know it yet
            state = step(state, self.now())
        self.take(state)
        self._hints.close(self.state)

    def _tell(self, before: RouteState, after: RouteState) -> None:
        self.look_again()
        for listener in self.listeners:
            listener(self, before, after)

    def _note_outage(self, turn: Turn, failure: CallFailedError) -> None:
        now, message = self.now(), failure.message[:MESSAGE_MOST]
        self._outcomes = self._outcomes.after(now, failed=True)
        if turn.is_probe and self.state.breaker is not None:
            self.apply(lambda state, at: health.probe_failed(state, self.node, at, message))
            return
        # Nothing listens there: that holds for every call, so one of them is enough.
        is_refused = failure.link == "refused"
        why = "no connection" if is_refused else self._outcomes.trips(now)
        if why:
            words = message if is_refused else f"{why}: {message}"
            failures, first_s = self._outcomes.in_a_row, self._first_probe_s
            self.apply(
                lambda state, at: health.opened(
                    state, at, failures=failures, message=words, first_s=first_s
                )
            )

    def _note_refused_key(self, turn: Turn, failure: CallFailedError) -> None:
        now, before = self.now(), self.own
        self.refusal = (boot_seconds(), failure)
        message = f"the key is refused: {failure.message[:MESSAGE_MOST]}"
        if turn.is_probe and before.breaker is not None:
            self.own = health.probe_failed(before, self.node, now, message)
        else:
            first_s = self._first_probe_s
            self.own = health.opened(before, now, failures=1, message=message, first_s=first_s)
        if turn.is_probe and self.state.breaker is not None:
            self.apply(health.closed)
        if self.own is not before:
            self._tell(before, self.own)

    def _note_limit(self, turn: Turn, failure: CallFailedError, in_flight: int) -> None:
        if turn.is_probe:
            self._close()
        asked_s, started_at = failure.retry_after_s, turn.started_at
        more = " or more" if asked_s == RETRY_AFTER_MOST_S else ""
        asked = f"provider asked to wait {asked_s:g} s{more}" if asked_s else ""
        cause = asked or "provider has too many requests and names no time to wait"
        rpm = self.limits.rpm
        whole = in_flight / self._usual_s if rpm is None else rpm / rules.WINDOW_S
        self.apply(
            lambda state, at: health.throttled(
                state,
                at,
                started_at=started_at,
                retry_after_s=asked_s,
                cause=cause,
                calls=in_flight,
                whole=whole,
            )
        )

    def _close(self) -> None:
        self._outcomes = health.Outcomes()
        self.refusal = None
        if self.own.breaker is not None:
            before, self.own = self.own, health.closed(self.own, self.now())
            self._tell(before, self.own)
        if self.state.breaker is not None:
            self.apply(health.closed)
