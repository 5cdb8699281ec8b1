"""From a provider's exception to a category: by status code first, by class second.

Connection refused reaches us as status 500 and many 4xx as a plain APIError, so the class alone
misleads.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping

from millstream_generator.completion import CallFailedError, Link, storable
from millstream_generator.waits_asked import wait_of
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
    r"(?<![A-Za-z])(sk|gsk|csk|xai|hf|key|AIza)[-_A-Za-z0-9]{12,}|Bearer\s+\S+", re.IGNORECASE
)
_KEY_LEAST = 8
"""A shorter "key" is a placeholder for an endpoint that needs none."""
_ABOUT_THE_KEY = ("incorrect api key", "api key not valid", "credit balance is too low")
"""What xAI, Gemini and Anthropic say with status 400 of a key that can't be used."""
ERROR_BYTES_MOST = 20_000
"""No more of a body is read for an error."""
_REFUSED = frozenset({"ConnectError", "ClientConnectorError", "ConnectionRefusedError", "gaierror"})
_LOST = frozenset(
    {
        "ReadError",
        "RemoteProtocolError",
        "ClientPayloadError",
        "ServerDisconnectedError",
        "ClientOSError",
        "ConnectionResetError",
        "BrokenPipeError",
    }
)
"""Names in what an exception came from, over the HTTP clients that litellm uses."""
_ANSWERED = "HTTPStatusError"
"""What httpx raises for an answer with a status of 4xx or 5xx."""
_MID_STREAM = "MidStreamFallbackError"
"""litellm's error for whatever befalls an answer that had begun."""


def classify(error: BaseException, key: str = "") -> CallFailedError:
    """Return the failure that ``error`` stands for; ``key`` is removed from its message."""
    told = _redirect(error, key) or _told_in_answer(error, key)
    if told is not None:
        return told
    status = _status(error)
    names = names_of(error)
    link = _link(error)
    return CallFailedError(
        _category(status, names, f"{error} {getattr(error, 'body', '')}".lower()),
        safe_message(str(error) or type(error).__name__, key),
        status_code=None if link else status,  # no answer had one: litellm makes it up
        retry_after_s=_retry_after(error),
        link=link,
        is_unpaid=link == "refused" or (link is None and _is_refusal(error, status)),
    )


def from_response(
    status: int,
    body: str,
    headers: Mapping[str, str],
    key: str = "",
    *,
    is_unpaid: bool = True,
    names: Collection[str] = (),
) -> CallFailedError:
    """Return the failure that an HTTP answer stands for; the provider's own words are kept.

    ``is_unpaid`` False: the error stands in the middle of an answer that had begun. ``names`` are
    of the exception that a library made of it.
    """
    words = _redirected(headers.get("location")) if 300 <= status < 400 else _words(body)
    return CallFailedError(
        _category(status, names, body.lower()),
        safe_message(f"HTTP {status}: {words}", key),
        status_code=status,
        retry_after_s=wait_of(headers),
        is_unpaid=is_unpaid,
    )


def in_answer(
    body: str, headers: Mapping[str, str], key: str = "", *, has_begun: bool
) -> CallFailedError | None:
    """Return the failure that an answer of status 200 holds in its body; None if it holds none.

    Some providers and proxies send the status of what went wrong behind them in the body alone.
    ``has_begun``: some of an answer had come before, so that it may have been paid.
    """
    try:
        document = json.loads(body)
    except ValueError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    if not error:
        return None
    status = _told_status(error)
    is_unpaid = not has_begun and 400 <= status < 500 and status != 408
    return from_response(status, body, headers, key, is_unpaid=is_unpaid)


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


def _words(body: str) -> str:
    """Return the message inside an error body of the OpenAI form, else the body itself."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or body)


def _category(status: int | None, names: Collection[str], text: str) -> ErrorCategory:
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
    if status is not None and 300 <= status < 400:
        return "invalid_request"
    if status is None or status < 500:
        for name, category in _BY_CLASS:
            if name in names:
                return category
    return "server"


def _status(error: object) -> int | None:
    status = getattr(error, "status_code", None)
    return int(status) if isinstance(status, int | str) and str(status).isdigit() else None


def _retry_after(error: BaseException) -> float | None:
    """Return the Retry-After in seconds, which litellm hides in two places of some exception."""
    for found in _causes(error):
        response = getattr(found, "response", None)
        for headers in (
            getattr(found, "litellm_response_headers", None),
            getattr(response, "headers", None),
        ):
            seconds = wait_of(headers) if isinstance(headers, Mapping) else None
            if seconds is not None:
                return seconds
    return None


def _redirect(error: BaseException, key: str) -> CallFailedError | None:
    """Return the redirect that ``error`` came from; litellm makes a status of 500 of some."""
    for found in _causes(error):
        response = getattr(found, "response", None)
        for told in (found, response):
            status = _status(told)
            if status is not None and 300 <= status < 400:
                headers = getattr(response, "headers", None)
                known = headers if isinstance(headers, Mapping) else {}
                return from_response(status, "", known, key)
    return None


def _told_in_answer(error: BaseException, key: str) -> CallFailedError | None:
    """Return what the body of an answer of status 200 told, if ``error`` came from that."""
    if _ANSWERED in _all_names(error):
        return None
    for found in _causes(error):
        body = getattr(found, "body", None)
        if type(found).__name__ == "APIError" and isinstance(body, dict):
            document = body if "error" in body else {"error": body}
            return in_answer(json.dumps(document, default=str), {}, key, has_begun=True)
    return None


def _link(error: BaseException) -> Link | None:
    """Tell whether no connection could be made, or one broke, from what ``error`` came from."""
    names = _all_names(error)
    # litellm's transport takes a reset after the request was sent for a connection not made.
    is_made = "ClientOSError" in names and "ClientConnectorError" not in names
    if names & _REFUSED and not is_made:
        return "refused"
    return "lost" if names & _LOST else None


def _is_refusal(error: BaseException, status: int | None) -> bool:
    """Tell whether an HTTP status refused the request, or litellm itself did.

    litellm makes a status of 500 up for whatever breaks, also in the middle of an answer.
    """
    if _ANSWERED in _all_names(error):
        return True
    is_refused = status is not None and 400 <= status < 500 and status != 408
    return is_refused and _MID_STREAM not in names_of(error)


def names_of(error: BaseException) -> set[str]:
    """Return the names of the classes of ``error``."""
    return {cls.__name__ for cls in type(error).__mro__}


def _all_names(error: BaseException) -> set[str]:
    """Return the names of all that ``error`` is and came from."""
    return {name for found in _causes(error) for name in names_of(found)}


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def safe_message(text: str, key: str = "") -> str:
    """Return one line without ``key`` and without anything else that looks like one."""
    line = " ".join(storable(text.partition("Traceback (most recent call last)")[0]).split())
    if len(key) >= _KEY_LEAST:
        line = line.replace(key, "[removed]")
    return _SECRET.sub("[removed]", line)[:1000]
