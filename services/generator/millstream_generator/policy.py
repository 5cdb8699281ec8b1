"""What follows from a failed attempt: try again, when, on which route, or give the slot up."""

import random
from dataclasses import dataclass, field

from millstream.addresses import shown
from millstream_generator.completion import CallFailedError, FatalError
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.routes import Route

ATTEMPTS_MOST: dict[ErrorCategory, int] = {
    "rate_limit": 10**9,
    "timeout": 3,
    "auth": 1,
    "invalid_request": 1,
    "content_filter": 2,
    "server": 5,
    "validation": 3,
}
"""Attempts of a slot by the category of its last error; the batch's own bound holds too."""

BACKOFF_LEAST_S = 1.0
BACKOFF_MOST_S = 30.0
THROTTLE_MOST_S = 600.0
"""How long one slot waits for a provider that throttles, over all its waits."""
LOSSES_MOST = 5
"""So many broken connections cost a slot no attempt: the next ones may be its own doing."""
SUSPECT = 2
"""After so many failures in a row of a slot, or of a circuit's probes, a probe asks for another
slot: is it the slot's own doing?"""

FATAL_STATUS = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 410})
"""What a wrong address, key or model is answered with."""
_PAGE = 200
"""The status of a refusal that is a page for people: of a wrong address, or a balancer's own."""
_PROXY = 407
SAME_ERRORS_FATAL = 5
GONE_FATAL = 20
"""So many times in a row a model that answered before is unknown: it has gone away."""
SAME_ERRORS_GONE = 100
"""The same for other refusals, which may be the doing of some requests alone."""
REFUSALS_FATAL = 3
FAILOVER: frozenset[ErrorCategory] = frozenset({"auth", "invalid_request", "server", "timeout"})
"""Errors after which the slot's next attempt goes down the alias's routes."""
OUTAGE: frozenset[ErrorCategory] = frozenset({"server", "timeout"})
NO_ANSWER: frozenset[ErrorCategory] = OUTAGE | {"rate_limit", "auth"}
"""Errors that befall a call whatever it asks; after any other one the endpoint has read it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after ``delay_s`` seconds; the route itself takes no call for ``held_s``."""

    delay_s: float
    held_s: float = 0.0


def uses_attempt(
    error: CallFailedError, *, is_common: bool = False, was_answered: bool = True, losses: int = 0
) -> bool:
    """Tell whether a failure uses one of its slot's attempts up.

    What befalls every call of a route alike says nothing about the slot: a limit, a refused key,
    an outage, an endpoint that was never heard of.

    Args:
        error: The failure.
        is_common: Whether the route may fail every call just now.
        was_answered: Whether any call of the batch was.
        losses: The slot's broken connections before this one.
    """
    if error.category in {"rate_limit", "auth"}:
        return False
    if error.category not in OUTAGE:
        return True
    return not (is_common or not was_answered or (error.link == "lost" and losses < LOSSES_MOST))


def after_failure(
    error: CallFailedError, attempts_used: int, max_attempts: int, chance: random.Random
) -> Retry | None:
    """Return when to try again after an attempt was used up, None to give the slot up.

    Args:
        error: The failure.
        attempts_used: The slot's attempts, this one included.
        max_attempts: The batch's bound.
        chance: The source of jitter (full jitter: any delay up to the back-off).
    """
    if attempts_used >= min(max_attempts, ATTEMPTS_MOST[error.category]):
        return None
    if error.category in {"validation", "content_filter"}:
        return Retry(0.0)
    return Retry(pause_s(error, attempts_used, chance))


def pause_s(error: CallFailedError, failures: int, chance: random.Random) -> float:
    """Return the pause that the server asks for, else a jittered one."""
    return error.retry_after_s or back_off_s(failures, chance)


def back_off_s(failures: int, chance: random.Random) -> float:
    """Return a jittered pause after the given number of failures (1 or more)."""
    ceiling = min(BACKOFF_MOST_S, BACKOFF_LEAST_S * 2 ** (failures - 1))
    return chance.uniform(min(0.1, ceiling), ceiling)


@dataclass(slots=True)
class Streak:
    """A slot's failures on one route that answered no later call: an outage, or its own doing?"""

    failures: int = 0
    _since: float = 0.0

    def note(self, started_at: float, now: float, answered_from: float) -> bool:
        """Note a failure of a call; return whether the route answers others meanwhile.

        Those count that started since the streak began: an answer may take longer than the pause
        between two failures.

        Args:
            started_at: When the call started.
            now: When it failed.
            answered_from: When the latest call started that the route has answered.
        """
        is_answering = answered_from > (self._since if self.failures else started_at)
        if is_answering or not self.failures:
            self.failures, self._since = 0, now
        self.failures += 1
        return is_answering


@dataclass(slots=True)
class _RouteVerdict:
    has_succeeded: bool = False
    alike: int = 0
    category: ErrorCategory | None = None
    dead: CallFailedError | None = None


