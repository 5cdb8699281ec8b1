"""What limits batches, over all nodes: what each of them said, put together and into words."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from millstream_schemas.limited import InLine, LimitedBy, LimitedRoute, LimitKind, NodeLimits

_UNITS = {"requests": "requests a minute", "tokens": "tokens a minute"}
_LEAST_TOLD = 0.01


@dataclass(frozen=True, slots=True)
class Limited:
    """A batch that a limit slows down, and all batches that use the same route, this one too.

    One set serves all of them: with one each, a thousand batches would cost a million.
    """

    by: LimitedBy
    at_work: frozenset[str]

    @property
    def is_idle(self) -> bool:
        """Whether none of the batch's calls runs: it has to wait for the others'."""
        return self.by.in_flight == 0


def limited_batches(words: Iterable[NodeLimits]) -> dict[str, Limited]:
    """Return the batches that a limit slows down, by what all nodes say at one moment.

    One that waits on two routes is told of the one where more of its calls do.
    """
    routes: dict[str, list[LimitedRoute]] = defaultdict(list)
    for word in words:
        for route in word.routes:
            routes[route.key].append(route)
    found: dict[str, Limited] = {}
    for _, parts in sorted(routes.items()):
        for batch_id, limited in _on_one_route(parts):
            known = found.get(batch_id)
            if known is None or known.by.waiting < limited.by.waiting:
                found[batch_id] = limited
    return found


def _on_one_route(parts: list[LimitedRoute]) -> Iterator[tuple[str, Limited]]:
    lines: dict[str, list[tuple[LimitedRoute, InLine]]] = defaultdict(list)
    for part in parts:
        for batch_id, line in part.batches.items():
            lines[batch_id].append((part, line))
    at_work = frozenset(lines)
    for batch_id in sorted(lines):
        own = lines[batch_id]
        told = [one for one in own if one[1].is_limited and one[0].kind is not None]
        if told:
            by = _limited_by(told, [line for _, line in own], len(lines) - 1)
            yield batch_id, Limited(by, at_work)


def _limited_by(
    told: list[tuple[LimitedRoute, InLine]], lines: list[InLine], shared_with: int
) -> LimitedBy:
    """Return the limit as the node tells it on which most calls wait, with all nodes' numbers."""
    said = max(told, key=lambda one: (one[1].waiting, one[0].kind or ""))[0]
    kind = said.kind or "calls"
    alike = [part for part, _ in told if part.kind == kind]
    limit = min(part.limit for part in alike)
    taken = min(limit, max(part.taken for part in alike)) if kind == "calls" else 0
    share = min(part.share for part in alike)
    # Where one node's calls may start at any moment, so may the batch's.
    moments = [line.next_at for _, line in told]
    known = [moment for moment in moments if moment is not None]
    return LimitedBy(
        kind=kind,
        model=said.model,
        limit=limit,
        taken=taken,
        share=share,
        in_flight=sum(line.in_flight for line in lines),
        waiting=sum(line.waiting for line in lines),
        shared_with=shared_with,
        next_at=min(known) if len(known) == len(moments) else None,
        message=limit_in_words(kind, limit, taken=taken, share=share, shared_with=shared_with),
    )


def limit_in_words(
    kind: LimitKind, limit: int, *, taken: int, share: float, shared_with: int
) -> str:
    """Return what a batch waits for: "its route's limit: 5 of 5 calls in flight"."""
    words = f"{taken} of {limit} calls in flight" if kind == "calls" else ""
    words = f"{limit:,} {_UNITS[kind]}" if kind in _UNITS else words
    if share < 1:
        percent = f"{share:.0%}" if share >= _LEAST_TOLD else f"less than {_LEAST_TOLD:.0%}"
        part = f"{percent} of its usual pace after too many requests"
        words = f"{words}, {part}" if words else part
    if shared_with:
        batches = "1 other batch" if shared_with == 1 else f"{shared_with} other batches"
        words += f" (shared with {batches})"
    return f"its route's limit: {words}"
