"""What is appended to the tables next, as DuckDB finds it.

DuckDB is told of it once and asks for it anew at each statement: to register an array for each
statement, and to forget it again, would cost as much as to append its rows.
"""

from typing import Any

import duckdb

from millstream_projector.columns import ArrowRows, arrow_schema
from millstream_projector.tables import Table


class Source:
    """What DuckDB asks: the columns, and the rows of now.

    It does not know the connection, which keeps it: Python can't free circles of which an object
    of DuckDB is part.
    """

    def __init__(self, table: Table) -> None:
        self._schema = arrow_schema(table.columns)
        self.now: Any = None

    def __arrow_c_schema__(self) -> object:
        """Tell DuckDB the columns."""
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give DuckDB the rows."""
        return self.now.__arrow_c_stream__(requested_schema)


class Incoming:
    """The rows to append to one table, under a name of one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: Table) -> None:
        """Make ``append`` known to ``connection``, which alone may be used for it."""
        self._connection = connection
        self._source = Source(table)
        name = f"incoming_{table.name}"
        self._append = f"INSERT INTO {table.name} SELECT * FROM {name}"  # noqa: S608
        connection.register(name, self._source)

    def append(self, rows: ArrowRows) -> None:
        """Append ``rows`` within the connection's transaction, if there are any."""
        if not rows:
            return
        self._source.now = rows.array()
        try:
            self._connection.execute(self._append)
        finally:
            self._source.now = None
