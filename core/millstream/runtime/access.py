"""Who may reach the API: this machine alone, or whoever holds the token."""

import ipaddress
import ssl
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


def trusted_proxies(settings: Settings) -> tuple[str, ...]:
    """Return the addresses and networks whose forwarded headers are believed.

    Raises:
        SettingsError: one is neither; a name could lead anywhere.
    """
    found = tuple(one for part in settings.trusted_proxies.split(",") if (one := part.strip()))
    for one in found:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise SettingsError(
                f"MILLSTREAM_TRUSTED_PROXIES={settings.trusted_proxies}: {one!r} is no address and "
                f"no network ({error}); give such as 10.0.0.7 or 10.0.0.0/24"
            ) from error
    return found


def tls_files(settings: Settings) -> tuple[Path, Path] | None:
    """Return certificate chain and key, None to serve plain HTTP.

    Raises:
        SettingsError: one of them is missing, or they can't be used together.
    """
    cert, key = settings.tls_cert_file, settings.tls_key_file
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        missing = "MILLSTREAM_TLS_CERT_FILE" if cert is None else "MILLSTREAM_TLS_KEY_FILE"
        raise SettingsError(f"{missing} is not set; HTTPS needs both files, or neither")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"MILLSTREAM_TLS_CERT_FILE={cert} and MILLSTREAM_TLS_KEY_FILE={key} can't be used "
            f"({error}); give a PEM certificate chain and its unencrypted key"
        ) from error
    return cert, key


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
