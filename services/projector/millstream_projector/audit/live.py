"""The live tables as a verifier sees them: over NATS, or in a file that no projector has open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb
from pydantic import ValidationError

from millstream.errors import LogUnavailableError, QueryFailedError
from millstream.eventlog.answers import Answers
from millstream_projector.audit.auditing import read_digests
from millstream_projector.audit.digests import bucket_hashes, row_texts
from millstream_projector.store import NO_PROGRESS_BAR, StoreError
from millstream_projector.tables import SCHEMA_VERSION
from millstream_schemas import subjects
from millstream_schemas.audit import QUERIES, Digests, DigestsQuery, RebuildQuery, Rows, RowsQuery
from millstream_schemas.envelope import Contract
from millstream_schemas.views import QueryError

DIGESTS_BOUND_S = 600.0
ROWS_BOUND_S = 60.0
IS_THERE_S = 3.0
ERROR_HEADER = "Millstream-Error"

AnswerT = TypeVar("AnswerT", bound=Contract)


def behind(as_of: int, redaction: int) -> QueryFailedError:
    """Return the refusal to compare tables that still hold what the log has erased since."""
    return QueryFailedError(
        "behind",
        f"the tables are at {as_of} and have not folded redaction {redaction} yet, so they hold"
        " texts that the log has no more; start the projector, then verify again",
    )


class LiveTables(Protocol):
    """What a verifier asks of the live read model; ``until`` is the moment of the digests."""

    async def digests(self, min_sequence: int = 0) -> Digests:
        """Return the digests of all tables, once they have come to ``min_sequence``."""
        ...

    async def hashes(self, table: str, bucket: int, until: int) -> dict[str, str]:
        """Return the hashes of a bucket's rows, by key."""
        ...

    async def texts(self, table: str, keys: Sequence[str], until: int) -> dict[str, str]:
        """Return rows as JSON texts, by key."""
        ...


class ServedTables:
    """The tables of the projector that answered first; all further questions go to that one."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._address = subjects.QUERIES

    async def is_there(self) -> bool:
        """Tell whether any projector answers."""
        request = RebuildQuery(start=False).model_dump_json().encode()
        try:
            await self._answers.ask(f"{self._address}.audit_rebuild", request, timeout_s=IS_THERE_S)
        except LogUnavailableError:
            return False
        return True

    async def digests(self, min_sequence: int = 0) -> Digests:
        """Return the digests of all tables, once they have come to ``min_sequence``.

        Raises:
            QueryFailedError: no projector answers, or it refuses.
        """
        request = DigestsQuery(min_sequence=min_sequence)
        found = await self._ask("audit_digests", request, Digests, DIGESTS_BOUND_S)
        self._address = found.address or subjects.QUERIES
        return found

    async def hashes(self, table: str, bucket: int, until: int) -> dict[str, str]:
        """Return the hashes of a bucket's rows, by key; raises as ``digests``."""
        request = RowsQuery(table=table, bucket=bucket, until=until)
        return (await self._ask("audit_rows", request, Rows, ROWS_BOUND_S)).rows

    async def texts(self, table: str, keys: Sequence[str], until: int) -> dict[str, str]:
        """Return rows as JSON texts, by key; raises as ``digests``."""
        request = RowsQuery(table=table, keys=tuple(keys), until=until)
        return (await self._ask("audit_rows", request, Rows, ROWS_BOUND_S)).rows

    async def _ask(
        self, name: str, request: Contract, kind: type[AnswerT], bound_s: float
    ) -> AnswerT:
        subject = f"{self._address}.{name}"
        payload = request.model_dump_json().encode()
        try:
            answer = await self._answers.ask(subject, payload, timeout_s=bound_s)
        except LogUnavailableError as error:
            raise QueryFailedError("unavailable", f"no projector answers: {error}") from error
        if (answer.headers or {}).get(ERROR_HEADER):
            refused = QueryError.model_validate_json(answer.data)
            raise QueryFailedError(refused.code, refused.message)
        try:
            return kind.model_validate_json(answer.data)
        except ValidationError as error:
            names = ", ".join(QUERIES)
            raise QueryFailedError(
                "failed", f"the answer to {name} is none of this version's ({names})"
            ) from error


class FileTables:
    """The tables of a file that nobody writes; it is opened read-only."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StoreError: it can't be opened, or is another version's.
        """
        try:
            self._connection = duckdb.connect(str(path), read_only=True)
            self._connection.execute(NO_PROGRESS_BAR)
            found = self._connection.execute("SELECT schema_version FROM checkpoint").fetchone()
        except duckdb.Error as error:
            raise StoreError(f"{path} can't be read: {error}") from error
        if found != (SCHEMA_VERSION,):
            self.close()
            raise StoreError(f"{path} is another version's: {json.dumps(found)}")

    async def digests(self, min_sequence: int = 0) -> Digests:
        """Return the digests of all tables; raises QueryFailedError: nobody moves them on."""
        self._connection.begin()
        try:
            found = read_digests(self._connection, node="(file)")
        finally:
            self._connection.rollback()
        if found.as_of < min_sequence:
            raise behind(found.as_of, min_sequence)
        return found

    async def hashes(self, table: str, bucket: int, until: int) -> dict[str, str]:
        """Return the hashes of a bucket's rows, by key."""
        return bucket_hashes(self._connection, table, bucket, until)

    async def texts(self, table: str, keys: Sequence[str], until: int) -> dict[str, str]:
        """Return rows as JSON texts, by key."""
        return row_texts(self._connection, table, keys, until)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
