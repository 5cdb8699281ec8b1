"""Exports of datasets and SQL by the command line: over NATS, and from a directory at rest."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream.testing.asking import ask, is_answered
from millstream.testing.events import Script
from millstream.testing.examples import example_recipe, example_spec
from millstream.testing.nats import RunningLog, running_log, store
from millstream.testing.service_process import ServiceProcess
from millstream.testing.waiting import BOUND_S
from millstream_projector import tables

pytestmark = pytest.mark.anyio

PARENT, CHILD = "batch_1767225600_0000000a", "batch_1767225600_0000000b"
SAMPLES, LATER = 9, 3


@dataclass(frozen=True, slots=True)
class Site:
    """A log with a projector that runs, and where it keeps its files."""

    log: RunningLog
    views: Path
    last: int

    @property
    def where(self) -> tuple[str, ...]:
        return ("--nats", self.log.settings.nats_url)


def batch(batch_id: str, samples: int, **fields: Any) -> Script:
    """Return the history of a batch whose samples hold more than plain text."""
    recipe = example_recipe()
    properties = {**recipe.output["properties"], "grade": {"type": "integer"}}
    recipe = recipe.model_copy(update={"output": {"type": "object", "properties": properties}})
    spec = example_spec(samples, slice_size=64, recipe=recipe, **fields)
    script = Script(batch_id=batch_id, spec=spec)
    script.start()
    script.claim(0)
    for slot in range(samples):
        content = {
            "question": f'"Was heißt {slot}?"\n\\',
            "answer": "é" * slot,
            "grade": slot,
            "Provenance": None,
        }
        script.generate(slot, content)
    return script


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_log(tmp_path) as log:
        script = batch(PARENT, SAMPLES + 1)
        await store(log.event_log, script.tape.entries)
        await store(log.event_log, batch("batch_1767225600_0000000c", 2).tape.entries)
        views = tmp_path / "views"
        projector = ServiceProcess(
            "millstream_projector",
            tmp_path / "projector.log",
            nats_url=log.settings.nats_url,
            data_dir=str(views),
        )
        with projector:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(log.event_log):
                    await asyncio.sleep(0.05)
            last = (await log.event_log.head()).last
            await ask(log.event_log, "statistics", min_sequence=last)
            yield Site(log, views, last)


async def run(*words: str, text: str = "") -> tuple[int, str, str]:
    """Run a command; return its exit code and what it printed on stdout and stderr."""
    async with started(*words) as process:
        out, err = await process.communicate(text.encode())
    return process.returncode or 0, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def started(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    clean = {name: value for name, value in os.environ.items() if "MILLSTREAM_" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream.cli", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def export(name: str, out: Path, *words: str) -> Any:
    """Export and return the card."""
    code, text, err = await run("dataset", "export", name, "--out", str(out), *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(text)


async def exports(directory: Path, name: str, forms: Sequence[str], *words: str) -> list[Any]:
    """Export the parent in several formats side by side; return the cards."""
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(
                export(PARENT, directory / f"{name}.{form}", "--format", form, *words)
            )
            for form in forms
        ]
    return [task.result() for task in asked]


def digest_of(lines: list[tuple[int, str]]) -> str:
    """Compute a dataset's digest as docs/datasets.md says."""
    hashes = [md5(f"{seq}:{content}".encode(), usedforsecurity=False) for seq, content in lines]
    first = sum(int.from_bytes(one.digest()[:8], "little") for one in hashes)
    second = sum(int.from_bytes(one.digest()[8:], "little") for one in hashes)
    return sha256(f"{len(lines)}:{first:x}:{second:x}".encode()).hexdigest()[:32]


def rows_of(path: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT question, answer, grade, provenance_.slot, provenance_.sequence FROM '{path}'"  # noqa: S608
        ).fetchall()


