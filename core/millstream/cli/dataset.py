"""What `millstream dataset` does: it has an export run as a job, and writes it to files."""

import asyncio
import os
import re
import shutil
import sys
import tarfile
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TextIO

import typer
from pydantic import ValidationError

from millstream.cli.jobs import run_job
from millstream.errors import UsageError
from millstream.jobs.client import Job
from millstream_schemas.exports import FORMATS, DatasetCard, ExportRequest

BAR_SIGNS = 30
_MEMBER = re.compile(r"README\.md|card\.json|data/train-[0-9]{5}-of-[0-9]{5}\.parquet")


def run_export(
    nats: str | None,
    data: Path | None,
    fields: dict[str, Any],
    *,
    out: Path,
    is_one_batch: bool,
    may_replace: bool,
    as_json: bool,
) -> int:
    """Write an export to ``out`` and print its card or a line about it; returns the exit code."""
    try:
        request = _request(fields, is_one_batch=is_one_batch)
        _check_out(out, request, may_replace=may_replace)
    except UsageError as error:
        sys.stderr.write(f"millstream dataset export: {error}\n")
        return 2

    async def use(job: Job) -> int:
        card = await _save(job, request, out)
        if as_json:
            typer.echo(card.model_dump_json(indent=2))
        else:
            left_out = f", {card.redacted:,} erased ones left out" if card.redacted else ""
            typer.echo(
                f"{card.samples:,} samples in {out} as of sequence {card.at_seq}{left_out};"
                f" digest {card.digest}"
            )
        return 0

    return run_job("dataset export", nats, data, request, use)


def _request(fields: dict[str, Any], *, is_one_batch: bool) -> ExportRequest:
    if fields["format"] not in FORMATS:
        raise UsageError(
            f"--format {fields['format']!r} is not known; give one of: {', '.join(FORMATS)}",
            field="format",
        )
    try:
        return ExportRequest(is_one_batch=is_one_batch, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        value = str(first.get("input"))[:80]
        raise UsageError(f"{field}={value!r} is not valid: {first['msg']}", field=field) from error


def _check_out(out: Path, request: ExportRequest, *, may_replace: bool) -> None:
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.parent}; make it", field="out")
    if out.exists() and not may_replace:
        raise UsageError(f"--out {out} exists; name another, or add --force", field="out")
    if out.exists() and out.is_dir() != (request.format == "hf"):
        kind = "a directory" if out.is_dir() else "a file"
        raise UsageError(f"--out {out} is {kind}; {request.format} needs the other", field="out")


async def _save(job: Job, request: ExportRequest, out: Path) -> DatasetCard:
    """Write beside ``out`` first, so that what has its name is whole."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file, _Bar(job.ticket.total or 0, sys.stderr) as bar:
            async with aclosing(job.pieces(tell=bar.tell)) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
        card = await job.whole("card")
        if request.format == "hf":
            await asyncio.to_thread(_unpack, draft, out)
        else:
            draft.replace(out)
        if request.format == "jsonl":
            out.with_name(f"{out.name}.card.json").write_bytes(card)
    finally:
        draft.unlink(missing_ok=True)
    return DatasetCard.model_validate_json(card)


def _unpack(tar: Path, out: Path) -> None:
    """Unpack the members that an export has, and no others; then put them in ``out``'s place."""
    folder = out.with_name(f".{out.name}.{os.getpid()}.folder")
    try:
        (folder / "data").mkdir(parents=True)
        with tarfile.open(tar) as members:
            for member in members:
                content = members.extractfile(member)
                if content is None or not _MEMBER.fullmatch(member.name):
                    raise UsageError(f"the export holds {member.name!r}, which none should")
                with (folder / member.name).open("wb") as file:
                    shutil.copyfileobj(content, file, 2**20)
        if out.exists():
            shutil.rmtree(out)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bar:
    """A bar of the samples written, on a terminal alone; use as a context."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._shown = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def tell(self, rows: int, /) -> None:
        """Show that ``rows`` are written."""
        if rows == self._shown or not self._stream.isatty():
            return
        self._shown = rows
        share = rows / self._total if self._total else 1.0
        bar = "#" * round(share * BAR_SIGNS)
        self._stream.write(
            f"\r[{bar:<{BAR_SIGNS}}] {share:4.0%}  {rows:,} of {self._total:,} samples\x1b[K"
        )
        self._stream.flush()
