"""Permits are never more than the limit, all are used, and every node gets its turn."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import permits as rules
from millstream.domain.permits import ASK_S, PERMIT_S, TURN_S, Permit

NODES = ("a", "b", "c", "d")
START = 1_767_225_600.0


@dataclass
class Route:
    """Nodes that share one route: each knows what it read or wrote last, and its own calls.

    ``limits`` has the limits of the nodes that keep another one than ``most``.
    """

    most: int
    limits: dict[str, int] = field(default_factory=dict)
    now: float = START
    stored: dict[str, Permit] = field(default_factory=dict)
    known: dict[str, dict[str, Permit]] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODES, 0))
    writes: int = 0

    def lowest(self, node: str, permits: Mapping[str, Permit]) -> int:
        """Return how many permits there are for a node that knows these."""
        limit = self.limits.get(node, self.most)
        return rules.lowest(permits, node, self.now, limit=limit)

    def ask(self, node: str, wanted: int) -> None:
        """Let a node tell that it would have ``wanted`` calls in flight."""
        used = self.running[node]
        self.stored = rules.asked(
            self.stored,
            node,
            self.now,
            most=self.lowest(node, self.stored),
            used=used,
            wanted=max(used, wanted),
            limit=self.limits.get(node, self.most),
        )
        self.known[node] = self.stored
        self.writes += 1

    def read(self, node: str) -> None:
        """Let a node learn of the others."""
        self.known[node] = self.stored

    def begin(self, node: str, wanted: int) -> None:
        """Let a node start as many calls as it may without asking."""
        known = self.known.get(node, {})
        usable = rules.kept(known, node, self.now, most=self.lowest(node, known))
        self.running[node] = max(self.running[node], min(wanted, usable))

    def round(self, node: str, wanted: int) -> None:
        """Let a node do what it does whenever something has happened."""
        self.read(node)
        self.begin(node, wanted)
        permits, used = self.known[node], self.running[node]
        most = self.lowest(node, permits)
        asks = used < wanted and rules.may_gain(permits, node, self.now, most=most)
        if asks or rules.must_give(permits, node, self.now, most=most, used=used, wanted=wanted):
            self.ask(node, wanted)
            self.begin(node, wanted)

    def renew(self, wanted: int) -> None:
        """Let all nodes renew what they hold, as they do every few seconds."""
        for node in NODES:
            if node in self.stored:
                self.ask(node, wanted)


steps = st.lists(
    st.tuples(
        st.sampled_from(NODES),
        st.sampled_from(("ask", "read", "begin", "end", "leave")),
        st.integers(0, 9),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=150,
)


@given(most=st.integers(1, 12), lower=st.integers(1, 12), steps=steps)
def test_no_more_calls_run_than_there_are_permits_whatever_nodes_know_and_do(
    most: int, lower: int, steps: list[tuple[str, str, int, float]]
) -> None:
    """One node may keep a lower limit than the others."""
    route = Route(most, {"b": min(most, lower)})
    for node, what, number, gap in steps:
        route.now += gap / 100  # nobody's permit runs out
        match what:
            case "ask":
                route.ask(node, number)
            case "read":
                route.read(node)
            case "begin":
                route.begin(node, number)
            case "end":
                route.running[node] = min(route.running[node], number)
            case _:
                route.running[node] = 0
                route.stored = rules.without(route.stored, node, route.now, most=most)
                route.known[node] = {}
        assert sum(route.running.values()) <= most
        assert sum(permit.held for permit in route.stored.values()) <= most


@settings(deadline=None, max_examples=40)
@given(most=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_all_permits_are_used_and_nobody_waits_for_ever(most: int, seed: int) -> None:
    """Calls of about a second; whatever ends, its node does what is due and the others hear."""
    chance, route = random.Random(seed), Route(most)
    made = dict.fromkeys(NODES, 0)
    for turn in range(200):
        for node in NODES:
            route.round(node, 20)
        for node in NODES:
            route.round(node, 20)
        assert sum(route.running.values()) == most
        route.now += 0.25
        for node in NODES:
            ended = sum(chance.random() < 0.25 for _ in range(route.running[node]))
            route.running[node] -= ended
            made[node] += ended
        if turn % 12 == 0:
            route.renew(20)
    assert min(made.values()) > 0.2 * max(made.values())


@pytest.mark.parametrize(
    ("most", "parts"), [(8, [2, 2, 2, 2]), (5, [1, 1, 1, 2]), (2, [0, 0, 1, 1])]
)
def test_nodes_that_want_all_get_equal_parts(most: int, parts: list[int]) -> None:
    route = Route(most)
    for node in NODES:
        for _ in range(most):
            for other in NODES[: NODES.index(node) + 1]:
                route.running[other] = max(0, route.running[other] - 1)
                route.round(other, 20)
    assert sorted(route.running.values()) == parts


def test_a_node_uses_its_permits_without_asking_while_nobody_has_fewer() -> None:
    route = Route(4)
    for node in ("a", "b"):
        route.ask(node, 20)
    route.running["a"] = 4
    for _ in range(6):  # a's calls end one by one, and b gets its half
        for node in ("a", "b"):
            route.running[node] = max(0, route.running[node] - 1)
            route.round(node, 20)
    assert (route.running["a"], route.running["b"]) == (2, 2)
    writes = route.writes
    for _ in range(20):
        route.now += 0.2
        for node in ("a", "b"):
            route.running[node] -= 1
            route.round(node, 20)
    assert route.writes == writes


def test_the_only_permit_goes_round_in_turns() -> None:
    route, turns = Route(1), list[str]()
    for turn in range(100):
        route.now += 0.1
        for node in NODES:
            route.running[node] = 0
            route.round(node, 5)
            if route.running[node] and turns[-1:] != [node]:
                turns.append(node)
        if turn % 20 == 0:
            route.renew(5)
    assert turns[:5] == ["a", "b", "c", "d", "a"]


def test_a_permit_changes_hands_with_one_write() -> None:
    now = START
    permits = rules.asked({}, "a", now, most=1, used=0, wanted=3)
    permits = rules.asked(permits, "b", now, most=1, used=0, wanted=3)
    assert (permits["a"].held, permits["b"].held) == (1, 0)
    now += TURN_S
    assert rules.must_give(permits, "a", now, most=1, used=0, wanted=3)
    permits = rules.asked(permits, "a", now, most=1, used=0, wanted=3)
    assert (permits["a"].held, permits["b"].held) == (0, 1)


def test_calls_that_run_are_never_taken_away() -> None:
    permits = rules.asked({}, "a", START, most=3, used=0, wanted=9)
    permits = rules.asked(permits, "b", START + 5, most=3, used=0, wanted=9)
    assert not rules.must_give(permits, "a", START + 5, most=3, used=3, wanted=9)
    permits = rules.asked(permits, "a", START + 5, most=3, used=3, wanted=9)
    assert (permits["a"].held, permits["b"].held) == (3, 0)


def test_the_permits_of_a_dead_node_come_back_and_it_gets_no_more() -> None:
    permits = rules.asked({}, "a", START, most=2, used=0, wanted=9)
    permits = rules.asked(permits, "b", START, most=2, used=0, wanted=1)
    later = START + PERMIT_S - 1
    permits = rules.asked(permits, "a", later, most=2, used=0, wanted=9)
    assert permits["a"].held == 2  # b has said nothing for too long to be given one
    permits = rules.asked(permits, "c", later + PERMIT_S + 0.1, most=2, used=0, wanted=9)
    assert (list(permits), permits["c"].held) == (["c"], 2)


def test_a_lower_limit_is_kept_as_soon_as_calls_end() -> None:
    route = Route(8)
    for node in ("a", "b"):
        for _ in range(8):
            route.running["a"] = max(0, route.running["a"] - (node == "b"))
            route.round("a", 20)
            route.round(node, 20)
    assert (route.running["a"], route.running["b"]) == (4, 4)
    route.most = 2
    for node in ("a", "b", "a", "b"):
        route.running[node] = 0
        route.round(node, 20)
    assert (route.running["a"], route.running["b"]) == (1, 1)


@pytest.mark.parametrize(("low", "parts"), [(5, (3, 2)), (4, (2, 2)), (1, (1, 0))])
def test_the_lowest_limit_at_work_holds_for_all_is_used_and_costs_no_writes(
    low: int, parts: tuple[int, int]
) -> None:
    """A batch pinned ten calls in flight, and one that started later pinned fewer."""
    route = Route(10, {"b": low})
    for _ in range(20):
        for node in ("a", "b"):
            route.running[node] = max(0, route.running[node] - 1)
            route.round(node, 20)
    assert (route.running["a"], route.running["b"]) == parts
    writes = route.writes
    for _ in range(8):
        route.now += 0.2
        for node in ("a", "b"):
            route.round(node, 20)
    assert route.writes == writes
    route.running["b"] = 0
    route.ask("b", 0)
    route.now += ASK_S
    route.round("a", 20)
    assert route.running["a"] == 10


def test_a_permit_of_an_earlier_version_names_no_limit_and_counts() -> None:
    text = f'{{"held": 3, "wanted": 9, "until": {START + PERMIT_S}, "since": {START}}}'
    stored = {"b": Permit.model_validate_json(text)}
    assert rules.lowest(stored, "a", START, limit=4) == 4
    permits = rules.asked(stored, "a", START, most=4, used=0, wanted=9, limit=4)
    assert {name: permit.held for name, permit in permits.items()} == {"a": 1, "b": 3}


def test_the_limit_of_a_dead_node_holds_for_nobody() -> None:
    dead = {"b": Permit(held=1, wanted=1, until=START, most=1)}
    assert rules.lowest(dead, "a", START, limit=4) == 4


def test_a_node_that_asked_in_vain_does_not_ask_again_at_once() -> None:
    until = START + PERMIT_S
    permits = {
        "a": Permit(held=1, wanted=9, until=until),
        "b": Permit(held=1, wanted=1, until=until),
    }
    assert not rules.may_gain(permits, "a", START, most=4)
    assert rules.may_gain(permits, "a", START + ASK_S, most=4)
    assert rules.may_gain(permits, "c", START, most=4)


def test_permits_of_a_clock_that_was_far_ahead_count_for_nobody() -> None:
    ahead = {"b": Permit(held=4, wanted=4, until=START + 1000)}
    permits = rules.asked(ahead, "a", START, most=4, used=0, wanted=4)
    assert {name: permit.held for name, permit in permits.items()} == {"a": 4}
    assert rules.kept(ahead, "b", START, most=4) == 0


def test_others_have_the_permits_of_a_silent_node_once_its_calls_have_surely_ended() -> None:
    permits = rules.asked({}, "a", START, most=2, used=0, wanted=2, calls_s=30.0)
    early, late = START + PERMIT_S + 29, START + PERMIT_S + 31
    assert rules.asked(permits, "b", early, most=2, used=0, wanted=2)["b"].held == 0
    assert rules.asked(permits, "b", late, most=2, used=0, wanted=2)["b"].held == 2
    for_ever = rules.asked({}, "a", START, most=2, used=0, wanted=2, calls_s=10**6)
    assert for_ever["a"].calls_s == rules.CALLS_MOST_S
