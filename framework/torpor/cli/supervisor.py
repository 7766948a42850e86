"""The parent of `torpor dev`: keeps a broker and a worker running, and starts the worker again when files change."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING

from torpor.cli.development import broker_of, environment_of, listen, locked
from torpor.cli.discovery import find_paths
from torpor.cli.frames import shown_path
from torpor.cli.logs import configure
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torpor.cli.development import Development

_DRAIN = 5.0
_QUICK = 3.0
_MOST_CRASHES = 3  # a worker that a signal ends so often, each time within _QUICK seconds, is not started again
_SUFFIXES = (".sql", ".toml")

log = logging.getLogger("torpor.dev")


def develop(plan: Development, environ: Mapping[str, str] = os.environ) -> int:
    """Runs the services of some paths until Ctrl-C; returns the exit code."""
    find_paths(plan.paths)
    Settings.read(environ)
    if plan.is_reloading and find_spec("watchfiles") is None:
        raise ConfigurationError(["Reloading needs watchfiles. Install torpor[dev], or give --no-reload."])
    configure("INFO", "console")
    with locked(plan.data):
        return Supervisor(plan, environ).run()


class Stop:
    """A signal asks the supervisor to end."""


class Changed:
    """Files have changed."""

    __slots__ = ("paths",)

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = sorted(paths)


class Ended:
    """A worker has ended."""

    __slots__ = ("worker",)

    def __init__(self, worker: Worker) -> None:
        self.worker = worker


class BrokerEnded:
    """The broker has ended, and nobody had asked for that."""


Happening = Stop | Changed | Ended | BrokerEnded


class Worker:
    """One child process that serves the services."""

    def __init__(self, arguments: Sequence[str], listener: socket.socket, environ: Mapping[str, str]) -> None:
        read, self._settings = os.pipe()
        command = [sys.executable, "-P", "-m", "torpor.cli", "serve-dev", "--parent", str(os.getpid())]
        command += ["--settings-fd", str(read), "--listener-fd", str(listener.fileno()), *arguments]
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603  # a command of our own
            command, pass_fds=(read, listener.fileno()), env=dict(environ)
        )
        os.close(read)
        self._ended = threading.Event()

    def hand_over(self, settings: Mapping[str, str]) -> None:
        """Gives the worker what it needs to begin to serve."""
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._settings, "w", encoding="utf-8") as pipe:
            json.dump(dict(settings), pipe)

    def watch(self, happenings: SimpleQueue[Happening]) -> None:
        """Reports the worker's end, whenever it comes."""

        def wait() -> None:
            self.process.wait()
            self._ended.set()
            happenings.put(Ended(self))

        threading.Thread(target=wait, daemon=True).start()

    def stop(self) -> int:
        """Lets the worker drain, and kills it when it takes too long; returns its exit code."""
        self.process.terminate()
        if not self._ended.wait(_DRAIN):
            log.warning("the worker did not stop within %g s, and was killed", _DRAIN)
            self.kill()
        self._ended.wait()
        return self.process.returncode

    def kill(self) -> None:
        """Ends the worker at once."""
        self.process.kill()


class Supervisor:
    """Runs until a signal, or, without reload, until the worker ends."""

    def __init__(self, plan: Development, environ: Mapping[str, str]) -> None:
        self.plan = plan
        self.environ = environment_of(plan, environ)
        self.broker = broker_of(plan, environ)
        self.happenings: SimpleQueue[Happening] = SimpleQueue()
        self.worker: Worker | None = None
        self._listener: socket.socket | None = None
        self._was_shown = False
        self._is_stopping = False
        self._crashes = 0

    def run(self) -> int:
        """Runs until the end; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        try:
            self._start_worker(self.plan.since, start_broker=True)
            if self.plan.is_reloading:
                threading.Thread(target=self._watch_files, daemon=True).start()
            return self._loop()
        finally:
            self._end()

    def _loop(self) -> int:
        while True:
            happening = self.happenings.get()
            if isinstance(happening, Stop):
                return 0
            if isinstance(happening, Changed):
                self._reload(happening.paths)
            elif isinstance(happening, BrokerEnded):
                self._restart_broker()
            elif happening.worker is self.worker:
                code = self._ended(happening.worker)
                if code is not None:
                    return code

    def _start_worker(self, since: float, *, start_broker: bool = False) -> None:
        """Starts the worker, and the broker beside it: the worker imports while the broker comes up."""
        if self._listener is None:
            self._listener = listen(self.plan.host, self.plan.port)
        arguments = ["--since", str(since), *(["--again"] if self._was_shown else []), *self.plan.paths]
        worker = self.worker = Worker(arguments, self._listener, self.environ)
        worker.watch(self.happenings)
        if self.broker is not None and start_broker:
            self.broker.start()
            threading.Thread(target=self._watch_broker, daemon=True).start()
        worker.hand_over({} if self.broker is None else {"TORPOR_BROKER_URL": self.broker.url})

    def _watch_broker(self) -> None:
        if self.broker is not None:
            self.broker.wait()
        if not self._is_stopping:
            self.happenings.put(BrokerEnded())

    def _restart_broker(self) -> None:
        """Starts a broker that has died again, where it was; the worker finds it by itself."""
        if self.broker is None or self._is_stopping:
            return
        log.warning("the broker has ended; starting it again")
        self.broker.stop()
        self.broker.start()
        threading.Thread(target=self._watch_broker, daemon=True).start()

    def _reload(self, paths: list[str]) -> None:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        log.info("%s%s changed", shown_path(paths[0]), more)
        since = time.time()
        if self.worker is not None:
            self._was_shown |= self.worker.stop() == 0
        self._start_worker(since)

    def _ended(self, worker: Worker) -> int | None:
        """What to do when the worker has ended by itself: an exit code, or None to go on."""
        self.worker = None
        code = worker.process.returncode
        if self._is_stopping:
            return None
        if not self.plan.is_reloading:
            return code if code >= 0 else 128 - code
        is_quick = time.monotonic() - worker.started < _QUICK
        self._crashes = self._crashes + 1 if is_quick else 1
        if code < 0 and self._crashes < _MOST_CRASHES:
            log.warning("the worker was ended by signal %d; starting it again", -code)
            self._start_worker(time.time())
            return None
        self._refuse()
        log.info("waiting for a change of the files (Ctrl-C ends)")
        return None

    def _refuse(self) -> None:
        """Lets go of the address, so that a client is refused and does not wait for a worker that will not come."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _end(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.stop()
        if self.broker is not None:
            self.broker.stop()
        self._refuse()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._is_stopping and self.worker is not None:
            self.worker.kill()
        self._is_stopping = True
        self.happenings.put(Stop())

    def _watch_files(self) -> None:
        from watchfiles import PythonFilter, watch

        wanted = PythonFilter(ignore_paths=[self.plan.data], extra_extensions=_SUFFIXES)
        for changes in watch(*_watched(self.plan.watched), watch_filter=wanted, raise_interrupt=False):
            self.happenings.put(Changed(path for _, path in changes))


def _watched(paths: Iterable[Path]) -> list[Path]:
    """The folders to watch; a file by its folder, since editors replace files."""
    return sorted({path if path.is_dir() else path.parent for path in paths})
