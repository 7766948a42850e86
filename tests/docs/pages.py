"""The pages of the documentation, taken apart: their headings, links, code blocks and tables."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+)(?P<info>.*)$")
_TITLE = re.compile(r"\btitle=(\S+)")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$")
_SPAN = re.compile(r"`([^`]+)`")


class Block:
    """A fenced block. `line` is that of its first line of text; `title` is the file that it shows, if it says so."""

    def __init__(self, page: Page, *, line: int, info: str, text: str, before: str) -> None:
        self.page = page
        self.line = line
        self.language = info.split(maxsplit=1)[0] if info.split() else ""
        self.text = text
        title = _TITLE.search(info)
        self.title = title[1] if title else None
        mark = _NOT_RUN.fullmatch(before.strip())
        self.not_run = mark["reason"] if mark else None

    def __repr__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def padded(self) -> str:
        """The text below as many empty lines as stand above it in the page, so that tracebacks tell its line."""
        return "\n" * (self.line - 1) + self.text


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The fenced blocks, in order."""
        return tuple(self._blocks())

    @property
    def examples(self) -> tuple[Block, ...]:
        """The Python blocks that CI runs."""
        return tuple(block for block in self.blocks if block.language == "python" and block.not_run is None)

    @cached_property
    def prose(self) -> str:
        """The text without fenced blocks and comments."""
        lines = self.text.splitlines()
        for block in self.blocks:
            for number in range(block.line - 2, block.line + block.text.count("\n")):
                lines[number] = ""
        return _COMMENT.sub("", "\n".join(lines))

    @property
    def links(self) -> list[str]:
        """The targets of links."""
        return _LINK.findall(_SPAN.sub("", self.prose))

    @property
    def headings(self) -> list[str]:
        """The headings' texts, without markup."""
        return [match[1].replace("`", "") for line in self.prose.splitlines() if (match := _HEADING.match(line))]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after `#`."""
        return {anchor_of(heading) for heading in self.headings}

    @property
    def spans(self) -> list[str]:
        """The texts of inline code."""
        return _SPAN.findall(self.prose)

    def commands(self) -> Iterator[str]:
        """What the page tells to type: the lines of consoles and shells, and inline code."""
        for block in self.blocks:
            if block.language == "console":
                yield from (line[2:] for line in block.text.splitlines() if line.startswith("$ "))
            elif block.language in {"sh", "bash", "shell"}:
                yield from block.text.splitlines()
        yield from self.spans

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next of any level."""
        lines = self.prose.splitlines()
        starts = [n for n, line in enumerate(lines) if _HEADING.match(line)]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            if lines[start].lstrip("# ").replace("`", "") == heading:
                return "\n".join(lines[start + 1 : end]).strip()
        raise LookupError(f"{self} has no heading {heading!r}.")

    def _blocks(self) -> Iterator[Block]:
        lines = self.text.splitlines()
        number = 0
        while number < len(lines):
            opening = _FENCE.match(lines[number])
            if opening is None:
                number += 1
                continue
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == opening["marks"])
            indent = len(opening["indent"])
            text = "".join(line[indent:] + "\n" for line in lines[number + 1 : end])
            before = next((line for line in reversed(lines[:number]) if line.strip()), "")
            yield Block(self, line=number + 2, info=opening["info"], text=text, before=before)
            number = end + 1


def pages() -> list[Page]:
    """The pages at the root, in docs/, and of what is deployed and watched."""
    named = ("README.md", "CHANGELOG.md", "deploy/compose/README.md", "observability/README.md")
    return [Page(path) for path in (*(ROOT / name for name in named), *sorted((ROOT / "docs").rglob("*.md")))]


def page_at(name: str) -> Page:
    """The page of a path from the root."""
    return Page(ROOT / name)


def anchor_of(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    found: list[list[str]] = []
    is_body = False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_body = False
        elif re.fullmatch(r"[|:\- ]+", line):
            is_body = True
        elif is_body:
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found
