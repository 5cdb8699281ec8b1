"""Tokens with roles: a file of hashes, from which no token and no session can be made again.

A token is 256 random bits, so a plain SHA-256 of it can't be guessed back. The session that a
browser keeps is another hash of the token, and only the hash of that is in the file.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError

from millstream.errors import SettingsError, UsageError
from millstream.runtime.clock import utc_now

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""From the least to the most: each may do what those before it may."""
PREFIX = "mill_"
LONGEST = timedelta(days=3650)
_SPAN = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


_Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Token(BaseModel):
    """One token as it is kept: who holds it, what it may do, and two hashes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    created_at: _Moment
    token_sha256: str
    session_sha256: str
    expires_at: _Moment | None = None

    def matches(self, token: str) -> bool:
        """Tell whether ``token`` is this one."""
        return hmac.compare_digest(_hash(token), self.token_sha256)

    def matches_session(self, session: str) -> bool:
        """Tell whether ``session`` was made from this token."""
        return hmac.compare_digest(_hash(session), self.session_sha256)

    def is_over(self, now: datetime) -> bool:
        """Tell whether the token has expired by ``now``."""
        return self.expires_at is not None and now >= self.expires_at

    def may(self, role: Role) -> bool:
        """Tell whether the token may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def session_of(token: str) -> str:
    """Return what a browser keeps in place of ``token``."""
    return hashlib.sha256(b"millstream session " + token.encode()).hexdigest()


def parse_span(text: str) -> timedelta:
    """Return the time that ``text`` tells: a whole number and m, h, d or w.

    Raises:
        UsageError: it tells none, or one beyond ten years.
    """
    found = _SPAN.fullmatch(text)
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < span <= LONGEST:
        raise UsageError(
            f"{text[:80]!a} is no time that a token can last; give a number and m, h, d or w, "
            "such as 30d, 3650d at most",
            field="expires_in",
            value=text,
        )
    return span


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Return the tokens of a file, which has one JSON document a line.

    Raises:
        SettingsError: it can't be read; names the file, the line and what to do.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"MILLSTREAM_TOKENS_FILE={path} can't be read ({error}); make it with "
            "`millstream admin token create NAME`, or correct the path or its rights"
        ) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(Token.model_validate_json(line))
            except ValidationError as error:
                raise SettingsError(
                    f"line {number} of MILLSTREAM_TOKENS_FILE={path} is no token; take the line "
                    "out, and make the token again with `millstream admin token create NAME`"
                ) from error
    return tuple(found)


def create_token(path: Path, name: str, role: Role, *, expires_in: timedelta | None = None) -> str:
    """Add a token to the file, which is made if need be; return it: it is shown this once.

    Without ``expires_in`` it lasts until it is revoked.

    Raises:
        SettingsError: the file can't be read or written.
        UsageError: the name can't be one, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!a} is no name of a token; take 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "such as ada",
            field="name",
            value=name,
        )
    known = read_tokens(path) if path.exists() else ()
    if any(token.name == name for token in known):
        raise UsageError(
            f"there is a token called {name} already; revoke it first, or take another name",
            field="name",
            value=name,
        )
    secret = PREFIX + secrets.token_hex(32)
    now = utc_now()
    made = Token(
        name=name,
        role=role,
        created_at=now,
        token_sha256=_hash(secret),
        session_sha256=_hash(session_of(secret)),
        expires_at=now + expires_in if expires_in is not None else None,
    )
    _write(path, [*known, made])
    return secret


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of the file; running APIs refuse it from their next request on.

    Raises:
        SettingsError: the file can't be read or written.
        UsageError: there is no such token.
    """
    known = read_tokens(path)
    left = [token for token in known if token.name != name]
    if len(left) == len(known):
        names = ", ".join(token.name for token in known) or "none"
        raise UsageError(
            f"there is no token called {name[:80]!a}; there are: {names}", field="name", value=name
        )
    _write(path, left)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file at once, for its owner's eyes alone."""
    text = "".join(f"{token.model_dump_json(exclude_none=True)}\n" for token in tokens)
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} can't be written ({error}); correct its rights") from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
