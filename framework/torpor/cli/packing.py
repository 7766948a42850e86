"""`torpor compile`: packs what services import when they start into one file, when an image is built."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torpor.cli.packed import MARK, key_of, place_of, stamp_of
from torpor.kernel.errors import ConfigurationError, TorporError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Sequence

    from torpor.cli.production import Options

    Pack = dict[str, tuple[tuple[str, int, int, bool], bytes]]  # by a module's name: its file as it is, and its code

_LATE = ("torpor.runtime.postponed", "torpor.runtime.late")  # which only the first message asks for


def pack(argv: Sequence[str]) -> int:
    """Packs what is imported for services; returns the process's exit code."""
    from torpor.cli.production import compile_parser, options_of

    roots = sys.path[1:]  # the first is the folder of the command, or the working directory
    try:
        options = options_of(argv) or compile_parser().parse_args(argv)
        _load(options)
        packed = _packed(sys.modules, roots)
        place = _written(options.services, roots, packed)
    except TorporError as error:
        from torpor.cli.failures import USAGE, tell

        tell(error)
        return USAGE
    named = " ".join(options.services)
    print(f"{len(packed)} modules, {place.stat().st_size / 1_000_000:.1f} MB, packed for {named}: {place}")
    print(f"Try next: torpor run {named}")
    return 0


def _load(options: Options | argparse.Namespace) -> None:
    """Imports what `torpor run` would, and what the first message needs. Opens nothing."""
    from importlib import import_module

    from torpor.cli.production import prepare

    settings, deployment = prepare(options, os.environ)
    from torpor.cli.serving import server_of

    server_of(deployment, settings)
    for name in _LATE:
        import_module(name)


def _packed(names: Iterable[str], roots: Collection[str]) -> Pack:
    """The modules that were found as files where Python looks last. Those of the services stand before, and change."""
    from importlib.machinery import SourceFileLoader

    found: Pack = {}
    for name in sorted(names):
        spec: Any = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None or spec.name != name or not isinstance(spec.loader, SourceFileLoader):
            continue
        is_package = spec.submodule_search_locations is not None
        depth = name.count(".") + is_package
        if str(Path(spec.origin).parents[depth]) in roots:
            code = marshal.dumps(spec.loader.get_code(name))
            found[name] = (spec.origin, *stamp_of(spec.origin), is_package), code
    return found


def _written(services: Sequence[str], roots: list[str], packed: Pack) -> Path:
    """Writes the pack, whole or not at all; returns where. Raises ConfigurationError."""
    place = Path(place_of(services))
    try:
        place.parent.mkdir(exist_ok=True)
        new = place.with_suffix(".new")
        new.write_bytes(_bytes_of(roots, packed))
        new.replace(place)
    except OSError as error:
        problem = (
            f"The pack cannot be written to {place}: {error.strerror}. "
            "Run `torpor compile` when the image is built, as the user who has installed Torpor."
        )
        raise ConfigurationError([problem]) from error
    return place


def _bytes_of(roots: list[str], packed: Pack) -> bytes:
    """The codes, the index of them, and where that begins."""
    codes = b"".join(code for _, code in packed.values())
    index, at = {}, 0
    for name, (state, code) in packed.items():
        index[name] = (*state, at, at + len(code))
        at += len(code)
    told: Any = key_of(roots), roots, index
    return codes + marshal.dumps(told) + at.to_bytes(8, "little") + MARK
