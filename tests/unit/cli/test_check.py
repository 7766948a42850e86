"""`torpor check --write` and `--against`: contracts in a file, and what a change of them breaks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from torpor.cli import main

if TYPE_CHECKING:
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
