"""`millstream doctor`: can this machine run Millstream, and if not, what is to be done?"""

import importlib.util
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer

from millstream.cli.probes import check_port
from millstream.cli.services import service_command
from millstream.cli.statefile import is_running, read_state
from millstream.errors import MillstreamError
from millstream.eventlog.server import find_binary
from millstream.models import AUTO, ModelBook
from millstream.runtime.settings import Settings, load_settings

Mark = Literal["ok", "warning", "failed"]
COMMAND_LIMIT_S = 10.0
PACKAGES = ("nats-py", "duckdb", "fastapi", "litellm")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it stands, and in words."""

    name: str
    mark: Mark
    words: str


def run_doctor(*, host: str | None, port: int | None, data: Path | None, as_json: bool) -> int:
    """Print every finding; returns 1 when one of them keeps Millstream from running.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = load_settings(host=host, port=port, data_dir=data)
    checks = [
        _versions(),
        _guarded("nats-server", _nats_server),
        _page(),
        _guarded("port", lambda: _port(settings)),
        _data_dir(settings.data_dir),
        _guarded("models", lambda: _models(settings)),
        _local_model(),
    ]
    is_fine = all(check.mark != "failed" for check in checks)
    if as_json:
        document = {"ok": is_fine, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(document, indent=2))
    else:
        for check in checks:
            typer.echo(f"{check.mark:<8} {check.name:<12} {check.words}")
    return 0 if is_fine else 1


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except (MillstreamError, OSError, subprocess.SubprocessError) as error:
        return Check(name, "failed", str(error))


def _versions() -> Check:
    words = [f"millstream {version('millstream')}", f"Python {platform.python_version()}"]
    try:
        words += [f"{package} {version(package)}" for package in PACKAGES]
    except PackageNotFoundError as error:
        return Check("versions", "failed", f"{error.name} is missing; reinstall millstream")
    return Check("versions", "ok", ", ".join(words))


def _nats_server() -> Check:
    binary = find_binary()
    answer = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=True
    )
    return Check("nats-server", "ok", f"{answer.stdout.strip()} at {binary}")


def _page() -> Check:
    package = importlib.util.find_spec("millstream_api")
    folders = package.submodule_search_locations if package else None
    if not folders or not (Path(folders[0]) / "dashboard" / "index.html").is_file():
        return Check(
            "page", "warning", "not built: the API runs without it; build it with `just page`"
        )
    return Check("page", "ok", "built")


def _port(settings: Settings) -> Check:
    state = read_state(settings.data_dir)
    if is_running(state) and state is not None:
        return Check("port", "ok", f"`millstream up` (process {state['pid']}) at {state['url']}")
    check_port(settings.host, settings.port)
    return Check("port", "ok", f"{settings.port} on {settings.host} is free")


def _data_dir(directory: Path) -> Check:
    parent = directory
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            usage = os.statvfs(parent)
    except OSError as error:
        words = f"{directory} can't be written ({error.strerror}); name another with --data"
        return Check("data", "failed", words)
    free_gb = usage.f_bavail * usage.f_frsize / 1e9
    mark: Mark = "ok" if free_gb >= 1 else "warning"
    return Check("data", mark, f"{directory} is writable, {free_gb:.1f} GB free")


def _models(settings: Settings) -> Check:
    """Return whether the models file can be used, and which keys can't be sent."""
    book = ModelBook.load(settings.model_copy(update={"default_model": AUTO}))
    file = settings.models_file
    words = f"{len(book.all())} named" + (f", with those of {file}" if file else "")
    variables = {route.api_key_env for alias in book.all() for route in alias.routes}
    faults = [fault for name in sorted(filter(None, variables)) if (fault := book.key_fault(name))]
    return Check("models", "warning" if faults else "ok", "; ".join([words, *faults]))


def _local_model() -> Check:
    if importlib.util.find_spec("xllamacpp") is None:
        words = (
            "engine not installed (simulated models still work): pip install 'millstream[local]'"
        )
        return Check("local model", "warning", words)
    try:
        answer = subprocess.run(
            service_command("local-model", ["probe"]),
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check("local model", "warning", str(error))
    words = " | ".join((answer.stdout + answer.stderr).split("\n")).strip(" |")
    return Check("local model", "ok" if answer.returncode == 0 else "warning", words)
