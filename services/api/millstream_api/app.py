"""The framework's part: routes, their errors, and the OpenAPI document."""

from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from millstream.errors import MillstreamError
from millstream_api.context import Context
from millstream_api.parameters import check_parameters
from millstream_api.problems import answer_problem, to_problem
from millstream_api.relay.frames import FRAME_DOCS
from millstream_api.routes import (
    audit,
    batch_commands,
    batches,
    catalogue,
    exports,
    health,
    seed_commands,
    seed_reads,
    webhooks,
)
from millstream_schemas.answers import Problem

OPENAPI_PATH = "/v1/openapi.json"

_PROBLEM: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; the detail names field, value and remedy."},
    "5XX": {"description": "Failed; with Retry-After when a repeat may succeed."},
}


def create_app(context: Context | None) -> FastAPI:
    """Return the application that answers everything but streams and the page.

    Without a context it can only describe itself.
    """
    app = FastAPI(
        title="Millstream",
        version=version("millstream"),
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
        separate_input_output_schemas=False,
    )
    app.state.context = context
    for kind in (MillstreamError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    for router in (
        batch_commands.router,
        batches.router,
        catalogue.router,
        audit.router,
        exports.router,
        webhooks.router,
    ):
        app.include_router(
            router,
            dependencies=[Depends(check_parameters)],
            responses=_problems("application/problem+json"),
        )
    for router in (seed_commands.router, seed_reads.router, health.router):
        app.include_router(router, responses=_PROBLEM)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        document["paths"].update(_streams())
        document["components"]["schemas"].update(_problem_schema().get("$defs", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend it
    return app


async def _answer(request: Request, error: Exception) -> Response:
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == 405:
        error.headers = {"Allow": ", ".join(_methods(request.app.openapi(), path))}
    return answer_problem(path, to_problem(path, error))


def _methods(document: dict[str, Any], path: str) -> list[str]:
    """Return the methods that ``path`` takes: the framework names the first route's alone."""
    found: set[str] = set()
    for template, item in document["paths"].items():
        if compile_path(template)[0].match(path):
            found.update(method.upper() for method in item)
    return sorted(found)


def _problems(media_type: str) -> dict[int | str, dict[str, Any]]:
    schema = _problem_schema()
    schema.pop("$defs", None)
    content = {media_type: {"schema": schema}}
    return {status: {**entry, "content": content} for status, entry in _PROBLEM.items()}


def _problem_schema() -> dict[str, Any]:
    return Problem.model_json_schema(ref_template="#/components/schemas/{model}")


def _streams() -> dict[str, Any]:
    """Return the two routes that the framework never sees."""
    resume = [
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
        {
            "name": "last_event_id",
            "in": "query",
            "description": "An id of this stream, or a bare sequence (the `as_of` of a read).",
            "schema": {"type": "string"},
        },
    ]
    batch_ids = {
        "name": "batch_id",
        "in": "query",
        "description": "Repeatable; only these batches.",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    chosen = {
        "name": "flavour",
        "in": "query",
        "description": "Whole batches, what changes of them, or every event.",
        "schema": {"type": "string", "enum": ["state", "deltas", "events"], "default": "state"},
    }
    types = {
        "name": "type",
        "in": "query",
        "description": "Repeatable, with flavour=events; only events of these types.",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    return {
        path: {
            "get": {
                "tags": ["streams"],
                "summary": "Follow the batches live (server-sent events)",
                "description": words,
                "operationId": f"stream_{name}",
                "parameters": [*resume, batch_ids, *([chosen, types] if name == "named" else [])],
                "responses": {
                    "200": {"description": "The stream.", "content": {"text/event-stream": {}}}
                },
            }
        }
        for path, (name, words) in FRAME_DOCS.items()
    }
