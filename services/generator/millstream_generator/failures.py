"""From a provider's exception to a category: by status code first, by class second.

Connection refused reaches us as status 500 and many 4xx as a plain APIError, so the class alone
misleads.
"""

import json
import re
from collections.abc import Mapping

from millstream_generator.completion import CallFailedError, storable
from millstream_schemas.errors import ErrorCategory

_BY_STATUS: dict[int, ErrorCategory] = {
    400: "invalid_request",
    401: "auth",
    402: "auth",
    403: "auth",
    404: "invalid_request",
    408: "timeout",
    413: "invalid_request",
    422: "invalid_request",
    429: "rate_limit",
    504: "timeout",
}
_BY_CLASS: tuple[tuple[str, ErrorCategory], ...] = (
    ("ContentPolicyViolationError", "content_filter"),
    ("RateLimitError", "rate_limit"),
    ("AuthenticationError", "auth"),
    ("PermissionDeniedError", "auth"),
    ("Timeout", "timeout"),
    ("TimeoutError", "timeout"),
    ("BadRequestError", "invalid_request"),
    ("NotFoundError", "invalid_request"),
    ("UnsupportedParamsError", "invalid_request"),
)
_SECRET = re.compile(
    r"(?<![A-Za-z])(sk|gsk|csk|xai|hf|key|AIza)[-_A-Za-z0-9]{12,}|Bearer\s+\S+", re.IGNORECASE
)
_KEY_LEAST = 8
"""A shorter "key" is a placeholder for an endpoint that needs none."""
RETRY_AFTER_MOST_S = 600.0


def classify(error: BaseException, key: str = "") -> CallFailedError:
    """Return the failure that ``error`` stands for; ``key`` is removed from its message."""
    status = _status(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    return CallFailedError(
        _category(status, names, f"{error} {getattr(error, 'body', '')}".lower()),
        safe_message(str(error) or type(error).__name__, key),
        status_code=status,
        retry_after_s=_retry_after(error),
    )


def from_response(
    status: int, body: str, headers: Mapping[str, str], key: str = ""
) -> CallFailedError:
    """Return the failure that an HTTP answer stands for; the provider's own words are kept."""
    return CallFailedError(
        _category(status, set(), body.lower()),
        safe_message(f"HTTP {status}: {_words(body)}", key),
        status_code=status,
        retry_after_s=_seconds(headers),
    )


def _words(body: str) -> str:
    """Return the message inside an error body of the OpenAI form, else the body itself."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or body)


def _category(status: int | None, names: set[str], text: str) -> ErrorCategory:
    if "ContentPolicyViolationError" in names or "content_policy_violation" in text:
        return "content_filter"
    if status == 413 and "tokens per minute" in text:
        return "rate_limit"
    if status == 429 and "insufficient_quota" in text:
        return "auth"  # no waiting helps an account without credit
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is None or status < 500:
        for name, category in _BY_CLASS:
            if name in names:
                return category
    return "server"


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return int(status) if isinstance(status, int | str) and str(status).isdigit() else None


def _retry_after(error: BaseException) -> float | None:
    """Return the Retry-After in seconds, which litellm hides in two places."""
    response = getattr(error, "response", None)
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(response, "headers", None),
    ):
        seconds = _seconds(headers) if isinstance(headers, Mapping) else None
        if seconds is not None:
            return seconds
    return None


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after") or headers.get("Retry-After") or "nan")
    except ValueError:
        return None  # an HTTP date: the own back-off serves
    return min(seconds, RETRY_AFTER_MOST_S) if seconds >= 0 else None  # false for nan too


def safe_message(text: str, key: str = "") -> str:
    """Return one line without ``key`` and without anything else that looks like one."""
    line = " ".join(storable(text).split())
    if len(key) >= _KEY_LEAST:
        line = line.replace(key, "[removed]")
    return _SECRET.sub("[removed]", line)[:1000]
