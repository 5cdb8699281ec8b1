"""The rules that a sound log keeps, as far as the log itself and its fold can show them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from millstream.eventlog.publisher import EXPECTED
from millstream.eventlog.stored import Decoder, Stored
from millstream_schemas.audit import Check
from millstream_schemas.envelope import BatchEvent

EXAMPLES_MOST = 20
_FENCE = re.compile(rb"(?m)^" + EXPECTED.encode() + rb": (\d+)")
_IN_BATCH = b"Nats-Batch-Id: "

TITLES = {
    "counts": "I1: generated, failed, abandoned and pending slots add up to the target",
    "final": "I2: at most one final event; nothing leaves a final state",
    "outcomes": "I3: one sample per slot, and as many samples as the batch counts",
    "late": "I4: what came after the batch's end is not in its dataset",
    "complete": "I5: a completed batch has no pending slot",
    "abandoned": "I6: slots are abandoned by a stop alone",
    "attribution": "I7: every event names its actor and its cause",
    "anomalies": "I9: no event contradicts the fold (legal transitions, costs never fall)",
    "fence": "I10: every control event named the one before it when it was appended",
    "redactions": "I11: every redaction names an earlier message of its batch, as it was",
}
"""I8, that a fold depends on the log alone, is shown by comparing the tables."""


@dataclass(slots=True)
class Findings:
    """How often each rule is broken, with the first examples."""

    broken: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, example: str, count: int = 1) -> None:
        """Note ``count`` breaches of a rule."""
        self.broken[name] = self.broken.get(name, 0) + count
        examples = self.examples.setdefault(name, [])
        if len(examples) < EXAMPLES_MOST:
            examples.append(example)

    def merge(self, other: "Findings") -> None:
        """Take over what another part of the log showed."""
        for name, broken in other.broken.items():
            examples = other.examples[name]
            self.add(name, examples[0], broken)
            room = EXAMPLES_MOST - len(self.examples[name])
            self.examples[name] += examples[1 : room + 1]

    def checks(self) -> tuple[Check, ...]:
        """Return every rule with what became of it."""
        return tuple(
            Check(
                name=name,
                title=title,
                broken=self.broken.get(name, 0),
                examples=tuple(self.examples.get(name, ())),
            )
            for name, title in TITLES.items()
        )


class CheckingDecoder(Decoder):
    """A decoder that looks at the attribution of each event that is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.findings = Findings()

    def look(self, sequence: int, event: BatchEvent) -> None:
        """Note an event that names no cause."""
        if not event.command_id and not event.causation_id:
            kind = getattr(event, "type", "")
            self.findings.add("attribution", f"{sequence} ({kind}): no cause")


class FenceCheck:
    """Looks whether each control event was appended behind the one before it."""

    def __init__(self) -> None:
        self.findings = Findings()
        self._last: dict[str, int] = {}

    def look(self, stored: Stored) -> None:
        """Check one event; events of other subjects are passed over."""
        if not stored.subject.endswith(".control"):
            return
        last = self._last.get(stored.subject, 0)
        self._last[stored.subject] = stored.sequence
        found = _FENCE.search(stored.headers)
        if found is None:
            # In an atomic batch the first event of a subject alone carries the fence.
            if not last or _IN_BATCH not in stored.headers:
                self.findings.add("fence", f"{stored.sequence}: appended without a fence")
        elif int(found[1]) != last:
            self.findings.add(
                "fence", f"{stored.sequence}: appended after {int(found[1])}, not after {last}"
            )


_FINAL = "('batch.stopped.v1', 'batch.completed.v1', 'batch.failed.v1')"
_COUNT = "(view ->> '$.counts.{}')::BIGINT"
_SLOTS = " + ".join(_COUNT.format(name) for name in ("generated", "failed", "abandoned", "pending"))

_RULES: Sequence[tuple[str, str]] = (
    (
        "counts",
        (
            f"SELECT batch_id, concat({_SLOTS}, ' slots of ', target) FROM batches"  # noqa: S608
            f" WHERE view IS NOT NULL AND {_SLOTS} <> target"
        ),
    ),
    (
        "final",
        (
            "SELECT batch_id, concat(count(*), ' final events') FROM events"  # noqa: S608
            f" WHERE type IN {_FINAL} GROUP BY batch_id HAVING count(*) > 1"
        ),
    ),
    (
        "outcomes",
        (
            "SELECT batch_id, concat('slot ', slot, ' has ', count(*), ' samples') FROM samples"
            " GROUP BY batch_id, slot HAVING count(*) > 1"
        ),
    ),
    (
        "outcomes",
        (
            "SELECT batch_id,"
            " concat(coalesce(found.samples, 0), ' samples, ', generated, ' counted')"
            " FROM batches LEFT JOIN (SELECT batch_id, count(*) AS samples FROM samples"
            " GROUP BY batch_id) AS found USING (batch_id)"
            " WHERE view IS NOT NULL AND coalesce(found.samples, 0) <> generated"
        ),
    ),
    (
        "late",
        (
            "SELECT samples.batch_id, concat('sample ', samples.seq, ' after ', final.seq)"  # noqa: S608
            " FROM samples JOIN (SELECT batch_id, min(seq) AS seq FROM events"
            f" WHERE type IN {_FINAL} GROUP BY batch_id) AS final"
            " ON samples.batch_id = final.batch_id AND samples.seq > final.seq"
        ),
    ),
    (
        "complete",
        (
            "SELECT batch_id, concat(view ->> '$.counts.pending', ' pending') FROM batches"
            " WHERE state = 'completed' AND (view ->> '$.counts.pending')::BIGINT > 0"
        ),
    ),
    (
        "abandoned",
        (
            "SELECT batch_id, concat(abandoned, ' abandoned while ', state) FROM batches"
            " WHERE abandoned > 0 AND state NOT IN ('stopping', 'stopped', 'failed')"
        ),
    ),
    (
        "anomalies",
        (
            "SELECT batch_id, concat(head ->> '$.anomalies', ' anomalies') FROM batches"
            " WHERE coalesce((head ->> '$.anomalies')::BIGINT, 0) > 0"
        ),
    ),
)


def check_tables(connection: duckdb.DuckDBPyConnection) -> Findings:
    """Return what the folded tables show.

    Raises:
        duckdb.Error: they can't be read.
    """
    findings = Findings()
    for name, sql in _RULES:
        for batch_id, words in connection.execute(f"{sql} ORDER BY 1").fetchall():
            findings.add(name, f"{batch_id}: {words}")
    return findings
