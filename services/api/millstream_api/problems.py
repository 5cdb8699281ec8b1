"""Errors as answers: problem+json on /v1, ``{"success": false, "error": ...}`` under /api."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from millstream.errors import (
    ConflictError,
    LogFullError,
    LogUnavailableError,
    MillstreamError,
    QueryFailedError,
    UsageError,
)
from millstream_schemas.control import TARGET_MAX

VALUE_SHOWN_MAX = 200
RETRY_AFTER_S = 2

_COUNT = f"give a whole number from 1 to {TARGET_MAX:,}"
_REMEDIES: dict[str, str] = {
    "target": _COUNT,
    "target_count": "give the wanted size of the whole dataset as a whole number above 0",
    "limit": "give a whole number from 1 to 1000",
    "pool": "take 1 to 32 of a-z, 0-9 and -",
    "ids": "give a list of 1 to 1,000 batch ids",
}
_OBJECT = "give a JSON object"
_LIST = "give a list"
_REMEDIES_BY_TYPE: dict[str, str] = {
    "missing": "add it",
    "extra_forbidden": "no such field here: correct its name or leave it out",
    "bool_type": "give true or false",
    "string_type": "give text in quotes",
    "int_type": "give a whole number without quotes",
    "int_parsing": "give a whole number",
    "float_type": "give a number without quotes",
    "float_parsing": "give a number",
    "model_attributes_type": _OBJECT,
    "model_type": _OBJECT,
    "dict_type": _OBJECT,
    "tuple_type": _LIST,
    "list_type": _LIST,
}
_NO_OBJECT = frozenset({"model_attributes_type", "model_type", "dict_type"})

Field = dict[str, Any]


class ProblemError(MillstreamError):
    """A refusal with its HTTP status; ``code`` ends the problem's type."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Field] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = dict(members or {})


def answer_problem(path: str, problem: ProblemError) -> Response:
    """Return the answer to a refused or failed request, in the words of ``path``'s side."""
    if path.startswith("/api/"):
        body: dict[str, Any] = {"success": False, "error": problem.detail}
        media_type = "application/json"
    else:
        body = {
            "type": f"urn:millstream:problem:{problem.code}",
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "detail": problem.detail,
            **problem.members,
        }
        if problem.errors:
            body["errors"] = problem.errors
        media_type = "application/problem+json"
    content = orjson.dumps(body, default=str)
    return Response(content, problem.status, problem.headers, media_type)


def to_problem(path: str, error: Exception) -> ProblemError:
    """Return what a client is told about ``error``; its own text stays in the log if unexpected."""
    match error:
        case ProblemError():
            return error
        case UsageError():
            return _of_usage(path, error)
        case RequestValidationError():
            return _of_validation(path, error)
        case QueryFailedError():
            return _of_query(error)
        case LogFullError():
            return ProblemError(507, "log_full", str(error))
        case LogUnavailableError():
            return _later(
                "log_unavailable",
                f"the event log does not answer: {error}. A command may have been carried out all "
                "the same: read the batch, or send it again with the same Idempotency-Key",
            )
        case ConflictError():
            return ProblemError(409, "conflict", str(error))
        case HTTPException():
            return _of_http(path, error)
        case _:
            return ProblemError(
                500, "unexpected", "the server failed unexpectedly; its log tells why"
            )


def field_error(field: str, message: str, value: object) -> Field:
    """Return one entry of ``errors``; the value is shortened text."""
    return {"field": field, "message": message, "value": shown(value)}


def shown(value: object) -> str | int | bool | None:
    """Return ``value`` as it may stand in an answer: short, and never a structure."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    text = value if isinstance(value, str) else _as_json(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_SHOWN_MAX else f"{text[: VALUE_SHOWN_MAX - 3]}..."


def in_words(value: object) -> str:
    """Return ``value`` as it may stand in a sentence: text in quotes, anything else as JSON."""
    short = shown(value)
    if isinstance(value, str):
        return repr(short)
    return short if isinstance(short, str) else json.dumps(short)


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return "(deeply nested)"


def _of_usage(path: str, error: UsageError) -> ProblemError:
    status = 400 if path.startswith("/api/") else 422
    errors = [field_error(error.field, str(error), error.value)] if error.field else []
    return ProblemError(status, "invalid_request", str(error), errors=errors)


def _of_query(error: QueryFailedError) -> ProblemError:
    match error.code:
        case "not_found":
            return ProblemError(404, "not_found", str(error))
        case "invalid":
            return ProblemError(400, "invalid_query", str(error))
        case "behind" | "busy" | "unavailable":
            return _later(f"read_model_{error.code}", str(error))
        case _:
            return ProblemError(500, "query_failed", str(error))


def _later(code: str, detail: str) -> ProblemError:
    return ProblemError(503, code, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def _of_http(path: str, error: HTTPException) -> ProblemError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return ProblemError(404, "no_such_route", f"there is nothing at {shown(path)}")
    if error.status_code == 405:
        allowed = headers.get("Allow") or headers.get("allow") or ""
        detail = f"{shown(path)} does not take this method; use {allowed or 'another one'}"
        return ProblemError(405, "method_not_allowed", detail, headers=headers)
    if error.status_code == 400:
        return _not_json()
    return ProblemError(error.status_code, "refused", str(error.detail), headers=headers)


def _not_json() -> ProblemError:
    return _no_object("not_json", "the body is not JSON")


def _of_validation(path: str, error: RequestValidationError) -> ProblemError:
    found = error.errors()
    first = found[0]
    place, *rest = first["loc"]
    whole_body = place == "body" and not rest
    if first["type"] == "json_invalid":
        return _not_json()
    if whole_body and first["type"] == "missing":
        return _no_object("body_missing", "the body is missing")
    if whole_body and first["type"] in _NO_OBJECT:
        return _no_object("not_an_object", f"the body is {_kind(first.get('input'))}, no object")
    errors = [_one(item) for item in found[:20]]
    status = 400 if path.startswith("/api/") or place != "body" else 422
    code = "invalid_request"
    if any(item["type"] == "too_long" and item["loc"] == ("body", "ids") for item in found):
        status, code = 413, "too_many_batches"  # as a filter that too many meet
    detail = "; ".join(str(item["message"]) for item in errors)
    return ProblemError(status, code, detail, errors=errors)


def _no_object(code: str, what: str) -> ProblemError:
    return ProblemError(
        400,
        code,
        f"{what}: send one JSON object with Content-Type: application/json",
        errors=[field_error("body", "send one JSON object", None)],
    )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case _:
            return "a list"


def _one(item: Mapping[str, Any]) -> Field:
    """Return one finding of pydantic in words that name field, value and remedy."""
    parts = [str(part) for part in item["loc"][1:]]
    if not parts:  # two fields of the body contradict each other
        return field_error("body", f"the body is not valid: {_reworded(item)}", None)
    field = ".".join(parts)
    value = item.get("input")
    name = next((part for part in reversed(parts) if not part.isdigit()), field)
    remedy = _REMEDIES.get(name) or _REMEDIES_BY_TYPE.get(item["type"]) or _reworded(item)
    if item["type"] == "missing":
        return field_error(field, f"{field} is missing: {remedy}", None)
    if item["type"] == "extra_forbidden":
        return field_error(field, f"{field}: {_REMEDIES_BY_TYPE['extra_forbidden']}", value)
    return field_error(field, f"{field}={in_words(value)} is not valid: {remedy}", value)


def _reworded(item: Mapping[str, Any]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
