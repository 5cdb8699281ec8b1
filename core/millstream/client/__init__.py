"""The typed client of the /v1 API, for programs: `Client`, and `AsyncClient` for asyncio.

Queries and commands are the classes of `millstream_schemas`; so are the answers.
"""

from millstream.client.async_client import AsyncClient
from millstream.client.errors import ApiError, UnreachableError
from millstream.client.sync_client import Client

__all__ = ["ApiError", "AsyncClient", "Client", "UnreachableError"]
