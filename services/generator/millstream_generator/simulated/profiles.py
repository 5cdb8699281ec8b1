"""The simulated profiles: how fast a model answers, and how often and how it fails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Failure = Literal[
    "rate_limited",
    "server_error",
    "overloaded",
    "stalled_stream",
    "garbage",
    "half_json",
    "nul",
    "length",
    "content_filter",
]
"""What can be wrong with an answer; each falls into one error category of the contract."""

FLAKY: Mapping[Failure, float] = {
    "rate_limited": 0.020,
    "server_error": 0.012,
    "overloaded": 0.012,
    # A stalled stream holds its caller for the whole stall limit, so it is kept rare.
    "stalled_stream": 0.002,
    "garbage": 0.006,
    "half_json": 0.008,
    "nul": 0.004,
    "length": 0.010,
    "content_filter": 0.006,
}
"""Share of the requests that fail in each way; 8 % together."""

FIRST_TOKEN_SHARE = 0.4
"""Part of the latency that passes before the first token."""

MAX_LATENCY_MS = 600_000
_CUSTOM = re.compile(r"custom-([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Profile:
    """How a simulated model behaves.

    ``latency_s`` runs from the request to the last token. ``answers_before_stall`` counts per
    stream of requests (see `SimulatedServer`); None means that it never stalls by count.
    """

    name: str
    latency_s: float
    failures: Mapping[Failure, float]
    answers_before_stall: int | None = None

    @property
    def chunks(self) -> int:
        """How many chunks carry the text: few for short answers, since each costs a wake-up."""
        return 4 if self.latency_s <= 0.5 else 8

    def failure(self, draw: float) -> Failure | None:
        """Return what goes wrong with the request that drew `draw`, a number in [0, 1)."""
        threshold = 0.0
        for failure, share in self.failures.items():
            threshold += share
            if draw < threshold:
                return failure
        return None


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("fast", 0.05, {}),
        Profile("slow", 2.0, {}),
        Profile("flaky", 0.05, FLAKY),
        Profile("stall", 0.05, {}, answers_before_stall=10),
        Profile("instant", 0.0, {}),
    )
}


def profile_named(name: str) -> Profile | None:
    """Return the profile of a model name, or None if there is none.

    Besides `PROFILES` there is ``custom-<ms>``: that latency, no failures, at most 600,000 ms.
    """
    known = PROFILES.get(name)
    if known is not None:
        return known
    custom = _CUSTOM.fullmatch(name)
    if custom is None or int(custom[1]) > MAX_LATENCY_MS:
        return None
    return Profile(name, int(custom[1]) / 1000, {})
