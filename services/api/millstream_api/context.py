"""What the routes work with, made once per process."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.models import ModelBook
from millstream.recipes import RecipeBook
from millstream.runtime.settings import Settings
from millstream_api.bulk import Bulk
from millstream_api.children import Children
from millstream_api.commands import Commands
from millstream_api.reads import Reads
from millstream_api.relay.hub import Hub
from millstream_api.webhooks.registry import Webhooks
from millstream_schemas.envelope import Actor


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the API."""

    settings: Settings
    hub: Hub
    reads: Reads
    commands: Commands
    children: Children
    bulk: Bulk
    models: ModelBook
    recipes: RecipeBook
    nodes: Nodes
    event_log: EventLog
    webhooks: Webhooks


async def get_context(request: Request) -> Context:
    """Return the parts of the API that serves ``request``."""
    context: Context = request.app.state.context
    return context


async def get_actor(request: Request) -> Actor:
    """Return who asks, as the gateway found out."""
    actor: Actor = request.state.actor
    return actor


Parts = Annotated[Context, Depends(get_context)]
Asker = Annotated[Actor, Depends(get_actor)]
MinSequence = Annotated[
    int, Query(ge=0, lt=2**63, description="Answer only once everything up to it is folded.")
]
