"""What each route answers to each role, asked of a real server: the table of docs/roles.md.

``python -m millstream.testing.role_table docs/roles.md`` writes it; a test holds it current.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from millstream.runtime.tokens import ROLES, create_token
from millstream.testing.nats import running_log
from millstream.testing.service_process import ApiProcess, ServiceProcess
from millstream.testing.waiting import BOUND_S, POLL_S

BEGIN = "<!-- roles: made by `just docs` -->"
END = "<!-- roles end -->"
NOBODY = "none"
ASKERS = (NOBODY, *ROLES)
UNDESCRIBED = (("GET", "/"), ("GET", "/metrics"), ("GET", "/v1/openapi.json"))
"""Routes that the OpenAPI document does not name."""
NO_COMMAND = b"[]"
"""A body that is read after the role was asked about, and that changes nothing."""

Table = dict[tuple[str, str], dict[str, int]]
"""(method, route) -> asker -> status."""


async def role_table() -> Table:
    """Ask a server of its own for every route as every role; return the statuses."""
    with tempfile.TemporaryDirectory(prefix="millstream-roles-") as directory:
        folder = Path(directory)
        file = folder / "tokens"
        heads: dict[str, dict[str, str]] = {NOBODY: {}}
        for role in ROLES:
            token = create_token(file, f"the-{role}", role)
            heads[role] = {"Authorization": f"Bearer {token}"}
        async with running_log(folder) as log:
            url = log.server.url
            data = str(folder / "projector")
            with (
                ServiceProcess(
                    "millstream_projector", folder / "p.log", nats_url=url, data_dir=data
                ),
                ApiProcess(folder / "api.log", url, tokens_file=str(file)) as api,
            ):
                async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
                    return await _asked(client, heads)


async def _asked(client: httpx.AsyncClient, heads: Mapping[str, dict[str, str]]) -> Table:
    body = {"target": 1, "model": "simulated/fast"}
    started = await client.post("/v1/batches", json=body, headers=heads["admin"])
    batch = started.raise_for_status().json()["batch"]
    known = {"batch_id": batch["id"], "dataset_id": batch["dataset_id"], "slot": "0"}
    known |= {"webhook_id": "wh_unknown", "recipe": batch["recipe"]}
    await _folded(client, started.json()["sequence"], heads["admin"])
    document = (await client.get("/v1/openapi.json", headers=heads["admin"])).json()
    described = [
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    ]
    return {
        (method, path): {
            asker: await _status(client, method, path.format(**known), heads[asker])
            for asker in ASKERS
        }
        for method, path in sorted({*described, *UNDESCRIBED}, key=lambda route: route[::-1])
    }


async def _folded(client: httpx.AsyncClient, sequence: int, head: dict[str, str]) -> None:
    """Return once a projector has folded so much."""
    query = {"min_sequence": sequence}
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = await client.get("/v1/batches", params=query, headers=head)
            if answer.status_code == 200:
                return
            await asyncio.sleep(POLL_S)


async def _status(client: httpx.AsyncClient, method: str, path: str, head: dict[str, str]) -> int:
    content = NO_COMMAND if method in {"POST", "PATCH"} else None
    async with client.stream(method, path, headers=head, content=content) as answer:
        return answer.status_code  # of a stream, or an export, no more is read


def as_markdown(table: Table) -> str:
    """Return the table as Markdown."""
    rows = [f"| route | {' | '.join(ASKERS)} |", "|---" * (len(ASKERS) + 1) + "|"]
    rows += [
        f"| `{method} {path}` | {' | '.join(str(got[asker]) for asker in ASKERS)} |"
        for (method, path), got in table.items()
    ]
    return "\n".join(rows)


def with_table(page: str, table: Table) -> str:
    """Return ``page`` with ``table`` between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    found = re.fullmatch(f"(.*{re.escape(BEGIN)}).*({re.escape(END)}.*)", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{found[1]}\n\n{as_markdown(table)}\n\n{found[2]}"


def main(arguments: list[Any]) -> None:
    """Write the table into the named page."""
    path = Path(arguments[0])
    page = path.read_text(encoding="utf-8")
    path.write_text(with_table(page, asyncio.run(role_table())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
