"""What an import costs, counted in modules: a service pays only for what it binds."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import NamedTuple

import pytest

PYDANTIC = frozenset({"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"})


class Budget(NamedTuple):
    """What a statement may load above the bare interpreter: so many modules, and these packages of others."""

    statement: str
    modules: int
    packages: frozenset[str] = frozenset()


# A service that listens, publishes and has a database, run in memory from start to stop.
MEMORY_SERVICE = """
import asyncio
from torpor import Event, Service, Tx

class Placed(Event, topic="placed", key="id"):
    id: str

service = Service("orders")

@service.on(Placed)
async def handle(event: Placed, tx: Tx) -> None:
    await tx.fetch("SELECT 1")

async def main():
    from torpor.adapters.memory.broker import MemoryHub
    from torpor.adapters.system.clock import SystemClock
    from torpor.assembly import assemble_in_memory

    clock = SystemClock()
    deployment = assemble_in_memory([service], hub=MemoryHub(), clock=clock)
    await deployment.migrate()
    await deployment.start()
    await deployment.stop()

asyncio.run(main())
"""

MORE_PIECES = 10  # that the standard library is in after Python 3.11
BUDGETS = {
    "the front door": Budget("import torpor", 60),
    "kernel and ports": Budget("import torpor.kernel.message, torpor.ports.broker, torpor.ports.store", 60),
    "what a service's module imports": Budget("from torpor import Event, Retry, Router, Service, Tx", 215, PYDANTIC),
    "the assembly": Budget("import torpor.assembly", 285, PYDANTIC),
    "a service in memory": Budget(MEMORY_SERVICE, 335, PYDANTIC),
    "the command line, before it has read its arguments": Budget("import torpor.cli", 60),
    "the server of `torpor run`": Budget("import torpor.cli.serving", 125),
    "the SQLite adapter": Budget("import torpor.adapters.sqlite.store", 165),
    "the NATS adapter": Budget("import torpor.adapters.nats.broker", 155),
    "the Kafka adapter": Budget("import torpor.adapters.kafka.broker", 155),
}


@cache
def modules_after(statement: str) -> frozenset[str]:
    """The names in sys.modules of a fresh interpreter that has run a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    # -I: neither the folder nor the environment of this test reaches the interpreter.
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return frozenset(run.stdout.split())


def above_the_interpreter(statement: str) -> frozenset[str]:
    """The modules that a statement adds."""
    return modules_after(statement) - modules_after("pass")


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_an_import_keeps_its_budget(budget: Budget) -> None:
    """A statement loads no more modules than its budget."""
    loaded = above_the_interpreter(budget.statement)
    most = budget.modules + (0 if sys.version_info < (3, 12) else MORE_PIECES)
    assert len(loaded) <= most, f"{len(loaded)} modules, at most {most}:\n" + "\n".join(sorted(loaded))


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_an_import_loads_only_the_packages_that_it_may(budget: Budget) -> None:
    """A statement loads no package of others but those that its budget names."""
    tops = {name.partition(".")[0] for name in above_the_interpreter(budget.statement)}
    foreign = {top for top in tops - {"torpor"} - sys.stdlib_module_names if not top.startswith("_sysconfigdata")}
    assert foreign <= budget.packages, f"{sorted(foreign - budget.packages)} loaded by: {budget.statement}"
