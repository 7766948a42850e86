"""`torpor demo`: places orders in a running shop, shows them move, and proves that nothing was lost."""

from __future__ import annotations

import json
import random
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from statistics import median
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from torpor.kernel.errors import NotRunning

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("placed", "reserved", "paid", "shipped", "cancelled")
FINAL = ("shipped", "cancelled")
PATIENCE = 60.0
"""Seconds to wait for a shop that has gone away, and for orders that do not move."""

_ANSWER_SECONDS = 10.0
_PAUSE = 0.05
_PAGE = 100  # orders asked for at a time
_HEAVY_SHARE = 0.04
_STYLES = {"shipped": "green", "cancelled": "yellow"}


class Shop:
    """The shop's address, for one thread: a connection that is kept, and opened anew when the shop comes back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotRunning(f"{url!r} is no address of a shop. Expected one as http://127.0.0.1:8000.")
        self.url = url
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = make(parts.hostname, parts.port, timeout=_ANSWER_SECONDS)
        self._prefix = parts.path.rstrip("/")

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One request and its answer. Raises OSError or HTTPException when it is unknown whether it arrived."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, self._prefix + path, content, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            text = response.read()
        except BaseException:
            self._connection.close()
            raise
        if response.status >= 500:
            raise HTTPException(f"{method} {path} was answered {response.status}")
        if response.status >= 400:
            raise NotRunning(
                f"{self.url} answered {response.status} to {method} {path}: {text[:300].decode(errors='replace')} "
                "Expected the shop of services/. Start it with scripts/dev."
            )
        return json.loads(text)

    def insist(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """A request that may be repeated, until the shop answers. Raises NotRunning when patience ends."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.ask(method, path, body)
            except (OSError, HTTPException, json.JSONDecodeError) as error:
                if time.monotonic() > deadline:
                    raise NotRunning(
                        f"The shop at {self.url} has not answered for {PATIENCE:.0f} s: {error!r}. "
                        "Start it again with scripts/dev, and run the demo anew."
                    ) from error
                time.sleep(_PAUSE)


class Cast:
    """The SKUs and customers of one run. Their names are new each time, so that what they hold is all this run's."""

    def __init__(self, orders: int, chance: random.Random) -> None:
        run = f"{chance.getrandbits(32):08x}"
        self.chance = chance
        self.stock = {f"tea-{run}": 2000 + orders * 3, f"cup-{run}": orders * 3, f"pot-{run}": 1 + orders // 20}
        self.prices = dict(zip(self.stock, (450, 1200, 2900), strict=True))
        self.balances = {f"{name}-{run}": 1_000_000 + orders * 10_000 for name in ("ada", "bob", "cleo")}
        self.balances[f"eve-{run}"] = 5000

    def introduce(self, shop: Shop) -> None:
        """Puts the stock on the shelves and the money on the accounts."""
        for sku, available in self.stock.items():
            shop.insist("PUT", f"/inventory/{sku}", {"available": available, "price_cents": self.prices[sku]})
        for customer_id, balance_cents in self.balances.items():
            shop.insist("PUT", f"/payments/accounts/{customer_id}", {"balance_cents": balance_cents})

    def next_order(self) -> dict[str, object]:
        """What some customer wants next: now and then one of the few pots, or more tea than a carrier takes.

        Eve soon has no money left.
        """
        tea, cup, _ = self.stock
        (customer_id,) = self.chance.choices(list(self.balances), (3, 3, 3, 1))
        quantities = {sku: self.chance.randint(1, 3) for sku in self.chance.choices(list(self.stock), (6, 3, 1), k=2)}
        if self.chance.random() < _HEAVY_SHARE:
            quantities = {tea: 1000, cup: 1}
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in quantities.items()]
        return {"customer_id": customer_id, "items": items}


