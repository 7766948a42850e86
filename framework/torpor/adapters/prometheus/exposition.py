"""The exposition: every host's numbers, and the process's, as Prometheus reads them."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from torpor.runtime.metrics import Buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from torpor.runtime.host import Host
    from torpor.runtime.metrics import Family

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # which every Prometheus reads


def render(hosts: Sequence[Host]) -> tuple[bytes, str]:
    """The numbers of some hosts as text, and its content type. Uses no global registry."""
    return generate_latest(_Snapshot(hosts)), _CONTENT_TYPE


class _Snapshot(Collector):
    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    def collect(self) -> Iterator[Metric]:
        """One metric for each name, with the samples of all hosts."""
        families: dict[str, list[Family]] = {}
        for host in self._hosts:
            for family in host.metrics.families():
                families.setdefault(family.name, []).append(family)
        for same in families.values():
            yield _metric(same)
        yield from _process().collect()


@cache
def _process() -> ProcessCollector:
    return ProcessCollector(registry=None)


def _metric(families: Sequence[Family]) -> Metric:
    """One metric from what several hosts say under one name."""
    first = families[0]
    samples = [sample for family in families for sample in family.samples]
    names = sorted({name for labels, _ in samples for name in labels})
    rows = (([labels.get(name, "") for name in names], value) for labels, value in samples)
    if first.kind == "histogram":
        histogram = HistogramMetricFamily(first.name, first.help, labels=names)
        for labels, value in rows:
            if isinstance(value, Buckets):
                histogram.add_metric(labels, list(_cumulative(value)), value.sum)
        return histogram
    kind = CounterMetricFamily if first.kind == "counter" else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = kind(first.name, first.help, labels=names)
    for labels, value in rows:
        if not isinstance(value, Buckets):
            metric.add_metric(labels, value)
    return metric


def _cumulative(buckets: Buckets) -> Iterable[tuple[str, float]]:
    bounds = [*map(floatToGoString, buckets.bounds), "+Inf"]
    return zip(bounds, accumulate(buckets.counts), strict=True)
