"""The options of the NATS adapter: addresses, and credentials that are never shown."""

from __future__ import annotations

from typing import Any

import pytest

from torpor.adapters.nats.options import JetStreamOptions, Servers, options_of
from torpor.kernel.errors import ConfigurationError


def servers(url: str, **more: Any) -> Servers:
    """The servers of a URL."""
    return Servers(JetStreamOptions(servers=url, **more))


@pytest.mark.parametrize(
    ("url", "clean", "address"),
    [
        ("nats://broker:4333", "nats://broker:4333", "broker:4333"),
        ("broker", "nats://broker:4222", "broker:4222"),
        ("tls://[::1]:4222", "tls://[::1]:4222", "[::1]:4222"),
        ("nats://me:s%40cret@broker", "nats://broker:4222", "broker:4222"),
    ],
)
def test_a_url_becomes_an_address_without_credentials(url: str, clean: str, address: str) -> None:
    """The port has its default, and what is before the '@' is taken out."""
    found = servers(url)

    assert (found.urls, found.addresses, str(found)) == ([clean], [address], address)


def test_credentials_in_a_url_are_decoded() -> None:
    """User and password, or a token, may be in the URL, percent-encoded."""
    named, token = servers("nats://me:s%40cret@broker"), servers("nats://t%2Fken@broker")

    assert (named.user, named.password, named.token) == ("me", "s@cret", None)
    assert (token.user, token.password, token.token) == (None, None, "t/ken")


def test_several_servers_are_separated_by_commas() -> None:
    """A cluster is given as a list."""
    assert servers("nats://a:1, nats://b:2").addresses == ["a:1", "b:2"]


def test_the_replicas_of_new_streams_are_in_the_query() -> None:
    """A cluster keeps each stream on so many servers, one unless said."""
    assert options_of("nats://a:1,nats://b:2?replicas=3", name="orders").replicas == 3
    assert options_of("nats://a:1", name="orders").replicas == 1


@pytest.mark.parametrize("replicas", ["0", "6", "three"])
def test_a_number_of_replicas_that_cannot_be_is_told(replicas: str) -> None:
    """JetStream keeps a stream on one to five servers."""
    with pytest.raises(ConfigurationError, match=f"replicas='?{replicas}"):
        options_of(f"nats://a:1?replicas={replicas}", name="orders")


@pytest.mark.parametrize("url", ["http://broker:1", "nats://:4222", "nats://broker:x", "", "nats://me:s3cret@broker:x"])
def test_what_is_no_address_is_told_without_credentials(url: str) -> None:
    """A URL that cannot be is quoted without what is before its '@'."""
    with pytest.raises(ConfigurationError, match="is no NATS URL") as caught:
        servers(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"user": "a"},
        {"password": "b"},
        {"token": "t", "user": "a", "password": "b"},
        {"token": "t", "credentials": "f"},
    ],
)
def test_one_way_to_sign_in_is_enough(more: dict[str, str]) -> None:
    """Half a pair, or two ways at once, is a mistake."""
    with pytest.raises(ConfigurationError, match="Give one of"):
        servers("nats://broker", **more)


def test_nothing_secret_is_shown() -> None:
    """The representation of options and servers holds no URL, password or token."""
    options = JetStreamOptions(servers="nats://me:s3cret@broker", password="s3cret", token="s3cret")

    assert "s3cret" not in repr(options)
    assert repr(servers("nats://me:s3cret@broker")) == "<Servers broker:4222>"
