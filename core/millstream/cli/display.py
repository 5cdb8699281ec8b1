"""How batches look on a terminal: bars, lines and tables."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.wording import dollars

View = dict[str, Any]

TEXT_LIMIT = 100
DEFAULT_POOL = "default"


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def show(self, view: View, limited_by: View | None = None) -> None:
        """Take a change and show nothing."""


class Lines(Silence):
    """Prints one line per change: for logs and pipes."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def show(self, view: View, limited_by: View | None = None) -> None:
        """Print the batch's line when it differs from its last one."""
        line = state_line(view, limited_by)
        if self._last.get(view["id"]) != line:
            self._last[view["id"]] = line
            typer.echo(line)


class ProgressBars:
    """Draws a live bar per batch."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[batch]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[made]}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._tasks: dict[str, TaskID] = {}

    @classmethod
    def or_lines(cls) -> "ProgressBars | Lines":
        """Return bars for a terminal, else lines."""
        return cls() if sys.stdout.isatty() else Lines()

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw a last time and stop."""
        self._progress.stop()

    def show(self, view: View, limited_by: View | None = None) -> None:
        """Bring the batch's bar up to date."""
        task = self._tasks.get(view["id"])
        if task is None:
            task = self._progress.add_task("", batch=view["id"], made="", state="")
            self._tasks[view["id"]] = task
        self._progress.update(
            task,
            total=view["target"],
            completed=_resolved(view),
            made=_made(view),
            state=_state(view, limited_by),
        )
        if view["finished_at"] is not None:
            self._progress.stop_task(task)


def state_line(view: View, limited_by: View | None = None) -> str:
    """Return a batch in one line."""
    return f"{view['id']} {_state(view, limited_by)} {_made(view)}"


def batch_table(views: list[View], limited: Mapping[str, View], *, total: int) -> None:
    """Print batches as a table, and how many more there are; ``limited``: those that wait."""
    if not views:
        typer.echo("No batches.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("batch", "state", "samples", "failed", "model", "recipe", "started"):
        right = name in {"samples", "failed"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name == "batch")
    for view in views:
        counts = view["counts"]
        table.add_row(
            view["id"],
            _state(view, limited.get(view["id"])),
            f"{counts['generated']:,}/{view['target']:,}",
            f"{counts['failed']:,}",
            view["model"],
            view["recipe"],
            _moment(view["started_at"]),
        )
    width = None if sys.stdout.isatty() else 160  # a pipe has no width; names must stay whole
    Console(width=width).print(table)
    if total > len(views):
        typer.echo(f"{len(views)} of {total:,}; see more with --limit")


def batch_lines(view: View, limited_by: View | None = None) -> list[str]:
    """Return a batch as lines of name and value; ``limited_by`` is what its calls wait for."""
    counts, stuck = view["counts"], view["stuck"] or {}
    cost = counts["cost_nano_usd"]
    least = "at least " if counts.get("unpriced_calls") else ""
    rows = {
        "batch": view["id"],
        "state": _state(view),
        "stuck": stuck.get("cause"),
        "what to do": stuck.get("suggestion"),
        "held up": (view["held_up"] or {}).get("message"),
        "waits for": _limit(limited_by),
        "samples": _made(view),
        "attempts lost": f"{counts['attempts_failed']} to errors, {counts['rejected']} rejected",
        "model": f"{view['model']} ({view['provider']})",
        "recipe": f"{view['recipe']} ({view['recipe_hash'].removeprefix('sha256:')[:12]})",
        "child of": view["parent_id"],
        "retried by": view["retry_id"],
        "continued by": view["child_id"],
        "seed": view["seed"],
        "concurrency": view["concurrency"],
        "priority": view["priority"],
        "pool": _unless_default(view.get("pool")),
        "budgets": _budgets(view["budgets"]),
        "nearly used": _nearly_used(view),
        "tokens": f"{counts['tokens_in']:,} in, {counts['tokens_out']:,} out",
        "cost": "unknown" if cost is None else f"{least}{dollars(cost)} USD",
        "started": f"{_moment(view['started_at'])} by {view['started_by']}",
        "finished": _moment(view["finished_at"]),
        "stopped by": view["stopped_by"],
        "error": _words(view["error"]),
        "last error": _words(view["last_error"]),
    }
    return [f"{name:<14} {value}" for name, value in rows.items() if value not in {None, ""}]


def sample_line(sample: View) -> str:
    """Return a sample in one line: its slot, its cell and the start of its text."""
    content = sample["content"]
    text = next((str(content[key]) for key in ("question", "instruction") if key in content), "")
    if not text:
        text = str(next(iter(content.values()), ""))
    text = " ".join(text.split())
    short = text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
    return f"{sample['slot']:>6}  {sample['topic']} / {sample['difficulty']}  {short}"


def _resolved(view: View) -> int:
    counts = view["counts"]
    return int(counts["generated"] + counts["failed"] + counts["abandoned"])


def _made(view: View) -> str:
    counts = view["counts"]
    text = f"{counts['generated']:,}/{view['target']:,}"
    if counts["failed"]:
        text += f", {counts['failed']:,} failed"
    # A slice that no node had claimed when its batch was stopped stays pending.
    left = counts["abandoned"] + counts["pending"]
    if left and view.get("finished_at"):
        text += f", {left:,} not made"
    return text


def _state(view: View, limited_by: View | None = None) -> str:
    words = str(view["state"])
    if view.get("stuck") is not None and view["finished_at"] is None:
        words += " (stuck)"
    held_up = view.get("held_up")
    if held_up is not None and view["finished_at"] is None:
        words += f" ({held_up['kind']} until {_moment(held_up['until'])})"
    elif limited_by is not None and words == "running":
        words += f" (waits for {_limit(limited_by)})"
    if view["state"] == "failed" and view.get("error"):
        words += f" ({_words(view['error'])})"
    return words


def _limit(limited_by: View | None) -> str:
    """Return what a batch's calls wait for and when the next one starts, empty for nothing."""
    if limited_by is None:
        return ""
    next_at = limited_by["next_at"]
    next_call = f"; next call at {_moment(next_at)}" if next_at else ""
    return f"{limited_by['message']}{next_call}"


def _nearly_used(view: View) -> str:
    """Return the budgets of which a batch that runs has used four fifths or more."""
    warned = view["budgets_warned"] if view["finished_at"] is None else ()
    words = ("calls" if name == "attempts" else name for name in warned)
    return f"80 % or more of its {', '.join(words)}" if warned else ""


def _budgets(bounds: View) -> str:
    """Return the bounds of a batch in words, empty for none."""
    cost = bounds.get("max_cost_nano_usd")
    known = {
        "{:g} USD": None if cost is None else cost / 1e9,
        "{:,} tokens": bounds.get("max_tokens"),
        "{:g} s": bounds.get("max_duration_s"),
        "{:.0%} failed": bounds.get("max_failure_ratio"),
        "{:,} calls": bounds.get("max_attempts"),
    }
    return ", ".join(words.format(bound) for words, bound in known.items() if bound is not None)


def _unless_default(pool: str | None) -> str | None:
    """Return the pool where somebody chose one."""
    return None if pool == DEFAULT_POOL else pool


def _words(error: View | None) -> str:
    return str(error.get("message", error)) if error else ""


def _moment(text: str | None) -> str:
    return text[:19].replace("T", " ") + " UTC" if text else ""
