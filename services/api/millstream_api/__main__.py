"""``python -m millstream_api``: the API as a process of its own."""

import functools
import sys

from millstream.errors import SettingsError
from millstream.runtime.lifecycle import run_service
from millstream.runtime.settings import load_settings
from millstream_api.service import main as serve


def main() -> int:
    """Run the API until a signal; return the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"millstream api: {error}\n")
        return 1
    return run_service("api", functools.partial(serve, owns_process=True), settings)


if __name__ == "__main__":
    sys.exit(main())