async def test_a_pinned_export_is_the_same_bytes_whatever_comes_later(
    site: Site, tmp_path: Path
) -> None:
    wanted = [(f'"Was heißt {slot}?"\n\\', "é" * slot, slot, slot) for slot in range(SAMPLES)]
    pin = site.last - 5  # within the batch, which runs on: one sample and the other batch follow
    words = ("--at-seq", str(pin), *site.where)
    first = await export(PARENT, tmp_path / "a.parquet", *words)
    assert [row[:4] for row in rows_of(f"{tmp_path}/a.parquet")] == wanted
    assert (first["samples"], first["at_seq"], first["batches"][0]["outcome"]) == (9, pin, None)
    assert first["fields"] == {
        "question": "VARCHAR", "answer": "VARCHAR", "grade": "BIGINT", "Provenance": "VARCHAR",
    }  # fmt: skip
    await exports(tmp_path, "a", ("jsonl", "hf"), *words)
    child = batch(CHILD, LATER)
    head = child.tape.entries[0].recorded.event.model_copy(
        update={"dataset_id": PARENT, "parent_id": PARENT}
    )
    await site.log.event_log.append(head, expected=0)
    await store(site.log.event_log, child.tape.entries[1:])
    last = (await site.log.event_log.head()).last
    await ask(site.log.event_log, "statistics", min_sequence=last)
    assert await exports(tmp_path, "b", ("parquet", "jsonl"), *words) == [first, first]
    assert await exports(tmp_path, "b", ("hf",), *words) == [first]
    for name in (".parquet", ".jsonl", ".jsonl.card.json", ".hf/README.md", ".hf/card.json"):
        assert (tmp_path / f"a{name}").read_bytes() == (tmp_path / f"b{name}").read_bytes(), name
    shard = "data/train-00000-of-00001.parquet"
    assert (tmp_path / "a.hf" / shard).read_bytes() == (tmp_path / "b.hf" / shard).read_bytes()
    assert rows_of(f"{tmp_path}/b.hf/data/*.parquet") == rows_of(f"{tmp_path}/a.parquet")
    page = (tmp_path / "b.hf/README.md").read_text(encoding="utf-8")
    assert page.startswith("---\n")
    assert "path: data/train-*.parquet" in page
    lines = (tmp_path / "b.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert [row["answer"] for row in found] == [row[1] for row in wanted]
    contents = [
        (row["provenance_"]["sequence"], line[: line.index(',"provenance_":')] + "}")
        for row, line in zip(found, lines, strict=True)
    ]
    assert digest_of(contents) == first["digest"]
    # The dataset as it is now has its child too; what is new since the pin is what follows it.
    whole = await export(PARENT, tmp_path / "whole.jsonl", "--format", "jsonl", *site.where)
    assert [one["samples"] for one in whole["batches"]] == [SAMPLES + 1, LATER]
    new = await export(
        PARENT, tmp_path / "new.jsonl", "--format", "jsonl", "--since", str(pin), *site.where
    )
    assert (new["samples"], new["first_sequence"] > pin) == (1 + LATER, True)
    together = (tmp_path / "b.jsonl").read_bytes() + (tmp_path / "new.jsonl").read_bytes()
    assert together == (tmp_path / "whole.jsonl").read_bytes()


async def test_exports_say_what_is_wrong_and_leave_nothing_behind(
    site: Site, tmp_path: Path
) -> None:
    out = str(tmp_path / "x.parquet")
    for words, code, said in (
        (("batch_1_00000000", "--out", out), 2, "is of no batch"),
        ((PARENT, "--out", out, "--at-seq", "1", "--since", "2"), 2, "since=2 lies beyond"),
        (
            (PARENT, "--out", out, "--at-seq", "999999"),
            2,
            "at_seq=999999 lies beyond the log's end",
        ),
        ((PARENT, "--out", out, "--format", "xls"), 2, "give one of: parquet, jsonl, hf"),
        ((PARENT, "--out", str(tmp_path)), 2, "add --force"),
        ((PARENT, "--out", f"{tmp_path}/no/x"), 2, "there is no directory"),
    ):
        found, _, err = await run("dataset", "export", *words, *site.where)
        assert (found, said in err) == (code, True), (words, err)
    assert [path.name for path in tmp_path.iterdir() if "x.parquet" in path.name] == []
    async with asyncio.timeout(BOUND_S):
        while any((site.views / "copies").glob("job-*")):
            await asyncio.sleep(0.05)


async def test_sql_reads_the_tables_and_nothing_else(site: Site, tmp_path: Path) -> None:
    count = "SELECT count(*) AS n, max(length(answer)) FROM (SELECT content->>'answer' AS answer"
    count += f" FROM samples WHERE batch_id = '{PARENT}')"
    code, out, _ = await run("sql", count, *site.where)
    assert (code, out.splitlines()[2].split(), f"as of sequence {site.last}" in out) == (
        0, ["10", "9"], True,
    )  # fmt: skip
    words = ("sql", "--file", "-", "--format", "json", "--limit-rows", "3", *site.where)
    code, out, err = await run(*words, text="FROM samples SELECT seq, content ORDER BY seq")
    document = json.loads(out)
    assert (code, len(document["rows"]), document["is_cut"]) == (0, 3, True)
    assert "only the first 3 rows" in err
    code, out, _ = await run("sql", "SELECT 1 AS a, NULL AS b", "--format", "csv", *site.where)
    assert (code, out) == (0, "a,b\n1,\n")
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    endless = (
        "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t) FROM t SELECT max(a)"
    )
    for statement, code, said in (
        ("DELETE FROM samples", 2, "SQL only reads"),
        ("SELECT 1; SELECT 2", 2, "2 statements were given"),
        (f"SELECT * FROM read_csv('{secret}')", 2, "file system operations are disabled"),  # noqa: S608
        (f"COPY samples TO '{tmp_path}/leak'", 2, "COPY is not allowed"),
        ("SELECT nothing FROM samples", 2, '"nothing" not found'),
        ("SELECT repeat('x', 3000000000)", 1, "of memory"),
    ):
        found, _, err = await run("sql", statement, *site.where)
        assert (found, said in err) == (code, True), (statement, err)
    found, _, err = await run("sql", endless, "--timeout", "2", *site.where)
    assert (found, "cut off after 2 s" in err) == (1, True), err
    assert not (tmp_path / "leak").exists()
    async with started("sql", endless, "--timeout", "600", *site.where) as process:
        async with asyncio.timeout(BOUND_S):
            while not list((site.views / "copies").glob("job-*/output")):
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said_last = await process.communicate()
            assert (process.returncode, said_last) == (130, b"millstream sql: interrupted\n")
            while list((site.views / "copies").glob("job-*")):  # the statement has ended too
                await asyncio.sleep(0.05)


async def test_a_directory_at_rest_is_read_without_a_server(tmp_path: Path) -> None:
    async with running_log(tmp_path) as log:
        await store(log.event_log, batch(PARENT, SAMPLES).tape.entries)
        last = (await log.event_log.head()).last
        views = str(tmp_path / "views")
        projector = ServiceProcess(
            "millstream_projector",
            tmp_path / "projector.log",
            nats_url=log.settings.nats_url,
            data_dir=views,
        )
        with projector:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(log.event_log):
                    await asyncio.sleep(0.05)
            await ask(log.event_log, "statistics", min_sequence=last)
            projector.kill()  # its write-ahead log stays beside the file
    code, out, err = await run("sql", "SELECT count(*) FROM samples", "--data", views)
    assert (code, str(SAMPLES) in out, err) == (0, True, "")
    card = await export(PARENT, tmp_path / "x.parquet", "--data", views)
    assert (card["samples"], card["at_seq"]) == (SAMPLES, last)
    code, _, err = await run("sql", "SELECT 1", "--data", str(tmp_path / "nothing"))
    assert (code, "holds no read model" in err) == (2, True)


def test_the_page_names_every_table_and_column() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    listed = {
        line.split("|")[1].strip(" `"): {name.strip(" `") for name in line.split("|")[2].split(",")}
        for line in page.splitlines()
        if line.startswith("| `") and line.count("|") == 3
    }
    assert {
        name: columns
        for name, columns in listed.items()
        if name in {table.name for table in tables.TABLES}
    } == {table.name: set(table.columns) for table in tables.TABLES}
