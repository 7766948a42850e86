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
    assert main(["parked", "redrive", "--key", "k", "--yes"]) == 0
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


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command tells that is used wrongly."""
    capsys.readouterr()
    assert main(["parked", *words]) == 2
    return capsys.readouterr().err


def done(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command tells that does its work."""
    capsys.readouterr()
    assert main(["parked", *words]) == 0
    return capsys.readouterr().out


def in_line(folder: Path) -> None:
    """Adds a message of the key `k` that waits behind the first."""
    waiting = message("orders.pay", id="d", key="k")
    waiting.due_at = 0.0
    asyncio.run(park(folder, "orders", waiting))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--topic", "things.happened"], "abc"),
        (["--topic", "nothing"], ""),
        (["--type", "things.happened"], "abc"),
        (["--reason", "Error: n", "--binding", "orders.pay"], "a"),
        (["--reason", "no such"], ""),
        (["--state", "waiting"], ""),
        (["--since", "2023-11-14T22:13:20+00:00"], "abc"),
        (["--before", "2023-11-14T22:13:20+00:00"], ""),
        (["--before", "1d"], "abc"),
        (["--since", "2h"], ""),
    ],
)
def test_a_list_is_narrowed_by_every_condition(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    """Topic, type, a part of the reason, state and the time of parking."""
    assert "".join(row["id"] for row in listed(capsys, *words)) == expected


def test_pages_go_on_where_the_last_one_ended(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that is not whole says how to see the rest, across services."""
    assert "2 of 3. The next come with --after orders:2" in done(capsys, "list", "--limit", "2")
    assert [row["id"] for row in listed(capsys, "--limit", "2", "--after", "orders:2")] == ["c"]
    assert [row["id"] for row in listed(capsys, "--after", "orders:1")] == ["b", "c"]
    assert "orders:17" in refuse(capsys, "list", "--after", "2")
    assert "The next" not in done(capsys, "list")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list", "--state", "lost"], "parked, waiting, due"),
        (["list", "--since", "yesterday"], "--since is 'yesterday'"),
        (["redrive", "1", "--all"], "not clear"),
        (["redrive", "1", "--key", "k"], "not clear"),
        (["discard"], "not clear"),
        (["redrive", "--all", "--payload", "x"], "NUMBER alone"),
        (["redrive", "orders:1", "--payload", "no such file"], "cannot be read"),
        (["show", "orders:99999999999999999999999"], "no parked message"),
        (["show", "orders:x"], "no parked message"),
    ],
)
def test_words_that_mean_nothing_are_told(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    """Each with what was expected, before anything is changed."""
    assert expected in refuse(capsys, *words)
    assert {row["state"] for row in listed(capsys)} == {"parked"}


def test_redriving_by_query_asks_and_says_how_many(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts by handler first, and does nothing without a yes."""
    in_line(data)
    for answer, states in (("n\n", {"parked", "waiting"}), ("y\n", {"due", "waiting"})):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        capsys.readouterr()
        main(["parked", "redrive", "--key", "k"])
        told = capsys.readouterr().out
        assert "2  orders.pay" in told
        assert "1  payments.take" in told
        assert "Redrive 3 (1 of them wait behind another, and follow it)?" in told
        assert {row["state"] for row in listed(capsys, "--key", "k")} == states


def test_what_no_row_fits_is_told_without_asking(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to agree to."""
    assert "Nothing that is parked fits" in done(capsys, "redrive", "--key", "nobody's")
    assert "Nothing that is parked fits" in done(capsys, "discard", "--reason", "nothing")
    assert "Nothing that is parked fits" in done(capsys, "list", "--reason", "nothing")


def test_discard_by_query(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what fits is deleted."""
    assert "2 discarded" in done(capsys, "discard", "--key", "k", "--yes")
    assert [row["id"] for row in listed(capsys)] == ["b"]
    assert "1 discarded" in done(capsys, "discard", "--all", "--yes")


def test_redriving_what_waits_says_what_it_waits_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message behind another is not tried before it: the number to redrive is told, and done is nothing."""
    in_line(data)
    capsys.readouterr()
    assert main(["parked", "redrive", "orders:3"]) == 1
    told = capsys.readouterr().out
    assert "orders:3 waits behind orders:1" in told
    assert "torpor parked redrive orders:1" in told
    assert {row["id"]: row["state"] for row in listed(capsys)}["d"] == "waiting"

    told = done(capsys, "redrive", "orders:1", "orders:3")
    assert "waits behind" not in told
    assert "1 to be tried again" in told


def test_an_edited_payload_is_stored_and_the_old_one_kept(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Number, id and key stay; the attributes tell of the edit; `show` has what was there before."""
    (tmp_path / "new.json").write_bytes(b'{"n": 2}')
    told = done(capsys, "redrive", "orders:1", "--payload", "new.json")
    assert "has its new payload" in told
    assert "not checked" in told

    shown = json.loads(done(capsys, "show", "orders:1", "--json"))
    assert (shown["number"], shown["id"], shown["key"], shown["state"]) == (1, "a", "k", "due")
    assert shown["data"] == '{"n": 2}'
    assert set(shown["attributes"]) == {"source", "editedat"}
    assert [edit["data"] for edit in shown["edits"]] == ['{"n": 1}']
    assert shown["waits_behind"] is None
    for part in ('{"n": 2}', "until the edit of", '{"n": 1}'):
        assert part in done(capsys, "show", "orders:1")


def test_a_payload_is_piped_in(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes come from the standard input for `-`, whatever they are."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x01")))
    done(capsys, "redrive", "orders:2", "--payload", "-")
    assert json.loads(done(capsys, "show", "orders:2", "--json"))["data_hex"] == "ff01"


def test_a_waiting_message_can_be_edited_before_its_turn(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It has its new payload, keeps its place, and the reader is told that it waits."""
    in_line(data)
    (tmp_path / "new.json").write_bytes(b"{}")
    told = done(capsys, "redrive", "orders:3", "--payload", "new.json")
    assert "waits behind orders:1" in told
    shown = json.loads(done(capsys, "show", "orders:3", "--json"))
    assert (shown["state"], shown["waits_behind"], shown["data"]) == ("waiting", 1, "{}")


SERVICE = """
from torpor import Event, Service

class Paid(Event, topic="things.happened", key="key"):
    key: str
    cents: int

orders = Service("orders")

@orders.on(Paid, name="pay")
async def pay(event: Paid) -> None: ...
"""


def test_a_payload_is_checked_by_the_code_at_hand(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One that does not fit the handler's event is refused with its mistakes, unless it is forced."""
    folder = tmp_path / "checked_by_code"
    folder.mkdir()
    (folder / "service.py").write_text(SERVICE)
    (tmp_path / "bad.json").write_text('{"key": "k", "cents": "many"}')
    (tmp_path / "good.json").write_text('{"key": "k", "cents": 3}')
    edit = ["redrive", "orders:1", "--code", str(folder), "--payload"]

    told = refuse(capsys, *edit, "bad.json")
    assert "orders.pay" in told
    assert "cents" in told
    assert "--force" in told
    assert "many" not in told
    assert {row["state"] for row in listed(capsys)} == {"parked"}
    assert "not checked" not in done(capsys, *edit, "good.json")
    assert "not checked" not in done(capsys, *edit, "bad.json", "--force")
    assert "no service 'payments'" in refuse(
        capsys, "redrive", "payments:1", "--code", str(folder), "--payload", "good.json"
    )
