"""How long a service takes from nothing to its first event: fresh processes, measured from outside."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.runtime.plan import SubscriberBinding

_PATIENCE = 60.0
_PAUSE = 0.0003
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| (\s*)(\S+)")


class Sample:
    """One start: seconds since exec, and what was used by the end of the last step."""

    __slots__ = ("processor", "resident", "steps")

    def __init__(self, steps: Sequence[float], *, processor: float, resident: float) -> None:
        self.steps = tuple(steps)
        self.processor = processor  # seconds
        self.resident = resident  # megabytes; 0 where the system does not tell


class Request:
    """What is sent until it is answered with a status."""

    __slots__ = ("make", "status")

    def __init__(self, make: Callable[[], bytes], status: int) -> None:
        self.make = make
        self.status = status


def get(path: str) -> Request:
    """A question that is answered with 200 in the end."""
    return Request(f"GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode, 200)


class Import:
    """A module that was imported, with the microseconds of its own and with what it imported in turn."""

    __slots__ = ("depth", "name", "own", "total")

    def __init__(self, name: str, *, own: int, total: int, depth: int) -> None:
        self.name = name
        self.own = own
        self.total = total
        self.depth = depth


def start(command: Sequence[str], port: int, environ: Mapping[str, str], *requests: Request) -> Sample:
    """Starts a server, and measures until its port is open, and until each request in turn is answered."""
    with tempfile.TemporaryFile() as told:
        used, began = _used_by_children(), time.perf_counter()
        process = subprocess.Popen(command, env=environ, stdout=told, stderr=told)  # noqa: S603  # of whoever asks
        try:
            _until(partial(_is_open, port), process)
            steps = [time.perf_counter() - began]
            for request in requests:
                _until(partial(is_answered, port, request), process)
                steps.append(time.perf_counter() - began)
            processor, resident = processor_seconds(process.pid), resident_megabytes(process.pid)
        except _EndedError as error:
            told.seek(0)
            last = told.read().decode(errors="replace").strip()[-500:]
            raise ConfigurationError([f"{' '.join(command)} {error}. It said: {last or 'nothing'}"]) from error
        finally:
            process.terminate()
            process.wait()
        return Sample(steps, processor=processor or _used_by_children() - used, resident=resident)


def _used_by_children() -> float:
    """What those that have ended have used, their end included: where the scheduler tells nothing of the living."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processor_seconds(pid: int) -> float:
    """What a process and its children have used so far, by the scheduler's own count; 0 where there is none."""
    total = 0.0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0]) / 1e9
            total += sum(processor_seconds(int(child)) for child in (thread / "children").read_text().split())
    except OSError:
        return total
    return total


def resident_megabytes(pid: int) -> float:
    """The memory that a process has resident; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_answered(port: int, request: Request) -> bool:
    """Sends a request once; tells whether it was answered with its status."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
            client.sendall(request.make())
            answer = client.recv(65_536)
    except OSError:
        return False
    return answer.startswith((b"HTTP/1.1 %d " % request.status, b"HTTP/1.0 %d " % request.status))


