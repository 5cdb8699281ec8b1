"""One node's outcomes of a batch: has the node reason to look at the whole batch's?"""

import math
from dataclasses import dataclass

from millstream.runtime.clock import boot_seconds

LEADER_S = 0.5
"""How long the leading dispatcher has to end a batch itself, which acts on each event."""
AGAIN_S = 1.0
LOOK_SHARE = 0.05
"""The most of its time that a node spends on looking at a batch."""


@dataclass(slots=True)
class OwnOutcomes:
    """How many of a batch's slots got their outcome here, and how many of these failed.

    A batch's share of failures is a mean of its nodes' shares: where it is too high, that of one
    node at least is too. So as long as no node's own share is, nobody has to fold the batch.
    """

    most: float | None
    """The largest share of failures that the batch may have; None: any."""
    _all: int = 0
    _failed: int = 0
    _due_at: float = math.inf
    _not_before: float = 0.0

    def note(self, *, failed: bool) -> None:
        """Count the outcome of one slot."""
        if self.most is None:
            return
        self._all += 1
        self._failed += failed
        if self._failed <= self.most * self._all:
            self._due_at = math.inf
        elif self._due_at == math.inf:
            self._due_at = boot_seconds() + LEADER_S

    @property
    def is_look_due(self) -> bool:
        """Whether too many have failed here for a while, and the batch was not looked at since."""
        return boot_seconds() >= max(self._due_at, self._not_before)

    def looked(self, began: float) -> None:
        """Note a look at the whole batch that began at ``began`` (``boot_seconds``)."""
        now = boot_seconds()
        self._not_before = now + max(AGAIN_S, (now - began) / LOOK_SHARE)
