"""Role by route: every route is asked for as every role, and the page of it is current."""

from pathlib import Path

import pytest

from millstream.testing.role_table import ASKERS, role_table, with_table

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "roles.md"
OPEN = {"/healthz", "/readyz"}
REFUSED = {401, 403}


async def test_the_table_of_roles_is_what_a_server_answers() -> None:
    """Run ``just docs`` when a route or a role was changed on purpose."""
    table = await role_table()
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page, table)
    for (method, path), got in table.items():
        nobody, viewer, operator, admin = (got[asker] for asker in ASKERS)
        is_admins = path.startswith("/v1/webhooks") or path == "/v1/audit/digests"
        assert (nobody == 401) == (path not in OPEN), path
        assert (viewer == 403) == (is_admins or method != "GET"), path
        assert (operator == 403) == is_admins, path
        assert admin not in REFUSED, path
        if not is_admins:
            assert operator == admin, path
