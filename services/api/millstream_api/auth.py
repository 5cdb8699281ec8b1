"""Who may ask: one token for everything when one is set, and no cross-origin writes."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from millstream.runtime.access import access_token, is_loopback
from millstream.runtime.settings import Settings
from millstream_api.problems import ProblemError
from millstream_schemas.envelope import Actor

COOKIE = "millstream_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What supervisors ask without a token: it tells nothing but alive and ready."""

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges requests by their headers alone."""

    host: str
    token: str | None = None

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return the guard of these settings.

        Raises:
            SettingsError: the token file can't be used, or is needed and missing.
        """
        return cls(settings.host, access_token(settings))

    def check(self, scope: Scope) -> Actor:
        """Return who asks.

        Raises:
            ProblemError: no or a wrong token (401), or a write from another origin (403).
        """
        headers = _headers(scope)
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(headers)
        if self.token is None:
            return Actor(kind="user", id="local")
        if scope["path"] not in OPEN_PATHS and not self._knows(headers, self.token):
            raise ProblemError(
                401,
                "unauthorized",
                "this server wants its token: send Authorization: Bearer <token>, or open "
                "/?token=<token> in the browser once",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return Actor(kind="key", id="token")

    def login_cookie(self, scope: Scope) -> str | None:
        """Return the Set-Cookie value for a page opened with the right ``?token=``, else None."""
        if self.token is None or scope["path"] != "/":
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = (query.get("token") or [""])[0]
        if not _equal(given, self.token):
            return None
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        session = _session(self.token)
        return f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000{secure}"

    def _knows(self, headers: Mapping[str, str], token: str) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _equal(given.strip(), token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _equal(cookie.value, _session(token))

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse writes that another site's page makes a browser send."""
        host = headers.get("host", "")
        origin = headers.get("origin")
        crossed = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        if crossed or (origin is not None and urlsplit(origin).netloc != host):
            raise ProblemError(
                403,
                "cross_origin",
                f"a page of {origin or 'another origin'} may not write here; "
                f"use the page that {host or 'this server'} serves",
            )
        name = urlsplit(f"//{host}").hostname or ""
        if self.token is None and name and not (is_loopback(name) or name == self.host):
            # Another name that leads to this machine: a rebound DNS entry of a foreign page.
            raise ProblemError(
                403,
                "unknown_host",
                f"Host {name!r} is not this machine's; without a token writes are taken for "
                "127.0.0.1 and localhost only",
            )


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _session(token: str) -> str:
    """Return what the cookie holds: made from the token, but not the token itself."""
    return hmac.new(token.encode(), b"millstream page session", hashlib.sha256).hexdigest()
