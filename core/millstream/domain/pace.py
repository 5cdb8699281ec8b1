"""How many calls a second a route takes that refuses some: learned by all nodes together.

Pure. The pace lies in the route's document, so any number of nodes try a provider out as one. It
grows by itself, slowly at first and ever faster, which costs no write. Refusals are counted against
the calls that were made: few of them are what trying costs, more of them cut the pace down to the
part that was taken. So a pace settles a little above what a provider allows.
"""

import math
from typing import Annotated

from pydantic import Field

from millstream_schemas.envelope import Contract

TOLERATED = 0.1
"""The share of calls that may be refused before the pace is cut: 5 % of them at random never do."""
CUT_MOST = 0.25
"""A cut leaves no less of the pace than this; the next one follows soon where that is too much."""
CUT_LEAST = 0.85
LOST_MOST = 8.0
"""A provider that refuses more calls in a row than this is out, whatever the pace."""
GUESS = 0.5
"""What is left of a pace, of which nothing was counted yet, by its first refusal."""
GUESS_LEAST = 4.0
"""A provider that refuses all calls tells no pace: it is asked again with so many a second."""
GUESS_MOST = 2.0
"""So many refusals in a row are soon asked again while the pace is a guess."""
RATE_LEAST = 0.01
TAKEN_BEFORE = 8.0
"""A pace that was measured counts as so many calls that were taken: few refusals are chance."""
SLOW_CALLS = 120.0
SLOW_LEAST_S = 45.0
SLOW_MOST_S = 120.0
"""A pace that was cut by what was counted grows in the time of so many calls, in these bounds: by a
tenth in 0.3 of it, to twice as much in 0.8 of it, tenfold in 1.5 of it."""
QUICK_S = 4.0
"""The same for one that was guessed: it is a hundred times as much after 9 s."""
GROWTH_MOST = 2.6
"""After so many of these times, near a thousandfold, a route is free again."""
COUNTED_LEAST = 40.0
COUNTED_S = 5.0
"""Counts reach back to so many calls, or over so many seconds where these are more."""


class Pace(Contract):
    """What is known of a route's pace.

    ``rate`` is what it was cut to at ``cut_at``, ``before`` what it was cut from, ``whole`` what it
    was when its provider first refused a call: calls a second. ``tried`` and ``refused`` count the
    calls since the last cut, or those that led to it (``is_cut``) until one after it is counted.
    ``lost`` were refused one after the other before the last cut.
    """

    rate: Annotated[float, Field(ge=RATE_LEAST)]
    cut_at: float
    before: float
    whole: float
    is_guess: bool = True
    is_cut: bool = True
    tried: Annotated[float, Field(ge=0)] = 0.0
    refused: Annotated[float, Field(ge=0)] = 0.0
    lost: Annotated[float, Field(ge=0)] = 0.0


def rate(pace: Pace | None, now: float, held_until: float) -> float:
    """Return how many calls a second may start, infinite on a route that refuses none.

    Args:
        pace: What is known.
        now: The present.
        held_until: When the last cooldown ends: the pace stands still until then.
    """
    if pace is None:
        return math.inf
    since = max(0.0, now - max(pace.cut_at, held_until))
    grown = since / (QUICK_S if pace.is_guess else _slow_s(pace))
    return math.inf if grown >= GROWTH_MOST else pace.rate * math.exp(grown * grown)


def _slow_s(pace: Pace) -> float:
    return min(SLOW_MOST_S, max(SLOW_LEAST_S, SLOW_CALLS / pace.rate))


def put_to(pace: Pace, now: float) -> Pace:
    """Return the pace with no time of it after ``now``."""
    return pace.model_copy(update={"cut_at": min(pace.cut_at, now)})


def tried(pace: Pace, calls: int, rate_now: float) -> Pace:
    """Return the pace after ``calls`` were started at the rate of now."""
    before, refused = (0.0, 0.0) if pace.is_cut else (pace.tried, pace.refused)
    most = max(COUNTED_LEAST, COUNTED_S * min(rate_now, 1e6))
    keep = 0.5 if before + calls > most else 1.0
    update = {"tried": keep * before + calls, "refused": keep * refused, "is_cut": False}
    return pace.model_copy(update=update)


def refused(pace: Pace) -> Pace:
    """Return the pace after one call more was refused: no cut, but it is counted."""
    more = pace.refused + 1
    return pace.model_copy(update={"refused": more, "tried": max(pace.tried, more)})


def is_tolerable(pace: Pace) -> bool:
    """Tell whether so few calls were refused since the last cut that it was worth to try."""
    return not pace.is_cut and pace.refused <= max(1.0, TOLERATED * (pace.tried + TAKEN_BEFORE))


def is_storm(pace: Pace) -> bool:
    """Tell whether refusals of late are so many that they hardly tell a pace."""
    in_a_row = pace.lost + pace.refused
    if pace.is_guess:
        return pace.refused > pace.tried / 2 and in_a_row > GUESS_MOST
    return pace.refused >= pace.tried and in_a_row > LOST_MOST


def first(calls: int, whole: float, now: float) -> Pace:
    """Return the pace of a route whose calls were free until one of them was refused.

    Args:
        calls: How many were in flight, that one included.
        whole: Its rate until now, calls a second.
        now: The present.
    """
    whole = max(whole, GUESS_LEAST / GUESS)
    return Pace(rate=GUESS * whole, cut_at=now, before=whole, whole=whole, tried=calls, refused=1.0)


def cut(pace: Pace, now: float, rate_now: float, *, is_out: bool = False) -> Pace:
    """Return the pace cut to the part of the calls that was taken.

    Args:
        pace: With all refusals counted.
        now: The present.
        rate_now: Its rate until now.
        is_out: Whether all calls have been refused for a while, which tells no pace.
    """
    was_guess, is_all = pace.is_guess or is_out, pace.refused >= pace.tried
    is_far = pace.refused > pace.tried / 2 and rate_now > 2 * GUESS_LEAST
    return pace.model_copy(
        update={
            "rate": _left(pace.model_copy(update={"is_guess": was_guess}), rate_now),
            "before": rate_now,
            "cut_at": now,
            "is_cut": True,
            "is_guess": was_guess and (is_out or is_all or is_far),
            "lost": pace.lost + pace.refused if is_all else 0.0,
        }
    )


def deepened(pace: Pace) -> Pace:
    """Return a pace that was just cut after one call more from before the cut was refused."""
    made = refused(pace)
    return made.model_copy(update={"rate": min(pace.rate, _left(made, pace.before))})


def _left(pace: Pace, before: float) -> float:
    left = before * min(CUT_LEAST, max(CUT_MOST, 1 - pace.refused / _counted(pace)))
    return max(left, RATE_LEAST, min(GUESS_LEAST, before) if pace.is_guess else 0.0)


def _counted(pace: Pace) -> float:
    return pace.tried + (0.0 if pace.is_guess else TAKEN_BEFORE)
