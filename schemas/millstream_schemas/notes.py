"""Note events: annotations that never touch a batch's state or its version."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from millstream_schemas.envelope import BatchEvent, BatchId, Contract

StuckRule = Literal["no_worker", "no_progress", "lost_node", "stop_overdue", "poison"]


class StuckFinding(Contract):
    """Why a batch counts as stuck, in words for a person."""

    rule: StuckRule
    since: AwareDatetime
    idle_s: Annotated[float, Field(ge=0)]
    threshold_s: Annotated[float, Field(gt=0)]
    cause: Annotated[str, StringConstraints(max_length=500)]
    suggestion: Annotated[str, StringConstraints(max_length=500)] = ""


class HeldUp(Contract):
    """Why a batch waits, and until when: a limit, a provider's or ours, or one that fails."""

    kind: Literal["throttled", "blocked"]
    model: str
    since: AwareDatetime
    until: AwareDatetime
    message: Annotated[str, StringConstraints(max_length=500)] = ""


class StuckDetected(BatchEvent):
    """A watchdog found the batch stuck."""

    type: Literal["batch.stuck_detected.v1"] = "batch.stuck_detected.v1"
    finding: StuckFinding


class StuckCleared(BatchEvent):
    """A batch that was stuck goes on, or ended."""

    type: Literal["batch.stuck_cleared.v1"] = "batch.stuck_cleared.v1"
    rule: StuckRule


class BudgetWarned(BatchEvent):
    """A budget is used to the given share (0..1)."""

    type: Literal["batch.budget_warned.v1"] = "batch.budget_warned.v1"
    budget: Literal["cost", "tokens", "duration", "failures", "attempts"]
    used: Annotated[float, Field(ge=0)]


class RouteThrottled(BatchEvent):
    """A provider asked for fewer calls, or the route's own limit lets none start for a while.

    Written once per route and cooldown, and once per such wait.
    """

    type: Literal["route.throttled.v1"] = "route.throttled.v1"
    model: str
    until: AwareDatetime
    message: Annotated[str, StringConstraints(max_length=500)] = ""


class RouteBlocked(BatchEvent):
    """Calls to a route fail one after the other: none starts until a probe at ``until``."""

    type: Literal["route.blocked.v1"] = "route.blocked.v1"
    model: str
    until: AwareDatetime
    failures: Annotated[int, Field(ge=0)] = 0
    message: Annotated[str, StringConstraints(max_length=500)] = ""


class RouteRecovered(BatchEvent):
    """A route that was throttled or blocked answers again."""

    type: Literal["route.recovered.v1"] = "route.recovered.v1"
    model: str


class RouteNotDirect(BatchEvent):
    """Calls to a route go through litellm, since its endpoint can't be called without it.

    Written once per batch and route. Such a call takes twenty times the processor time.
    """

    type: Literal["route.not_direct.v1"] = "route.not_direct.v1"
    model: str
    route: str
    message: Annotated[str, StringConstraints(max_length=500)] = ""


class ChildStarted(BatchEvent):
    """What this ended batch left open is made by a child of the same dataset.

    One ``continue`` only, and before it one ``retry_failed`` at most, so no slot is made twice.
    """

    type: Literal["batch.child_started.v1"] = "batch.child_started.v1"
    child_id: BatchId
    kind: Literal["retry_failed", "continue"]
    slots: Annotated[int, Field(ge=1)]
