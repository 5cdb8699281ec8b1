"""The command line: `millstream`; nothing heavy is imported before a command needs it."""

import sys


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage."""
    from millstream.cli.app import app  # noqa: PLC0415  # `import millstream.cli` stays cheap
    from millstream.errors import MillstreamError  # noqa: PLC0415

    try:
        app(prog_name="millstream")
    except MillstreamError as error:
        sys.stderr.write(f"millstream: {error}\n")
        sys.exit(1)