@dataclass(slots=True)
class Verdict:
    """Decides on one node when a batch can't succeed on any of its routes.

    Wrong keys, unknown models and requests that are all refused are known at once, after a success
    by many refusals in a row; an endpoint that was never heard of is given some time.
    """

    routes: int = 1
    _of: list[_RouteVerdict] = field(init=False)
    _silent_since: float | None = None
    _last: tuple[int, CallFailedError] | None = None

    def __post_init__(self) -> None:
        self._of = [_RouteVerdict() for _ in range(self.routes)]

    @property
    def has_succeeded(self) -> bool:
        """Whether any call of the batch was answered on this node."""
        return any(route.has_succeeded for route in self._of)

    def note_success(self, route: int = 0) -> None:
        """A call was answered: the route's key and model are right."""
        known = self._of[route]
        known.has_succeeded = True
        known.category, known.dead = None, None
        self._silent_since = None

    def judge(self, error: CallFailedError, route: int) -> None:
        """Take a page in a completion's place for an outage where ``route`` has answered before."""
        is_page = error.category == "invalid_request" and error.status_code == _PAGE
        if is_page and self._of[route].has_succeeded:
            error.category = "server"

    def note_failure(self, error: CallFailedError, now: float, route: int = 0) -> None:
        """A call on ``route`` failed at ``now`` (seconds of any steady clock)."""
        known = self._of[route]
        known.alike = known.alike + 1 if error.category == known.category else 1
        known.category = error.category
        self._last = (route, error)
        if error.category in OUTAGE:
            if self._silent_since is None and not self.has_succeeded:
                self._silent_since = now
        elif error.category in {"auth", "invalid_request"}:
            if _is_for_good(known, error):
                known.dead = error
        else:
            self._silent_since = None  # a refusal for now is an answer too

    def note_refusal(self, error: CallFailedError, route: int) -> None:
        """The key of ``route`` was refused to another batch: if it never worked, it is wrong."""
        known = self._of[route]
        if not known.has_succeeded and known.dead is None and error.status_code in FATAL_STATUS:
            known.dead = error
            self._last = (route, error)

    def is_unknown(self, route: int) -> bool:
        """Tell whether ``route`` refuses every request of this batch, other than for its key."""
        dead = self._of[route].dead
        return dead is not None and dead.category == "invalid_request"

    def hopeless(self, now: float, unanswered_s: float) -> tuple[int, CallFailedError] | None:
        """Return (route, failure) that ends the batch; None while a route may yet answer.

        Args:
            now: The clock of ``note_failure``.
            unanswered_s: How long no call may be answered at all.
        """
        since = self._silent_since
        is_silent = since is not None and now - since >= unanswered_s
        return self._last if is_silent or all(route.dead for route in self._of) else None

    def note_success_elsewhere(self) -> None:
        """Another node had an answer: this one's failures are no proof against the batch."""
        self.note_success(0)


def _is_for_good(known: _RouteVerdict, error: CallFailedError) -> bool:
    # What is refused before it is sent has an address that can't be one.
    if not known.has_succeeded and (error.status_code in FATAL_STATUS or error.link == "refused"):
        return True
    if error.category == "auth":
        return known.alike >= REFUSALS_FATAL
    if not known.has_succeeded:
        return known.alike >= SAME_ERRORS_FATAL
    return known.alike >= (GONE_FATAL if error.status_code in FATAL_STATUS else SAME_ERRORS_GONE)


def fatal(failure: CallFailedError, route: Route) -> FatalError:
    """Return the error that ends a batch for ``failure`` on ``route``."""
    message = with_remedy(failure, route)
    return FatalError(failure.category, message, status_code=failure.status_code)


def with_remedy(failure: CallFailedError, route: Route) -> str:
    """Return why a batch ends, with what to do about it."""
    where = shown(route.api_base) or route.provider
    match failure.category:
        case "auth" if _lacks_credit(failure):
            account = f" of the key in {route.api_key_env}" if route.api_key_env else ""
            remedy = f"check the credit of the account{account}"
        case "auth" if failure.status_code == _PROXY:
            remedy = f"check the user and password of the proxy on the way to {where}"
        case "auth" if route.api_key_env:
            remedy = f"check the key in {route.api_key_env} where the generator runs"
        case "invalid_request" if failure.status_code == _PAGE:
            remedy = f"correct api_base: {where} has pages for people there, or is being maintained"
        case "server" | "timeout" if failure.status_code is not None:
            remedy = f"{where} answers, but with no completion; check api_base and the server there"
        case "server" | "timeout":
            remedy = f"no call to {where} was answered; check that it runs and start again"
        case _:
            remedy = f"check the model {route.model} and its endpoint {where}"
    return f"{failure.message.rstrip('.')}; {remedy}"


def _lacks_credit(failure: CallFailedError) -> bool:
    """Tell whether the key is right, and its account has nothing left to pay with."""
    return failure.status_code in {402, 429} or "credit balance" in failure.message.lower()
