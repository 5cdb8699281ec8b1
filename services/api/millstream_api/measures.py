"""What the API tells of itself under /metrics; docs/operations.md has the table."""

from collections import Counter
from collections.abc import Iterator, Mapping

from millstream.runtime.metrics import Figure, plain
from millstream_api.relay.hub import Hub
from millstream_api.relay.replay import Replay


class Measures:
    """Reads the hub when it is asked; answers alone are counted as they are given."""

    def __init__(
        self,
        hub: Hub,
        replay: Replay | None = None,
        deliveries: Mapping[str, int] | None = None,
    ) -> None:
        self._hub = hub
        self._replay = replay
        self._deliveries = deliveries if deliveries is not None else {}
        self.answers: Counter[str] = Counter()

    def figures(self) -> Iterator[Figure]:
        """Yield all figures of this process."""
        hub = self._hub
        clients = Counter({"seed": 0, "named": 0, "deltas": 0, "events": 0})
        clients.update(client.flavour.name for client in hub.clients)
        states: Counter[str] = Counter(version.view.state for version in hub.versions.live())
        behind = max(
            (hub.sequence - (one.cursor or 0) for one in hub.clients if one.cursor), default=0
        )
        yield plain(
            "millstream_ready",
            "1 when the log is folded and requests are taken.",
            hub.ready.is_set() and not hub.is_closing,
        )
        yield plain("millstream_log_away", "1 while the log does not answer.", hub.log_is_away)
        yield plain(
            "millstream_events_folded_total", "Events folded since the start.", hub.events_folded
        )
        yield plain(
            "millstream_folded_sequence", "Sequence up to which everything is folded.", hub.sequence
        )
        yield Figure(
            "millstream_live_batches",
            "Batches that have not ended.",
            {(state,): float(number) for state, number in states.items()},
            ("state",),
        )
        yield from self._of_live_batches()
        yield Figure(
            "millstream_stream_clients",
            "Open streams.",
            {(name,): float(number) for name, number in clients.items()},
            ("flavour",),
        )
        yield plain(
            "millstream_stream_lag_events",
            "Events that the slowest client is behind.",
            max(0, behind),
        )
        yield plain(
            "millstream_stream_sends_total", "Writes to streams since the start.", hub.sends
        )
        yield plain(
            "millstream_stream_bytes_total",
            "Bytes written to streams since the start.",
            hub.bytes_sent,
        )
        yield plain(
            "millstream_stream_replayed_events_total",
            "Events read from the log for clients that were behind the latest ones.",
            self._replay.events_read if self._replay is not None else 0,
        )
        yield Figure(
            "millstream_http_answers_total",
            "Answers, but for streams, by the first digit of their status.",
            {(kind,): float(number) for kind, number in sorted(self.answers.items())},
            ("status",),
        )
        yield Figure(
            "millstream_webhook_attempts_total",
            "Attempts to deliver, by what became of the message.",
            {(state,): float(number) for state, number in sorted(self._deliveries.items())},
            ("state",),
        )

    def _of_live_batches(self) -> Iterator[Figure]:
        """Yield sums over the batches that have not ended: what they made, used and met."""
        samples: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        nano_usd = unpriced = 0
        for version in self._hub.versions.live():
            counts = version.view.counts
            for outcome in ("generated", "failed", "pending", "rejected"):
                samples[outcome] += getattr(counts, outcome)
            tokens["in"] += counts.tokens_in
            tokens["out"] += counts.tokens_out
            nano_usd += counts.cost_nano_usd or 0
            unpriced += counts.is_unpriced
            errors.update(version.view.errors)
        yield _labelled("millstream_live_samples", "Samples of live batches.", "outcome", samples)
        yield _labelled("millstream_live_tokens", "Tokens of live batches.", "direction", tokens)
        yield _labelled(
            "millstream_live_call_errors", "Failed calls of live batches.", "category", errors
        )
        yield plain("millstream_live_cost_usd", "Cost of live batches, as known.", nano_usd / 1e9)
        yield plain(
            "millstream_live_unpriced_batches",
            "Live batches with tokens of unknown price: the cost is without those.",
            unpriced,
        )


def _labelled(name: str, words: str, label: str, found: Counter[str]) -> Figure:
    values: dict[tuple[str, ...], float] = {
        (key,): float(number) for key, number in sorted(found.items())
    }
    return Figure(name, words, values, (label,))
