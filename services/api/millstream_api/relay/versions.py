"""The latest version of every batch, ordered by its last change.

"What changed since S" is a walk from the end, so a client needs nothing but one integer.
"""

from collections.abc import Iterable, Iterator

from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream_schemas.views import BatchView

FINALS_KEPT = 1000
"""Ended batches whose last state can still be resumed."""


class Version:
    """A batch as of ``sequence``; view and frames are made once, when somebody wants them.

    ``first_sequence`` is that of its first version in the map.
    """

    __slots__ = ("_json", "_view", "first_sequence", "frames", "sequence", "state")

    def __init__(self, state: BatchState, sequence: int, first_sequence: int) -> None:
        self.state = state
        self.sequence = sequence
        self.first_sequence = first_sequence
        self.frames: dict[str, bytes] = {}
        self._view: BatchView | None = None
        self._json: bytes | None = None

    @property
    def view(self) -> BatchView:
        """What users see of the batch."""
        if self._view is None:
            self._view = batch_view(self.state)
        return self._view

    @property
    def json(self) -> bytes:
        """The view as one line of JSON."""
        if self._json is None:
            self._json = self.view.model_dump_json().encode()
        return self._json


class VersionMap:
    """All live batches and the last ``finals_kept`` ended ones.

    ``sequence`` is the stream sequence up to which everything is in here. ``floor`` is the one
    below which changes may have been forgotten: who is behind it needs a snapshot.
    """

    def __init__(self, finals_kept: int = FINALS_KEPT) -> None:
        self.sequence = 0
        self.floor = 0
        self._finals_kept = finals_kept
        self._versions: dict[str, Version] = {}
        self._finals: dict[str, None] = {}
        self._ahead: dict[int, str] = {}
        """Last sequence -> batch, of each state that was restored ahead of ``sequence``."""

    def restore(self, states: Iterable[BatchState], sequence: int) -> None:
        """Start from a cold fold at ``sequence``: ended batches before it are unknown.

        A state may be ahead (its tails were read later). It counts as of ``sequence`` until
        ``reached`` tells that all it holds has come.
        """
        states = list(states)
        self._versions = {
            state.batch_id: Version(state, min(state.sequence, sequence), sequence)
            for state in sorted(states, key=lambda state: state.sequence)
        }
        self._finals = {}
        self._ahead = {
            state.sequence: state.batch_id for state in states if state.sequence > sequence
        }
        self.sequence = sequence
        self.floor = sequence

    def put(self, state: BatchState, sequence: int) -> None:
        """Take in a batch's state after the event at ``sequence``."""
        batch_id = state.batch_id
        before = self._versions.pop(batch_id, None)
        first = before.first_sequence if before is not None else sequence
        self._versions[batch_id] = Version(state, sequence, first)
        self.sequence = max(self.sequence, sequence)
        if state.is_final:
            self._finals.pop(batch_id, None)
            self._finals[batch_id] = None
            self._evict()

    def advance(self, sequence: int) -> None:
        """Note that everything up to ``sequence`` is in here."""
        self.sequence = max(self.sequence, sequence)

    def reached(self, sequence: int) -> BatchState | None:
        """Return the state that was restored ahead, as of just ``sequence``, once: to be put now.

        Who comes from another server with a place in between has not seen it.
        """
        batch_id = self._ahead.pop(sequence, None)
        version = self._versions.get(batch_id) if batch_id is not None else None
        return version.state if version is not None and version.state.is_live else None

    def get(self, batch_id: str) -> Version | None:
        """Return the batch's latest version, None for one that is neither live nor kept."""
        return self._versions.get(batch_id)

    def live(self, batch_ids: frozenset[str] | None = None) -> Iterator[Version]:
        """Give the live batches, of ``batch_ids`` when named."""
        for batch_id, version in self._versions.items():
            if version.state.is_live and (batch_ids is None or batch_id in batch_ids):
                yield version

    def changed(self, after: int, batch_ids: frozenset[str] | None = None) -> list[Version]:
        """Return the batches that changed after ``after``, in the order of their last change."""
        if batch_ids is not None:
            kept = (self._versions.get(batch_id) for batch_id in batch_ids)
            found = [version for version in kept if version and version.sequence > after]
            return sorted(found, key=lambda version: version.sequence)
        found = []
        for version in reversed(self._versions.values()):
            if version.sequence <= after:
                break
            found.append(version)
        found.reverse()
        return found

    def _evict(self) -> None:
        while len(self._finals) > self._finals_kept:
            oldest = next(iter(self._finals))
            del self._finals[oldest]
            self.floor = max(self.floor, self._versions.pop(oldest).sequence)
