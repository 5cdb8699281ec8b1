"""Whether a route's parameters may stand in the log, which keeps them for ever."""

import re
from collections.abc import Iterator

from millstream.bases import refusal

_SECRET = re.compile(
    r"api_?keys?(?:_|$)|(?:^|_)secret|"
    r"(?:^|_)(?:key|token|password|passwd|passphrase|credentials?|auth|authorization|cookie)$"
)
_PLAIN = re.compile(
    r"(?:^|_)(?:cache|idempotency|sort)_key$|"
    r"(?:^|_)(?:bos|cls|eos|eot|mask|pad|sep|unk|stop|start|end|begin|special|image|think)_token$"
)
"""Names of that form that hold no secret: a cache's key, a tokenizer's tokens."""
_SCHEME_OF_KEYS = re.compile(r"\s*(?:bearer|basic)\s+\S", re.IGNORECASE)
_URL = re.compile(r"https?://\S+|[a-z][a-z0-9+.-]*://[^/\s]*@\S*", re.IGNORECASE)
_ADDRESSES = frozenset({"api_base", "base_url"})
_ELSEWHERE = (
    "leave it out, and put it into the environment variable from which litellm takes it, or that "
    "api_key_env names"
)


def parameters_refusal(field: str, parameters: object) -> str:
    """Return why a route may not have these parameters, with the remedy; empty when it may.

    No value is repeated.
    """
    for name in parameters if isinstance(parameters, dict) else ():
        if _plain_name(name) in _ADDRESSES:
            return f"{field}.{name} is an address; write api_base instead"
    for where, name, value in _leaves(field, "", parameters):
        if isinstance(value, bool | int | float) or not value:
            continue  # a switch or a number, such as a token's
        if holds_secret(name) or _SCHEME_OF_KEYS.match(str(value)):
            return f"{where} holds a secret (not shown); {_ELSEWHERE}"
        if isinstance(value, str) and _URL.fullmatch(value.strip()):
            reason = refusal(where, value.strip(), _ELSEWHERE)
            if reason:
                what = f"{where} (not shown) is an address that can't be called; correct it"
                return reason if "(not shown)" in reason else what
    return ""


def _leaves(field: str, name: str, value: object) -> Iterator[tuple[str, str, object]]:
    """Give path, name and value of all that holds no other; what is in a list has its name."""
    if isinstance(value, dict):
        for inner, found in value.items():
            yield from _leaves(f"{field}.{inner}", inner, found)
    elif isinstance(value, list):
        for at, found in enumerate(value):
            yield from _leaves(f"{field}[{at}]", name, found)
    else:
        yield field, name, value


def holds_secret(name: str) -> bool:
    """Tell whether what a parameter or a header of this name holds is a secret."""
    plain = _plain_name(name)
    return _SECRET.search(plain) is not None and _PLAIN.search(plain) is None


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_")
