"""What a 503 says: what to wait for, and what may have happened."""

from unittest.mock import Mock

import pytest

from millstream.errors import LogUnavailableError, QueryFailedError
from millstream_api.problems import to_problem
from millstream_api.queries import Queries
from millstream_api.reads import Reads
from millstream_api.relay.hub import Hub
from millstream_api.relay.limits import Limits

pytestmark = pytest.mark.anyio


async def test_a_server_that_has_just_started_says_so() -> None:
    reads = Reads(Hub(), Mock(Queries), Limits())
    with pytest.raises(QueryFailedError, match="has just started and is reading the log"):
        await reads.caught_up(0)


def test_a_command_in_an_outage_is_told_that_it_may_have_been_carried_out() -> None:
    problem = to_problem("/v1/batches", LogUnavailableError("no answer within 1 s"))
    assert (problem.status, problem.code) == (503, "log_unavailable")
    assert "may have been carried out all the same: read the batch" in problem.detail
