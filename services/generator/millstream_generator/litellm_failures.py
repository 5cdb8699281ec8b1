"""From an exception of litellm's to a category: by status code first, by class second.

Connection refused reaches us as status 500 and many 4xx as a plain APIError, so the class alone
misleads.
"""

import json
import re
from collections.abc import Iterator, Mapping

from millstream_generator.completion import CallFailedError, Link
from millstream_generator.failures import (
    category_of,
    from_response,
    in_answer,
    no_address,
    safe_message,
    words_of,
)
from millstream_generator.waits_asked import wait_of

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


_PORT = re.compile(r"\bport\b", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout)\b(?::| -)\s*)+")
_SUFFIX = re.compile(r"\s*(?:Handle with `litellm\.\w+`\.?|Original exception: .*)", re.DOTALL)
"""What litellm puts around a provider's words."""


def classify(error: BaseException, key: str = "") -> CallFailedError:
    """Return the failure that ``error`` stands for; ``key`` is removed from its message."""
    told = _redirect(error, key) or _told_in_answer(error, key)
    if told is not None:
        return told
    status = _status(error)
    names = names_of(error)
    link = _link(error)
    return CallFailedError(
        category_of(status, names, f"{error} {getattr(error, 'body', '')}".lower()),
        safe_message(_told_words(error, link), key),
        status_code=None if link else status,  # no answer had one: litellm makes it up
        retry_after_s=_retry_after(error),
        link=link,
        is_unpaid=link == "refused" or (link is None and _is_refusal(error, status)),
    )


def unsendable(error: BaseException, where: str) -> CallFailedError | None:
    """Return the failure of a request that has no address to go to; None of any other error."""
    for found in _causes(error):
        is_port = isinstance(found, ValueError) and _PORT.search(str(found))
        if is_port or isinstance(found, UnicodeError | OverflowError):
            return no_address(where, found)
    return None


def _told_words(error: BaseException, link: Link | None) -> str:
    """Return the words of what ``error`` came from, without those that litellm puts around."""
    for found in _causes(error):
        if link == "refused" and hasattr(found, "os_error"):  # aiohttp's: it knows the address
            host, port = getattr(found, "host", ""), getattr(found, "port", "")
            return f"no connection to {host}:{port}: {found.os_error}"
    if link is not None:
        words = next((text for text in map(str, reversed([*_causes(error)])) if text), "")
        what = "no connection" if link == "refused" else "the connection broke in the call"
        return f"{what}: {words}"
    words = _SUFFIX.sub("", _PREFIX.sub("", str(error))).strip()
    body = words.removeprefix("b'").removesuffix("'")
    return words_of(body, {}) if body.startswith("{") else words or type(error).__name__


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
