"""Figures of a process for Prometheus: read when they are asked for, never kept on the way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric: its name, what it is, and its present values by label values.

    A name that ends in ``_total`` is a counter since the process's start; any other is a gauge.
    """

    name: str
    words: str
    values: dict[Labels, float]
    labels: Labels = ()


def plain(name: str, words: str, value: float) -> Figure:
    """Return a figure without labels."""
    return Figure(name, words, {(): value})


class _Collector(Collector):
    def __init__(self, read: Callable[[], Iterable[Figure]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for figure in self._read():
            family = CounterMetricFamily if figure.name.endswith("_total") else GaugeMetricFamily
            metric = family(figure.name, figure.words, labels=figure.labels)
            for labels, value in figure.values.items():
                metric.add_metric(labels, value)
            yield metric


def rendered(read: Callable[[], Iterable[Figure]]) -> bytes:
    """Return what ``read`` tells in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(read))
    return generate_latest(registry)
