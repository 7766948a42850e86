"""`torpor check`: settings beside the code; and contracts in a file, by `--write` and `--against`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from torpor.cli import main
from torpor.runtime.settings import given_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVICE = """
import msgspec
from torpor import Event, Raw, Service, Tx, event

class Placed(Event, topic="placed", key="id"{options}):
    id: str
    {field}

@event(topic="ticks")
class Tick(msgspec.Struct):
    price: float

class Photo(Event, topic="photos", codec=Raw("image/png")):
    data: bytes

{name} = Service("{name}")

@{name}.on(Placed)
async def placed(event: Placed) -> Tick: ...

@{name}.on(Photo)
async def seen(event: Photo, tx: Tx) -> Placed | None: ...
"""


class Written:
    """A service in a file of its own, whose contract can be changed, and the file of its contracts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contracts = folder / "contracts.json"
        self._count = 0

    def check(self, *options: str, field: str = "total: int", contract: str = "", name: str = "shop") -> int:
        """Checks the service with these fields; returns the exit code."""
        self._count += 1
        file = self.folder / f"found_contracts_{self._count}.py"
        file.write_text(SERVICE.format(field=field, options=contract, name=name))
        try:
            return main(["check", str(file), *options])
        finally:
            file.unlink()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A service whose contracts have been written."""
    found = Written(tmp_path)
    assert found.check("--write", str(found.contracts)) == 0
    return found


def test_what_is_written_is_stable_and_told(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is the same each time, holds each contract by service and name, and nothing has changed against it."""
    text = written.contracts.read_text()

    assert written.check("--write", str(written.contracts)) == 0
    assert "3 contracts written" in capsys.readouterr().out
    assert written.contracts.read_text() == text
    shapes = json.loads(text)["services"]["shop"]
    assert {name: (shape["topic"], shape["publishes"], shape["handles"]) for name, shape in shapes.items()} == {
        "Photo": ("photos", False, True),
        "Placed": ("placed", True, True),
        "Tick": ("ticks", True, False),
    }
    assert shapes["Photo"]["content_type"] == "image/png"
    assert written.check("--against", str(written.contracts)) == 0
    assert "nothing breaking, of 0 changes" in capsys.readouterr().out


REQUESTS = """
from torpor import Ask, Request, Service

class GetPrice(Request[{answer}], topic="prices.get"):
    sku: str

class GetStock(Request[int], topic="stock.get"):
    sku: str

prices = Service("prices")

@prices.answer(GetPrice)
async def quote(request: GetPrice, ask: Ask) -> {answer}:
    return await ask(GetStock(sku=request.sku))
"""


def test_requests_are_checked_with_their_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A request that nobody answers is a note, and a change of an answer breaks who asks."""
    service, contracts = tmp_path / "found_requests.py", tmp_path / "contracts.json"
    service.write_text(REQUESTS.format(answer="int"))
    assert main(["check", str(service), "--write", str(contracts)]) == 0
    note = "note: prices.quote asks GetStock, and no service here answers it on 'stock.get'."
    assert note in capsys.readouterr().out
    shapes = json.loads(contracts.read_text())["services"]["prices"]
    assert {name: (shape["publishes"], shape["handles"]) for name, shape in shapes.items()} == {
        "GetPrice": (False, True),
        "GetPrice (answer)": (True, False),
        "GetStock": (True, False),
        "GetStock (answer)": (False, True),
    }

    changed = tmp_path / "found_requests_2.py"
    changed.write_text(REQUESTS.format(answer="str"))
    assert main(["check", str(changed), "--against", str(contracts)]) == 1
    assert "BREAKING prices: GetPrice (answer)" in capsys.readouterr().out


def test_a_compatible_change_is_told_as_such(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """An added field with a default ends with exit code 0."""
    assert written.check("--against", str(written.contracts), field="total: int; note: str = ''") == 0
    assert "fine     shop: Placed.note: it was added." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "contract", "told"),
    [
        ("", "", "BREAKING shop: Placed.total: it was removed."),
        ("total: int; note: str", "", "BREAKING shop: Placed.note: it reads less than before."),
        ("total: str", "", "BREAKING shop: Placed.total: it reads less than before."),
        ("total: int", ", type='other'", "BREAKING shop: Placed: the type was 'placed' and is 'other'."),
    ],
)
def test_a_breaking_change_ends_with_exit_code_1(
    written: Written, capsys: pytest.CaptureFixture[str], field: str, contract: str, told: str
) -> None:
    """What breaks, where, and what to do about it is printed, and a CI step fails."""
    assert written.check("--against", str(written.contracts), field=field, contract=contract) == 1
    printed = capsys.readouterr().out
    assert told in printed
    assert "declare version=2 with upcasts={1: …}" in printed


def test_a_new_version_with_an_upcast_breaks_nothing(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice that a breaking change is given works."""
    contract = ", version=2, upcasts={1: lambda old: {'id': old['id'], 'total': str(old['total'])}}"
    assert written.check("--against", str(written.contracts), field="total: str", contract=contract) == 0
    assert "version 1 became 2: deploy this before who publishes it" in capsys.readouterr().out


