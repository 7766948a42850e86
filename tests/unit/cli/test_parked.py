"""`torpor parked`: what an operator sees of the messages set aside, and does with them."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from torpor.assembly import open_store
from torpor.cli import main
from torpor.kernel.message import Message, ParkedMessage

if TYPE_CHECKING:
    from pathlib import Path


async def park(data: Path, service: str, *messages: ParkedMessage) -> None:
    """Puts messages into a service's database, as a unit would."""
    store = open_store(f"sqlite:///{data}/{{service}}.db", service)
    await store.migrate({})
    await store.start()
    async with store.unit() as unit:
        await unit.append([], messages)
        await unit.commit()
    await store.stop()


def message(binding: str, *, id: str, key: str | None = None, data: bytes = b'{"n": 1}') -> ParkedMessage:
    """A parked message."""
    inner = Message("things.happened", data, id=id, type="things.happened", key=key, attributes={"source": "here"})
    return ParkedMessage(binding, inner, reason="ValueError: no", at=1_700_000_000.0, attempts=3)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of `torpor dev` with two services, one message with the same number in each."""
    monkeypatch.delenv("TORPOR_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".torpor"
    folder.mkdir()
    of_orders = [message("orders.pay", id="a", key="k"), message("orders.ship", id="b", data=b"\xff\x00")]
    asyncio.run(park(folder, "orders", *of_orders))
    asyncio.run(park(folder, "payments", message("payments.take", id="c", key="k")))
    return folder


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """What `parked list --json` tells."""
    capsys.readouterr()
    assert main(["parked", "list", "--json", *options]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_the_databases_of_dev_are_found_without_a_word(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every service's messages are listed in the folder where `torpor dev` ran."""
    assert main(["parked", "list"]) == 0
    told = capsys.readouterr().out
    assert "orders:1" in told
    assert "payments:1" in told
    assert "ValueError: no" in told


def test_json_shows_text_or_hexadecimal(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no UTF-8 are not lost in a listing."""
    rows = {row["id"]: row for row in listed(capsys)}
    assert rows["a"]["data"] == '{"n": 1}'
    assert rows["b"]["data_hex"] == "ff00"
    assert rows["c"]["attributes"]["source"] == "here"


def test_a_list_is_narrowed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By handler, by key, and by how many."""
    assert [row["id"] for row in listed(capsys, "--binding", "orders.ship")] == ["b"]
    assert [row["id"] for row in listed(capsys, "--key", "k")] == ["a", "c"]
    assert len(listed(capsys, "--limit", "2")) == 2


def test_show_tells_everything(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reason, attributes and bytes of one message are printed."""
    assert main(["parked", "show", "orders:2"]) == 0
    told = capsys.readouterr().out
    for part in ("orders.ship", "ValueError: no", "source", "2 bytes", "ff00"):
        assert part in told


def test_a_number_that_several_services_have_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the words that would do."""
    assert main(["parked", "show", "1"]) == 2
    assert "orders:1 or payments:1" in capsys.readouterr().err


def test_a_number_that_nobody_has_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is done when one of the numbers is wrong."""
    assert main(["parked", "discard", "--yes", "orders:1", "orders:9"]) == 2
    assert "no parked message orders:9" in capsys.readouterr().err
    assert len(listed(capsys)) == 3


def test_redrive_makes_messages_due(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key's messages are due in every service, and the others stay parked."""
    assert main(["parked", "redrive", "--key", "k"]) == 0
    states = {row["id"]: row["state"] for row in listed(capsys)}
    assert states == {"a": "due", "b": "parked", "c": "due"}


def test_redrive_wants_one_choice(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a choice nothing is redriven by accident."""
    assert main(["parked", "redrive"]) == 2
    assert "--all" in capsys.readouterr().err


def test_discard_asks(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--yes` and without an answer nothing is deleted."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["parked", "discard", "orders:1"]) != 0
    assert len(listed(capsys)) == 3


def test_discard_deletes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--yes` the messages are gone, and only they."""
    assert main(["parked", "discard", "--yes", "orders:1", "2"]) == 0
    assert [row["id"] for row in listed(capsys)] == ["c"]


def test_the_environment_names_the_databases(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TORPOR_DATABASE_URL goes before the data folder, and its `{service}` finds the services."""
    monkeypatch.chdir("/")
    monkeypatch.setenv("TORPOR_DATABASE_URL", f"sqlite:///{data}/{{service}}.db")
    assert {row["service"] for row in listed(capsys)} == {"orders", "payments"}


def test_no_database_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where it looked, and what to do."""
    monkeypatch.delenv("TORPOR_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["parked", "list"]) == 2
    assert "--data" in capsys.readouterr().err
