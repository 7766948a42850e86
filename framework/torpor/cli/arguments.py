"""What several commands take alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.runtime.service import Service

Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH | MODULE:SERVICE]...", help="Folders, files, or variables in modules (here: .)."),
]
AppDir = Annotated[Path, typer.Option(help="Where the modules of MODULE:SERVICE are.")]


def services_at(places: Sequence[str] | None, app_dir: Path) -> list[Service]:
    """The services that are meant."""
    from torpor.cli.discovery import find, load

    return load(find(places or ["."], app_dir=app_dir))
