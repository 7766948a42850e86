"""What commands print for people: tables and lists, by rich."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torpor.cli.frames import shown_path
from torpor.cli.samples import curl
from torpor.kernel.difference import shown
from torpor.runtime.settings import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torpor.kernel.difference import Step
    from torpor.kernel.message import ParkedMessage
    from torpor.runtime.plan import Handled, Plan, RouteBinding
    from torpor.runtime.settings import Settings
    from torpor.runtime.topology import Topology

_WIDTH_OF_FILES = 160
_TRIED = 3


def print_started(plans: Sequence[Plan], settings: Settings, *, port: int, seconds: float) -> None:
    """What runs, where it is reached, and what to try."""
    console = _console()
    host = "127.0.0.1" if settings.http_host in ("0.0.0.0", "::") else settings.http_host  # noqa: S104  # shown only
    origin = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    console.print()
    console.print(services_table(plans))
    console.print()
    console.print(_addresses(plans, settings, origin))
    tries = _tries(plans, origin)
    console.print(Text("\n".join(["", "try next", *(f"  {line}" for line in tries), ""])), soft_wrap=True)
    count = len(plans)
    console.print(Text(f"ready in {seconds:.1f} s: {count} service{'s' * (count != 1)} on {origin} (Ctrl-C ends)"))
    sys.stdout.flush()


def print_topology(topology: Topology) -> None:
    """The services and the topics between them."""
    console = _console()
    console.print(services_table(topology.plans))
    topics = _table("topic", "contracts", "published by", "listened to by")
    for use in sorted(topology.topics.values(), key=lambda use: use.name):
        contracts = sorted(contract.__name__ for contract in use.contracts)
        topics.add_row(use.name, *("\n".join(names) for names in (contracts, use.publishers, use.listeners)))
    console.print(topics)
    if topology.requests:
        requests = _table("requests", "contracts", "asked by", "answered by")
        for request in sorted(topology.requests.values(), key=lambda use: use.name):
            contracts = sorted(contract.__name__ for contract in request.contracts)
            ends = (contracts, sorted(request.askers), sorted(request.answerers) or ["nobody here"])
            requests.add_row(request.name, *("\n".join(names) for names in ends))
        console.print(requests)


def print_parked(rows: Iterable[tuple[str, ParkedMessage]]) -> None:
    """Parked messages of several services."""
    table = _table("message", "handler", "key", "state", "tries", "parked at", "reason")
    for service, parked in rows:
        when = _moment(parked.at)
        cells = (parked.binding, parked.message.key or "", parked.state, str(parked.attempts), when, parked.reason)
        table.add_row(f"{service}:{parked.number}", *(Text(cell) for cell in cells))
    _console().print(table)


def print_logs(rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    """The outbox log of several services."""
    columns = ("waiting", "oldest", "kept", "since", "cursors", "keeper", "epoch")
    table = _table("service", *columns)
    for service, cells in rows:
        table.add_row(service, *(Text(cell) for cell in cells))
    _console().print(table)


def print_steps(steps: Iterable[Step], *, to_stderr: bool = False) -> None:
    """What differs between topics as they are wished and as they are."""
    table = _table("", "topic", "what", "is", "wished", "")
    for step in steps:
        cells = (step.kind, step.topic.name, *_what(step), step.note)
        table.add_row(*(Text(cell) for cell in cells))
    _console(stderr=to_stderr).print(table)


def _what(step: Step) -> tuple[str, str, str]:
    if step.group is not None:
        return f"group {step.group}", "not begun", ""
    if step.setting is None:
        wished = ", ".join(f"{name} {shown(name, value)}" for name, value in step.topic.settings().items())
        return "topic", "missing", wished
    found = "" if step.found is None and not step.is_possible else shown(step.setting, step.found)
    return step.setting, found, shown(step.setting, step.wished)


def services_table(plans: Sequence[Plan]) -> Table:
    """Each service's bindings: what they handle, and what they publish."""
    table = _table("service", "handler", "handles", "publishes")
    for plan in plans:
        name = plan.name
        for handled, source in _bindings(plan):
            table.add_row(name, handled.name.partition(".")[2], source, _published(handled))
            name = ""
        table.add_section()
    return table


def _bindings(plan: Plan) -> list[tuple[Handled, Text]]:
    routes = [(route.handled, Text(f"{route.method} {route.path}", "cyan")) for route in plan.routes]
    topics = [
        (sub.handled, Text(f"{sub.topic} ← {sub.group}" if sub.group != plan.name else sub.topic, "green"))
        for sub in (*plan.subscribers, *plan.listeners)
    ]
    requests = [(answerer.handled, Text(f"{answerer.topic} ?", "green")) for answerer in plan.answerers]
    ticks = [(ticker.handled, Text(repr(ticker.schedule), "yellow")) for ticker in plan.tickers]
    sockets = [(socket.handled, Text(f"WebSocket {socket.path}", "cyan")) for socket in plan.sockets]
    return [*routes, *sockets, *topics, *requests, *ticks]


def _published(handled: Handled) -> Text:
    return Text(", ".join(sorted(contract.__torpor_topic__ or "" for contract in handled.publishes)), "magenta")


def _addresses(plans: Sequence[Plan], settings: Settings, origin: str) -> Table:
    pages = {"api": "", "documentation": "/docs", "readiness": "/-/ready", "metrics": "/-/metrics"}
    pages |= {"topology": "/-/topology", "asyncapi": "/-/asyncapi"}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, path in pages.items():
        table.add_row(Text(name, "dim"), Text(origin + path))
    table.add_row(Text("broker", "dim"), Text(without_secrets(settings.broker_url) or "none"))
    for index, url in enumerate(_databases(plans, settings)):
        table.add_row(Text("" if index else "databases", "dim"), Text(url))
    return table


def _databases(plans: Sequence[Plan], settings: Settings) -> list[str]:
    url = settings.database_url or ""
    if not url.startswith("sqlite:///"):
        return [without_secrets(url) or "none"]
    path = unquote(url.removeprefix("sqlite:///"))
    return [shown_path(str(Path(path.replace("{service}", plan.name)))) for plan in plans if plan.needs_store]


def _tries(plans: Sequence[Plan], origin: str) -> list[str]:
    """Commands worth a try: the first writing and the first reading route of the first services, or the demo."""
    routes = [route for plan in plans for route in plan.routes]
    known = {(route.method, route.path) for route in routes}
    if {("POST", "/orders"), ("PUT", "/inventory/{sku}"), ("PUT", "/payments/accounts/{customer_id}")} <= known:
        default = origin == "http://127.0.0.1:8000"
        return ["torpor demo" if default else f"torpor demo --url {origin}", f"curl {origin}/-/topology"]
    picked: list[RouteBinding] = []
    for is_reading in (False, True):
        picked.extend([route for route in routes if (route.method == "GET") is is_reading][:1])
    return [*(curl(route, origin) for route in picked[:_TRIED]), f"curl {origin}/-/ready"]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _moment(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _console(**options: Any) -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, **options)
