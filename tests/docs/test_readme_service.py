"""The service of the README's first screen does what the README says."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import page_at
from tests.docs.running import write_files
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `hello.service`, written to files as the README shows them."""
    write_files(page_at("README.md"), tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("hello.service")
    for name in ("hello.service", "hello"):
        sys.modules.pop(name, None)


async def test_a_note_is_counted_once(service: Any) -> None:
    """A note that is posted is published and counted; the event delivered again is not."""
    async with TestShop(service.hello) as shop:
        answer = await shop.post("/hello/notes", json={"author": "ada", "text": "Hello!"})
        assert answer.status_code == 202
        await shop.settle()
        assert shop.published(service.NoteWritten) == [service.NoteWritten(author="ada", text="Hello!")]
        assert (await shop.get("/hello/tally/ada")).json() == {"author": "ada", "notes": 1}
        (message,) = shop.hub.published
        await shop.publish(service.NoteWritten(author="ada", text="Hello!"), id=message.id)
        await shop.settle()
        assert (await shop.get("/hello/tally/ada")).json() == {"author": "ada", "notes": 1}


async def test_a_note_that_is_refused_is_not_published(service: Any) -> None:
    """What the database refuses is answered as an error, and its event is not sent."""
    async with TestShop(service.hello) as shop:
        answer = await shop.post("/hello/notes", json={"author": "ada"})
        assert answer.status_code == 422
        await shop.settle()
        assert shop.published(service.NoteWritten) == []
        assert (await shop.get("/hello/tally/ada")).json() == {"author": "ada", "notes": 0}
