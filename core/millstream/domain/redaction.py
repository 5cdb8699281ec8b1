"""Which texts of an event are erased for a slot, and what a fold keeps of its errors after that."""

# rpds classes take no [] at run time, so annotations must stay unevaluated.
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rpds import HashTrieMap

from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.redactions import REDACTED_CONTENT, REDACTED_TEXT, SampleRedacted
from millstream_schemas.slices import SliceState

_REDACTED_TYPE = str(SampleRedacted.model_fields["type"].default)
_ATTEMPT_TEXTS = ("answer", "message")
_TEXT = re.compile(r"(?:target\.event\.)*(content|answer|message|after\.last_error\.message)")
"""A field that ``erased`` names."""


@dataclass(frozen=True, slots=True)
class Erased:
    """An event's document without the texts, which fields those were, and of which slots."""

    document: dict[str, Any]
    fields: tuple[str, ...]
    slots: tuple[int, ...]


def erased(document: Mapping[str, Any], slots: Collection[int], *, attempts: bool) -> Erased | None:
    """Return ``document`` with marks for the texts of ``slots``; None when it holds none.

    The content of a sample is one; with ``attempts`` rejected answers and the messages of errors
    are too, also where a later event repeats the message as its slice's last error. A redaction
    holds what was kept of another event: that is looked through as well.
    """
    if document.get("type") == _REDACTED_TYPE:
        return _within_redaction(document, slots, attempts=attempts)
    changed, fields = dict(document), []
    touched: set[int] = set()
    slot = document.get("slot")
    if isinstance(slot, int) and slot in slots:
        if document.get("content", REDACTED_CONTENT) != REDACTED_CONTENT:
            changed["content"] = REDACTED_CONTENT
            fields.append("content")
        for name in _ATTEMPT_TEXTS if attempts else ():
            if document.get(name, "") not in {"", REDACTED_TEXT}:
                changed[name] = REDACTED_TEXT
                fields.append(name)
        if fields:
            touched.add(slot)
    after = document.get("after")
    error = after.get("last_error") if isinstance(after, Mapping) else None
    if attempts and isinstance(error, Mapping) and _is_told(error, slots):
        changed["after"] = {**after, "last_error": {**error, "message": REDACTED_TEXT}}  # type: ignore[dict-item]
        fields.append("after.last_error.message")
        touched.add(error["slot"])
    return Erased(changed, tuple(fields), tuple(sorted(touched))) if fields else None


def _is_told(error: Mapping[str, Any], slots: Collection[int]) -> bool:
    return error.get("slot") in slots and error.get("message", "") not in {"", REDACTED_TEXT}


def _within_redaction(
    document: Mapping[str, Any], slots: Collection[int], *, attempts: bool
) -> Erased | None:
    target = document.get("target")
    inner = target.get("event") if isinstance(target, Mapping) else None
    found = erased(inner, slots, attempts=attempts) if isinstance(inner, Mapping) else None
    if found is None:
        return None
    whole = {
        **document,
        "slots": sorted({*document.get("slots", ()), *found.slots}),
        "target": {**target, "event": found.document},  # type: ignore[dict-item]
        "erased": [*document.get("erased", ()), *found.fields],
    }
    return Erased(whole, tuple(f"target.event.{name}" for name in found.fields), found.slots)


def are_erased(document: Mapping[str, Any], fields: Collection[Any]) -> bool:
    """Tell whether ``fields``, of which there must be some, are texts that ``document`` lacks."""
    return bool(fields) and all(_is_erased(document, name) for name in fields)


def _is_erased(document: Mapping[str, Any], name: object) -> bool:
    text = isinstance(name, str) and _TEXT.fullmatch(name)
    if not text:
        return False
    value: Any = document
    for part in text.group().split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return bool(value == (REDACTED_CONTENT if text[1] == "content" else REDACTED_TEXT))


def holds(document: Mapping[str, Any], text: str) -> bool:
    """Tell whether a text that can be erased from this event contains ``text``, in any case."""
    if document.get("type") == _REDACTED_TYPE:
        target = document.get("target")
        inner = target.get("event") if isinstance(target, Mapping) else None
        return isinstance(inner, Mapping) and holds(inner, text)
    texts = [document.get("content"), *(document.get(name) for name in _ATTEMPT_TEXTS)]
    return any(_contains(value, text.casefold()) for value in texts)


def _contains(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return text in value.casefold()
    if isinstance(value, Mapping):
        return any(_contains(inner, text) for inner in (*value, *value.values()))
    return isinstance(value, list) and any(_contains(inner, text) for inner in value)


def silenced(state: BatchState, recorded: Recorded[BatchEvent]) -> BatchState | None:
    """Return the batch after a redaction, None for any other event.

    Only the messages of its slots' errors are gone. A fold that never saw them comes to the same
    state, and redelivery changes nothing.
    """
    event = recorded.event
    if not isinstance(event, SampleRedacted):
        return None
    slots = event.silences
    return replace(
        state,
        sequence=max(state.sequence, recorded.sequence),
        last_error=_without_message(state.last_error, slots),
        slices=_silenced_slices(state, slots) if slots else state.slices,
    )


def _silenced_slices(state: BatchState, slots: Collection[int]) -> HashTrieMap[int, Any]:
    slices = state.slices
    for index, tail in state.slices.items():
        after = silenced_slice(tail.state, slots)
        if after is not tail.state:
            slices = slices.insert(index, tail._replace(state=after))
    return slices


def silenced_slice(state: SliceState, slots: Collection[int]) -> SliceState:
    """Return a slice's state without the message of an error of ``slots``."""
    error = _without_message(state.last_error, slots)
    return state if error is state.last_error else state.model_copy(update={"last_error": error})


def _without_message(error: ErrorInfo | None, slots: Collection[int]) -> ErrorInfo | None:
    if error is None or error.slot not in slots or error.message == REDACTED_TEXT:
        return error
    return ErrorInfo(category=error.category, message=REDACTED_TEXT, slot=error.slot)
