"""The contract as an AsyncAPI 3.0 document, made from the models and the subject names.

``python -m millstream_schemas.asyncapi > docs/asyncapi.json`` writes the document; a test holds
that the committed one is current.
"""

import json
import sys
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from millstream_schemas import (
    analysis,
    audit,
    control,
    lanes,
    limited,
    notes,
    redactions,
    refusals,
    slices,
    subjects,
    views,
)
from millstream_schemas.envelope import BATCH_ID_PATTERN, BatchEvent, Event
from millstream_schemas.events import EVENT_CLASSES, SYSTEM_EVENT_CLASSES
from millstream_schemas.views import QueryError

CONTRACT_VERSION = "1.0.0"
_EVENTS: tuple[type[Event], ...] = (*EVENT_CLASSES, *SYSTEM_EVENT_CLASSES)
QUERIES = views.QUERIES | analysis.QUERIES | lanes.QUERIES | audit.QUERIES

Document = dict[str, Any]

_BATCH, _SLICE, _POOL, _PRIORITY = "{batch_id}", "{slice}", "{pool}", "{priority}"

_PARAMETERS: dict[str, Document] = {
    "batch_id": {"description": f"The batch's id: {BATCH_ID_PATTERN}"},
    "slice": {"description": "Index of the slice in the batch, from 0."},
    "pool": {"description": "The pool of generators that may do the work."},
    "priority": {"enum": list(subjects.PRIORITIES)},
    "rest": {"description": "What follows `mill.events.` in the subject of the event."},
}

_STREAMS: dict[str, Document] = {
    subjects.EVENTS: {
        "description": "The log: append-only, never aged out, and the only truth.",
        "subjects": [subjects.ALL_EVENTS],
        "retention": "limits",
        "discard": "new: a full store refuses, it never drops",
        "republish": {"source": subjects.ALL_EVENTS, "destination": subjects.LIVE_EVENTS},
    },
    subjects.WORK: {
        "description": "Slices that wait for a node: a cache of the log that may be lost.",
        "subjects": [subjects.ALL_WORK],
        "retention": "workqueue",
        "discard": "new: one message per subject",
    },
    subjects.AUDIT: {
        "description": "Checkpoints of the hash chain over the log.",
        "subjects": [subjects.AUDIT_CHECKPOINT],
        "retention": "limits",
    },
}

_FENCE = (
    "Appended with `Nats-Expected-Last-Subject-Sequence`: of two writers that have seen the same "
    "last event, one wins."
)


def document() -> Document:
    """Return the AsyncAPI document of the present contract; equal for equal models."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millstream",
            "version": CONTRACT_VERSION,
            "description": "Events, work and queries that the services of Millstream exchange "
            "over NATS. The log of events is the truth, everything else is a view of it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _event_channels() | _hint_channels() | _query_channels(),
        "operations": _event_operations() | _query_operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
        "x-streams": _STREAMS,
    }


def text() -> str:
    """Return the document as it is committed."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _event_channels() -> Document:
    return {
        "control": _channel(
            subjects.control(_BATCH),
            f"The life of a batch. {_FENCE}",
            _events_of(control),
        ),
        "slice": _channel(
            subjects.slice_(_BATCH, 0).removesuffix("0") + _SLICE,
            f"What was made of a slice; each event carries the slice's whole state. {_FENCE}",
            _events_of(slices),
        ),
        "note": _channel(
            subjects.note(_BATCH),
            f"Annotations; they never touch a batch's state or version. {_FENCE}",
            _events_of(notes),
        ),
        "redaction": _channel(
            subjects.redaction(_BATCH),
            f"What stands for messages whose texts were erased; the admin's alone. {_FENCE}",
            _events_of(redactions),
        ),
        "commands": _channel(
            subjects.SYSTEM_COMMANDS,
            f"Commands that were refused: events of no batch. {_FENCE}",
            (refusals.CommandRefused,),
        ),
    }


