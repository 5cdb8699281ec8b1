"""From what a provider answered to a category, and to words that are safe to show."""

import json
import re
from collections.abc import Collection, Mapping

import structlog

from millstream_generator.completion import CallFailedError, storable
from millstream_generator.waits_asked import wait_of
from millstream_schemas.errors import ErrorCategory

log = structlog.get_logger()

Keys = str | tuple[str, ...]
"""The key that was sent, or all of them: they are removed from what is told."""

_BY_STATUS: dict[int, ErrorCategory] = {
    400: "invalid_request",
    401: "auth",
    402: "auth",
    403: "auth",
    404: "invalid_request",
    407: "auth",
    408: "timeout",
    429: "rate_limit",
    504: "timeout",
    **dict.fromkeys((405, 406, 410, 411, 413, 414, 415, 421, 422, 426, 501), "invalid_request"),
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
_BY_WORD = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
}
"""What providers call an error in its body, where no status tells."""
_SECRET = re.compile(
    r"(?<![A-Za-z])(sk|gsk|csk|xai|hf|key|AIza)[-_A-Za-z0-9]{12,}|Bearer\s+\S+"
    r"|\b(?-i:eyJ)[-\w]{6,}(?:\.[-\w]*)*",  # a JSON web token, whole or cut short
    re.IGNORECASE,
)
_TOKEN_FIELD = re.compile(
    r"""((?:access|refresh|id|session)_?token[\\"']*\s*[:=][\s\\"']*)[^\s\\"',;&}]+""",
    re.IGNORECASE,
)
"""Where an identity service's answer, as JSON or as a form, holds a token."""
_KEY_LEAST = 8
"""A shorter "key" is a placeholder for an endpoint that needs none."""
_ABOUT_THE_KEY = ("incorrect api key", "api key not valid", "credit balance is too low")
"""What xAI, Gemini and Anthropic say with status 400 of a key that can't be used."""
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
WORDS_MOST = 300
"""Characters that are told of a body which holds no message."""
ERROR_BYTES_MOST = 20_000
"""No more of a body is read for an error."""


def from_response(
    status: int,
    body: str,
    headers: Mapping[str, str],
    key: Keys = "",
    *,
    is_unpaid: bool = True,
    names: Collection[str] = (),
) -> CallFailedError:
    """Return the failure that an HTTP answer stands for; the provider's own words are kept.

    ``is_unpaid`` False: the error stands in the middle of an answer that had begun. ``names`` are
    of the exception that a library made of it.
    """
    is_redirect = 300 <= status < 400
    words = _redirected(headers.get("location")) if is_redirect else words_of(body, headers)
    return CallFailedError(
        category_of(status, names, body.lower()),
        safe_message(f"HTTP {status}: {words}", key),
        status_code=status,
        retry_after_s=wait_of(headers),
        is_unpaid=is_unpaid,
    )


def in_answer(
    body: str, headers: Mapping[str, str], key: Keys = "", *, has_begun: bool
) -> CallFailedError | None:
    """Return the failure that an answer of status 200 holds in its body; None if it holds none.

    Some providers and proxies send the status of what went wrong behind them in the body alone.
    ``has_begun``: some of an answer had come before, so that it may have been paid.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _page(body, headers, key) if body.lstrip().startswith("<") else None
    error = document.get("error") if isinstance(document, dict) else None
    if not error:
        return None
    status = _told_status(error)
    is_unpaid = not has_begun and 400 <= status < 500 and status != 408
    return from_response(status, body, headers, key, is_unpaid=is_unpaid)


def _page(body: str, headers: Mapping[str, str], key: Keys) -> CallFailedError:
    """Return the failure of a call that was answered with a page for people."""
    message = safe_message(f"a page came in place of a completion, {words_of(body, headers)}", key)
    return CallFailedError("invalid_request", message, status_code=200, is_unpaid=True)


def no_stream(body: str, headers: Mapping[str, str], key: Keys = "") -> CallFailedError:
    """Return the failure of a call whose answer of status 200 holds no completion."""
    message = safe_message(f"the answer holds no completion: {words_of(body, headers)}", key)
    return CallFailedError("server", message, status_code=200)


def no_address(where: str, error: BaseException) -> CallFailedError:
    """Return the failure of a call to a host or port that nothing can be looked up for."""
    message = f"{where} is no address that can be looked up ({error}); correct api_base"
    return CallFailedError("invalid_request", message, link="refused", is_unpaid=True)


def of_defect(error: Exception, *, was_sent: bool) -> CallFailedError:
    """Return the failure of a call that a defect ended; the log has the whole of it."""
    log.error("call.crashed", exc_info=error)
    message = safe_message(f"the call broke off with {type(error).__name__}: {error}")
    return CallFailedError("server", message, is_unpaid=not was_sent)


def _told_status(error: object) -> int:
    """Return the HTTP status that an error object tells of itself; 500 where it tells none."""
    told = error if isinstance(error, dict) else {}
    for name in ("code", "status", "status_code", "http_status", "type"):
        value = str(told.get(name))
        if value.isdigit() and 400 <= int(value) < 600:
            return int(value)
        if value.lower() in _BY_WORD:
            return _BY_WORD[value.lower()]
    return 500


def _redirected(target: str | None) -> str:
    where = target or "another address"
    return f"the endpoint redirects to {where}, which is not followed; set api_base to it"


def words_of(body: str, headers: Mapping[str, str]) -> str:
    """Return the message inside an error body of the OpenAI form, else what came, cut short."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _first_words(body, headers)
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or body)


def _first_words(body: str, headers: Mapping[str, str]) -> str:
    kind = headers.get("content-type") or "no content type"
    encoding = headers.get("content-encoding")
    words = " ".join((_TAG.sub(" ", body) if body.lstrip().startswith("<") else body).split())
    if not words:
        return f"{kind}, " + (f"encoded as {encoding}" if encoding else "an empty body")
    return f"{kind}: {words[:WORDS_MOST]}"


def category_of(status: int | None, names: Collection[str], text: str) -> ErrorCategory:
    """Return the category of a status, or of an exception with these ``names`` of classes."""
    if "ContentPolicyViolationError" in names or "content_policy_violation" in text:
        return "content_filter"
    if status == 413 and "tokens per minute" in text:
        return "rate_limit"
    if status == 429 and "insufficient_quota" in text:
        return "auth"  # no waiting helps an account without credit
    if status == 400 and any(words in text for words in _ABOUT_THE_KEY):
        return "auth"
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is not None and 200 < status < 400:
        return "invalid_request"  # neither a completion nor a refusal: another kind of endpoint
    if status is None or status < 500:
        for name, category in _BY_CLASS:
            if name in names:
                return category
    return "server"


def safe_message(text: str, key: Keys = "") -> str:
    """Return one line without ``key`` and without anything else that looks like one."""
    told = text[:ERROR_BYTES_MOST].partition("Traceback (most recent call last)")[0]
    line = " ".join(storable(told).split())
    for one in (key,) if isinstance(key, str) else key:
        if len(one) >= _KEY_LEAST:
            line = line.replace(one, "[removed]")
    return _TOKEN_FIELD.sub(r"\1[removed]", _SECRET.sub("[removed]", line))[:1000]
