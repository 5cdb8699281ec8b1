"""The tokens' file as a running API sees it: read again whenever it has changed."""

from pathlib import Path

import structlog

from millstream.errors import SettingsError
from millstream.runtime.tokens import Token, read_tokens

log = structlog.get_logger()


class TokenFile:
    """Tells which tokens are valid now; none while the file can't be read."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: it can't be read.
        """
        self._path = path
        self._tokens = read_tokens(path)
        self._seen = self._stamp()
        self.version = 0
        """Goes up whenever other tokens may be valid."""

    def present(self) -> tuple[Token, ...]:
        """Return the tokens that are valid now."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self.version += 1
            try:
                self._tokens = read_tokens(self._path)
            except SettingsError as error:
                log.warning("tokens.unreadable", reason=str(error))
                self._tokens = ()
        return self._tokens

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
