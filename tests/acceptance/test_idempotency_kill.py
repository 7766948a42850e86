"""A service is killed after the commit and before its client has an answer: the client tries again, and is told."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli_process import DEADLINE, TORPOR, Command, eventually, run
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
from fastapi import BackgroundTasks
from torpor import Idempotent, Service, Tx, new_id

TABLES = {"0001_purchase.sql": "CREATE TABLE purchase (id TEXT PRIMARY KEY)"}
shop = Service("shop", migrations=TABLES, public=True)

@shop.post("/orders", status_code=201, idempotency=Idempotent(required=True))
async def place(tx: Tx) -> str:
    id = new_id()
    tx.write("INSERT INTO purchase (id) VALUES ($1)", id)
    return id

@shop.get("/orders")
async def known(tx: Tx) -> list[str]:
    return [row["id"] for row in await tx.fetch("SELECT id FROM purchase")]
"""
TARGET = "shopping:shop"
REQUEST = "POST /orders HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n"

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


def test_a_client_that_got_no_answer_gets_it_later(tmp_path: Path) -> None:
    """SIGKILL after the commit, the answer never read: the same request to the next process is answered as before."""
    (tmp_path / "shopping.py").write_text(SERVICE)
    environ = {"TORPOR_DATABASE_URL": f"sqlite:///{tmp_path}/shop.db"}
    assert run(tmp_path, "migrate", TARGET, environ=environ).returncode == 0
    port = free_port()
    command = Command(tmp_path, "run", TARGET, "--port", str(port), port=port, environ=environ)
    try:
        command.await_ready()
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(REQUEST.encode())
            eventually(lambda: len(purchases(tmp_path)) == 1, lambda: command.output)
            command.signal(signal.SIGKILL)
        command.end()
        (id,) = purchases(tmp_path)

        command = Command(tmp_path, "run", TARGET, "--port", str(port), port=port, environ=environ)
        command.await_ready()
        again = urllib.request.Request(
            f"http://127.0.0.1:{port}/orders", method="POST", headers={"Idempotency-Key": "k"}
        )
        with urllib.request.urlopen(again, timeout=DEADLINE) as response:
            assert (response.status, json.loads(response.read())) == (201, id)
            assert response.headers["Idempotency-Replayed"] == "true"
        assert purchases(tmp_path) == [id]
    finally:
        command.kill()


def purchases(folder: Path) -> list[str]:
    """What the database holds, read beside the service."""
    with closing(sqlite3.connect(folder / "shop.db", timeout=DEADLINE)) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM purchase")]
