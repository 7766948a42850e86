"""Records as they are read from the wire, in the place of aiokafka's own copies of them.

aiokafka makes an object of eleven fields for each record that it hands out, which costs as much as to read it. Here the
client hands out what its parser has made: offsets, checksums, transactions and positions remain aiokafka's.
"""
# ruff: noqa: SLF001  # private names of aiokafka, each asked for in a test

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer


class Buffers(OrderedDict[Any, Any]):
    """What a client has fetched ahead, by partition: records, or an error."""

    def __setitem__(self, place: Any, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)
        if records is not None:
            records._consumer_record = _as_it_is
        super().__setitem__(place, fetched)


def install(client: AIOKafkaConsumer) -> None:
    """Has a client that has started hand out raw records."""
    fetcher: Any = client._fetcher
    fetcher._records = Buffers(fetcher._records)


def _as_it_is(_: object, record: object) -> object:
    return record
