"""`torpor keeper`: it publishes what a service has left, answers for its health, and drains on SIGTERM."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli_process import TORPOR, Command, run
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from torpor import Event, Service, Tx

class Left(Event, topic="quiet.left"):
    number: int

quiet = Service("quiet")

@quiet.post("/leave")
async def leave(tx: Tx) -> None:
    tx.publish(Left(number=1))
"""
TARGET = "quiet.service:quiet"

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


def test_a_keeper_holds_the_lease_and_drains(tmp_path: Path) -> None:
    """It is ready once its parts work, is shown as the keeper while it runs, and no more after its clean stop."""
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / "service.py").write_text(SERVICE)
    environ = {"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": f"sqlite:///{tmp_path}/{{service}}.db"}
    migrated = run(tmp_path, "migrate", TARGET, environ=environ)
    assert migrated.returncode == 0, migrated.stderr
    port = free_port()
    keeper = Command(tmp_path, "keeper", TARGET, "--port", str(port), port=port, environ=environ)
    try:
        keeper.await_ready()
        held = run(tmp_path, "outbox", "status", "--json", environ=environ)
        (status,) = json.loads(held.stdout)
        assert status["keeper"] is not None
        keeper.process.send_signal(signal.SIGTERM)
        assert keeper.process.wait(20) == 0
        freed = run(tmp_path, "outbox", "status", "--json", environ=environ)
        assert json.loads(freed.stdout)[0]["keeper"] is None
    finally:
        keeper.kill()
