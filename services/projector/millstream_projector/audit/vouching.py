"""Comparing the chain of the log with every checkpoint that somebody sealed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from millstream.eventlog.chain import ChainState, link
from millstream.eventlog.stored import Stored
from millstream_schemas.audit import ChainReport, Checkpoint

FAULTS_MOST = 20


@dataclass(slots=True)
class Source:
    """Checkpoints from one place; ``is_binding``: those of another stream's name count too."""

    name: str
    checkpoints: Sequence[Checkpoint]
    is_binding: bool = False
    report: ChainReport = field(init=False)

    def __post_init__(self) -> None:
        self.report = ChainReport(source=self.name)


class Voucher:
    """Goes along with the log, event by event, and compares at each checkpoint."""

    def __init__(self, sources: Sequence[Source], *, stream: str) -> None:
        self.chain = ChainState()
        self.gaps: list[str] = []
        self.gap_count = 0
        self._sources = sources
        self._wanted: dict[int, list[tuple[Source, Checkpoint]]] = defaultdict(list)
        self._faults: dict[str, list[str]] = defaultdict(list)
        for source in sources:
            self._begin(source, stream)
        self._order = sorted(self._wanted)
        self._next = 0

    def _begin(self, source: Source, stream: str) -> None:
        before: Checkpoint | None = None
        foreign = 0
        for checkpoint in source.checkpoints:
            if checkpoint.stream != stream and not source.is_binding:
                foreign += 1
                continue
            if before and not _follows(checkpoint, before):
                self._fault(
                    source,
                    f"the checkpoint at {checkpoint.to_sequence} does not follow the one at"
                    f" {before.to_sequence}: checkpoints were changed, removed or moved",
                )
            before = checkpoint
            self._wanted[checkpoint.to_sequence].append((source, checkpoint))
        source.report = source.report.model_copy(update={"foreign": foreign})

    def take(self, chunk: Sequence[Stored]) -> None:
        """Go on over events that follow in stream order."""
        root, sequence = self.chain.root, self.chain.sequence
        for stored in chunk:
            if stored.sequence != sequence + 1:
                self._gap(sequence + 1, stored.sequence - 1)
                self._pass_over(stored.sequence)
            root = link(root, stored)
            sequence = stored.sequence
            if self._next < len(self._order) and sequence == self._order[self._next]:
                self._compare(sequence, root)
                self._next += 1
        self.chain = ChainState(sequence, root, self.chain.events + len(chunk))

    def finish(self, until: int) -> tuple[ChainReport, ...]:
        """Return the outcome for each source; the log ends at ``until``."""
        if self.chain.sequence < until:
            self._gap(self.chain.sequence + 1, until)
            self._pass_over(until + 1)
        for sequence in self._order[self._next :]:
            for source, checkpoint in self._wanted[sequence]:
                ahead = source.report.ahead + 1
                source.report = source.report.model_copy(update={"ahead": ahead})
                self._fault(
                    source,
                    f"the log ends at {until}, before the checkpoint at {sequence} (sealed"
                    f" {checkpoint.sealed_at.isoformat()}): its end was cut off",
                )
        return tuple(
            source.report.model_copy(update={"faults": tuple(self._faults[source.name])})
            for source in self._sources
        )

    def _compare(self, sequence: int, root: bytes) -> None:
        for source, checkpoint in self._wanted[sequence]:
            report = source.report
            if checkpoint.root == root.hex():
                source.report = report.model_copy(
                    update={
                        "compared": report.compared + 1,
                        "agreed": report.agreed + 1,
                        "agreed_to": sequence,
                    }
                )
                continue
            source.report = report.model_copy(update={"compared": report.compared + 1})
            self._fault(
                source,
                f"the root at {sequence} is {root.hex()}, not {checkpoint.root}: an event after"
                f" {report.agreed_to} was changed, removed, inserted or moved",
            )

    def _gap(self, first: int, last: int) -> None:
        self.gap_count += 1
        if len(self.gaps) < FAULTS_MOST:
            self.gaps.append(f"{first}" if first == last else f"{first} to {last}")

    def _pass_over(self, sequence: int) -> None:
        """Tell of the checkpoints before ``sequence`` at which there is no event any more."""
        while self._next < len(self._order) and self._order[self._next] < sequence:
            missing = self._order[self._next]
            for source, _ in self._wanted[missing]:
                self._fault(source, f"event {missing}, which a checkpoint ends with, is missing")
            self._next += 1

    def _fault(self, source: Source, words: str) -> None:
        faults = self._faults[source.name]
        if len(faults) < FAULTS_MOST:
            faults.append(words)


def _follows(checkpoint: Checkpoint, before: Checkpoint) -> bool:
    """Tell whether one checkpoint goes on where the other ends."""
    return (
        checkpoint.from_sequence == before.to_sequence + 1
        and checkpoint.previous_root == before.root
    )
