"""What a node tells all who ask of a route: its trouble, its pace and who waits for it."""

from datetime import UTC, datetime

from millstream.domain import limits as rules
from millstream_generator.gate import Gate
from millstream_schemas.answers import RouteHealth


def health_of(gate: Gate, address: str | None) -> RouteHealth:
    """Return how the gate's route, which leads to ``address``, does as far as this node knows."""
    condition, limits = gate.condition, gate.condition.limits
    trouble = condition.trouble(may_probe=False)
    return RouteHealth(
        key=condition.key,
        model=condition.model,
        provider=condition.route.provider,
        litellm_model=condition.route.litellm_model,
        address=address,
        state=trouble.kind if trouble else "ok",
        until=datetime.fromtimestamp(trouble.until, UTC) if trouble else None,
        cause=trouble.message if trouble else "",
        share=round(rules.share(condition.state, condition.now()), 3),
        in_flight=gate.in_flight,
        waiting=len(gate.line.waiting()),
        rpm=None if limits.rpm is None else int(limits.rpm),
        tpm=None if limits.tpm is None else int(limits.tpm),
        max_concurrency=limits.concurrency,
    )
