"""Jobs on a copy of the read model: SQL statements, exports of datasets, and a dataset's card.

A job is started at any projector (``subjects.JOB_START``), which answers with a ticket. Its output
is fetched piece by piece from the ticket's address; whoever stops fetching ends it.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from millstream_schemas.envelope import Contract
from millstream_schemas.routes import Price

ExportFormat = Literal["parquet", "jsonl", "hf"]
FORMATS: tuple[ExportFormat, ...] = ("parquet", "jsonl", "hf")
Sequence = Annotated[int, Field(ge=0, lt=2**63)]

SQL_ROWS_MOST = 1_000_000
SQL_SECONDS_MOST = 600.0


class SqlRequest(Contract):
    """Run one read-only statement; the output is JSON lines.

    The first line names the columns and their types, then comes a list per row; the last line
    says how many rows there were, and whether more were cut off.
    """

    kind: Literal["sql"] = "sql"
    statement: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    rows_most: Annotated[int, Field(ge=1, le=SQL_ROWS_MOST)] = 1_000
    seconds_most: Annotated[float, Field(gt=0, le=SQL_SECONDS_MOST)] = 30.0
    min_sequence: Sequence = 0


class ExportRequest(Contract):
    """Export the samples of a batch or a dataset; the output is the file itself.

    ``at_seq`` pins the export to the log up to that sequence (null: as far as the projector is);
    only samples stored after sequence ``since`` are exported. With ``is_one_batch`` the id stands
    for that batch, else for all batches of the dataset that has it, or else for that batch.
    """

    kind: Literal["export"] = "export"
    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    is_one_batch: bool = False
    format: ExportFormat = "parquet"
    at_seq: Sequence | None = None
    since: Sequence = 0
    min_sequence: Sequence = 0


JobRequest = Annotated[SqlRequest | ExportRequest, Field(discriminator="kind")]


class JobStart(Contract):
    """Start a job."""

    request: JobRequest


class JobTicket(Contract):
    """A job that runs: where its pieces are fetched, as of which sequence it reads.

    ``total`` is how many samples an export will hold; null for SQL.
    """

    address: str
    as_of: int
    total: int | None = None


class PieceQuery(Contract):
    """Fetch what a part of a job's output holds from byte ``offset`` on.

    The card is there once the output is whole.
    """

    part: Literal["output", "card"] = "output"
    offset: Annotated[int, Field(ge=0)] = 0


class PieceState(Contract):
    """Stands in the header ``PIECE_HEADER`` of every piece.

    ``rows`` counts what the job has written so far; ``is_last``: nothing follows this piece.
    """

    rows: int = 0
    is_last: bool = False


PIECE_HEADER = "Millstream-Piece"


class CardRoute(Contract):
    """A model that the batch could be made with, and the prices pinned for it."""

    model: str
    provider: str
    litellm_model: str
    price: Price | None = None


class CardBatch(Contract):
    """One batch of a dataset: everything that decided what it makes.

    ``outcome`` is the batch's final event at the pin, null while it lives.
    """

    batch_id: str
    parent_id: str | None = None
    started_sequence: int
    started_at: AwareDatetime
    recipe: str
    recipe_version: int
    recipe_hash: str
    licence: str = ""
    model: str
    routes: tuple[CardRoute, ...]
    target: int
    seed: int
    plan_version: int
    filters: dict[str, Any] = Field({}, description="What narrowed the recipe's axes.")
    samples: int = Field(0, description="In this export.")
    outcome: str | None = None


class DatasetCard(Contract):
    """What an export holds and where it comes from; the same bytes for the same pin.

    ``digest`` is of the samples' sequences and contents, whatever the format: docs/datasets.md
    says how to compute it. ``redacted`` samples are left out.
    """

    kind: Literal["millstream.dataset.v1"] = "millstream.dataset.v1"
    id: str
    dataset_id: str
    stream: str = Field(description="When the event stream was made: which log it is.")
    since: int
    at_seq: int
    first_sequence: int | None = None
    last_sequence: int | None = None
    samples: int
    redacted: int = 0
    digest: str
    fields: dict[str, str] = Field(description="Columns of the content and their types.")
    counts: dict[str, dict[str, int]] = {}
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int | None = None
    batches: tuple[CardBatch, ...]
