"""Secrets and signatures of deliveries, as the Standard Webhooks specification 1.0.0 has them."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed(message_id: str, sent_at: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """Return the headers that prove ``body``; ``sent_at`` is in seconds since 1970.

    There is a signature for each secret of ``keys``: a receiver that knows one of them is
    content, so a secret can be changed without an hour in which deliveries are refused.
    """
    content = f"{message_id}.{sent_at}.".encode() + body
    signatures = (_signature(key, content) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": " ".join(signatures),
    }


def _signature(key: str, content: bytes) -> str:
    secret = base64.b64decode(key.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
