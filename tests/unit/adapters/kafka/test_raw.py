"""Raw records are those that aiokafka would hand out, without its copies."""

from __future__ import annotations

import ast
import struct
from collections import OrderedDict
from inspect import getsource, signature
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    Fetcher,
    FetchError,
    FetchResult,
    PartitionRecords,
)
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord

from torpor.adapters.kafka.raw import install

PLACE = TopicPartition("t", 2)
ABORT = struct.pack(">hh", 0, 0)
AT_ATTRIBUTES, AT_CRC = 21, 17


def batch(base: int, *, many: int = 3, compression: int = 0, producer: int = -1, marker: bytes | None = None) -> bytes:
    """Some records as they are on the wire: of a transaction when they have a producer, or a mark of its end."""
    builder = DefaultRecordBatchBuilder(2, compression, int(producer >= 0), producer, 0, 0, 1 << 20)
    for offset in range(many):
        key = marker if marker is not None else f"k{base + offset}".encode()
        builder.append(offset, 1000 + offset, key, b"v" if offset else None, [("h", b"1"), ("h", None)])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if marker is not None:
        data[AT_ATTRIBUTES + 1] |= 0x20
        struct.pack_into(">I", data, AT_CRC, calc_crc32c(data[AT_ATTRIBUTES:]))
    return bytes(data)


def fetched(data: bytes, *, isolation: int = READ_COMMITTED, at: int = 0) -> Any:
    """What a client keeps of an answer: from a place on, with a transaction that was given up from offset 3 on."""
    records = PartitionRecords(
        PLACE, MemoryRecords(data), [(7, 3)], at, None, None, check_crcs=True, isolation_level=isolation
    )
    return FetchResult(PLACE, assignment=None, partition_records=records, backoff=0.1)


def drained(result: Any) -> tuple[list[Any], int]:
    """All records of a partition, and the place that the next fetch begins at."""
    records = result._partition_records
    return [(one.offset, one.key, one.value, tuple(one.headers)) for one in records], records.next_fetch_offset


def raw(result: Any) -> Any:
    """The same, as a client with raw records keeps it."""
    client: Any = SimpleNamespace(_fetcher=SimpleNamespace(_records=OrderedDict()))
    install(client)
    client._fetcher._records[PLACE] = result
    return client._fetcher._records[PLACE]


WHOLE = b"".join(
    (batch(0, compression=1), batch(3, producer=7), batch(6, producer=9), batch(9, many=1, producer=7, marker=ABORT))
) + batch(20)


@pytest.mark.parametrize("isolation", [READ_COMMITTED, READ_UNCOMMITTED])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_raw_records_are_those_of_the_client(isolation: int, at: int) -> None:
    """Compressed batches, transactions that were given up, their marks, gaps and a place within a batch: the same
    records come, and the next fetch begins at the same place."""
    plain, ours = (drained(make(fetched(WHOLE, isolation=isolation, at=at))) for make in (lambda one: one, raw))
    assert ours == plain
    offsets = [offset for offset, *_ in ours[0]]
    assert offsets[-3:] == [20, 21, 22]
    assert (5 in offsets) == (isolation == READ_UNCOMMITTED)


def test_no_copies_are_made() -> None:
    """A raw record is what the parser has made: a new release that copies it elsewhere would show here."""
    assert not any(isinstance(record, ConsumerRecord) for record in raw(fetched(WHOLE))._partition_records)
    assert all(isinstance(record, ConsumerRecord) for record in fetched(WHOLE)._partition_records)


def test_a_broken_checksum_is_told() -> None:
    """A record that was changed on its way is refused, as the client refuses it."""
    broken = bytearray(batch(0))
    broken[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        drained(raw(fetched(bytes(broken))))


def test_what_was_fetched_before_is_raw_too() -> None:
    """A client may have fetched before it is told: its records are raw, and its errors stay."""
    error = FetchError(error=CorruptRecordException(), backoff=0.1)
    before = OrderedDict({PLACE: fetched(WHOLE), TopicPartition("t", 3): error})
    client: Any = SimpleNamespace(_fetcher=SimpleNamespace(_records=before))
    install(client)
    kept = client._fetcher._records
    assert [*kept] == [PLACE, TopicPartition("t", 3)]
    assert not isinstance(next(kept[PLACE]._partition_records), ConsumerRecord)
    assert kept[TopicPartition("t", 3)] is error


def test_each_private_name_of_the_client_is_there() -> None:
    """What we use of aiokafka beside its documented names is as it was when this was written."""
    assert stored_in(Fetcher, "_records") == ["__init__"]  # never another, so ours stays
    assert "collections.OrderedDict()" in getsource(Fetcher.__init__)
    assert stored_in(AIOKafkaConsumer, "_fetcher") == ["__init__", "start"]
    assert stored_in(FetchResult, "_partition_records")[0] == "__init__"
    assert [*signature(PartitionRecords._consumer_record).parameters] == ["self", "tp", "record"]
    assert getsource(PartitionRecords).count("self._consumer_record(tp, record)") == 1
    assert not hasattr(PartitionRecords, "__slots__")
    assert stored_in(AIOKafkaConsumer, "_client")[0] == "__init__"
    assert stored_in(AIOKafkaConsumer, "_coordinator") == ["__init__", "start"]
    assert "generation" in stored_anywhere(GroupCoordinator)


def stored_in(cls: type[Any], name: str) -> list[str]:
    """The methods of a class that set something of its object."""
    functions = [node for node in ast.walk(ast.parse(dedent(getsource(cls)))) if isinstance(node, FUNCTIONS)]
    return [function.name for function in functions if name in stored(function)]


def stored_anywhere(cls: type[Any]) -> set[str]:
    """All that the methods of a class set of its object."""
    return stored(ast.parse(dedent(getsource(cls))))


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def stored(tree: ast.AST) -> set[str]:
    """What is set of `self` in a piece of source."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
