"""The streams, consumers and buckets, made or brought up to date; safe to run at every start.

Where NATS has users, the admin's alone makes them (`millstream admin init`) and services look
whether they are there: who may make a consumer may have any event delivered to any subject.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from nats.aio.client import Client

from millstream.errors import LogError, LogUnavailableError, SettingsError
from millstream.eventlog.answers import Answers
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import Settings
from millstream_schemas import subjects

log = structlog.get_logger()

NANOSECOND = 1_000_000_000
BEAT_TTL_S = 10
IDEMPOTENCY_TTL_S = 24 * 3600
STREAM_EXISTS = 10058
ABSENT = 404
API_S = 10.0
MADE_ONCE = {"max_bytes", "first_seq"}
"""What depends on the machine and the moment of the making."""


async def ensure_topology(
    connection: Client, settings: Settings, *, takes_work: bool = False
) -> None:
    """Make what is missing; with a NATS user of its own, only look whether all is there.

    ``takes_work``: the consumers of the pool are needed too.

    Raises:
        SettingsError: the pool's lease contradicts an existing consumer and can't be changed.
        LogError: the server refused, or something is missing; the message says what to do.
        LogUnavailableError: no JetStream answered.
    """
    if settings.nats_user:
        answers = Answers(connection)
        await _check_streams(answers, settings)
        if takes_work:
            await _check_work_consumers(answers, settings)
    else:
        await make_topology(connection, settings, (settings.pool,))


async def make_topology(connection: Client, settings: Settings, pools: Sequence[str]) -> None:
    """Make every stream and bucket that is missing, and the consumers of ``pools``.

    Raises as ``ensure_topology``; LogRefusedError when the NATS user is not the admin's.
    """
    answers = Answers(connection)
    for config in _streams(settings):
        await _ensure_stream(answers, settings, config)
    for pool in pools:
        await ensure_work_consumers(answers, settings.model_copy(update={"pool": pool}))


def _streams(settings: Settings) -> list[dict[str, Any]]:
    buckets = (
        (subjects.NODES_BUCKET, BEAT_TTL_S),
        (subjects.LIMITS_BUCKET, 0),
        (subjects.IDEMPOTENCY_BUCKET, IDEMPOTENCY_TTL_S),
        (subjects.WEBHOOKS_BUCKET, 0),
    )
    return [
        _events(settings),
        _work(settings),
        _audit(settings),
        *(_bucket(name, ttl_s, settings) for name, ttl_s in buckets),
    ]


async def _check_streams(answers: Answers, settings: Settings) -> None:
    """Raise LogError when something is missing; what merely differs is logged."""
    for wanted in _streams(settings):
        name = wanted["name"]
        found = await _found(answers, f"STREAM.INFO.{name}", f"stream {name}")
        differing = sorted(
            key
            for key, value in wanted.items()
            if key not in MADE_ONCE and found["config"].get(key, value) != value
        )
        if differing:
            remedy = "run `millstream admin init` of this version with the same settings"
            log.warning("stream.differs", stream=name, fields=differing, remedy=remedy)


async def _check_work_consumers(answers: Answers, settings: Settings) -> None:
    for priority in subjects.PRIORITIES:
        name = subjects.work_consumer(settings.pool, priority)
        where = f"CONSUMER.INFO.{subjects.WORK}.{name}"
        found = await _found(answers, where, f"consumer {name}")
        lease_s = found["config"]["ack_wait"] / NANOSECOND
        if lease_s != settings.lease_s:
            raise SettingsError(
                f"MILLSTREAM_LEASE_S={settings.lease_s:g} but consumer {name} has {lease_s:g} s; "
                "run `millstream admin init` with that setting, or correct it here"
            )


async def _found(answers: Answers, where: str, what: str) -> dict[str, Any]:
    document = await _call(answers, where, {})
    error = document.get("error")
    if error is None:
        return document
    if error.get("code") == ABSENT:
        raise LogError(
            f"NATS has no {what}; run `millstream admin init` with the admin's NATS user first"
        )
    raise LogUnavailableError(f"{what}: {error.get('description')}")


async def ensure_work_consumers(answers: Answers, settings: Settings) -> None:
    """Make the durable pull consumers of this pool, one per priority."""
    for priority in subjects.PRIORITIES:
        name = subjects.work_consumer(settings.pool, priority)
        config = {
            "durable_name": name,
            "filter_subject": subjects.work_filter(settings.pool, priority),
            "ack_policy": "explicit",
            "ack_wait": int(settings.lease_s * NANOSECOND),
            "max_deliver": -1,
            "max_ack_pending": 100_000,
            "deliver_policy": "all",
            "replay_policy": "instant",
        }
        request = {"stream_name": subjects.WORK, "config": config}
        document = await _call(answers, f"CONSUMER.DURABLE.CREATE.{subjects.WORK}.{name}", request)
        if "error" in document:
            raise SettingsError(
                f"consumer {name} can't take MILLSTREAM_LEASE_S={settings.lease_s:g}: "
                f"{document['error'].get('description')}"
            )


def free_store_bytes(path: Path, stored: int = 0) -> int:
    """Return 80 % of the disk at ``path`` that is free, or taken by the ``stored`` bytes."""
    while not path.exists():
        path = path.parent
    return int((shutil.disk_usage(path).free + stored) * 0.8)


def _events(settings: Settings) -> dict[str, Any]:
    return {
        "name": subjects.EVENTS,
        "subjects": [subjects.ALL_EVENTS],
        "max_bytes": min(settings.max_bytes, free_store_bytes(settings.data_dir)),
        "discard": "new",
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {"src": subjects.ALL_EVENTS, "dest": subjects.LIVE_EVENTS},
        "num_replicas": settings.replicas,
        "storage": "file",
        "retention": "limits",
    }


def _work(settings: Settings) -> dict[str, Any]:
    return {
        "name": subjects.WORK,
        # A stream made anew never counts as the one before did: an acknowledgement that is meant
        # for a message of that one then takes no other slice off the queue.
        "first_seq": int(utc_now().timestamp() * 1_000_000),
        "subjects": [subjects.ALL_WORK],
        "retention": "workqueue",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "discard_new_per_subject": True,
        "num_replicas": settings.replicas,
        "storage": "file",
    }


def _audit(settings: Settings) -> dict[str, Any]:
    return {
        "name": subjects.AUDIT,
        "subjects": [subjects.AUDIT_CHECKPOINT],
        "deny_purge": True,
        "allow_direct": True,
        "num_replicas": settings.replicas,
        "storage": "file",
        "retention": "limits",
    }


def _bucket(name: str, ttl_s: int, settings: Settings) -> dict[str, Any]:
    """Return a key-value bucket as nats-py's ``create_key_value`` makes it."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "max_msgs_per_subject": 1,
        "max_age": ttl_s * NANOSECOND,
        "duplicate_window": min(ttl_s or 120, 120) * NANOSECOND,
        "discard": "new",
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "num_replicas": settings.replicas,
        "storage": "file",
        "retention": "limits",
    }


