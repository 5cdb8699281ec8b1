"""Who may reach the API: this machine alone, or whoever holds the token."""

import ipaddress
from pathlib import Path

from millstream.errors import SettingsError
from millstream.runtime.settings import Settings

TOKEN_LENGTH_MIN = 16


def access_token(settings: Settings) -> str | None:
    """Return the token that may do everything, None when there is none.

    There may be none when the API serves this machine alone, or has tokens with roles.

    Raises:
        SettingsError: the token file can't be used, or is needed and missing.
    """
    if settings.token_file is not None:
        return _read_token(settings.token_file)
    if is_loopback(settings.host) or settings.tokens_file is not None:
        return None
    raise SettingsError(
        f"MILLSTREAM_HOST={settings.host} can be reached from other machines and no token is set; "
        "bind 127.0.0.1 (--host), or set MILLSTREAM_TOKEN_FILE to a file with a secret of at least "
        f"{TOKEN_LENGTH_MIN} characters"
    )


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` names this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"MILLSTREAM_TOKEN_FILE={path} can't be read ({error}); correct the path or its rights"
        ) from error
    if len(token) < TOKEN_LENGTH_MIN or not token.isascii() or not token.isprintable():
        raise SettingsError(
            f"MILLSTREAM_TOKEN_FILE={path} holds no usable token; write one line of at least "
            f"{TOKEN_LENGTH_MIN} printable ASCII characters into it"
        )
    return token
