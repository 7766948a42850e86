"""What a push service has imported when its first event is handled and committed, counted and named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torpor.cli.coldstart import ColdService, free_port

if TYPE_CHECKING:
    from pathlib import Path

PYDANTIC = """
from torpor import Event, Service, Tx

class Placed(Event, topic="placed", key="id"):
    id: str

orders = Service("orders", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT);"})

@orders.on(Placed)
async def record(event: Placed, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen VALUES ($1)", event.id)
"""
MSGSPEC = """
import msgspec
from torpor import Service, Tx, event

@event(topic="placed", key="id")
class Placed(msgspec.Struct):
    id: str

orders = Service("orders", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT);"})

@orders.on(Placed)
async def record(event: Placed, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen VALUES ($1)", event.id)
"""

# Serves in a process of its own, posts an event to itself, and tells what is imported when that is answered.
PROGRAM = """
import sys
sys.argv[0] = "torpor"
bare = set(sys.modules)
import _socket, _thread, posix

def wake():
    port = int(sys.argv[sys.argv.index("--port") + 1])
    while True:
        client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            client.connect(("127.0.0.1", port))
        except OSError:
            continue
        break
    client.sendall(REQUEST)
    answer = client.recv(65536)
    # A name that is not its module's own is another name of one, or was put there by one: nothing is loaded for it.
    added = {name: getattr(sys.modules[name], "__spec__", None) for name in sys.modules.keys() - bare}
    names = sorted(name for name, spec in added.items() if spec is not None and spec.name == name)
    posix.write(1, (answer[9:12].decode() + "\\n" + "\\n".join(names)).encode())
    posix._exit(0)

_thread.start_new_thread(wake, ())
from torpor.cli import main
sys.exit(main())
"""

NEVER = {
    "aiokafka", "argparse", "asyncpg", "dataclasses_json", "fastapi", "faststream", "google", "httpx", "jwt", "nats",
    "opentelemetry", "prometheus_client", "rich", "sqlalchemy", "sqlmodel", "starlette", "strawberry", "typer",
    "uvicorn", "uvloop", "watchfiles", "websockets",
}  # fmt: skip
NEVER_OURS = {
    "torpor.adapters.asyncapi", "torpor.adapters.direct", "torpor.adapters.http.app", "torpor.adapters.http.server",
    "torpor.adapters.kafka", "torpor.adapters.memory", "torpor.adapters.nats", "torpor.adapters.postgres",
    "torpor.adapters.prometheus", "torpor.cli.application", "torpor.cli.frames", "torpor.features",
    "torpor.runtime.asking", "torpor.runtime.subscriber", "torpor.runtime.traffic", "torpor.testing",
}  # fmt: skip


@pytest.fixture(scope="module", params=["pydantic", "msgspec"])
def woken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, frozenset[str]]:
    """The kind of the event, and the modules above the interpreter's own."""
    folder: Path = tmp_path_factory.mktemp("woken")
    module = f"woken_{request.param}"
    (folder / f"{module}.py").write_text(PYDANTIC if request.param == "pydantic" else MSGSPEC)
    path = [*sys.path]
    service = ColdService(f"{module}:orders", folder, folder / "data", b'{"id": "1"}')
    sys.path[:] = path
    service.migrate()
    port = free_port()
    environ = {**service.environ, "TORPOR_BROKER_URL": "nats://127.0.0.1:1"}  # nothing listens there
    environ.pop("COVERAGE_PROCESS_START", None)
    arguments = service.command(port)[service.command(port).index("run") :]
    program = f"REQUEST = {service.event()!r}\n{PROGRAM}"
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=os.sep)
    status, _, names = ended.stdout.partition("\n")
    assert status == "204", ended.stderr
    return request.param, frozenset(names.split("\n")) - {module}


BUDGETS = {"pydantic": 280, "msgspec": 215}


def test_the_first_event_keeps_its_budget(woken: tuple[str, frozenset[str]]) -> None:
    """So many modules are loaded by then, and no more."""
    kind, names = woken
    assert len(names) <= BUDGETS[kind], f"{len(names)} modules:\n" + "\n".join(sorted(names))


def test_what_it_does_not_need_is_not_there(woken: tuple[str, frozenset[str]]) -> None:
    """Neither web framework nor broker client, nor anything of ours that works with them, though a broker is named."""
    _, names = woken
    ours = {name for name in names for banned in NEVER_OURS if name == banned or name.startswith(f"{banned}.")}
    assert sorted(ours | (NEVER & {name.partition(".")[0] for name in names})) == []


def test_what_few_need_is_not_there_without_pydantic(woken: tuple[str, frozenset[str]]) -> None:
    """Neither paths nor URLs nor JSON's own package, which cost a tenth of such a start; pydantic brings some."""
    kind, names = woken
    assert "json" not in names
    assert kind == "pydantic" or not {"pathlib", "urllib.parse", "ipaddress"} & names


def test_distributions_are_not_read(woken: tuple[str, frozenset[str]]) -> None:
    """Nobody asks importlib.metadata what is installed: pydantic's plugins are looked for without it."""
    _, names = woken
    assert not {"importlib.metadata", "email", "zipfile"} & names


def test_who_declares_structs_has_no_pydantic(woken: tuple[str, frozenset[str]]) -> None:
    """A msgspec contract brings msgspec alone."""
    kind, names = woken
    assert ("pydantic" in names) == (kind == "pydantic")
    assert ("msgspec" in names) == (kind == "msgspec")