class ColdService:
    """A service in push mode on a SQLite database of its own, and the event that wakes it."""

    def __init__(
        self, word: str, app_dir: Path, folder: Path, event: bytes | None = None, *, python: str = sys.executable
    ) -> None:
        self._python = python
        self._word = word
        self._app_dir = app_dir
        self.binding = _first_binding(word, app_dir)
        self._event = event or _sample_event(self.binding)
        self._fresh: dict[Path, bytes] = {}
        self._folder = folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TORPOR_")}
        self.environ = {
            **ours,
            "TORPOR_DELIVERY": "push",
            "TORPOR_BROKER_URL": "memory://",
            "TORPOR_DATABASE_URL": f"sqlite:///{self._folder}/{{service}}.db",
        }

    def migrate(self) -> None:
        """Makes the database."""
        command = (self._python, "-m", "torpor.cli", "migrate", self._word, "--app-dir", str(self._app_dir))
        ended = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)  # noqa: S603  # of whoever asks
        if ended.returncode:
            raise ConfigurationError([ended.stderr.strip() or f"{' '.join(command)} failed."])
        self._fresh = {file: file.read_bytes() for file in self._folder.iterdir()}

    def command(self, port: int, *flags: str) -> list[str]:
        """How it is started."""
        arguments = ("run", self._word, "--app-dir", str(self._app_dir), "--port", str(port))
        script = Path(self._python).with_name("torpor")
        return [self._python, *flags, *((str(script),) if script.exists() else ("-m", "torpor.cli")), *arguments]

    def start(self, question: str = "/-/ready") -> Sample:
        """Starts it once: port open, a question answered, first event handled and committed."""
        self._renew()
        port = free_port()
        return start(self.command(port), port, self.environ, get(question), Request(self.event, 204))

    def event(self) -> bytes:
        """A request with an event, each with an id of its own."""
        head = (
            f"POST /-/events/{self.binding.handled.name} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
            f"ce-specversion: 1.0\r\nce-id: bench-{os.getpid()}-{time.time_ns()}\r\nce-source: /bench\r\n"
            f"ce-type: {self.binding.contract.__torpor_type__ or self.binding.topic}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._event)}\r\n\r\n"
        )
        return head.encode() + self._event

    def _renew(self) -> None:
        """Gives each round the database as it was at first, so that one event can come as often as it likes."""
        for file in self._folder.iterdir():
            if file not in self._fresh:
                file.unlink()
        for file, content in self._fresh.items():
            file.write_bytes(content)

    def imports(self) -> list[Import]:
        """What one start imports until its first event is handled, in order; those of the bare interpreter apart."""
        with tempfile.NamedTemporaryFile("r", suffix=".txt") as told:
            self._renew()
            port = free_port()
            command = self.command(port, "-X", "importtime")
            with Path(told.name).open("w") as written:
                process = subprocess.Popen(command, env=self.environ, stderr=written)  # noqa: S603  # of whoever asks
                try:
                    _until(partial(_is_open, port), process)
                    _until(partial(is_answered, port, Request(self.event, 204)), process)
                    found = _read_imports(told.read())
                finally:
                    process.terminate()
                    process.wait()
        bare = subprocess.run(  # noqa: S603  # of whoever asks
            [self._python, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
        )
        known = {module.name for module in _read_imports(bare.stderr)}
        return [module for module in found if module.name not in known]


def medians(samples: Sequence[Sample]) -> list[float]:
    """The medians of the steps and of the processor, in milliseconds, and of the memory."""
    steps = zip(*(sample.steps for sample in samples), strict=True)
    return [
        *(median(step) * 1000 for step in steps),
        median(sample.processor for sample in samples) * 1000,
        median(sample.resident for sample in samples),
    ]


def as_table(samples: Mapping[str, Sequence[Sample]]) -> str:
    """The medians of services, a row each."""
    width = max(map(len, samples))
    head = f"{'':<{width}}  port open    ready  first event   CPU ms   RSS MB"
    rows = [
        "{:<{}}  {:>6.1f} ms  {:>6.1f} ms  {:>8.1f} ms  {:>6.1f}  {:>7.1f}".format(name, width, *medians(taken))
        for name, taken in samples.items()
    ]
    return "\n".join([head, *rows])


def as_tree(modules: Sequence[Import], least: int) -> str:
    """The modules that took so many microseconds at least, each below the one that imported it."""
    shown = [module for module in reversed(modules) if module.total >= least]
    return "\n".join(f"{module.total / 1000:>8.1f} ms  {'  ' * module.depth}{module.name}" for module in shown)


class _EndedError(Exception):
    """The server is no more, or does not answer."""


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    last = time.perf_counter() + _PATIENCE
    while not condition():
        if process.poll() is not None:
            raise _EndedError(f"ended with {process.returncode}")
        if time.perf_counter() > last:
            raise _EndedError(f"did not answer within {_PATIENCE:g} s")
        time.sleep(_PAUSE)


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _first_binding(word: str, app_dir: Path) -> SubscriberBinding:
    from torpor.cli.discovery import load, parse
    from torpor.runtime.binding import bind

    (service,) = load([parse(word, app_dir)])
    bindings = bind(service).subscribers
    if not bindings:
        raise ConfigurationError([f"{word} listens to no topic, and no event can wake it."])
    return bindings[0]


def _sample_event(binding: SubscriberBinding) -> bytes:
    from torpor.cli.samples import sample

    contract, codec = binding.contract, binding.contract.__torpor_codec__
    return json.dumps(sample(contract.model_json_schema() if codec is None else codec.schema(contract))).encode()


def _read_imports(told: str) -> list[Import]:
    return [
        Import(name, own=int(own), total=int(total), depth=len(indent) // 2)
        for own, total, indent, name in _LINE.findall(told)
    ]