def _size(settings: Settings, current: dict[str, Any]) -> int:
    """Return the size of the existing event stream: as set, and never less for want of disk."""
    room = free_store_bytes(settings.data_dir, current["state"]["bytes"])
    size: int = current["config"]["max_bytes"]
    return min(settings.max_bytes, max(room, size))


async def _ensure_stream(answers: Answers, settings: Settings, config: dict[str, Any]) -> None:
    name = config["name"]
    document = await _call(answers, f"STREAM.CREATE.{name}", config)
    error = document.get("error")
    if error and error.get("err_code") == STREAM_EXISTS:
        current = await _call(answers, f"STREAM.INFO.{name}", {})
        if "error" in current:
            raise LogError(f"stream {name}: {current['error'].get('description')}")
        if name == subjects.EVENTS:
            config = {**config, "max_bytes": _size(settings, current)}
        if "first_seq" in config:
            config = {**config, "first_seq": current["config"].get("first_seq", 0)}
        document = await _call(answers, f"STREAM.UPDATE.{name}", config)
        error = document.get("error")
    if error:
        raise LogError(f"stream {name}: {error.get('description')} ({error.get('err_code')})")


async def _call(answers: Answers, name: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = await answers.ask(f"$JS.API.{name}", json.dumps(request).encode(), timeout_s=API_S)
    document: dict[str, Any] = json.loads(answer.data)
    return document
