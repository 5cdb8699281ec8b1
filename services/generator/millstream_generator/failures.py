"""From a provider's exception to a category: by status code first, by class second.

Connection refused reaches us as status 500 and many 4xx as a plain APIError, so the class alone
misleads [research: peers §4].
"""

import re
from collections.abc import Mapping

from millstream_generator.completion import CallFailedError
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
    ("BadRequestError", "invalid_request"),
    ("NotFoundError", "invalid_request"),
    ("UnsupportedParamsError", "invalid_request"),
)
_SECRET = re.compile(r"(sk|gsk|csk|key|AIza)[-_A-Za-z0-9]{12,}|Bearer\s+\S+", re.IGNORECASE)
RETRY_AFTER_MOST_S = 600.0


def classify(error: BaseException) -> CallFailedError:
    """Return the failure that ``error`` stands for."""
    status = _status(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    return CallFailedError(
        _category(status, names, str(error)),
        safe_message(str(error) or type(error).__name__),
        status_code=status,
        retry_after_s=_retry_after(error),
    )


def _category(status: int | None, names: set[str], text: str) -> ErrorCategory:
    if "ContentPolicyViolationError" in names:
        return "content_filter"
    if status == 413 and "tokens per minute" in text.lower():
        return "rate_limit"
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
        if isinstance(headers, Mapping):
            value = headers.get("retry-after") or headers.get("Retry-After")
            try:
                return min(max(float(value), 0.0), RETRY_AFTER_MOST_S) if value else None
            except ValueError:
                return None  # an HTTP date: the own back-off serves
    return None


def safe_message(text: str) -> str:
    """Return one line without anything that looks like a key."""
    line = " ".join(text.replace("\x00", "\\0").split())
    return _SECRET.sub("[removed]", line)[:1000]
