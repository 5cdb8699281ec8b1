"""What the API answers beyond the projector's views: commands, catalogues, nodes and problems."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from millstream_schemas.envelope import Contract
from millstream_schemas.routes import Price
from millstream_schemas.views import BatchView, State


class CommandAnswer(Contract):
    """The batch after a command; ``sequence`` is what a later read may wait for."""

    batch: BatchView
    sequence: int


class BulkItem(Contract):
    """One batch's outcome as an HTTP status; ``detail`` tells why when it was refused.

    ``child_id`` is the child that was started, or the one that the batch has already.
    ``changed`` tells whether the command changed something (in a dry run: would change), which it
    does not where the batch refused it or was so already.
    """

    id: str
    status: int
    detail: str | None = None
    state: State | None = None
    child_id: str | None = None
    changed: bool = False


class BulkAnswer(Contract):
    """The outcome of each batch, in the order asked for; all events carry ``command_id``.

    A dry run tells what would happen; nothing was changed.
    """

    command_id: str
    dry_run: bool = False
    results: tuple[BulkItem, ...]


class SampleTypeChoice(Contract):
    """A sample type that a recipe offers."""

    id: str
    name: str


class RecipeChoice(Contract):
    """What a start form needs of a recipe."""

    name: str
    title: str
    description: str
    topics: tuple[str, ...]
    difficulties: tuple[str, ...]
    sample_types: tuple[SampleTypeChoice, ...]


class RecipeList(Contract):
    """All recipes; ``broken`` tells of each file that can't be used why."""

    recipes: tuple[RecipeChoice, ...]
    default: str
    broken: dict[str, str]


class LargestCall(Contract):
    """The most that one call of a batch may use; a budget below it lets none start: it is refused.

    Null is what nobody knows: the price, or all of a recipe that is too large to be searched.
    """

    tokens: int | None = None
    cost_nano_usd: int | None = None


class ModelChoice(Contract):
    """A model that can be named; ``reason`` tells what is missing when it is not available."""

    id: str
    name: str
    kind: str
    provider: str
    available: bool
    reason: str | None = None
    price: Price | None = Field(None, description="Of its first route; null: nobody knows it.")


class ModelList(Contract):
    """All named models; ``default`` is null when none is ready."""

    models: tuple[ModelChoice, ...]
    default: str | None


class RouteHealth(Contract):
    """How one route to a model does, as a generator knows it, or all of them together.

    Limits and trouble are what all nodes share; a key that is refused is refused on one node.
    """

    key: str = Field(description="Names the route among nodes: model, address and key's variable.")
    model: str
    provider: str
    litellm_model: str
    address: str | None = Field(
        None, description="Where its calls go, without a user or a password; null: litellm decides."
    )
    state: Literal["ok", "throttled", "blocked"] = Field(
        description="Throttled: the provider asked for a pause. Blocked: calls failed in a row, and"
        " single probes find out when it takes calls again."
    )
    until: datetime | None = Field(None, description="When it is tried again, if it is not ok.")
    cause: str = ""
    share: float = Field(
        1.0, description="Part of its usual pace that it gets after a 429: 1 is all of it."
    )
    in_flight: int = 0
    waiting: int = Field(0, description="Calls that wait for their turn.")
    rpm: int | None = Field(None, description="Requests a minute that all nodes may send.")
    tpm: int | None = Field(None, description="Tokens a minute over all nodes.")
    max_concurrency: int | None = Field(None, description="Calls in flight over all nodes.")


class RouteView(RouteHealth):
    """One route over all generators that use it: calls summed, the worst of their states."""

    nodes: tuple[str, ...]


class RouteList(Contract):
    """The routes that living generators have used since their starts; a beat comes every 3 s."""

    routes: tuple[RouteView, ...]


class NodeBeat(Contract):
    """One sign of life of one process."""

    node: str
    service: str
    pool: str = "default"
    in_flight: int = 0
    started_at: datetime = Field(description="By its own wall clock; in a view by the log's.")
    up_s: float | None = Field(None, description="Seconds since then, whatever the clock says.")
    sequence: int = Field(0, description="Up to which it has folded the log.")
    due_sequence: int | None = Field(
        None, description="Where it saw the log end a second or more before this beat."
    )
    note: str | None = Field(None, description="Why the node starts no call, if it does not.")
    alarm: str = Field(
        "", description="What a projector found wrong with the log, or how far it lags behind it."
    )
    clock_ahead_s: float | None = Field(
        None,
        description="How far its wall clock is ahead of the log's (NATS's), negative: behind; null"
        " while it does not know. Nothing but the time that events carry for display hangs on it.",
    )
    is_full: bool = Field(False, description="Whether a generator takes no further slice now.")
    unreadable: int = Field(
        0,
        description="Events that a projector, since its start, could not read: of a newer version's"
        " types, or no events at all. They stay in the log.",
    )
    routes: tuple[RouteHealth, ...] = Field(
        (), description="The routes that a generator has used, those with trouble first."
    )


class NodeView(NodeBeat):
    """One process: what it last said of itself, when that was, and how far behind the log it is."""

    beat_at: datetime = Field(description="When it last gave a sign of life; one comes every 3 s.")
    lag: int | None = Field(
        None,
        description="Events that, at its last beat, had been in the log for a second or more and"
        " that it had not folded yet; null for those that fold none.",
    )


class NodeList(Contract):
    """The processes that beat within the last ten seconds, as of the log's end ``as_of``.

    ``services`` counts them by service; one that is missing there has no living process.
    ``alarms`` repeats what any of them found wrong, as `node: words`.
    """

    nodes: tuple[NodeView, ...]
    services: dict[str, int]
    alarms: tuple[str, ...] = ()
    as_of: int


class Health(Contract):
    """Whether the process lives, or is ready and up to which sequence."""

    status: str
    as_of: int = 0


class Alive(Health):
    """The process lives; ``page`` names the build of the page that it gives, if that is known."""

    page: str | None = None


class About(Contract):
    """What answers: its version, and the event stream that it reads.

    ``epoch`` is equal for as long as the stream is the same one: it comes with every stream's ids.
    """

    version: str
    stream: str
    epoch: str
    as_of: int
    page: str | None = Field(None, description="The build of the page that it gives.")


class FieldProblem(Contract):
    """One thing that was wrong with a request; ``value`` is shortened text."""

    field: str
    message: str
    value: str | int | bool | None = None


class Problem(Contract):
    """application/problem+json (RFC 9457); ``allowed`` names the commands that a batch takes."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()
    batch_id: str | None = None
    state: str | None = None
    allowed: tuple[str, ...] | None = None
    child_id: str | None = None
