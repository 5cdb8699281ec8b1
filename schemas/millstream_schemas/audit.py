"""The audit's documents: checkpoints of the hash chain, digests of the tables, reports, exports.

Roots are lower-case hexadecimal SHA-256; docs/audit.md says over which bytes. Every answer of a
projector tells with ``as_of`` up to which stream sequence it holds.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from millstream_schemas.envelope import Contract

Root = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
BUCKETS = 256


class Checkpoint(Contract):
    """The chain's root after ``to_sequence``, as one projector computed it.

    ``previous_root`` is the root before ``from_sequence``; ``stream`` is when the event stream
    was made, which tells one stream from another; ``events`` is how many the root covers.
    """

    stream: str
    from_sequence: Annotated[int, Field(ge=1)]
    to_sequence: Annotated[int, Field(ge=1)]
    events: Annotated[int, Field(ge=0)]
    root: Root
    previous_root: Root
    node: str = Field(description="Who sealed it.")
    sealed_at: AwareDatetime


class CheckpointView(Contract):
    """A checkpoint as the audit stream holds it under ``sequence``."""

    sequence: int
    checkpoint: Checkpoint


class CheckpointPage(Contract):
    """Checkpoints in the order in which they were sealed; ``alarm`` is the answering projector's.

    ``next_cursor`` is null when there are no more for now.
    """

    checkpoints: tuple[CheckpointView, ...]
    next_cursor: int | None = None
    alarm: "Alarm | None" = None
    as_of: int


class CheckpointsQuery(Contract):
    """Ask for a page of checkpoints, the oldest first."""

    cursor: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class Alarm(Contract):
    """A checkpoint and the log contradict each other: one of the two was tampered with."""

    sequence: int
    expected: Root = Field(description="The checkpoint's root.")
    found: Root | None = Field(description="The projector's; null: the log ends before.")
    source: str = Field(description="Who sealed the checkpoint, or which file holds it.")

    @property
    def words(self) -> str:
        """One line for a person."""
        what = "the log ends before it" if self.found is None else f"the log's root is {self.found}"
        return (
            f"checkpoint {self.sequence} of {self.source} has root {self.expected}, but {what};"
            " run `millstream audit verify`"
        )


class TableDigest(Contract):
    """All rows of one table in one number that does not depend on their order.

    ``buckets`` splits it by key, so that differing rows are found without comparing all.
    """

    rows: int
    digest: str
    buckets: dict[int, str] = {}


class DigestsQuery(Contract):
    """Ask a projector for the digests of its tables."""

    min_sequence: int = 0


class Digests(Contract):
    """The digests of all tables as of one moment, and the chain's root there.

    ``address`` is where this very projector answers further questions.
    """

    node: str
    address: str = ""
    stream: str
    root: Root
    events: int
    tables: dict[str, TableDigest]
    alarm: Alarm | None = None
    as_of: int


class RowsQuery(Contract):
    """Ask for the rows of one table up to sequence ``until``: by bucket, or by key.

    Sent to a projector's own address. With ``keys`` the answer holds whole rows, else hashes.
    """

    table: str
    until: int
    bucket: Annotated[int, Field(ge=0, lt=BUCKETS)] | None = None
    keys: Annotated[tuple[str, ...], Field(max_length=100)] = ()


class Rows(Contract):
    """Rows by key: their hashes, or as JSON texts."""

    rows: dict[str, str]
    as_of: int


class RebuildQuery(Contract):
    """Ask a projector to make its read model anew; ``start`` is false to look how far it is."""

    start: bool = True


class RebuildStatus(Contract):
    """How far a projector is with making its read model anew."""

    node: str
    address: str
    state: Literal["idle", "running", "swapping", "done", "failed"]
    target: int = 0
    message: str = ""
    as_of: int


class Check(Contract):
    """One rule that the log must keep: how often it is broken, and where."""

    name: str
    title: str
    broken: int = 0
    examples: tuple[str, ...] = ()


class ChainReport(Contract):
    """What became of the comparison with one list of checkpoints."""

    source: str
    compared: int = 0
    agreed: int = 0
    foreign: int = Field(0, description="Checkpoints of another stream.")
    ahead: int = Field(0, description="Checkpoints beyond the log's end: it was cut off.")
    agreed_to: int = Field(0, description="The last sequence that is vouched for.")
    faults: tuple[str, ...] = ()


class RowDifference(Contract):
    """A row that the live table and the log tell differently; null: it has no such row."""

    key: str
    live: dict[str, Any] | None = None
    log: dict[str, Any] | None = None


class TableReport(Contract):
    """One table: live, and folded anew from the log."""

    table: str
    live_rows: int
    log_rows: int
    agrees: bool
    differing: int = 0
    differences: tuple[RowDifference, ...] = ()


class VerifyReport(Contract):
    """The outcome of a verification; ``ok`` is false on any difference."""

    ok: bool
    stream: str
    node: str | None = Field(None, description="Whose tables were compared; null for none.")
    events: int
    last_sequence: int
    root: Root
    as_of: int = Field(description="Where the tables were compared.")
    chain: tuple[ChainReport, ...] = ()
    gaps: tuple[str, ...] = Field((), description="Sequences that the log lacks.")
    tables: tuple[TableReport, ...] = ()
    checks: tuple[Check, ...] = ()
    alarm: Alarm | None = Field(None, description="What the projector itself has found.")
    unreadable: int = Field(0, description="Messages that are no event.")
    unknown: int = Field(0, description="Events of a newer version's types: no fault.")
    redacted: int = Field(0, description="Erased messages that a redaction stands for: no fault.")
    pending: tuple[int, ...] = Field(
        (), description="Sequences that a redaction names and that are not deleted yet."
    )
    seconds: float


class ExportedEvent(Contract):
    """One line of an export: a stored message, byte for byte.

    With ``payload_hash`` the message was erased: the payload is what stands for it.
    """

    sequence: int
    time_us: int = Field(description="The stream's time, in microseconds since 1970.")
    subject: str
    headers: str = Field("", description="Header lines as stored, in base64.")
    payload: str = Field(description="The payload, in base64 when ``is_base64``.")
    is_base64: bool = False
    payload_hash: Root | None = Field(None, description="SHA-256 of a payload that was erased.")


class ExportManifest(Contract):
    """The last line of an export: what its lines must add up to."""

    kind: Literal["millstream.export.v1"] = "millstream.export.v1"
    stream: str
    batch_id: str | None = Field(None, description="Only this batch's events; null for all.")
    count: int
    first_sequence: int
    last_sequence: int
    root: Root
    exported_at: AwareDatetime


QUERIES: dict[str, tuple[type[Contract], type[Contract]]] = {
    "audit_digests": (DigestsQuery, Digests),
    "audit_rows": (RowsQuery, Rows),
    "audit_rebuild": (RebuildQuery, RebuildStatus),
    "audit_checkpoints": (CheckpointsQuery, CheckpointPage),
}
"""Query name -> (request, answer), as in ``views.QUERIES``."""
