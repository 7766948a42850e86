"""The numbers of services, as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from torpor import Event, Service
from torpor.adapters.prometheus.exposition import render
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


class Told(Event, topic="told"):
    id: int


def listener(name: str) -> Service:
    """A service with a subscriber and a route."""
    service = Service(name)

    @service.on(Told)
    async def hear(event: Told) -> None: ...

    @service.get(f"/{name}")
    async def show() -> str:
        return 'a "quoted" \\ name'

    return service


def families(body: bytes) -> dict[str, Metric]:
    """What Prometheus's own parser makes of the text, by name; a name that comes twice is a mistake."""
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.name not in found
        found[family.name] = family
    return found


def value(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """The value of the one sample that has these labels."""
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1
    return found[0]


async def test_hosts_share_one_family_a_name() -> None:
    """Each metric comes once, with the samples of every service under its own label."""
    async with TestShop(listener("one"), listener("two")) as shop:
        await shop.publish(Told(id=1))
        await shop.settle()
        await shop.get("/one")
        body, content_type = render(shop.hosts)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = families(body)
    handled = found["torpor_handled"]
    assert handled.type == "counter"
    assert value(handled.samples, "torpor_handled_total", service="one", handler="one.hear", outcome="done") == 1
    assert value(handled.samples, "torpor_handled_total", service="two", handler="two.hear", outcome="done") == 1
    assert value(handled.samples, "torpor_handled_total", service="one", handler="one.show", outcome="done") == 1
    assert found["torpor_in_flight"].type == "gauge"


async def test_histograms_are_cumulative() -> None:
    """Buckets add up to the count, the last is +Inf, and the sum is told."""
    async with TestShop(listener("one")) as shop:
        seconds = shop.hosts[0].metrics.of("one.hear").seconds
        for observed in (0.0005, 0.002, 0.002, 3.0, 99.0):
            seconds.observe(observed)
        found = families(render(shop.hosts)[0])
    samples = found["torpor_handler_seconds"].samples
    assert found["torpor_handler_seconds"].type == "histogram"
    counts = {
        s.labels["le"]: s.value
        for s in samples
        if s.name == "torpor_handler_seconds_bucket" and s.labels["handler"] == "one.hear"
    }
    assert (counts["0.001"], counts["0.0025"], counts["2.5"], counts["5.0"], counts["+Inf"]) == (1, 3, 3, 4, 5)
    assert list(counts.values()) == sorted(counts.values())
    assert value(samples, "torpor_handler_seconds_count", handler="one.hear") == 5
    assert value(samples, "torpor_handler_seconds_sum", handler="one.hear") == pytest.approx(102.0045)


async def test_the_process_is_measured_and_no_registry_is_touched() -> None:
    """CPU and memory are told where the system tells them, and the library's global registry stays as it was."""
    before = {metric.name for metric in REGISTRY.collect()}
    async with TestShop(listener("one")) as shop:
        found = families(render(shop.hosts)[0])
    assert found["process_cpu_seconds"].samples[0].value > 0
    assert {metric.name for metric in REGISTRY.collect()} == before


async def test_nothing_to_tell_is_no_mistake() -> None:
    """No host at all makes a valid exposition."""
    assert not any(name.startswith("torpor") for name in families(render(())[0]))