class Watcher:
    """Follows the orders in a thread of its own, and notes when each one ends."""

    def __init__(self, shop: Shop) -> None:
        self.counts = dict.fromkeys(STATUSES, 0)
        self.seconds: list[float] = []
        self.failure: NotRunning | None = None
        self.moved_at = time.monotonic()
        self._shop = shop
        self._open: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Starts following."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._is_stopped.set()
        self._thread.join(_ANSWER_SECONDS)

    def follow(self, order_id: str) -> None:
        """Adds an order that was placed just now."""
        with self._lock:
            self._open[order_id] = (time.monotonic(), "placed")
            self.counts["placed"] += 1

    def count_open(self) -> int:
        """How many orders have not ended, as far as is known."""
        with self._lock:
            return len(self._open)

    def _run(self) -> None:
        try:
            while not self._is_stopped.is_set():
                self._look()
                self._is_stopped.wait(_PAUSE / 10)
        except NotRunning as failure:
            self.failure = failure

    def _look(self) -> None:
        with self._lock:
            followed = list(self._open)
        for order_id in followed:
            if self._is_stopped.is_set():
                return
            self._note(order_id, self._shop.insist("GET", f"/orders/{order_id}")["status"])

    def _note(self, order_id: str, status: str) -> None:
        with self._lock:
            placed_at, before = self._open[order_id]
            if status == before:
                return
            self.moved_at = time.monotonic()
            self.counts[before] -= 1
            self.counts[status] += 1
            if status in FINAL:
                del self._open[order_id]
                self.seconds.append(self.moved_at - placed_at)
            else:
                self._open[order_id] = (placed_at, status)


class Placer:
    """Places orders one after the other; an answer that was lost is looked up, so that none is placed twice."""

    def __init__(self, shop: Shop) -> None:
        self.lost_answers = 0
        self._shop = shop
        self._known: set[str] = set()

    def place(self, order: dict[str, object]) -> str:
        """The id of the order, placed once even if the shop dies in the middle."""
        while True:
            order_id = self._try_once(order)
            if order_id is not None:
                self._known.add(order_id)
                return order_id

    def _try_once(self, order: dict[str, object]) -> str | None:
        try:
            return str(self._shop.ask("POST", "/orders", order)["id"])
        except (OSError, HTTPException, json.JSONDecodeError):
            self.lost_answers += 1
        held = (str(found["id"]) for found in listed(self._shop, str(order["customer_id"])))
        return next((order_id for order_id in held if order_id not in self._known), None)


class Report:
    """What has become of a run."""

    __slots__ = ("asked", "broken", "lost_answers", "orders", "seconds")

    def __init__(
        self, *, asked: int, orders: list[dict[str, Any]], lost_answers: int, seconds: list[float], broken: list[str]
    ) -> None:
        self.asked = asked
        self.orders = orders
        self.lost_answers = lost_answers
        self.seconds = seconds
        self.broken = broken

    @property
    def has_ended(self) -> bool:
        """Whether every order was shipped or cancelled."""
        return all(order["status"] in FINAL for order in self.orders)

    @property
    def is_good(self) -> bool:
        """Whether all the orders were placed once and ended, and stock and money add up."""
        return self.has_ended and len(self.orders) == self.asked and not self.broken


def demo(url: str, orders: int) -> int:
    """Runs the demo against a shop and prints it; the exit code is 0 when every order ended and all is conserved."""
    console = Console()
    try:
        report = run_demo(url, orders, console)
    except NotRunning as error:
        console.print(f"[red]{escape(str(error))}")
        return 1
    show(report, console)
    return 0 if report.is_good else 1


def run_demo(url: str, orders: int, console: Console) -> Report:
    """Places orders and follows them to their ends. Raises NotRunning when there is no shop, or no longer one."""
    shop = Shop(url)
    try:
        shop.ask("GET", "/orders?limit=1")
    except (OSError, HTTPException, json.JSONDecodeError) as error:
        raise NotRunning(f"No shop answers at {url}. Start it with scripts/dev.") from error
    cast = Cast(orders, random.Random())  # noqa: S311  # it chooses what to order
    cast.introduce(shop)
    placer, watcher = Placer(shop), Watcher(Shop(url))
    watcher.start()
    try:
        with Stage(orders, watcher, console) as stage:
            for _ in range(orders):
                watcher.follow(placer.place(cast.next_order()))
                stage.advance()
            await_ends(watcher)
    finally:
        watcher.stop()
    found = [order for customer_id in cast.balances for order in listed(shop, customer_id)]
    broken = unbalanced(shop, cast)
    return Report(asked=orders, orders=found, lost_answers=placer.lost_answers, seconds=watcher.seconds, broken=broken)


