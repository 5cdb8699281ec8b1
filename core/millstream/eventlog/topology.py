"""The streams, consumers and buckets, made or brought up to date; safe to run at every start."""

import json
import shutil
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from millstream.errors import LogError, SettingsError
from millstream.eventlog.answers import Answers
from millstream.runtime.settings import Settings
from millstream_schemas import subjects

NANOSECOND = 1_000_000_000
BEAT_TTL_S = 10
IDEMPOTENCY_TTL_S = 24 * 3600
STREAM_EXISTS = 10058
API_S = 10.0


async def ensure_topology(connection: Client, settings: Settings) -> None:
    """Make every stream, consumer and bucket that is missing.

    Raises:
        SettingsError: the pool's lease contradicts an existing consumer and can't be changed.
        LogError: the server refused; the message is the server's.
        LogUnavailableError: no JetStream answered.
    """
    answers = Answers(connection)
    await _ensure_stream(answers, settings, _events(settings))
    await _ensure_stream(answers, settings, _work(settings))
    await _ensure_stream(answers, settings, _audit(settings))
    for bucket, ttl_s in (
        (subjects.NODES_BUCKET, BEAT_TTL_S),
        (subjects.LIMITS_BUCKET, 0),
        (subjects.IDEMPOTENCY_BUCKET, IDEMPOTENCY_TTL_S),
    ):
        await _ensure_stream(answers, settings, _bucket(bucket, ttl_s, settings))
    await ensure_work_consumers(answers, settings)


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
        document = await _call(answers, f"STREAM.UPDATE.{name}", config)
        error = document.get("error")
    if error:
        raise LogError(f"stream {name}: {error.get('description')} ({error.get('err_code')})")


async def _call(answers: Answers, name: str, request: dict[str, Any]) -> dict[str, Any]:
    answer = await answers.ask(f"$JS.API.{name}", json.dumps(request).encode(), timeout_s=API_S)
    document: dict[str, Any] = json.loads(answer.data)
    return document
