"""Which faults a run meets, and when: drawn from its seed."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

KILL_CONSUMER = "SIGKILL of a consumer"
KILL_PRODUCER = "SIGKILL of a producer"
KILL_RELAY = "SIGKILL of a relay's holder"
FREEZE_CONSUMER = "SIGSTOP of a consumer"
FREEZE_RELAY = "SIGSTOP of a relay's holder"
STOP = "SIGTERM"
DATABASE = "immediate restart of the database"
BROKER_KILL = "SIGKILL of the broker"
BROKER_STOP = "SIGTERM of the broker"
CUT_BEFORE = "connection cut before a COMMIT arrives"
CUT_AFTER = "connection cut before a COMMIT is answered"

SHUT, SILENT, ONE_WAY, SLOW, FORGOTTEN = "cut", "silent", "silent one way", "slow", "forgotten"
WAYS = (SHUT, SILENT, ONE_WAY, SLOW, FORGOTTEN)
BROKER_LINE, DATABASE_LINE = "broker-line", "database-line"


def partition(line: str, way: str) -> str:
    """The fault that a replica's line to a server suffers in one way."""
    return f"{line} {way}"


PARTITIONS = {partition(line, way): (line, way) for line in (BROKER_LINE, DATABASE_LINE) for way in WAYS}
KILLS = (KILL_CONSUMER, KILL_PRODUCER, KILL_RELAY)
BROKER = (BROKER_KILL, BROKER_STOP)
FREEZES = (FREEZE_CONSUMER, FREEZE_RELAY)
CUTS = (CUT_BEFORE, CUT_AFTER)

# How many there are a minute.
USUAL = {
    KILL_CONSUMER: 8.0,
    KILL_PRODUCER: 4.0,
    KILL_RELAY: 6.0,
    FREEZE_CONSUMER: 0.8,
    FREEZE_RELAY: 0.8,
    STOP: 1.5,
    DATABASE: 1.75,
    BROKER_KILL: 1.0,
    BROKER_STOP: 0.75,
    CUT_BEFORE: 3.0,
    CUT_AFTER: 3.0,
    **{partition(BROKER_LINE, way): 0.75 for way in WAYS},
    **{partition(DATABASE_LINE, way): 0.75 for way in WAYS if way != FORGOTTEN},
}
# A statement has a minute before its connection counts as lost, which is long for a short run.
LONG = USUAL | {partition(DATABASE_LINE, FORGOTTEN): 0.25}
_CALM = 2.0  # seconds at the beginning and the end
_SHORT_FREEZE, _LONG_FREEZE = (4.0, 7.0), (11.0, 13.0)  # past the leases, past the broker's ack wait
_SHORT_PARTITION, _LONG_PARTITION = (2.0, 5.0), (7.0, 12.0)  # past the broker's patience with a silent consumer
_LONG_SHARE = 0.25


class Fault(NamedTuple):
    """One thing that is done, so many seconds after the beginning. `draw` chooses whom it hits."""

    at: float
    kind: str
    draw: float
    seconds: float = 0.0  # that a freeze or a partition lasts


def forecast(seed: int, seconds: float, rates: dict[str, float] | None = None) -> list[Fault]:
    """The faults of a run of so many seconds, in order: of each kind at least one, spread over the time."""
    chance = Random(seed)
    faults: list[Fault] = []
    span = seconds - 2 * _CALM
    for kind, rate in (USUAL if rates is None else rates).items():
        count = max(1, round(rate * seconds / 60))
        for number in range(count):
            at = _CALM + span * (number + chance.random()) / count
            is_long = chance.random() < _LONG_SHARE
            faults.append(Fault(at, kind, chance.random(), _lasting(kind, chance, is_long=is_long)))
    return sorted(faults)


def _lasting(kind: str, chance: Random, *, is_long: bool) -> float:
    if kind in FREEZES:
        return chance.uniform(*(_LONG_FREEZE if is_long else _SHORT_FREEZE))
    if kind in PARTITIONS:
        return chance.uniform(*(_LONG_PARTITION if is_long else _SHORT_PARTITION))
    return 0.0
