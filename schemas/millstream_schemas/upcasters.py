"""Pure steps that bring an old event's document to the next version, applied before validation.

A released version never changes. A new optional field keeps the version; anything else makes a
new one: add the step here and a golden file of the old version under ``tests/golden``.
"""

from collections.abc import Callable, Mapping
from typing import Any

Document = Mapping[str, Any]
Upcaster = Callable[[Document], dict[str, Any]]


def refused_v2(document: Document) -> dict[str, Any]:
    """Return a refusal of before there were names for the commands of webhooks; all else stays."""
    return {**document, "type": "command.refused.v2", "schema_version": 2}


UPCASTERS: dict[str, Upcaster] = {"command.refused.v1": refused_v2}
"""Event type of version N -> step that returns the document of version N+1."""


def upcast(document: Document, steps: Mapping[str, Upcaster] = UPCASTERS) -> Document:
    """Return ``document`` after every step that applies, one version at a time.

    Raises:
        ValueError: a step did not move the type on, which would loop for ever.
    """
    seen: set[str] = set()
    while (kind := str(document.get("type"))) in steps:
        if kind in seen:
            raise ValueError(f"upcaster of {kind!r} does not lead to a new type")
        seen.add(kind)
        document = steps[kind](document)
    return document
