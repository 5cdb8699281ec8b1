"""Whether the process lives and is ready."""

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from millstream_api.answers import model_answer
from millstream_api.context import Parts
from millstream_api.page import page_build
from millstream_api.problems import ProblemError
from millstream_schemas.answers import Alive, Health

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Alive)
async def healthz() -> Response:
    """Tell that the process lives, and which build of the page it gives."""
    return model_answer(Alive(status="ok", page=await asyncio.to_thread(page_build)))


@router.get("/readyz", response_model=Health)
async def readyz(parts: Parts) -> Response:
    """Tell that the log is folded, so that every answer is complete."""
    if not parts.hub.ready.is_set() or parts.hub.is_closing:
        raise ProblemError(
            503,
            "not_ready",
            "the log is not folded yet, or the server is ending",
            headers={"Retry-After": "1"},
        )
    return model_answer(Health(status="ready", as_of=parts.hub.sequence))
