"""Who may import whom: the contracts of import-linter, and the packages of others that each room may use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import FRAMEWORK, ROOT, Source, sources

# The longest name that fits a module decides. DESIGN.md, "The house".
MAY_IMPORT = {
    "torpor": set[str](),
    "torpor.contract": {"pydantic"},
    "torpor.contract.payload": {"msgspec"},
    "torpor.runtime": {"pydantic"},
    "torpor.runtime.tx": {"sqlmodel"},  # the type of tx.session, for type checkers only
    "torpor.adapters.asyncapi": {"faststream", "pydantic", "pydantic_core"},
    "torpor.adapters.http": {"fastapi", "httptools", "pydantic", "starlette", "uvicorn"},
    "torpor.adapters.http.graphql": {"fastapi", "graphql", "pydantic", "starlette", "strawberry"},
    "torpor.adapters.http.querying": {"graphql"},
    "torpor.adapters.httpx": {"httpx"},
    "torpor.adapters.jwt": {"jwt"},
    "torpor.adapters.kafka": {"aiokafka", "faststream"},
    "torpor.adapters.nats": {"faststream", "nats"},
    "torpor.adapters.prometheus": {"prometheus_client"},
    "torpor.adapters.postgres": {"asyncpg", "sqlalchemy", "sqlmodel"},
    "torpor.adapters.sqlite": {"sqlalchemy", "sqlmodel"},
    "torpor.testing": {"httpx", "pytest"},
    "torpor.testing.conformance.store_sql": {"pytest", "sqlalchemy", "sqlmodel"},  # the promise of tx.session
    "torpor.cli": {"rich", "typer"},
    "torpor.cli.serving": {"uvicorn", "uvloop"},
    "torpor.cli.supervisor": {"watchfiles"},
}
# Drivers of the standard library, which only these may import.
DRIVERS = {"sqlite3": {"torpor.adapters.sqlite"}}


def room_of(module: str) -> str:
    """The entry of the table that speaks for a module."""
    return max((room for room in MAY_IMPORT if f"{module}.".startswith(f"{room}.")), key=len)


def packages(source: Source) -> set[tuple[int, str]]:
    """The packages of others that a file imports, with the line."""
    tops = {(line, name.partition(".")[0]) for line, name in source.imports()}
    return {(line, top) for line, top in tops if top != "torpor" and top not in sys.stdlib_module_names}


def test_the_contracts_of_import_linter_hold() -> None:
    """Layers, independence, cycles and protected drivers are as pyproject.toml says."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("source", sources(FRAMEWORK), ids=lambda source: source.module)
def test_a_room_imports_only_the_packages_that_are_its_own(source: Source) -> None:
    """A package of others is imported only in the room whose technology it is, type checking included."""
    may = MAY_IMPORT[room_of(source.module)]
    found = [f"{source.place}:{line} imports {top}" for line, top in sorted(packages(source)) if top not in may]
    assert not found, f"{room_of(source.module)} may import {sorted(may) or 'no package of others'}:\n" + "\n".join(
        found
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_of_the_standard_library_stays_in_its_adapter(driver: str) -> None:
    """The standard library's drivers are kept as close as everybody else's."""
    found = [
        f"{source.place}:{line} imports {driver}"
        for source in sources(FRAMEWORK)
        for line, name in source.imports()
        if name.partition(".")[0] == driver and room_of(source.module) not in DRIVERS[driver]
    ]
    assert not found, "\n".join(found)
