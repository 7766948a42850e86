"""A Docker engine, images that are made on this machine, and containers that are gone when the tests end."""

from __future__ import annotations

import gc
import os
import warnings
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image would have to be pulled

from tests.containers.images import Images
from tests.containers.stage import Stage
from tests.integration.kafka_server import Absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient


def connected() -> DockerClient | str:
    """The engine, which is asked for its version; or why none answers."""
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        return DockerClient.from_env(timeout=300)
    except DockerException as error:
        return str(error)


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The Docker engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a client leaves the socket open that met nobody
        found = connected()
        gc.collect()
    if isinstance(found, str):
        pytest.skip(f"no Docker engine: {found}. Start one, or run scripts/docker scripts/test tests/containers")
    yield found
    found.close()


@pytest.fixture(scope="session")
def image(engine: DockerClient) -> Callable[[str], str]:
    """The name of an image by its variable in compose.yaml; it is made when it is asked for first."""
    images = Images(engine)

    def image(variable: str) -> str:
        try:
            return images[variable]
        except Absent as error:
            pytest.skip(str(error))

    return image


@pytest.fixture(scope="module")
def stage(image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """NATS and PostgreSQL in containers, the tables made, and the shop in two more."""
    directory: Path = tmp_path_factory.mktemp("stage")
    stage = Stage(image, directory)
    try:
        stage.start()
        yield stage
    finally:
        stage.stop()
