"""`millstream admin token …`: who may do what with the API."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from millstream.errors import MillstreamError, UsageError
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import load_settings
from millstream.runtime.tokens import (
    Role,
    Token,
    create_token,
    parse_span,
    read_tokens,
    revoke_token,
)


def run_create(*, name: str, role: Role, expires_in: str | None, file: Path | None) -> int:
    """Make a token and print it; 0, or 1 or 2 for an error."""

    def create(path: Path) -> str:
        span = parse_span(expires_in) if expires_in is not None else None
        return f"{create_token(path, name, role, expires_in=span)}\n"

    return _run(create, file)


def run_list(*, file: Path | None) -> int:
    """Print name, role and times of each token; 0, or 1 or 2 for an error."""

    def show(path: Path) -> str:
        now = utc_now()
        return "".join(
            f"{token.name}  {token.role}  {_told(token.created_at)}  {_end_of(token, now)}\n"
            for token in read_tokens(path)
        )

    return _run(show, file)


def run_revoke(*, name: str, file: Path | None) -> int:
    """Take a token out; 0, or 1 or 2 for an error."""

    def revoke(path: Path) -> str:
        revoke_token(path, name)
        return f"{name} is revoked.\n"

    return _run(revoke, file)


def _end_of(token: Token, now: datetime) -> str:
    if token.expires_at is None:
        return "does not expire"
    return f"{'expired' if token.is_over(now) else 'expires'} {_told(token.expires_at)}"


def _told(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%SZ}"


def _run(act: Callable[[Path], str], file: Path | None) -> int:
    try:
        path = file or load_settings().tokens_file
        if path is None:
            raise UsageError("no file is named; give --file, or set MILLSTREAM_TOKENS_FILE")
        sys.stdout.write(act(path))
    except MillstreamError as error:
        sys.stderr.write(f"millstream admin token: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0
