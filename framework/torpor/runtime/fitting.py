"""Whether settings fit services: what is missing, what does not go together, and what holds in one process alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torpor.runtime.settings import BROKER, DATABASE, MEMORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.runtime.plan import Plan
    from torpor.runtime.rules import Rules
    from torpor.runtime.settings import Settings


def unfit(plans: Sequence[Plan], settings: Settings) -> list[str]:
    """All that keeps services from running together with these settings."""
    return [problem for plan in plans for problem in _missing(plan, settings)] + _shared(plans, settings)


def rules_that_share(plan: Plan) -> list[Rules]:
    """The rules that count or keep something for all replicas."""
    every = [binding.access.rules for binding in plan.routes] + [binding.access.rules for binding in plan.sockets]
    return [rules for rules in every if rules is not None and rules.needs_shelf]


def tell_of_sockets(plans: Sequence[Plan], settings: Settings) -> None:
    """Says which broadcasts reach one process alone: those that no NATS passes on. In memory nobody expects more."""
    url = settings.broker_url or ""
    if url.startswith("memory:") or (url and not url.startswith("kafka:") and not settings.is_push):
        return
    for plan in plans:
        if plan.sockets:
            logging.getLogger(f"torpor.{plan.name}").warning(
                "what %s broadcasts to WebSockets stays in this process: only NATS with TORPOR_DELIVERY=pull passes it "
                "on to other replicas",
                plan.name,
            )


def _missing(plan: Plan, settings: Settings) -> list[str]:
    """What a service needs that the settings do not say."""
    problems = []
    if plan.topics and settings.broker_url is None and (plan.published or not settings.is_push):
        problems.append(
            f"Service {plan.name!r} publishes or listens to {plan.topics[0]!r}, and TORPOR_BROKER_URL is not set. "
            "Set it, for example nats://localhost:4222 or kafka://localhost:9092."
        )
    if plan.uses_exchange and not plan.topics and settings.broker_url is None:
        problems.append(
            f"Service {plan.name!r} asks, answers or publishes what is not kept, and TORPOR_BROKER_URL is not set. "
            "Set it, for example nats://localhost:4222."
        )
    if plan.uses_exchange and (settings.is_push or (settings.broker_url or "").startswith("kafka:")):
        where = "TORPOR_DELIVERY=push" if settings.is_push else "Kafka"
        problems.append(
            f"Service {plan.name!r} uses {', '.join(_passing(plan))}, and {where} carries no requests and no fleeting "
            "events (durable=False): use NATS and TORPOR_DELIVERY=pull, or Commands and durable events."
        )
    if rules_that_share(plan):
        problems += _unshared(plan, settings)
    if plan.needs_store and settings.database_url is None:
        problems.append(
            f"Service {plan.name!r} asks for Tx, and TORPOR_DATABASE_URL is not set. "
            "Set it, for example sqlite:////var/lib/app/{service}.db."
        )
    return problems


def _unshared(plan: Plan, settings: Settings) -> list[str]:
    """Why nothing can be shared where the settings say; and which rules hold in one process alone, in the log."""
    told, url = f"Service {plan.name!r} has rules that share, and TORPOR_SHARED={settings.shared}", settings.broker_url
    if settings.shared == DATABASE and settings.database_url is None:
        return [f"{told}, and TORPOR_DATABASE_URL is not set. Set it, or TORPOR_SHARED=memory."]
    if settings.shared == BROKER and url is None:
        return [f"{told}, and TORPOR_BROKER_URL is not set. Set it, or TORPOR_SHARED=memory or database."]
    if settings.shared == BROKER and (settings.is_push or (url or "").startswith("kafka:")):
        where = "TORPOR_DELIVERY=push keeps no connection" if settings.is_push else "Kafka keeps no values"
        return [f"{told}, and {where}. Use NATS and TORPOR_DELIVERY=pull, or set TORPOR_SHARED=database."]
    is_alone = url is None and settings.database_url is None
    if settings.shared == MEMORY and not is_alone and not (url or settings.database_url or "").startswith("memory:"):
        logging.getLogger(f"torpor.{plan.name}").info(
            "what %s counts and keeps for its replicas stays in this process: set TORPOR_SHARED to share it", plan.name
        )
    return []


def _passing(plan: Plan) -> list[str]:
    """The contracts of a service that pass through the broker and are not kept."""
    passing = {c for c in plan.published if not c.__torpor_durable__}.union(plan.asked)
    passing |= {binding.contract for binding in plan.listeners} | {binding.contract for binding in plan.answerers}
    return sorted(contract.__name__ for contract in passing) or ["Ask"]


def _shared(plans: Sequence[Plan], settings: Settings) -> list[str]:
    """Why services may not have one database."""
    url = settings.database_url or "memory:"
    if len(plans) == 1 or url.startswith("memory:") or "{service}" in url:
        return []
    names = ", ".join(plan.name for plan in plans)
    told = f"TORPOR_DATABASE_URL names one database for {names}, and each service has its own. "
    return [
        told
        + "Put {service} into the URL: sqlite:////var/lib/app/{service}.db, or postgresql://host/db?schema={service}."
    ]
