"""NATS that does not let a service subscribe to what it answers or hears: it says so, and hears once it may."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.trouble import until
from torpor import Event, Request, Service
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import options_of
from torpor.assembly import assemble
from torpor.contract.codec import encode
from torpor.kernel.errors import BrokerUnavailable
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torpor.adapters.nats.embedded import EmbeddedNats

    Serve = Callable[..., EmbeddedNats]

CONFIG = """
authorization {{ users: [
  {{user: shop, password: pw, permissions: {{publish: ">", subscribe: {{allow: ["_INBOX.>", {allowed}]}}}}}}
  {{user: all, password: pw}}
  {{user: mute, password: pw, permissions: {{subscribe: {{deny: ["_INBOX.>"]}}}}}}
] }}
"""
FINE, ALL = '"deaf.fine"', '"deaf.fine", "deaf.Price", "deaf.seen", "torpor.sockets.>"'


class GetFine(Request[int], topic="deaf.fine"): ...


class GetPrice(Request[int], topic="deaf.Price"): ...


class Seen(Event, topic="deaf.seen", durable=False): ...


class Elsewhere(Request[int], topic="deaf.elsewhere"): ...


def service() -> Service:
    """What answers two requests, hears an event, and takes WebSockets."""
    made = Service("deaf", public=True)

    @made.answer(GetFine)
    async def fine(request: GetFine) -> int:
        return 1

    @made.answer(GetPrice)
    async def price(request: GetPrice) -> int:
        return 2

    @made.on(Seen, group="screens")
    async def seen(event: Seen) -> None: ...

    @made.socket("/talk")
    async def talk(message: str) -> None: ...

    return made


def deaf_parts(host: Any) -> dict[str, str]:
    """The parts that do not work, and why."""
    return {name: part["detail"] for name, part in host.status()["parts"].items() if not part["ok"]}


async def test_who_may_not_subscribe_is_not_ready_and_says_what_to_permit(
    serve_nats: Serve, tmp_path: Path, lines: list[str]
) -> None:
    """Each handler that hears nothing is named with its subject; the others work, and all do once they are permitted.
    The log says it once, and again after a permission is taken away."""
    file = tmp_path / "server.conf"
    file.write_text(CONFIG.format(allowed=FINE))
    server = serve_nats(arguments=("-c", str(file)))

    def reload(allowed: str) -> None:
        file.write_text(CONFIG.format(allowed=allowed))
        os.kill(server.pid or 0, signal.SIGHUP)

    def host_of(service: Service, user: str) -> Any:
        url = f"nats://{user}:pw@127.0.0.1:{server.port}"
        (host,) = assemble([service], Settings.read({"TORPOR_BROKER_URL": url})).hosts
        return host

    asking = Service("asking")

    @asking.answer(Elsewhere)
    async def elsewhere(request: Elsewhere) -> int:
        return 0

    host, asker = host_of(service(), "shop"), host_of(asking, "all")
    await host.start()
    await asker.start()
    try:
        await until(lambda: len(deaf_parts(host)) == 3, host.status)
        assert deaf_parts(host).keys() == {"deaf.price", "deaf.seen", "sockets.broadcasts"}
        told = deaf_parts(host)["deaf.price"]
        assert "does not permit us to subscribe to 'deaf.Price' in the queue 'deaf'" in told
        assert told.endswith("Allow it there: subscribe: {allow: [deaf.Price]}.")
        assert not host.is_ready
        await until(lambda: asker.is_ready, asker.status)
        assert await asker.ask(GetFine()) == 1

        reload(ALL)
        await until(lambda: host.is_ready, host.status)
        assert await asker.ask(GetPrice()) == 2
        assert len([line for line in lines if "deaf.price does not work" in line]) == 1
        assert len([line for line in lines if "violation" in line and "deaf.price" in line]) == 1

        reload(FINE)
        await until(lambda: "deaf.price" in deaf_parts(host), host.status)
    finally:
        await host.stop(5)
        await asker.stop(5)


async def test_who_may_not_hear_answers_is_told_before_its_timeout(serve_nats: Serve, tmp_path: Path) -> None:
    """A request whose answer cannot come raises at once, and says what to permit."""
    file = tmp_path / "server.conf"
    file.write_text(CONFIG.format(allowed=FINE))
    server = serve_nats(arguments=("-c", str(file)))
    broker = JetStreamBroker(options_of(f"nats://mute:pw@127.0.0.1:{server.port}", name="mute"))
    await broker.start()
    try:
        for number in range(2):
            request = encode(GetFine(), id=str(number), key=None, attributes={})
            with pytest.raises(BrokerUnavailable, match=r"Allow us to subscribe to _INBOX\.>"):
                await broker.exchange.ask(request)
    finally:
        await broker.stop()
