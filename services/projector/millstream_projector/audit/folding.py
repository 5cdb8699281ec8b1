"""`python -m millstream_projector.audit.folding`: folds the batches that another process tells it.

That process reads the log and keeps the tables. It tells events and where transactions end, and is
given what each transaction changes. When it is gone, this process ends too.
"""

import argparse
import contextlib
import gc
import socket
import sys
from collections.abc import Sequence

from millstream.eventlog.chain import ChainState
from millstream.eventlog.stored import Stored
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import load_settings
from millstream_projector.audit.distant import Distant, StrayBatchError
from millstream_projector.audit.wire import Channel
from millstream_projector.projection import Projection

YOUNG_OBJECTS = 50_000
"""The collector looks at what is new once it is so much: a fold leaves it hardly anything."""


def main() -> int:
    """Fold until the other process is gone."""
    options = _options()
    configure_logs(load_settings(), "rebuild")
    work, questions = (Channel(socket.socket(fileno=number)) for number in options.sockets)
    gc.collect()
    gc.freeze()  # What lives now lives for ever: no collection looks at it again.
    gc.set_threshold(YOUNG_OBJECTS)
    with contextlib.suppress(EOFError, ConnectionError):
        questions.send("here")
        try:
            _fold(work, Distant(work, questions, is_alone=options.alone))
        except StrayBatchError as error:
            work.send(error)
            while True:  # so that the other process comes to read it
                work.told()
    return 0


def _fold(work: Channel, keeper: Distant) -> None:
    projection = Projection(keeper, extend=_unchained)
    try:
        while True:
            told = work.told()
            keeper.events = told.all_events
            projection.take(keeper.events)
            if told.is_end:
                projection.end_step()
    finally:
        projection.close()


def _unchained(_: ChainState, items: Sequence[Stored]) -> ChainState:
    """Return how far a part is: a part of the log has no hash chain."""
    return ChainState(items[-1].sequence)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("sockets", type=int, nargs=2)
    parser.add_argument("--alone", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
