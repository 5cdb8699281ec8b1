"""The tokens' file as a running API sees it: read again whenever it has changed."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import structlog

from millstream.errors import SettingsError
from millstream.runtime.clock import utc_now
from millstream.runtime.tokens import Token, read_tokens

log = structlog.get_logger()


class TokenFile:
    """Tells which tokens there are now, expired ones too; none while the file can't be read."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: it can't be read.
        """
        self._path = path
        self._tokens = read_tokens(path)
        self._seen = self._stamp()
        self._next_end = _next_end(self._tokens, utc_now())
        self.version = 0
        """Goes up whenever other tokens may be valid."""

    def present(self) -> tuple[Token, ...]:
        """Return the tokens that are in the file now."""
        stamp, now = self._stamp(), utc_now()
        if stamp != self._seen:
            self.version += 1
            try:
                self._tokens = read_tokens(self._path)
            except SettingsError as error:
                log.warning("tokens.unreadable", reason=str(error))
                self._tokens = ()
            self._next_end = _next_end(self._tokens, now)
            self._seen = stamp
        elif self._next_end is not None and now >= self._next_end:
            self.version += 1
            self._next_end = _next_end(self._tokens, now)
        return self._tokens

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _next_end(tokens: Iterable[Token], now: datetime) -> datetime | None:
    """Return when the next token will expire."""
    ends = (token.expires_at for token in tokens if not token.is_over(now))
    return min((end for end in ends if end is not None), default=None)
