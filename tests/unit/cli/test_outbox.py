"""`torpor outbox`: how the logs stand, and what is published again."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from torpor.assembly import open_store
from torpor.cli import main
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from torpor.ports.store import Store


def on_store(data: Path, service: str, work: Callable[[Store], Awaitable[Any]]) -> Any:
    """Does some work on a service's database."""

    async def run() -> Any:
        store = open_store(f"sqlite:///{data}/{{service}}.db", service)
        await store.migrate({})
        await store.start()
        told = await work(store)
        await store.stop()
        return told

    return asyncio.run(run())


async def fill(store: Store) -> None:
    """Three published messages of two topics, and one that waits."""
    epoch = await store.leases.acquire("keeper", "machine:42/x", 100)
    assert epoch is not None
    async with store.unit() as unit:
        await unit.append([Message(topic, b"", id=f"{topic}{n}", type="y") for n, topic in enumerate("tut")], [])
        await unit.commit()
    entries = await store.outbox.pending(10)
    await store.outbox.advance({entry.shard: entry.position for entry in entries}, epoch)
    async with store.unit() as unit:
        await unit.append([Message("t", b"", id="waits", type="y")], [])
        await unit.commit()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of `torpor dev` with a service that has published, and one that never has."""
    monkeypatch.delenv("TORPOR_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".torpor"
    folder.mkdir()
    on_store(folder, "orders", fill)
    on_store(folder, "payments", lambda store: store.ping())
    return folder


def statuses(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `outbox status --json` tells, by service."""
    capsys.readouterr()
    assert main(["outbox", "status", "--json"]) == 0
    return {one["service"]: one for one in json.loads(capsys.readouterr().out)}


def pending(data: Path) -> list[str]:
    """The ids of what is to be published, and not left out."""

    async def read(store: Store) -> list[str]:
        return [entry.message.id for entry in await store.outbox.pending(10) if not entry.is_left_out]

    told: list[str] = on_store(data, "orders", read)
    return told


def test_status_tells_how_each_log_stands(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits, what is kept, the cursor, the keeper's place and the window are there for people."""
    assert main(["outbox", "status"]) == 0
    told = capsys.readouterr().out
    for part in ("orders", "payments", "machine:42", "nobody", "TORPOR_REPLAY_SECONDS"):
        assert part in told


def test_status_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    orders, payments = (statuses(capsys)[name] for name in ("orders", "payments"))
    assert (orders["waiting"], orders["kept"], orders["cursors"], orders["epoch"]) == (1, 4, {"0": 3}, 1)
    assert orders["keeper"] == "machine:42/x"
    assert orders["kept_since"] <= orders["waiting_since"]
    assert (payments["waiting"], payments["kept"], payments["keeper"]) == (0, 0, None)


def test_a_dry_run_changes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be published again is counted by service and topic."""
    assert main(["outbox", "replay", "--since", "2h", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "2  orders: t" in told
    assert "1  orders: u" in told
    assert pending(data) == ["waits"]


def test_a_replay_asks(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--yes` and without an answer nothing is published again."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["outbox", "replay", "--since", "2h"]) != 0
    assert pending(data) == ["waits"]


def test_a_replay_begins_at_a_time(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was published since is to be published again before what waits, under a new epoch."""
    assert main(["outbox", "replay", "--since", "1h", "--yes"]) == 0
    assert "3 to be published again" in capsys.readouterr().out
    assert pending(data) == ["t0", "u1", "t2", "waits"]
    assert statuses(capsys)["orders"]["epoch"] == 2


def test_a_replay_of_one_topic(data: Path) -> None:
    """The others are left out."""
    assert main(["outbox", "replay", "--since", "1h", "--topic", "u", "--yes"]) == 0
    assert pending(data) == ["u1", "waits"]


def test_nothing_to_replay_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time after the last message, or a topic that nobody published, is no error."""
    assert main(["outbox", "replay", "--since", "2100-01-01T00:00+00:00", "--yes"]) == 0
    assert main(["outbox", "replay", "--since", "1h", "--topic", "none", "--yes"]) == 0
    assert capsys.readouterr().out.count("Nothing was published since") == 2


def test_what_is_not_kept_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time before the window and the oldest row is refused, with what is kept and why."""
    assert main(["outbox", "replay", "--since", "2d", "--yes"]) == 2
    told = capsys.readouterr().err
    for part in ("orders keeps", "TORPOR_REPLAY_SECONDS", "Give that or a later time"):
        assert part in told
    assert pending(data) == ["waits"]


def test_a_time_that_cannot_be_read_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message shows the forms that can."""
    assert main(["outbox", "replay", "--since", "yesterday", "--yes"]) == 2
    assert "2h" in capsys.readouterr().err
