"""`python -m millstream_projector.audit.folding`: folds what a rebuild tells it on stdin.

It is told where to begin, then events in order, then None. When stdin ends before that, whoever
read the log has died: the process ends too and leaves an unfinished file, which nobody takes.
"""

import gc
import os
import sys
from pathlib import Path

from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import load_settings
from millstream_projector.audit.wire import Listener
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store, StoreError


def main() -> int:
    """Fold until told that this was all; exit code 1 when it ended before, or failed."""
    configure_logs(load_settings(), "rebuild")
    try:
        listener = Listener(os.fdopen(sys.stdin.fileno(), "rb", closefd=False))
        begin = listener.begin()
        store = open_store(
            Path(begin.directory), stream=begin.stream, last_sequence=begin.last_sequence
        )
        gc.collect()
        gc.freeze()  # What lives now lives for ever: no collection looks at it again.
        try:
            _fold(store, listener)
        finally:
            store.finish()
            gc.unfreeze()  # else DuckDB's bindings take what is frozen for leaks, and say so
    except (EOFError, StoreError) as error:
        sys.stderr.write(f"millstream rebuild: {error}\n")
        return 1
    return 0


def _fold(store: Store, listener: Listener) -> None:
    projection = Projection(store, extend=listener.extend)
    try:
        while (events := listener.events()) is not None:
            projection.advance(events, is_bulk=True)
        projection.advance(())
    finally:
        projection.close()


if __name__ == "__main__":
    sys.exit(main())
