"""The phases of a batch's life, and which control event may follow in which."""

from typing import Literal

from millstream_schemas import control
from millstream_schemas.envelope import BatchEvent

Phase = Literal["unknown", "active", "paused", "stopping", "stopped", "completed", "failed"]
FINAL_PHASES: frozenset[Phase] = frozenset({"stopped", "completed", "failed"})

LEGAL: dict[type[BatchEvent], frozenset[Phase]] = {
    control.BatchStarted: frozenset({"unknown"}),
    control.BatchPaused: frozenset({"active"}),
    control.BatchResumed: frozenset({"paused"}),
    control.BatchPriorityChanged: frozenset({"active", "paused"}),
    control.BatchStopRequested: frozenset({"active", "paused"}),
    control.BatchStopped: frozenset({"stopping"}),
    control.BatchCompleted: frozenset({"active", "paused"}),
    control.BatchFailed: frozenset({"stopping"}),
}
"""Control event -> phases from which it may be appended; queued and running are both active.

Besides these, a cancelling stop may follow a draining one.
"""

LastEvent = control.BatchStopped | control.BatchCompleted | control.BatchFailed

LAST_PHASE: dict[type[LastEvent], Phase] = {
    control.BatchStopped: "stopped",
    control.BatchCompleted: "completed",
    control.BatchFailed: "failed",
}
