"""One batch in figures, and one slot's attempts, as lines on a terminal."""

from typing import Any

from millstream.wording import dollars

View = dict[str, Any]

_UNKNOWN = "unknown"


def figure_lines(found: View) -> list[str]:
    """Return a batch's figures; what is not known is said to be so."""
    rates, cost = found["rates"], found["cost"]
    rows = {
        "batch": found["batch_id"],
        "rate": f"{_rate(rates['last_minute'])} in the last minute, "
        f"{_rate(rates['overall'])} overall",
        "time left": _seconds(found["eta_s"]),
        "cost": f"{_dollars(cost['spent_nano_usd'])} spent, "
        f"{_dollars(cost['wasted_nano_usd'])} of it wasted, "
        f"{_dollars(cost['projected_nano_usd'])} in the end",
        "latency": _percentiles(found["latency_ms"]),
        "first token": _percentiles(found["first_token_ms"]),
    }
    lines = [f"{name:<14} {value}" for name, value in rows.items()]
    for group in found["errors"]:
        place = group["example_at"]
        where = f"slot {place['slot']}, attempt {place['attempt']}, sequence {place['sequence']}"
        lines += [
            f"{group['count']:>6} x {group['category']}: {group['message']}",
            f"         last at {group['last_seen']}, {where}",
        ]
    left_out = found["error_groups"] - len(found["errors"])
    return [*lines, f"{left_out} more kinds of errors"] if left_out > 0 else lines


def slot_lines(found: View) -> list[str]:
    """Return every attempt of a slot in order, and its outcome."""
    lines = [f"slot {found['slot']} of {found['batch_id']}: {found['outcome']}"]
    for one in found["attempts"]:
        usage = one["usage"]
        what = ", ".join(str(one[key]) for key in ("category", "rule") if one[key])
        lines.append(
            f"{one['sequence']:>10}  {one['stored_at']}  attempt {one['attempt']} on"
            f" {one['node'] or _UNKNOWN} by {one['model']}"
            + (f" over {one['address'] or one['route']}" if one["route"] else "")
            + f": {one['kind']}"
            + (f" ({what})" if what else "")
        )
        if one["message"]:
            lines.append(f"{'':12}{one['message']}")
        if usage["latency_ms"] is not None:
            lines.append(f"{'':12}{usage['latency_ms']:,.0f} ms, {_tokens(usage)} tokens")
    if found["more"]:
        lines.append("and more than an answer holds: read the batch's events")
    return lines


def _rate(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.2f} samples/s"


def _seconds(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _dollars(nano_usd: int | None) -> str:
    return _UNKNOWN if nano_usd is None else f"{dollars(nano_usd)} USD"


def _percentiles(found: View) -> str:
    known = [f"{name} {value:,.0f} ms" for name, value in found.items() if value is not None]
    return ", ".join(known) or _UNKNOWN


def _tokens(usage: View) -> str:
    known = [usage[key] for key in ("tokens_in", "tokens_out")]
    return " + ".join("?" if value is None else f"{value:,}" for value in known)