def await_ends(watcher: Watcher) -> None:
    """Returns once every order has ended, or none has moved for as long as patience lasts."""
    while watcher.count_open() and time.monotonic() - watcher.moved_at < PATIENCE:
        if watcher.failure is not None:
            raise watcher.failure
        time.sleep(_PAUSE)


def listed(shop: Shop, customer_id: str) -> list[dict[str, Any]]:
    """All the orders of a customer, as the shop knows them."""
    orders: list[dict[str, Any]] = []
    place = ""
    while True:
        page = shop.insist("GET", f"/orders?customer_id={customer_id}&limit={_PAGE}{place}")
        orders += page["items"]
        if page["next"] is None:
            return orders
        place = f"&cursor={page['next']}"


def unbalanced(shop: Shop, cast: Cast) -> list[str]:
    """Where stock or money does not add up to what was put at the start."""
    wrong: list[str] = []
    for sku, before in cast.stock.items():
        now = shop.insist("GET", f"/inventory/{sku}")
        if now["available"] + now["reserved"] + now["shipped"] != before:
            wrong.append(f"stock of {sku}: {before} put, now {now}")
    for customer_id, before in cast.balances.items():
        now = shop.insist("GET", f"/payments/accounts/{customer_id}")
        if now["balance_cents"] + now["taken_cents"] != before:
            wrong.append(f"money of {customer_id}: {before} put, now {now}")
    return wrong


class Stage:
    """What is seen while orders move: a progress bar and a live table."""

    def __init__(self, orders: int, watcher: Watcher, console: Console) -> None:
        self._watcher = watcher
        self._progress = Progress(
            TextColumn("placing orders"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("", total=orders)
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=12)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def advance(self) -> None:
        """Counts an order that was placed."""
        self._progress.advance(self._task)

    def _draw(self) -> Group:
        table = Table(*STATUSES)
        table.add_row(*(styled(status, str(count)) for status, count in self._watcher.counts.items()))
        quiet = time.monotonic() - self._watcher.moved_at
        waiting = f"nothing has moved for {quiet:.0f} s; giving up after {PATIENCE:.0f}" if quiet > 2 else ""
        return Group(self._progress, table, waiting)


def styled(status: str, text: str) -> str:
    """The text in its status's colour."""
    return f"[{_STYLES[status]}]{text}" if status in _STYLES else text


def show(report: Report, console: Console) -> None:
    """Prints the summary."""
    table = Table("", "orders", "why", title="What has become of them", title_justify="left")
    for (status, reason), count in sorted(tally(report.orders).items()):
        table.add_row(styled(status, status), str(count), escape(reason))
    console.print(table)
    if report.lost_answers:
        console.print(f"{report.lost_answers} answers were lost; each order was looked up, and placed anew if need be.")
    if len(report.orders) != report.asked:
        console.print(f"[red]{report.asked} orders were asked for, and the shop holds {len(report.orders)}.")
    if report.seconds:
        console.print(f"From placed to its end an order took {median(report.seconds) * 1000:.0f} ms (median).")
    for line in report.broken:
        console.print(f"[red]Not conserved: {escape(line)}.")
    if report.is_good:
        console.print("[green]Every order has ended; stock and money are conserved.")
    if not report.has_ended:
        console.print(f"[red]Not every order has ended within {PATIENCE:.0f} s. See: torpor parked list")


def tally(orders: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """How many orders have a status for a reason; the numbers and names after a colon are left out."""
    counts: dict[tuple[str, str], int] = {}
    for order in orders:
        kind = (order["status"], (order["reason"] or "").partition(":")[0])
        counts[kind] = counts.get(kind, 0) + 1
    return counts
