"""The local model: a small language model served by llama.cpp in a process of its own.

``python -m millstream_generator.local_model serve`` listens on loopback with an OpenAI-compatible
API. The engine is native code and comes with the extra ``local``; it is imported in that process
and in a probe only, so its crash takes nothing else along.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

from millstream.runtime.processors import processors
from millstream_generator.local_weights import (
    SMOLLM2,
    LocalModelError,
    Progress,
    Weights,
    default_cache_dir,
    pull,
    weights_path,
)
from millstream_generator.readiness import write_ready_file

__all__ = [
    "MODEL_ALIAS",
    "SMOLLM2",
    "LocalModelError",
    "Progress",
    "Weights",
    "default_cache_dir",
    "engine_available",
    "pull",
    "serve",
    "weights_path",
]

MODEL_ALIAS = "smollm2-135m"
SLOT_TOKENS = 2048
"""Context of one slot: prompt and answer together. More would cost 23 kB of memory per token."""

MAX_THREADS = 8
PROBE_S = 5.0
HEALTH_S = 60.0
_QUIET = 1  # llama.cpp's verbosity: errors only.


def engine_available() -> str | None:
    """Return None if the engine can be imported, else the reason and the remedy in one line.

    The import is tried in a child process: a missing system library raises there, and a processor
    without the instructions it was built for kills it.
    """
    # -P: a folder called like the engine in the working directory must not answer for it.
    command = [sys.executable, "-P", "-c", "import xllamacpp"]
    try:
        probe = subprocess.run(
            command, capture_output=True, timeout=PROBE_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"the engine xllamacpp wasn't imported within {PROBE_S:.0f} s; try again"
    if probe.returncode == 0:
        return None
    if probe.returncode < 0:
        return (
            f"importing the engine xllamacpp ended by signal {-probe.returncode}: this processor "
            "lacks instructions that its build needs (AVX2, FMA)"
        )
    words = probe.stderr.decode(errors="replace").strip().split("\n")[-1]
    if "No module named 'xllamacpp'" in words:
        return "the engine isn't installed; install the extra: millstream[local]"
    if "libgomp" in words:
        return f"{words}; install the system package libgomp1"
    return f"the engine xllamacpp can't be imported: {words}"


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    slots: int = 4,
    threads: int | None = None,
    ready_file: Path | None = None,
) -> NoReturn:
    """Serve the local model until SIGTERM or SIGINT, which end the process at once with code 0.

    Must run in the main thread of a process that serves nothing else.
    `slots` requests are answered at once, each within 2,048 tokens. `threads` None takes the
    processors it may use, at most 8. Once the model answers its health check the ready file is
    written.

    Raises:
        LocalModelError: no weights, no engine, a taken port, or a model that doesn't load.
        OSError: the ready file can't be written.
    """
    path = weights_path()
    if path is None:
        raise LocalModelError("weights: not in the cache; fetch them with: millstream local pull")
    _check_address(host, port)
    server = _start_server(path, host, port, slots, threads or min(processors(), MAX_THREADS))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    url = str(server.listening_address)
    _await_health(url, stop)
    if ready_file is None:
        sys.stdout.write(f"{MODEL_ALIAS} at {url}/v1\n")
        sys.stdout.flush()
    elif not stop.is_set():
        write_ready_file(ready_file, url)
    stop.wait()
    sys.stdout.flush()
    sys.stderr.flush()
    # The engine's destructor waits for running answers, 30 s when measured. There is nothing to
    # save: the weights are read only, and whoever waits for an answer sees the connection close.
    os._exit(0)


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LocalModelError(
                f"--host {host} --port {port}: can't be bound ({error.strerror}); choose another "
                "port, or 0 for a free one"
            ) from error


def _start_server(path: Path, host: str, port: int, slots: int, threads: int) -> Any:
    """Load the model and return the engine's server (Any: the engine carries no types)."""
    # Spinning OpenMP threads starve the other processes of this machine: waiting ones gave twice
    # the tokens beside one busy process. It is read once, when the engine is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import xllamacpp  # noqa: PLC0415 - native and optional: only this process loads it.
    except ImportError as error:
        reason = engine_available() or str(error)
        raise LocalModelError(f"engine: {reason}") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL_ALIAS}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = SLOT_TOKENS * slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.endpoint_metrics = True
    params.warmup = False
    params.ui = False
    params.verbosity = _QUIET
    # By default old prompts are kept in up to 8 GB; each slot keeps its own last one anyway.
    params.cache_ram_mib = 0
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise LocalModelError(
            f"{path}: the model doesn't load ({error}); pull it again, or set another .gguf file"
        ) from error


def _await_health(url: str, stop: threading.Event) -> None:
    """Wait until the server says that it is well, or until `stop`."""
    deadline = time.monotonic() + HEALTH_S
    while not stop.is_set():
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310 - our own.
                return
        except (urllib.error.URLError, TimeoutError) as error:
            # 503 while the model loads.
            if time.monotonic() > deadline:
                raise LocalModelError(
                    f"{url}/health: not well within {HEALTH_S:.0f} s ({error})"
                ) from error
        stop.wait(0.05)


def _thread_count(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't auto or a whole number above 0")


def main(argv: list[str] | None = None) -> int:
    """Run ``serve`` or ``probe``; return the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m millstream_generator.local_model")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("probe", help="say whether the engine and the weights are here")
    server = commands.add_parser("serve", help="serve the local model")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on")
    server.add_argument("--port", type=int, default=0, help="port to listen on; 0: a free one")
    server.add_argument("--slots", type=int, choices=range(1, 65), metavar="1..64", default=4)
    server.add_argument("--threads", type=_thread_count, default=None, help="a number or auto")
    server.add_argument("--ready-file", type=Path, help="where to write the URL and process id")
    options = parser.parse_args(argv)
    try:
        if options.command == "probe":
            reason = engine_available()
            sys.stdout.write(f"engine: {reason or 'ready'}\nweights: {weights_path() or 'none'}\n")
            return 0 if reason is None and weights_path() is not None else 1
        serve(
            options.host,
            options.port,
            slots=options.slots,
            threads=options.threads,
            ready_file=options.ready_file,
        )
    except (LocalModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
