"""The digest of a batch's view: the same on every machine and in every language.

docs/audit.md defines it; ``services/dashboard/src/fold/digest.ts`` is the page's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import BaseModel

from millstream_schemas.views import BatchView

FIXED_LEAST = Decimal("1e-6")
FIXED_BELOW = Decimal("1e21")
"""Between these a number has no exponent, as ECMAScript writes it."""


def view_digest(view: BatchView) -> str:
    """Return the SHA-256 of the view's canonical JSON, in hex."""
    return digest(view)


def digest(value: object) -> str:
    """Return the SHA-256 of any value's canonical JSON, in hex.

    Raises:
        TypeError: the value has no JSON.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: object) -> str:
    """Return the one JSON text of ``value``: names sorted, no spaces, times in UTC.

    Raises:
        TypeError: the value has no JSON.
    """
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            return str(value)
        case float():
            return _number(value)
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None)
            return f'"{moment.isoformat(timespec="microseconds")}Z"'
        case BaseModel():
            return canonical(dict(value))
        case Mapping():
            names = sorted(value)
            return (
                f"{{{','.join(f'{canonical(name)}:{canonical(value[name])}' for name in names)}}}"
            )
        case Sequence():
            return f"[{','.join(map(canonical, value))}]"
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical JSON")


def _number(value: float) -> str:
    """Return the shortest digits that name this double, placed as ECMAScript places them."""
    exact = Decimal(repr(value)).normalize()
    if not exact.is_finite():
        raise TypeError(f"{value} has no JSON")
    if exact == 0:
        return "0"
    if FIXED_LEAST <= abs(exact) < FIXED_BELOW:
        return f"{exact:f}"
    sign, digits, _ = exact.as_tuple()
    first, *rest = map(str, digits)
    mantissa = f"{first}.{''.join(rest)}" if rest else first
    return f"{'-' if sign else ''}{mantissa}e{exact.adjusted():+d}"
