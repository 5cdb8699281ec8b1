"""Who may ask: tokens with roles or one for everything, and no cross-origin writes."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from millstream.runtime.access import access_token, is_loopback
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import Settings
from millstream.runtime.tokens import Role, Token, session_of
from millstream_api.problems import ProblemError
from millstream_api.token_file import TokenFile
from millstream_schemas.envelope import Actor

COOKIE = "millstream_session"
SESSION_S = 2_592_000
"""How long a browser keeps its session: 30 days, or to the end of its token."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What supervisors ask without a token: it tells nothing but alive and ready."""

ADMIN_PATHS = frozenset({"/v1/audit/digests"})
"""What only an admin may ask: it keeps a projector busy for seconds."""

ADMIN_PREFIX = "/v1/webhooks"
"""What only an admin may ask, with all below it: it sends what happens here elsewhere."""

Scope = Mapping[str, Any]


class RoleTooLowError(ProblemError):
    """Somebody known asks for what the role does not allow."""

    def __init__(self, actor: Actor, token: Token, role: Role) -> None:
        super().__init__(
            403,
            "role_too_low",
            f"the token {token.name} is a {token.role}'s; this takes the role {role}",
        )
        self.actor = actor


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges requests by their headers alone."""

    host: str
    token: str | None = None
    tokens: TokenFile | None = None

    @property
    def is_open(self) -> bool:
        """Whether no token is wanted."""
        return self.token is None and self.tokens is None

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return the guard of these settings.

        Raises:
            SettingsError: the token file can't be used, or is needed and missing.
        """
        tokens = TokenFile(settings.tokens_file) if settings.tokens_file is not None else None
        return cls(settings.host, access_token(settings), tokens)

    def check(self, scope: Scope) -> Actor:
        """Return who asks.

        Raises:
            RoleTooLowError: the token's role does not allow it (403).
            ProblemError: no token, a wrong or an expired one (401), a write from another origin, or
                a name that is not this machine's (403).
        """
        headers = _headers(scope)
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(headers)
        client = scope.get("client")
        address = str(client[0])[:100] if client else None
        if self.is_open:
            if scope["path"] not in OPEN_PATHS:
                self._check_host(headers)
            return Actor(kind="user", id="local", address=address)
        if scope["path"] in OPEN_PATHS or (self.token and self._knows(headers, self.token)):
            return Actor(kind="key", id="token", address=address)
        found = self._find(headers)
        if found is None:
            raise ProblemError(
                401,
                "unauthorized",
                "this server wants its token: send Authorization: Bearer <token>, or open "
                "/?token=<token> in the browser once",
                headers={"WWW-Authenticate": "Bearer"},
            )
        _check_end(found)
        role = _role_for(scope)
        if not found.may(role):
            raise RoleTooLowError(Actor(kind="key", id=found.name, address=address), found, role)
        return Actor(kind="key", id=found.name, address=address)

    def admits(self, scope: Scope) -> bool:
        """Tell whether a request that was let in before would be let in now."""
        try:
            self.check(scope)
        except ProblemError:
            return False
        return True

    def login_cookie(self, scope: Scope) -> str | None:
        """Return the Set-Cookie value for a page opened with the right ``?token=``, else None.

        Raises:
            ProblemError: the token has expired (401).
        """
        if self.is_open or scope["path"] != "/":
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = (query.get("token") or [""])[0].strip()
        if self.token is not None and _equal(given, self.token):
            session, age_s = _session(self.token), SESSION_S
        elif (found := self._find({"authorization": f"Bearer {given}"})) is not None:
            session, age_s = session_of(given), min(SESSION_S, _check_end(found))
        else:
            return None
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        kept = f"Max-Age={age_s}{secure}"
        return f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; {kept}"

    def _knows(self, headers: Mapping[str, str], token: str) -> bool:
        bearer, session = _given(headers)
        if bearer is not None:
            return _equal(bearer, token)
        return session is not None and _equal(session, _session(token))

    def _find(self, headers: Mapping[str, str]) -> Token | None:
        """Return the token with a role that the request shows."""
        bearer, session = _given(headers)
        for token in self.tokens.present() if self.tokens is not None else ():
            if bearer is not None:
                if token.matches(bearer):
                    return token
            elif session is not None and token.matches_session(session):
                return token
        return None

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

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse other names that lead to this machine: a rebound DNS entry of a foreign page."""
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if name and not (is_loopback(name) or name == self.host):
            raise ProblemError(
                403,
                "unknown_host",
                f"Host {name!r} is not this machine's; without a token requests are taken for "
                "127.0.0.1 and localhost only",
            )


def _check_end(token: Token) -> int:
    """Return the seconds that a token still lasts, `SESSION_S` for one without an end.

    Raises:
        ProblemError: it has expired (401).
    """
    now = utc_now()
    if token.is_over(now):
        raise ProblemError(
            401,
            "token_expired",
            f"the token {token.name} expired at {token.expires_at:%Y-%m-%d %H:%M:%SZ}; ask for a "
            f"new one: `millstream admin token revoke {token.name}`, then `create {token.name}`",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    if token.expires_at is None:
        return SESSION_S
    return int((token.expires_at - now).total_seconds())


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _given(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the bearer token and the session that a request shows; the former comes first."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip(), None
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None, None
    return None, cookie.value if cookie is not None else None


def _role_for(scope: Scope) -> Role:
    path = scope["path"]
    if path in ADMIN_PATHS or path == ADMIN_PREFIX or path.startswith(f"{ADMIN_PREFIX}/"):
        return "admin"
    return "viewer" if scope["method"] in SAFE_METHODS else "operator"


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _session(token: str) -> str:
    """Return what the cookie holds: made from the token, but not the token itself."""
    return hmac.new(token.encode(), b"millstream page session", hashlib.sha256).hexdigest()
