"""What a `batch_delta` of the live stream is: the part of a batch's view that can change."""

from typing import Any

from millstream_schemas.views import BatchView

CHANGING = {
    "id",
    "state",
    "counts",
    "priority",
    "last_progress_at",
    "finished_at",
    "stop_reason",
    "stopped_by",
    "error",
    "last_error",
    "errors",
    "stuck",
    "held_up",
    "budgets_warned",
    "retry_id",
    "child_id",
    "anomalies",
    "version",
    "sequence",
}
"""The fields of a BatchView that can change once it was started, and its id."""


def put_over(batch: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a batch's view after a delta of it.

    The delta's values are absolute; a changing field that is missing in it has its default.
    """
    fixed = {name: value for name, value in batch.items() if name not in CHANGING}
    return BatchView.model_validate({"counts": {}, **fixed, **delta}).model_dump(mode="json")
