"""What a process and its children hold in memory, together, at most."""

import threading
from typing import Self

import psutil

SAMPLE_S = 0.1


class Peak:
    """Samples the resident memory of a process tree, ten times a second; use as a context.

    Pages that two processes share count twice: the sum is never too small.
    """

    def __init__(self, pid: int) -> None:
        self.most_mb = 0.0
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory")

    def __enter__(self) -> Self:
        """Begin."""
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._sampler.join()

    def now_mb(self) -> float:
        """Return what is held now."""
        found = 0.0
        try:
            for process in (self._process, *self._process.children(recursive=True)):
                found += process.memory_info().rss / 2**20
        except psutil.NoSuchProcess:  # it has just ended
            return found
        return found

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.most_mb = max(self.most_mb, self.now_mb())