def test_a_breaking_change_is_accepted_by_writing_it(written: Written) -> None:
    """Compared with and written to the same file, it is told once, and is then what is compared with."""
    both = ("--against", str(written.contracts), "--write", str(written.contracts))
    assert written.check(*both, field="") == 0
    assert written.check("--against", str(written.contracts), field="") == 0


def test_a_service_that_was_not_checked_is_left_alone(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """A check of one service says nothing about the others in the file, but that they are there."""
    assert written.check("--against", str(written.contracts), name="other") == 0
    assert "shop: it is in the file, and was not checked." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "cannot be read"), ("{", "is not what --write writes"), ("[]", "this version's --write"),
     ('{"format": 1, "services": {"shop": {"Placed": {}}}}', "this version's --write")],
)  # fmt: skip
def test_a_file_that_is_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, told: str
) -> None:
    """A missing or foreign file is a wrong use of the command, with what to do."""
    written = Written(tmp_path)
    if text is not None:
        written.contracts.write_text(text)
    assert written.check("--against", str(written.contracts)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Write it with: torpor check --write" in error


SETTLED = """
from torpor import Event, Limit, Service, Tx

class Placed(Event, topic="placed"):
    id: str

shop = Service("shop")

@shop.post("/orders", public=True, rules=[Limit(1, shared=True)])
async def order(id: str, tx: Tx) -> None:
    tx.publish(Placed(id=id))
"""
OPEN = """
@shop.get("/orders")
async def orders(tx: Tx) -> list[str]: ...
"""


@pytest.fixture
def set_only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the environment hold these settings alone."""

    def set_only(**settings: str) -> None:
        for name in given_in(os.environ):
            monkeypatch.delenv(name)
        for name, value in settings.items():
            monkeypatch.setenv(f"TORPOR_{name}", value)

    return set_only


def test_without_settings_the_code_is_checked_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], set_only: Callable[..., None]
) -> None:
    """A machine that runs no service needs no settings; what is for commands and tests is none."""
    (tmp_path / "found_bare.py").write_text(SETTLED)
    for others in ({}, {"DEBUG": "0", "TEST_STRICT": "1"}):
        set_only(**others)
        assert main(["check", str(tmp_path / "found_bare.py")]) == 0
        assert capsys.readouterr().out == "1 service, 1 handler: all good\n"


def test_settings_that_fit_are_good_and_nothing_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], set_only: Callable[..., None]
) -> None:
    """They are checked where no broker and no database answers, and no file is made."""
    (tmp_path / "found_fitting.py").write_text(SETTLED)
    database = tmp_path / "data" / "shop.db"
    set_only(BROKER_URL="nats://127.0.0.1:1", DATABASE_URL=f"sqlite:///{database}", SHARED="database")
    assert main(["check", str(tmp_path / "found_fitting.py")]) == 0
    told = capsys.readouterr().out
    assert "settings are checked too, as `torpor run` would: TORPOR_BROKER_URL, TORPOR_DATABASE_URL" in told
    assert told.endswith("1 service, 1 handler: all good\n")
    assert not database.parent.exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"LOG_LEVEL": "DEBUG"}, ["TORPOR_BROKER_URL is not set", "TORPOR_DATABASE_URL is not set"]),
        ({"BROKER_URL": "nats://h"}, ["TORPOR_DATABASE_URL is not set"]),
        ({"BROKER_URL": "amqp://h", "HTTP_PROT": "1"}, ["'amqp'", "Did you mean 'TORPOR_HTTP_PORT'?"]),
        (
            {"BROKER_URL": "kafka://h", "DATABASE_URL": "memory://", "SHARED": "broker"},
            ["TORPOR_SHARED=broker, and Kafka keeps no values"],
        ),
        ({"BROKER_URL": "nats://h?replicas=many", "DATABASE_URL": "memory://"}, ["replicas"]),
        ({"BROKER_URL_FILE": "/no/such/file"}, ["/no/such/file"]),
    ],
)
def test_what_torpor_run_refuses_is_told_with_the_rest(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    set_only: Callable[..., None],
    settings: dict[str, str],
    told: list[str],
) -> None:
    """Values that are wrong, names that are none, what is missing, what does not go together: beside the code's."""
    (tmp_path / "found_refused.py").write_text(SETTLED + OPEN)
    set_only(**settings)
    assert main(["check", str(tmp_path / "found_refused.py")]) == 1
    error = capsys.readouterr().err
    assert f"{len(told) + 1} problems to fix" in error
    assert "GET /orders, and does not say who may call it" in error
    assert all(text in error for text in told), error


def test_wrong_settings_are_told_beside_code_that_cannot_be_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], set_only: Callable[..., None]
) -> None:
    """One list of all, whatever it is that is wrong."""
    (tmp_path / "found_unbound.py").write_text(SETTLED.replace('"/orders"', '"orders"'))
    set_only(DELIVERY="pigeon")
    assert main(["check", str(tmp_path / "found_unbound.py")]) == 1
    error = capsys.readouterr().err
    assert "2 problems to fix" in error
    assert "'pigeon'" in error
    assert "A path starts with '/'" in error
