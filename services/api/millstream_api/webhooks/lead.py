"""Which API delivers: the one that renews an entry of the bucket.

Nobody's clock is compared with another's: an entry that stands unchanged for the whole lease by
the looker's own clock is taken over. Two that deliver at once, for a moment, are told apart by the
compare-and-set of each progress: a message may then come twice, and none is lost.
"""

from collections.abc import Callable

from millstream.errors import ConflictError
from millstream.eventlog.buckets import Bucket
from millstream.runtime.clock import boot_seconds

KEY = "lead"
LEASE_S = 10.0
RENEW_S = 3.0


class Lead:
    """The lead as ``me`` sees it, a name that no other process has."""

    def __init__(
        self, bucket: Bucket, me: str, *, steady: Callable[[], float] = boot_seconds
    ) -> None:
        self._bucket = bucket
        self._me = me.encode()
        self._steady = steady
        self._seen = 0
        self._seen_at = 0.0

    async def hold(self) -> bool:
        """Take or keep the lead; False while another process has it.

        Raises:
            LogUnavailableError: the bucket does not answer.
        """
        entry = await self._bucket.get(KEY)
        now = self._steady()
        if entry is not None:
            if entry.revision != self._seen:
                self._seen, self._seen_at = entry.revision, now
            age_s = now - self._seen_at
            if entry.value == self._me and age_s < RENEW_S:
                return True
            if entry.value != self._me and age_s < LEASE_S:
                return False
        expected = entry.revision if entry is not None else 0
        try:
            self._seen = await self._bucket.put(KEY, self._me, expected=expected)
        except ConflictError:
            return False
        self._seen_at = now
        return True

    async def leave(self) -> None:
        """Give the lead up, so that another takes it at once; raises as ``hold``."""
        entry = await self._bucket.get(KEY)
        if entry is not None and entry.value == self._me:
            await self._bucket.delete(KEY)
