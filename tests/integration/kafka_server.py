"""An Apache Kafka of the tests' own: one node, on free ports, with data that are gone when the tests end.

As a program it runs one for a person until Ctrl-C: `scripts/kafka`.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.integration.ports import free_port

VERSION = "4.3.1"
_SCALA = "2.13"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_WAIT = 90.0
_HEAP = ("-Xms128m", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>torpor</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_{_SCALA}</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
_SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{port},BEHIND://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{port},BEHIND://127.0.0.1:{front}
listener.security.protocol.map=CLIENT:{protocol},BEHIND:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=1
num.io.threads=2
num.replica.fetchers=1
background.threads=1
log.flush.interval.messages=1000000
"""
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_SASL = """sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="{user}" password="{password}" user_{user}="{password}";
"""


class Absent(Exception):  # a state of this machine, told as the reason of a skip
    """This machine has no Kafka, and no means to get it."""


class KafkaServer:
    """One node. `sasl` is a user and a password that it asks for; `more` are settings that win, and `scram` users with
    their passwords, for whom it is made.

    It listens on `behind` too, for a proxy: those who come that way are told that it is on `front`.
    """

    def __init__(self, directory: Path, *, sasl: tuple[str, str] | None = None) -> None:
        self.directory = directory
        self.more = ""
        self.cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        self.scram: dict[str, str] = {}
        self._sasl = sasl
        self.port, self.controller, self.behind, self.front = (free_port() for _ in range(4))
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = directory / "server.properties"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it answers. Raises Absent."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Starts it. Raises Absent."""
        libraries = find_libraries()
        if not self._settings.exists():
            self._format(libraries)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _java(libraries, "kafka.Kafka", str(self._settings)),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Waits until it answers."""
        process = self._process
        deadline = time.monotonic() + _WAIT
        while not _answers(self.port):
            if process is None or process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self.directory / "log").read_text()[-4000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it in order, and keeps its data. Repeatable."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, and keeps its data."""
        self._end(signal.SIGKILL)

    def _end(self, word: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(word)
        try:
            process.wait(_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _format(self, libraries: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        text = _SETTINGS.format(
            port=self.port,
            controller=self.controller,
            behind=self.behind,
            front=self.front,
            data=self.directory / "data",
            protocol="SASL_PLAINTEXT" if self._sasl else "PLAINTEXT",
        )
        if self._sasl:
            text += _SASL.format(user=self._sasl[0], password=self._sasl[1])
        self._settings.write_text(text + self.more)
        told = subprocess.run(
            _java(
                libraries,
                *("kafka.tools.StorageTool", "format", f"--cluster-id={self.cluster}", "-c", str(self._settings)),
                *(
                    f"--add-scram={kind}=[name={user},password={word}]"
                    for user, word in self.scram.items()
                    for kind in _SCRAM
                ),
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            self._settings.unlink()
            raise RuntimeError(told.stdout + told.stderr)


def find_libraries() -> Path:
    """The folder of Kafka's jars: the one that KAFKA_LIBS names, or the cache, which Maven fills once."""
    if shutil.which("java") is None:
        raise Absent("no Kafka: it needs Java 17 or newer (Debian: apt install openjdk-17-jre-headless maven)")
    if asked := os.environ.get("KAFKA_LIBS"):
        return Path(asked)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torpor"
    libraries = cache / f"kafka-{VERSION}"
    if not libraries.exists():
        _download(libraries)
    return libraries


def _download(libraries: Path) -> None:
    """Has Maven fetch the jars from Maven Central, and puts them in place in one move."""
    if shutil.which("mvn") is None:
        raise Absent("no Kafka: its jars come by Maven (Debian: apt install maven)")
    libraries.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libraries.parent) as making:
        (Path(making) / "pom.xml").write_text(_POM)
        told = subprocess.run(
            ["mvn", "-q", "-B", _PLUGIN, f"-DoutputDirectory={making}/jars", "-DincludeScope=runtime"],
            cwd=making,
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            raise Absent(f"no Kafka: Maven cannot fetch its jars: {told.stdout[-1000:]}{told.stderr[-1000:]}")
        try:
            (Path(making) / "jars").rename(libraries)
        except OSError:
            if not libraries.exists():  # another process was quicker
                raise


def _java(libraries: Path, *arguments: str) -> list[str]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [shutil.which("java") or "java", *_HEAP, quiet, "-cp", f"{libraries}/*", *arguments]


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Runs a node until it is told to end, and prints how to use it."""
    with tempfile.TemporaryDirectory(prefix="torpor-kafka-") as directory:
        server = KafkaServer(Path(directory))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.start()
            print(f"TORPOR_BROKER_URL={server.url}", flush=True)  # noqa: T201  # what it is for
            signal.pause()
        except Absent as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 1
        except KeyboardInterrupt:
            pass
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
