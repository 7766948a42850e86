"""`torpor dev`: it reloads, survives mistakes, tells what is in its way, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli_process import TORPOR, Command, eventually, is_alive, run
from tests.integration.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = """
from torpor import Event, Service, Tx

class Said(Event, topic="hello.said"):
    text: str

hello = Service("hello")

@hello.get("/hello")
async def answer() -> str:
    return "one"

@hello.post("/hello")
async def say(tx: Tx) -> None:
    tx.publish(Said(text="hi"))

@hello.on(Said)
async def listen(event: Said, tx: Tx) -> None:
    raise ValueError("cannot listen")
"""

pytestmark = pytest.mark.skipif(not TORPOR.exists(), reason="the torpor command is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the package of one service."""
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "service.py").write_text(SERVICE)
    return tmp_path


@pytest.fixture
def dev(folder: Path) -> Iterator[Command]:
    """`torpor dev hello`, ready."""
    port = free_port()
    command = Command(folder, "dev", "hello", "--port", str(port), port=port)
    try:
        command.await_ready()
        command.await_output("ready in")
        yield command
    finally:
        command.kill()


def change(folder: Path, old: str, new: str) -> None:
    """Edits the service."""
    file = folder / "hello" / "service.py"
    file.write_text(file.read_text().replace(old, new))


def answers(command: Command, text: str) -> bool:
    """Whether the service answers with a text."""
    answer = command.ask("/hello")
    return answer is not None and answer.json == text


def test_it_shows_what_runs_and_what_to_try(dev: Command) -> None:
    """Bindings, addresses, the broker, the database and commands to paste are printed."""
    told = dev.output
    for part in ("GET /hello", "hello.said", "/docs", "/-/ready", "/-/asyncapi", "nats://", "hello.db", "curl "):
        assert part in told, told


def test_a_change_is_served_after_a_reload(dev: Command, folder: Path) -> None:
    """The file that changed is named, and the new code answers; the table is not printed again."""
    change(folder, '"one"', '"two"')
    dev.await_fact(lambda: answers(dev, "two"), "the new answer")
    dev.await_output("ready again in")
    assert "service.py changed" in dev.output
    assert dev.output.count("try next") == 1


def test_a_syntax_error_is_told_and_its_repair_is_enough(dev: Command, folder: Path) -> None:
    """A broken file ends the worker with a readable message; the next change starts it again."""
    change(folder, "return", "return return")
    dev.await_output("waiting for a change")
    assert "SyntaxError" in dev.output
    assert "return return" in dev.output
    assert "Traceback" not in dev.output
    change(folder, "return return", "return")
    dev.await_fact(lambda: answers(dev, "one"), "the answer")


def test_a_failing_handler_is_told_with_the_users_line(dev: Command) -> None:
    """The log shows the line that raised, short, and the parked message can be listed."""
    answer = dev.ask("/hello", {})
    assert answer is not None
    assert answer.status == 200
    dev.await_output("cannot listen")
    dev.await_output('raise ValueError("cannot listen")')
    assert "site-packages" not in dev.output


def test_parked_messages_are_listed_beside_it(dev: Command, folder: Path) -> None:
    """`torpor parked list` in the same folder finds the database while the service runs."""
    dev.ask("/hello", {})

    def is_parked() -> bool:
        listed = run(folder, "parked", "list")
        return "hello:1" in listed.stdout and "cannot listen" in listed.stdout

    eventually(is_parked, lambda: dev.output)


def test_sigterm_ends_it_cleanly(dev: Command) -> None:
    """Exit code 0, and no process is left."""
    children = dev.children()
    assert len(children) == 2  # the worker and the broker
    dev.signal(signal.SIGTERM)
    assert dev.end() == 0, dev.output
    assert not [pid for pid in children if is_alive(pid)]


def test_ctrl_c_ends_it_cleanly(dev: Command) -> None:
    """A terminal sends SIGINT to the whole group; the broker stays until the worker has drained."""
    children = dev.children()
    os.killpg(dev.process.pid, signal.SIGINT)
    assert dev.end() == 0, dev.output
    assert not [pid for pid in children if is_alive(pid)]
    told = dev.output.partition("ready in")[2]
    assert "does not work" not in told
    assert "killed" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems end the orphans a little later")
def test_a_killed_supervisor_leaves_no_orphan_and_starts_again(dev: Command, folder: Path) -> None:
    """SIGKILL takes the worker and the broker with it, and a new run has the port and the data at once."""
    children = dev.children()
    dev.signal(signal.SIGKILL)
    again = Command(folder, "dev", "hello", "--port", str(dev.port), port=dev.port)
    try:
        eventually(lambda: not any(map(is_alive, children)), lambda: f"{children} alive; {dev.output}")
        again.await_output("ready in")
    finally:
        again.kill()


def test_a_killed_worker_is_started_again(dev: Command) -> None:
    """What the system ends (no memory, an operator) comes back without a change of a file."""
    worker, broker = dev.children()
    if "torpor.cli" not in Path(f"/proc/{worker}/cmdline").read_text():
        worker, broker = broker, worker
    os.kill(worker, signal.SIGKILL)
    dev.await_output("starting it again")
    dev.await_ready()
    assert is_alive(broker)


def test_a_killed_broker_is_started_again(dev: Command) -> None:
    """The broker comes back where it was, and the worker finds it: what is published goes through."""
    worker, broker = dev.children()
    if "nats-server" not in Path(f"/proc/{broker}/cmdline").read_text():
        worker, broker = broker, worker
    os.kill(broker, signal.SIGKILL)
    dev.await_output("the broker has ended; starting it again")
    answer = dev.ask("/hello", {})
    assert answer is not None
    assert answer.status == 200
    dev.await_output("cannot listen")  # the handler has the message
    dev.await_ready()
    assert is_alive(worker)


def test_a_port_in_use_is_told(folder: Path) -> None:
    """The message names the port and another to try; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(folder, "dev", "hello", "--port", str(port))
    assert ended.returncode == 2
    assert f"Port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "--port" in ended.stderr


def test_a_second_dev_on_the_same_data_is_told(dev: Command, folder: Path) -> None:
    """Two of them would fight over the databases and the broker's files."""
    ended = run(folder, "dev", "hello", "--port", str(free_port()))
    assert ended.returncode == 2
    assert re.search(rf"process {dev.process.pid}\b.*--data", ended.stderr)


def test_without_reload_a_mistake_ends_it(folder: Path) -> None:
    """The exit code is the worker's, for a script to see."""
    change(folder, "return", "return return")
    ended = run(folder, "dev", "hello", "--no-reload", "--port", str(free_port()))
    assert ended.returncode == 2
    assert "SyntaxError" in ended.stderr


def test_a_folder_without_services_is_told(tmp_path: Path) -> None:
    """Nothing is started, and the message says what was expected."""
    ended = run(tmp_path, "dev")
    assert ended.returncode == 2
    assert "torpor new" in ended.stderr
    assert not (tmp_path / ".torpor").exists()