def _hint_channels() -> Document:
    # Templates: names stand for the values.
    work = subjects.work(_POOL, "normal", _BATCH, 0)
    at_work = subjects.at_work("{node}", _BATCH, 0).removesuffix("0") + _SLICE
    return {
        "live": _channel(
            subjects.LIVE_EVENTS.removesuffix(">") + "{rest}",
            "Every stored event again, over core NATS, with `Nats-Sequence` in its headers. It "
            "may miss one: readers fill gaps in the sequence from the stream.",
            EVENT_CLASSES,
        ),
        "stop": _channel(
            subjects.stop_signal(_BATCH), "A hint that a batch stops; no payload.", ()
        ),
        "limited": _channel(
            subjects.limited("{node}"),
            "What the limits of its routes let wait on a generator, once a second; what was not "
            "repeated for 2.5 s holds no longer.",
            (limited.NodeLimits,),
        ),
        "sign of life": _channel(
            subjects.sign_of_life("{service}", "{node}"),
            "Asks who lives under a name to beat at once, before another takes it or claims what "
            "it held; no payload.",
            (),
        ),
        "lead": _channel(
            subjects.lead("{node}"),
            "Asks whether the generator that leads is there: nobody listens once it was killed; "
            "no payload.",
            (),
        ),
        "at work": _channel(
            at_work,
            "Asks whether a generator works on a slice, before another claims what it holds: "
            "nobody listens once it has dropped the slice; no payload.",
            (),
        ),
        "checkpoint": _channel(
            subjects.AUDIT_CHECKPOINT,
            f"The root of the hash chain over the log, up to a sequence. {_FENCE}",
            (audit.Checkpoint,),
        ),
        "work": _channel(
            work.replace(".normal.", f".{_PRIORITY}.").removesuffix("0") + _SLICE,
            "A slice that waits for a node; no payload.",
            (),
        ),
    }


def _query_channels() -> Document:
    channels: Document = {}
    for name, (request, answer) in QUERIES.items():
        about = f"Answered by one projector of the group `{subjects.QUERY_GROUP}`."
        channels[f"query_{name}"] = _channel(subjects.query(name), about, (request,))
        inbox = _channel("", "The inbox that the request names.", (answer, QueryError))
        channels[f"answer_{name}"] = inbox | {"address": None}
    return channels


def _event_operations() -> Document:
    return {
        f"{action}_{name}": {
            "action": action,
            "channel": _ref("channels", name),
            "summary": f"{verb} {words}.",
        }
        for name, words in (
            ("control", "events of a batch's life"),
            ("slice", "events of a slice"),
            ("note", "annotations of a batch"),
            ("redaction", "redactions of a batch"),
            ("commands", "refused commands"),
        )
        for action, verb in (("send", "Append"), ("receive", "Read"))
    }


def _query_operations() -> Document:
    return {
        f"ask_{name}": {
            "action": "send",
            "channel": _ref("channels", f"query_{name}"),
            "summary": _summary(request),
            "reply": {"channel": _ref("channels", f"answer_{name}")},
        }
        for name, (request, _) in QUERIES.items()
    }


def _messages() -> Document:
    messages = {event.__name__: _message(event, _event_type(event)) for event in _EVENTS}
    messages[audit.Checkpoint.__name__] = _message(audit.Checkpoint, "Checkpoint")
    messages[limited.NodeLimits.__name__] = _message(limited.NodeLimits, "Limits")
    for request, answer in QUERIES.values():
        for model in (request, answer):
            messages[model.__name__] = _message(model, model.__name__)
    code = {"type": "string", "description": "Set: the answer is an error of this code."}
    headers = {"type": "object", "properties": {"Millstream-Error": code}}
    headers["required"] = ["Millstream-Error"]
    messages[QueryError.__name__] = _message(QueryError, "QueryError") | {"headers": headers}
    return messages


def _message(model: type[BaseModel], name: str) -> Document:
    return {
        "name": name,
        "title": model.__name__,
        "summary": _summary(model),
        "payload": _ref("components", "schemas", model.__name__),
    }


def _schemas() -> Document:
    queried = [model for pair in QUERIES.values() for model in pair]
    models: list[type[BaseModel]] = [
        *_EVENTS,
        *dict.fromkeys(queried),
        QueryError,
        audit.Checkpoint,
        limited.NodeLimits,
    ]
    # Fields without a value are left out when stored: what a reader takes is the contract.
    _, schema = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Document = schema["$defs"]
    for event in _EVENTS:  # "type" has a default in the model, but a reader goes by it
        schemas[event.__name__]["required"].append("type")
    return dict(sorted(schemas.items()))


def _channel(address: str, description: str, models: tuple[type[BaseModel], ...]) -> Document:
    parameters: Mapping[str, Document] = {
        name: value for name, value in _PARAMETERS.items() if f"{{{name}}}" in address
    }
    channel: Document = {"address": address, "description": description}
    if parameters:
        channel["parameters"] = parameters
    if models:
        names = [model.__name__ for model in models]
        channel["messages"] = {name: _ref("components", "messages", name) for name in names}
    return channel


def _events_of(module: object) -> tuple[type[BatchEvent], ...]:
    name = getattr(module, "__name__", "")
    return tuple(event for event in EVENT_CLASSES if event.__module__ == name)


def _event_type(event: type[Event]) -> str:
    return str(event.model_fields["type"].default)


def _summary(model: type[BaseModel]) -> str:
    return cleandoc(model.__doc__ or "").splitlines()[0]


def _ref(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}


if __name__ == "__main__":
    sys.stdout.write(text())
