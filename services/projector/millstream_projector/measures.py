"""What a projector tells of itself under /metrics; docs/operations.md has the table."""

from collections.abc import Iterator
from pathlib import Path

from millstream.runtime.clock import boot_seconds
from millstream.runtime.metrics import Figure, plain
from millstream_projector.progress import Progress
from millstream_projector.store import wal_file


class Measures:
    """Reads the projection's progress and the size of its file when it is asked."""

    def __init__(self, progress: Progress, file: Path) -> None:
        self._progress = progress
        self._file = file
        self._first = progress.checkpoint

    def figures(self) -> Iterator[Figure]:
        """Yield all figures of this process."""
        progress = self._progress
        yield plain(
            "millstream_events_folded_total",
            "Events folded since the start.",
            progress.checkpoint - self._first,
        )
        yield plain(
            "millstream_folded_sequence",
            "Sequence up to which everything is stored.",
            progress.checkpoint,
        )
        yield plain(
            "millstream_lag_events",
            "Events not folded that had been stored before the last look at the log's end.",
            max(0, progress.due - progress.checkpoint),
        )
        yield plain(
            "millstream_lag_seconds",
            "How long ago the log ended where the projection is now.",
            progress.lag_s(boot_seconds()) or 0.0,
        )
        yield plain(
            "millstream_file_bytes", "Size of the read model on disk.", sum(map(_size, self._files))
        )

    def ready(self) -> tuple[bool, str]:
        """Tell whether the end of the log that was seen last is folded, and how far it is."""
        progress = self._progress
        words = f"at event {progress.checkpoint} of {progress.head}"
        return progress.is_current(boot_seconds()), words

    @property
    def _files(self) -> tuple[Path, Path]:
        return self._file, wal_file(self._file)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # DuckDB removes an empty log
        return 0
