"""The schema of events and of a batch's view, from which the page makes its readers.

``python -m millstream_schemas.page_schema services/dashboard/src/fold/schema.json`` writes it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from millstream_schemas.events import EVENT_CLASSES, SYSTEM_EVENT_CLASSES
from millstream_schemas.upcasters import UPCASTERS, upcast
from millstream_schemas.views import BatchView

_FOR_PEOPLE = {"title", "description", "examples"}


def page_schema() -> dict[str, Any]:
    """Return the definitions, the events' types with the name of each one's, and the system's."""
    classes: list[type[BaseModel]] = [*EVENT_CLASSES, BatchView]
    _, document = models_json_schema([(cls, "validation") for cls in classes])
    return {
        "$defs": {name: _bare(found) for name, found in sorted(document["$defs"].items())},
        "events": {str(cls.model_fields["type"].default): cls.__name__ for cls in EVENT_CLASSES},
        "system_events": _system_types(),
    }


def _system_types() -> list[str]:
    """Return the types of events of no batch; those of before too, since nobody folds them."""
    present = [str(cls.model_fields["type"].default) for cls in SYSTEM_EVENT_CLASSES]
    return [*present, *(old for old in UPCASTERS if upcast({"type": old})["type"] in present)]


def _bare(schema: Any) -> Any:
    """Return a schema without what is for people; names of properties are no keywords."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: _bare(one) for name, one in value.items()}
        elif key in {"default", "const", "enum"}:
            found[key] = value
        elif key not in _FOR_PEOPLE:
            found[key] = _bare(value)
    return found


def text() -> str:
    """Return the document on one line."""
    return json.dumps(page_schema(), separators=(",", ":"), sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
