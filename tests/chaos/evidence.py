"""What is there when a run is over: the tables of the services, the audit of the triggers, the streams."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.chaos.broker import Sighting
    from tests.chaos.ledger import Ledger
    from tests.chaos.stage import Stage
    from tests.chaos.witness import Witness

EFFECTS = "SELECT handler, key, number, at, replica FROM {service}.effect ORDER BY seq"
OUTBOX = "SELECT id, topic, key FROM {service}.torpor_outbox ORDER BY pos"
PENDING = (
    "SELECT count(*) FROM {service}.torpor_outbox AS o JOIN {service}.torpor_cursor AS c USING (shard) "
    "WHERE o.pos > c.pos"
)


class Effect(NamedTuple):
    """One committed effect of a handler."""

    handler: str
    key: str
    number: int
    at: float
    replica: str


class Row(NamedTuple):
    """One committed row of an outbox."""

    id: str
    topic: str
    key: str


class Standing(NamedTuple):
    """What is where at one moment."""

    sent: int
    counted: int
    checked: int
    remembered: int
    pending: int
    timers: int
    parked: int  # by the tail, those that wait behind a key included
    held: int  # of these, those that an operator must redrive


class Evidence(NamedTuple):
    """All of it."""

    sent: list[tuple[str, int, float]]
    effects: list[Effect]
    outboxes: dict[str, list[Row]]
    sightings: list[Sighting]
    takings: list[tuple[str, str, int, str]]  # service, lease, epoch, process
    movings: list[tuple[str, int, str, bool]]  # service, epoch, process, back?
    standing: Standing
    unsettled: int
    replies: Counter[tuple[str, int]]  # effects of answered requests, and of fleeting events
    glances: Counter[tuple[str, int]]


async def stand(witness: Witness) -> Standing:
    """Where everything is now."""

    async def count(statement: str) -> int:
        rows = await witness.patiently(statement)
        return int(rows[0][0])

    parked = await witness.patiently("SELECT count(*), count(*) FILTER (WHERE due_at IS NULL) FROM tail.torpor_parked")
    return Standing(
        sent=await count("SELECT count(*) FROM source.sent"),
        counted=await count("SELECT count(*) FROM sink.effect"),
        checked=await count("SELECT count(*) FROM tail.effect WHERE handler = 'tail.check'"),
        remembered=await count("SELECT count(*) FROM tail.effect WHERE handler = 'tail.remember'"),
        pending=sum([await count(PENDING.format(service=service)) for service in ("source", "sink")]),
        timers=await count("SELECT count(*) FROM sink.torpor_timer"),
        parked=parked[0][0],
        held=parked[0][1],
    )


async def gather(stage: Stage, witness: Witness, ledger: Ledger) -> Evidence:
    """Reads it all."""
    sent = await witness.patiently("SELECT key, number, at FROM source.sent ORDER BY key, number")
    effects = [
        Effect(*row) for service in ("sink", "tail") for row in await witness.patiently(EFFECTS.format(service=service))
    ]
    outboxes = {
        service: [Row(*row) for row in await witness.patiently(OUTBOX.format(service=service))]
        for service in ("source", "sink")
    }
    takings = await witness.patiently("SELECT service, lease, epoch, port, at FROM chaos.taken ORDER BY id")
    movings = await witness.patiently("SELECT service, epoch, port, at, is_back FROM chaos.moved ORDER BY id")
    return Evidence(
        sent=[tuple(row) for row in sent],
        effects=effects,
        outboxes=outboxes,
        sightings=await stage.broker.sightings(),
        takings=[(s, lease, epoch, witness.owner(port, at)) for s, lease, epoch, port, at in takings],
        movings=[(s, epoch, witness.owner(port, at), is_back) for s, epoch, port, at, is_back in movings],
        standing=await stand(witness),
        unsettled=await stage.broker.unsettled(),
        replies=Counter(tuple(row) for row in await witness.patiently("SELECT key, number FROM sink.reply")),
        glances=Counter(tuple(row) for row in await witness.patiently("SELECT key, number FROM tail.glance")),
    )
