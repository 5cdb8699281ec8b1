"""The service: connect, follow the log, serve until stopped, close in reverse order."""

import asyncio
import gc
from collections.abc import Callable

import structlog

from millstream.eventlog.buckets import Bucket
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes, keep_beating
from millstream.eventlog.topology import ensure_topology
from millstream.models import ModelBook
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.access import tls_files, trusted_proxies
from millstream.runtime.clock import boot_seconds, new_id, utc_now
from millstream.runtime.settings import Settings
from millstream_api.app import create_app
from millstream_api.auth import Guard
from millstream_api.background import Background
from millstream_api.bulk import Bulk
from millstream_api.children import Children
from millstream_api.command_context import CommandContext
from millstream_api.commands import Commands
from millstream_api.context import Context
from millstream_api.gateway import Gateway
from millstream_api.idempotency import IdempotencyKeys
from millstream_api.measures import Measures
from millstream_api.page import Page
from millstream_api.queries import Queries
from millstream_api.reads import Reads
from millstream_api.refusals import Refusals
from millstream_api.relay.endpoint import Relay
from millstream_api.relay.feed import feed_hub, watch_stream
from millstream_api.relay.hub import Hub
from millstream_api.relay.limits import Limits
from millstream_api.relay.replay import Replay
from millstream_api.revoking import end_revoked
from millstream_api.server import bind, serve
from millstream_api.webhooks.deliverer import Deliverer
from millstream_api.webhooks.lead import Lead
from millstream_api.webhooks.messages import Messages
from millstream_api.webhooks.registry import Webhooks
from millstream_api.webhooks.sending import Sender
from millstream_api.webhooks.store import WebhookStore
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()


async def main(settings: Settings, stop: asyncio.Event, *, owns_process: bool = False) -> None:
    """Serve until ``stop``; ``owns_process``: nothing else runs in this process.

    Raises:
        SettingsError: a setting can't be used, or the port is taken.
        LogUnavailableError: no NATS server answers.
        LogError: the stream was replaced by another; a restart begins anew with it.
    """
    guard = Guard.load(settings)
    tls, proxies = tls_files(settings), trusted_proxies(settings)
    models = ModelBook.load(settings)
    recipes = RecipeBook.load(recipe_directories(settings.recipes_dir))
    listener = bind(settings.host, settings.port)
    try:
        async with (
            connected(settings, "api") as connection,
            Sender(may_be_private=settings.webhook_private) as sender,
            asyncio.TaskGroup() as tasks,
        ):
            await ensure_topology(connection, settings)
            event_log = EventLog(connection)
            hub, limits = Hub(), Limits()
            background = Background(tasks)
            refusals = Refusals(event_log, background, node=settings.node)
            store = WebhookStore(Bucket(event_log.answers, subjects.WEBHOOKS_BUCKET))
            deliverer = _deliverer(settings, event_log, hub, store=store, sender=sender)
            context = _context(
                settings,
                event_log,
                hub,
                limits=limits,
                models=models,
                recipes=recipes,
                background=background,
                refusals=refusals,
                webhooks=Webhooks(store, sender, hub),
            )
            replay = Replay(event_log)
            app = Gateway(
                api=create_app(context),
                relay=Relay(hub, replay, limits, clock=event_log.time.now),
                page=Page(),
                guard=guard,
                measures=Measures(hub, replay, deliverer.outcomes),
                refusals=refusals,
            )
            forever = [
                tasks.create_task(feed_hub(event_log, hub)),
                tasks.create_task(watch_stream(event_log, hub)),
                tasks.create_task(limits.follow(connection, hub)),
                tasks.create_task(hub.flush_changes()),
                tasks.create_task(hub.beat()),
                tasks.create_task(hub.cut_stuck()),
                tasks.create_task(end_revoked(guard, hub)),
                tasks.create_task(deliverer.run()),
            ]
            tasks.create_task(keep_beating(context.nodes, stop, _beats(settings, event_log, hub)))
            host, port = listener.getsockname()[:2]
            log.info("api.listening", url=f"{'https' if tls else 'http'}://{host}:{port}")
            if owns_process:
                gc.collect()
                gc.freeze()  # What lives now lives for ever: no collection looks at it again.
            await serve(app, hub, listener, stop, tls=tls, proxies=proxies)
            for task in forever:
                task.cancel()
            background.cancel()
            await deliverer.leave()
    finally:
        listener.close()


def _context(
    settings: Settings,
    event_log: EventLog,
    hub: Hub,
    *,
    limits: Limits,
    models: ModelBook,
    recipes: RecipeBook,
    background: Background,
    refusals: Refusals,
    webhooks: Webhooks,
) -> Context:
    reads = Reads(hub, Queries(event_log.answers, event_log.begun_at), limits)
    shared = CommandContext(
        event_log=event_log,
        hub=hub,
        keys=IdempotencyKeys(Bucket(event_log.answers, subjects.IDEMPOTENCY_BUCKET)),
        models=models,
        recipes=recipes,
        settings=settings,
        background=background,
        refusals=refusals,
    )
    commands, children = Commands(shared), Children(shared)
    return Context(
        settings=settings,
        hub=hub,
        reads=reads,
        commands=commands,
        children=children,
        bulk=Bulk(shared, commands, children, reads),
        models=models,
        recipes=recipes,
        nodes=Nodes(event_log.answers),
        event_log=event_log,
        webhooks=webhooks,
    )


def _deliverer(
    settings: Settings, event_log: EventLog, hub: Hub, *, store: WebhookStore, sender: Sender
) -> Deliverer:
    lead = Lead(store.bucket, f"{settings.node} {new_id()}")
    return Deliverer(store, Messages(event_log), sender, hub, lead)


def _beats(settings: Settings, event_log: EventLog, hub: Hub) -> Callable[[], NodeBeat]:
    started_at, began_s = utc_now(), boot_seconds()

    def beat() -> NodeBeat:
        return NodeBeat(
            node=settings.node,
            service="api",
            started_at=started_at,
            up_s=round(boot_seconds() - began_s, 3),
            sequence=hub.sequence,
            due_sequence=hub.due,
            clock_ahead_s=event_log.time.clock_ahead_s(),
        )

    return beat
