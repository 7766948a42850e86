"""What `torpor compile` has packed: the code of modules, read from one file in place of hundreds.

A module is taken from the pack only as Python itself would find it now: from the same file, unchanged since, and with
no other module of the name before it. Everything else is imported as ever.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import SourceFileLoader, spec_from_file_location
from zlib import crc32

TYPE_CHECKING = False  # `typing` comes later
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType

    # By the name of a module: its file, when that was changed, its size, whether it is a package, and where its code
    # begins and ends.
    Index = Mapping[str, tuple[str, int, int, bool, int, int]]

MARK = b"torpor 1"  # the end of a pack, behind eight bytes that tell where the index begins
_END = 8 + len(MARK)


class PackedLoader(SourceFileLoader):
    """Loads a module from its code in the pack. All but the first loading goes to the file."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code: bytes | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        """The code, as the pack has it."""
        code, self._code = self._code, None
        if code is None:
            return super().get_code(fullname)
        found: CodeType = marshal.loads(code)
        return found


class PackedFinder:
    """Finds modules in a pack, which stays open."""

    def __init__(self, pack: int, index: Index, roots: Sequence[str]) -> None:
        self._pack = pack
        self._index = dict(index)
        self._roots = list(roots)  # where Python looks last, and where the modules were found
        self._before: dict[str, frozenset[str]] = {}  # what stands in the folders before them

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """A module of the pack, while its file is as it was."""
        packed = self._index.pop(name, None)
        if packed is None:
            return None
        file, changed, size, is_package, begin, end = packed
        try:
            if stamp_of(file) != (changed, size) or (path is None and self._is_behind(name)):
                return None
            code = os.pread(self._pack, end - begin, begin)
        except OSError:
            return None
        places = [os.path.dirname(file)] if is_package else None  # `pathlib` is not loaded here
        return spec_from_file_location(
            name, file, loader=PackedLoader(name, file, code), submodule_search_locations=places
        )

    def _is_behind(self, name: str) -> bool:
        """Whether another module of the name may come before."""
        first = len(sys.path) - len(self._roots)
        if first < 0 or sys.path[first:] != self._roots:
            return True
        return any(name in self._names_in(folder) for folder in sys.path[:first])

    def _names_in(self, folder: str) -> frozenset[str]:
        names = self._before.get(folder)
        if names is None:
            try:
                files = os.listdir(folder or ".")
            except OSError:
                files = []
            names = self._before[folder] = frozenset(file.partition(".")[0] for file in files)
        return names


def install(argv: Sequence[str]) -> None:
    """Has modules found in the pack of the services that are named, if there is one that fits."""
    found = opened(services_in(argv))
    if found is not None:
        sys.meta_path.insert(2, PackedFinder(*found))  # behind what is built in and what is frozen


def opened(services: Sequence[str]) -> tuple[int, Index, Sequence[str]] | None:
    """The pack of services, what it holds and where that was found; None unless there is one for this interpreter and
    what is installed now."""
    try:
        pack = os.open(place_of(services), os.O_RDONLY)
    except OSError:
        return None
    try:
        size = os.lseek(pack, 0, os.SEEK_END)
        number, mark = os.pread(pack, 8, size - _END), os.pread(pack, len(MARK), size - len(MARK))
        begin = int.from_bytes(number, "little")
        if mark != MARK or begin > size:
            raise ValueError(mark)
        key, roots, index = marshal.loads(os.pread(pack, size - _END - begin, begin))
        if key == key_of(roots) and sys.path[len(sys.path) - len(roots) :] == roots:
            return pack, index, roots
    except (OSError, ValueError, EOFError, TypeError):
        pass  # it is broken
    os.close(pack)
    return None


def services_in(argv: Sequence[str]) -> list[str]:
    """The services that the arguments of `torpor run` name."""
    words, found = iter(argv), []
    for word in words:
        if not word.startswith("-"):
            found.append(word)
        elif "=" not in word:
            next(words, None)
    return found


def place_of(services: Sequence[str]) -> str:
    """Where the pack of services is: beside what Python has compiled of Torpor."""
    package = os.path.dirname(os.path.dirname(__file__))
    number = crc32(" ".join(services).encode("utf-8", "replace"))
    return f"{package}/__pycache__/start-{number:08x}.{sys.implementation.cache_tag}.pack"


def key_of(roots: Sequence[str]) -> tuple[str, int, list[int]]:
    """What a pack is valid for: the interpreter, and what lies in the folders in which it finds modules."""
    return sys.version, sys.flags.optimize, [stamp_of(root)[0] if os.path.isdir(root) else 0 for root in roots]


def stamp_of(file: str) -> tuple[int, int]:
    """When a file was changed, in seconds, which is all that an image keeps; and its size."""
    found = os.stat(file)
    return int(found.st_mtime), found.st_size
