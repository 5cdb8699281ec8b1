"""A wall clock of this process that is wrong, while the log's server keeps the right time."""

from datetime import datetime, timedelta, tzinfo

import pytest

from millstream.runtime import clock


class WrongClock:
    """Shifts what ``millstream.runtime.clock`` reads; ``ahead_s`` may be changed at any time."""

    def __init__(self, patch: pytest.MonkeyPatch, ahead_s: float = 0.0) -> None:
        """Be ``ahead_s`` ahead (negative: behind) until ``patch`` is undone."""
        self.ahead_s = ahead_s
        wrong = self

        class Shifted(datetime):
            """The machine's time, off by what is wished."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                """Return the wrong time."""
                return super().now(tz) + timedelta(seconds=wrong.ahead_s)

        patch.setattr(clock, "datetime", Shifted)
