"""Run the simulated model: ``python -m millstream_generator.simulated --port 0``."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from millstream_generator.readiness import write_ready_file
from millstream_generator.simulated.server import SimulatedServer


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m millstream_generator.simulated",
        description="Serve simulated models on an OpenAI-compatible HTTP API.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--ready-file", type=Path, help="where to write the URL and process id once it listens"
    )
    return parser.parse_args(argv)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop where there is a build of it: it serves twice the requests per core."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - no build exists for some platforms.
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


async def serve(host: str, port: int, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the address can't be bound or the ready file can't be written.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = SimulatedServer()
    try:
        url = await server.start(host, port)
        if ready_file is None:
            sys.stdout.write(f"Simulated models at {url}/v1\n")
            sys.stdout.flush()
        else:
            write_ready_file(ready_file, url)
        await stop.wait()
    finally:
        await server.stop()


def main(argv: list[str] | None = None) -> int:
    """Run the server; return the exit code: 0 when it was told to stop, 1 when it can't start."""
    options = _arguments(argv)
    try:
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            runner.run(serve(options.host, options.port, options.ready_file))
    except OSError as error:
        sys.stderr.write(
            f"Can't serve simulated models on {options.host}:{options.port}: {error}. "
            "Choose another --port (0 takes a free one) or --ready-file.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
