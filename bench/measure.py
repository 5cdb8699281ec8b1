"""What every bench shares: percentiles, the result file, the table."""

import asyncio
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Metric:
    """One figure; ``ratio`` compares it to ``yardstick``, measured in the same run."""

    value: float
    unit: str
    yardstick: str | None = None
    ratio: float | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile (share in 0..1) of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Return the middle value (the upper one of two)."""
    return percentile(values, 0.5)


def end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that has not ended by itself."""
    if process.returncode is None:
        process.kill()


def report(bench: str, metrics: dict[str, Metric]) -> None:
    """Print a table and write ``bench/results/<bench>.json``."""
    for name, metric in metrics.items():
        beside = f"  {metric.ratio:.2f} x {metric.yardstick}" if metric.ratio is not None else ""
        print(f"{name:32} {metric.value:12.2f} {metric.unit:10}{beside}")
    RESULTS.mkdir(exist_ok=True)
    document = {
        "bench": bench,
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_1min": os.getloadavg()[0],
        },
        "metrics": {name: vars(metric) for name, metric in metrics.items()},
    }
    path = RESULTS / f"{bench}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  # git from the PATH
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return found.stdout.strip() or "unknown"
