"""The history of the present, kept in memory beside the tables it is a copy of.

The plans, threads and transactions of SQL cost a page of the history more than its rows do, most
of all while events come in. Here a page is a few operations on sets of places, made where the
request arrives. What is older is asked of the tables (``history``), and the answers are the same
to the byte.
"""

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import duckdb
import orjson

from millstream_projector.changes import Changes, Row
from millstream_projector.views.history import AXES, KEYS, check_range, page
from millstream_projector.views.order import Order
from millstream_projector.views.packing import Packer
from millstream_projector.views.paging import (
    INT_MOST,
    RefusedError,
    column_time,
    decode_cursor,
    encode_cursor,
)
from millstream_projector.views.places import Axis, Places, each, flags, those
from millstream_projector.views.started import between, survey
from millstream_schemas import views

PIECE = 2_000
Find = Callable[[Callable[[duckdb.DuckDBPyConnection], Any]], Awaitable[Any]]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # as the tables' times: in UTC, without a zone
_US = timedelta(microseconds=1)


class Board:
    """Every batch that was started: its place is how many were started before it.

    ``take`` and ``load`` may be called from any thread, ``history`` too.
    """

    def __init__(self) -> None:
        """Know nothing until ``load``."""
        self._lock = threading.Lock()
        self._packer = Packer()
        self._forget()

    def _forget(self) -> None:
        self._is_loaded = False
        self._early: Changes | None = None
        self._as_of = 0
        self._place_of: dict[str, int] = {}
        self._ids: list[str] = []
        self._started: list[int] = []
        self._times = array("q")
        self._axes = {name: Axis() for name in AXES}
        self._orders = {f"{sign}{name}": Order() for name in KEYS for sign in ("", "-")}
        self._views: list[bytes] = []

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._ids)

    async def load(self, find: Find) -> None:
        """Copy what the tables hold, a piece at a time; what is stored meanwhile is not missed.

        ``find`` runs a read in a reading thread. After an error nothing is kept, and SQL answers
        until another ``load`` succeeds.

        Raises:
            RefusedError: no more is read, since the process ends.
            duckdb.Error: the tables can't be read.
        """
        with self._lock:
            self._early = Changes()
        try:
            as_of, starts, ends = await find(survey)
            for begin in range(0, len(starts), PIECE):
                low, high = starts[begin], starts[begin : begin + PIECE][-1]
                await find(partial(self._copy, low=low, high=high, ends=ends))
            await find(self._sort)
        except (RefusedError, duckdb.Error):
            with self._lock:
                self._forget()
            raise
        with self._lock:
            self._as_of = as_of
            self._is_loaded = True
            self._take(self._early)
            self._early = None

    def take(self, changes: Changes) -> None:
        """Follow what was stored."""
        with self._lock:
            if self._is_loaded:
                self._take(changes)
            elif self._early is not None:
                # Without the samples' texts, and of each batch the newest row alone.
                self._early.checkpoint = changes.checkpoint
                self._early.batches.update(changes.batches)
                self._early.ended.update(changes.ended)

    def _copy(
        self, connection: duckdb.DuckDBPyConnection, *, low: int, high: int, ends: dict[str, int]
    ) -> None:
        rows = between(connection, low=low, high=high, ends=ends)
        self._extend(rows)
        for row in rows:
            self._views[self._place_of[row["batch_id"]]] = self._packer.pack(row["view"])

    def _sort(self, _: duckdb.DuckDBPyConnection) -> None:
        for order in self._orders.values():  # else whoever asks first waits for it
            order.settle()

    def _take(self, changes: Changes) -> None:
        if changes.checkpoint <= self._as_of:
            return
        rows = [row for row in changes.batches.values() if "view" in row]
        news = [row for row in rows if row["batch_id"] not in self._place_of]
        self._extend(sorted(news, key=lambda row: row["started_seq"]))
        for row in rows:
            place = self._place_of[row["batch_id"]]
            for name, axis in self._axes.items():
                axis.put(place, row[AXES[name]])
            ended = changes.ended.get(row["batch_id"], self._orders["-finished"].keys[place])
            self._put_keys(place, {**row, "end_seq": ended})
            self._views[place] = self._packer.pack(row["view"])
        self._as_of = changes.checkpoint

    def _extend(self, rows: Sequence[Row]) -> None:
        """Add batches behind all others, without their views."""
        for order in self._orders.values():
            order.extend(len(rows))
        for place, row in enumerate(rows, len(self._ids)):
            self._place_of[row["batch_id"]] = place
            self._ids.append(lowered(row["batch_id"]))
            self._started.append(row["started_seq"])
            self._times.append(_microseconds(row["started_at"]))
            self._views.append(b"")
            self._put_keys(place, row)
        for name, axis in self._axes.items():
            axis.extend([row[AXES[name]] for row in rows])

    def _put_keys(self, place: int, row: Row) -> None:
        done = row["generated"] + row["failed"] + row["abandoned"]
        found = {
            "progress": 1_000_000 * done // row["target"],
            "cost": row["cost_nano_usd"],
            "samples": row["generated"],
            "finished": row.get("end_seq"),
        }
        for name, key in found.items():
            # The tables hold no number beyond 64 bits: there it is null.
            is_known = key is not None and 0 <= key <= INT_MOST
            self._orders[f"-{name}"].put(place, key if is_known else -1)
            self._orders[name].put(place, key if is_known else INT_MOST)

    def history(self, request: views.HistoryQuery, most_bytes: int) -> bytes | None:
        """Return the answer of ``queries.answer``; None where SQL must answer.

        It must until the tables are copied, and for a sequence of which the board is not told yet.

        Raises:
            RefusedError: the cursor or the range of time makes no sense.
        """
        with self._lock:
            if not self._is_loaded or self._as_of < request.min_sequence:
                return None
            return orjson.dumps({**self._page(request, most_bytes), "as_of": self._as_of})

    def _page(self, request: views.HistoryQuery, most_bytes: int) -> dict[str, Any]:
        check_range(request)
        own = self._own(request)
        chosen = rest = self._rest(request)
        for places in own.values():
            chosen &= places
        found: dict[str, list[tuple[str, int]]] = {}
        for name, axis in self._axes.items():
            among = chosen
            if name in own:
                among = rest
                for other, places in own.items():
                    among &= places if other != name else among
            found[name] = axis.counts(among)
        keys = list(islice(self._ordered(request, chosen), request.limit + 1))
        shown: list[bytes] = []
        left = most_bytes
        for *_, place in keys[: request.limit]:
            view = self._packer.unpack(self._views[place])
            left -= len(view) + 1
            if left < 0 and shown:
                break
            shown.append(view)
        cursor = None
        if len(shown) < len(keys):
            *key, place = keys[len(shown) - 1]
            cursor = encode_cursor(request.sort, [*key, self._started[place]])
        return page(request, [orjson.Fragment(view) for view in shown], cursor, found)

    def _own(self, request: views.HistoryQuery) -> dict[str, Places]:
        """Return what each filter that has an axis of its own leaves, if it is set."""
        wanted: dict[str, Sequence[str]] = {"states": request.states} if request.states else {}
        for name, value in (
            ("models", request.model),
            ("recipes", request.recipe),
            ("topics", request.topic),
        ):
            if value is not None:
                wanted[name] = [value]
        return {
            name: self._axes[name].having(values.__contains__) for name, values in wanted.items()
        }

    def _rest(self, request: views.HistoryQuery) -> Places:
        """Return what the other filters leave."""
        found = (1 << len(self._ids)) - 1
        after, before = request.started_after, request.started_before
        if after is not None or before is not None:
            low, high = -INT_MOST, INT_MOST
            if after is not None:
                low = _microseconds(column_time(after, "started_after"))
            if before is not None:
                high = _microseconds(column_time(before, "started_before"))
            found &= those([low <= time < high for time in reversed(self._times)])
        if request.text:
            text = lowered(request.text)
            named = those([text in batch_id for batch_id in reversed(self._ids)])
            for name, axis in self._axes.items():
                if name != "states":
                    named |= axis.having(lambda value: text in lowered(value))
            found &= named
        return found

    def _ordered(self, request: views.HistoryQuery, chosen: Places) -> Iterator[tuple[int, ...]]:
        """Give the key (none when sorted by start) and the place of each batch after the cursor."""
        sort, downwards = request.sort, request.sort.startswith("-")
        order = self._orders.get(sort)
        bound: list[int] = []
        if request.cursor is not None:
            bound = decode_cursor(request.cursor, sort, 1 if order is None else 2)
            bound[-1] = self._place_after(bound[-1], downwards=downwards)
        if order is None:
            if bound:
                before = (1 << bound[0]) - 1
                chosen &= before if downwards else ~before
            return ((place,) for place in each(chosen, downwards=downwards))
        border = (bound[0], bound[1]) if bound else None
        places = order.places(flags(chosen, len(self._ids)), border, downwards=downwards)
        return ((order.keys[place], place) for place in places)

    def _place_after(self, sequence: int, *, downwards: bool) -> int:
        """Return the border between what comes before and after a batch started at ``sequence``."""
        return (bisect_left if downwards else bisect_right)(self._started, sequence)


def lowered(text: str) -> str:
    """Return ``text`` in lower case as DuckDB has it: sign by sign."""
    return text.lower() if text.isascii() else "".join(sign.lower()[0] for sign in text)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _US
