"""What a run has found, as a table: for the terminal and, in Markdown, for a file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos import weather
from tests.chaos.askers import GONE
from tests.chaos.recovery import delays, longest_silence, recoveries

if TYPE_CHECKING:
    from tests.chaos.ledger import Ledger
    from tests.chaos.run import Outcome

Row = tuple[str, str]
CODES = ("nobody", "failed", "unavailable")  # of requests without an answer


def rows(outcome: Outcome) -> list[Row]:
    """The figures."""
    verdict, ledger = outcome.verdict, outcome.verdict.ledger
    effects = verdict.evidence.effects
    kills = ledger.count(*weather.KILLS)
    found: list[Row] = [
        ("messages accepted", f"{ledger.messages:,} on {len(ledger.accepted)} keys"),
        ("messages on the wire, effects", f"{len(verdict.evidence.sightings):,}, {len(effects):,}"),
        ("requests asked again, replayed by their key", f"{ledger.retried:,}, {ledger.replayed:,}"),
        ("**lost**", f"**{verdict.lost}**"),
        ("**doubled effects**", f"**{verdict.doubled}**"),
        ("**reordered within a key**", f"**{verdict.reordered}**"),
        ("**stuck**", f"**{verdict.stuck}**"),
        ("other broken promises", f"{sum(verdict.counts.values())}"),
        *_passing(outcome),
        ("publishes seen by a plain client", f"{verdict.published:,}"),
        ("of these again, and stored again", f"{verdict.wire_again:,}, {verdict.wire_passed:,}"),
        ("SIGKILL", f"{kills} ({', '.join(f'{ledger.count(kind)} {kind[11:]}' for kind in weather.KILLS)})"),
        ("SIGSTOP past the leases, SIGCONT", f"{ledger.count(*weather.FREEZES)}"),
        (
            "SIGTERM",
            f"{ledger.count(weather.STOP)}, unclean {ledger.unclean_stops}, longest {ledger.longest_stop:.1f} s",
        ),
        ("immediate restarts of the database", f"{ledger.count(weather.DATABASE)}"),
        ("restarts of the broker", f"{ledger.count(*weather.BROKER)}, killed {ledger.count(weather.BROKER_KILL)}"),
        ("partitions between a replica and the broker", _partitions(ledger, weather.BROKER_LINE)),
        ("partitions between a replica and the database", _partitions(ledger, weather.DATABASE_LINE)),
        ("connections cut on COMMIT", f"{outcome.cuts}"),
        ("keys mended, redrives", f"{len(ledger.mended)}, {ledger.redrives}"),
        ("processes started", f"{outcome.lives}"),
        ("longest time without any effect", f"{longest_silence(sorted(e.at for e in effects)):.2f} s"),
    ]
    for recovery in (one for one in recoveries(ledger, verdict.evidence) if one.times):
        told = f"median {recovery.median:.2f} s, worst {recovery.worst:.2f} s ({recovery.times})"
        found.append((recovery.what, told))
    for delay in delays(verdict.evidence):
        told = f"median {delay.median:.3f} s, 99 % {delay.most:.2f} s, worst {delay.worst:.2f} s"
        found.append((f"accepted → {delay.handler}", told))
    sizes = ", ".join(f"{name} {a // 1024} → {b // 1024}" for name, (a, b) in outcome.memory.items())
    found.append(("memory, MiB, first process ready → last at the end", sizes))
    found.append(("the run", f"{outcome.seconds:.0f} s, on {outcome.plan.broker}, seed {outcome.plan.seed}"))
    return found


def _passing(outcome: Outcome) -> list[Row]:
    """What became of requests and fleeting events, where there were some."""
    verdict, asked = outcome.verdict, Counter(outcome.verdict.ledger.asked.values())
    if not asked:
        return []
    refused = sum(asked[code] for code in CODES)
    unknown = asked["TimedOut"] + asked["BrokerUnavailable"] + asked["NotRunning"]
    replies, glances = verdict.evidence.replies, verdict.evidence.glances
    told = f"{asked['answered']:,}, {refused:,}, {unknown:,} ({asked['TimedOut']:,} timed out), {asked[GONE]:,}"
    return [
        ("requests: answered, refused, unknown, gone with who asked", told),
        ("**requests with two effects**", f"**{verdict.asked_again}**"),
        ("fleeting events: committed, heard", f"{len(replies):,}, {len(glances):,}"),
        ("**fleeting events heard twice**", f"**{verdict.glanced_again}**"),
    ]


def _partitions(ledger: Ledger, line: str) -> str:
    counts = {way: ledger.count(weather.partition(line, way)) for way in weather.WAYS}
    return f"{sum(counts.values())} ({', '.join(f'{count} {way}' for way, count in counts.items())})"


def violations(outcome: Outcome) -> list[str]:
    """Each broken promise, with how often and some examples."""
    verdict = outcome.verdict
    lines = []
    for rule, count in verdict.counts.items():
        lines.append(f"BROKEN {count} times: {rule}")
        lines += [f"    {violation.text}" for violation in verdict.violations if violation.invariant == rule]
    return lines


def as_text(outcome: Outcome) -> str:
    """For the terminal."""
    found = [(name.replace("**", ""), value.replace("**", "")) for name, value in rows(outcome)]
    width = max(len(name) for name, _ in found)
    lines = [f"{name:<{width}}  {value}" for name, value in found]
    lines += [f"note: {note}" for note in outcome.verdict.ledger.notes]
    return "\n".join([*lines, *(violations(outcome) or ["No promise was broken."])])


def as_markdown(outcome: Outcome) -> str:
    """For a file."""
    plan = outcome.plan
    command = f"scripts/chaos --broker {plan.broker} --minutes {plan.seconds / 60:g} --messages {plan.messages}"
    lines = [
        "# A chaos run",
        "",
        f"`{command} --seed {plan.seed}`",
        "",
        "| what | seen |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows(outcome)),
        "",
        *(violations(outcome) or ["No promise was broken."]),
    ]
    return "\n".join(lines) + "\n"
