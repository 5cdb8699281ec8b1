"""How the API's answers are encoded."""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response


def model_answer(
    body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a model as JSON; encoded once, by pydantic itself."""
    return Response(body.model_dump_json(), status, headers, "application/json")


def plain_answer(body: Mapping[str, Any], status: int = 200) -> Response:
    """Return a document of plain values as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")
