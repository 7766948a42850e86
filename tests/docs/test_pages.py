"""What the pages say is so: their links, commands, settings, metrics and names."""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

import torpor
from tests.docs.pages import ROOT, Page, page_at, pages, rows
from torpor.kernel import errors
from torpor.runtime import settings
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATING = page_at("docs/operating.md")
MOST_LINES_OF_THE_FIRST_EXAMPLE = 30

_COMMAND = re.compile(r"(?:^|[\s/])torpor ((?:-|[a-z]).*)")
_CODE = re.compile(r"`([^`]+)`")


class Seen(torpor.Event, topic="seen"):
    """What a service may listen to."""


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def settings_rows() -> dict[str, str]:
    """The variables in the table of settings, with their defaults."""
    return {_CODE.findall(name)[0]: default for name, default, _ in rows(OPERATING.section("Settings"))}


def commands(page: Page) -> Iterator[list[str]]:
    """The words after `torpor` wherever the page tells to type it."""
    for line in page.commands():
        for part in line.split("&&"):
            command = _COMMAND.search(part)
            if command:
                yield shlex.split(command[1], comments=True)


@pytest.mark.parametrize("page", pages(), ids=repr)
def test_every_link_leads_somewhere(page: Page) -> None:
    """A relative link names a file of the repository, and a heading that is there."""
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{page} links to {link}"
        assert ROOT in target.parents, f"{page} links out of the repository: {link}"
        assert not anchor or anchor in Page(target).anchors, f"{page} links to {link}; it has {Page(target).anchors}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is an orphan."""
    reached = {ROOT / "README.md"}
    left = list(reached)
    while left:
        here = left.pop()
        links = {(here.parent / link.partition("#")[0]).resolve() for link in Page(here).links if ":" not in link}
        new = {path for path in links if path.suffix == ".md"} - reached
        reached |= new
        left += new
    assert {page.path for page in pages()} <= reached


@pytest.mark.parametrize("page", [page for page in pages() if any(commands(page))], ids=repr)
def test_every_command_exists(page: Page) -> None:
    """Each `torpor …` that a page tells to type is a command, and its options are options of it."""
    from torpor.cli.application import app
    from torpor.cli.production import parser

    run_options = {option for action in parser()._actions for option in action.option_strings}
    for words in commands(page):
        told = f"{page}: torpor {' '.join(words)}"
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            name = words.pop(0)
            assert name in command.commands, told
            command = command.commands[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help"} | (run_options if command.name in {"run", "keeper"} else set())
        assert {word for word in words if word.startswith("-")} <= known, f"{told}; it knows {sorted(known)}"


def test_every_command_is_in_the_table() -> None:
    """The table of commands has all that `torpor --help` shows."""
    from torpor.cli.application import app

    told = {span.split()[1] for span in OPERATING.spans if span.startswith("torpor ")}
    shown: Any = typer.main.get_command(app)
    assert {name for name, command in shown.commands.items() if not command.hidden} <= told


def test_the_settings_are_those_of_the_table() -> None:
    """Every variable that Torpor reads is in the table, nothing else is, and the defaults are right."""
    environment = Asked()
    defaults = Settings.read(environment)
    table = settings_rows()
    assert environment.names | settings._OTHERS == set(table)
    fields = {
        "PORT": "http_port",
        "TORPOR_HTTP_BODY_LIMIT": "body_limit",
        "TORPOR_BROKER_URL_FILE": "broker_url",
        "TORPOR_DATABASE_URL_FILE": "database_url",
    }
    for name in environment.names:
        value = getattr(defaults, fields.get(name, name.removeprefix("TORPOR_").lower()))
        shown = "none" if value in (None, frozenset()) else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
        assert table[name] == shown, name


def test_every_variable_that_a_page_names_exists() -> None:
    """A page names no setting that Torpor does not have. (An example may show what a wrong one is answered with.)"""
    for page in pages():
        shown = [page.prose, *(block.text for block in page.blocks if block.language != "python")]
        named = set(re.findall(r"\bTORPOR_[A-Z_]*[A-Z]\b", "\n".join(shown)))
        assert named <= set(settings_rows()), page


def test_the_metrics_are_those_of_the_table() -> None:
    """The table of metrics has all that a service exposes, with their labels, and no more."""
    from torpor import Cached, Limit, Service
    from torpor.testing import TestShop

    watched = Service("watched")

    @watched.on(Seen)
    async def note(event: Seen) -> None: ...

    @watched.get("/", rules=[Cached(1), Limit(1)])
    async def look() -> None: ...

    async def exposed() -> str:
        async with TestShop(watched) as shop:
            await shop.get("/")
            await shop.clock.advance(10)
            return (await shop.get("/-/metrics")).text

    found: dict[str, set[str]] = {}
    for line in asyncio.run(exposed()).splitlines():
        sample = re.match(r"(torpor_\w+){(.*)}", line)
        if sample:
            name = re.sub(r"_(bucket|count|sum|created)$", "", sample[1])
            found.setdefault(name, set()).update(set(re.findall(r'(\w+)="', sample[2])) - {"le"})
    table = rows(OPERATING.section("Metrics"))
    assert {_CODE.findall(name)[0]: set(_CODE.findall(labels)) for name, labels, _ in table} == found


def test_the_paths_of_health_answer() -> None:
    """Each path of the table of health is answered."""
    from torpor import Service
    from torpor.testing import TestShop

    paths = [_CODE.findall(path)[0] for path, _ in rows(OPERATING.section("Health"))]

    async def answers() -> dict[str, int]:
        async with TestShop(Service("healthy")) as shop:
            return {path: (await shop.get(path)).status_code for path in paths}

    assert set(asyncio.run(answers()).values()) == {200}


def test_the_reference_has_every_public_name() -> None:
    """Each name of `torpor` has its heading in the reference, with a sentence and an example."""
    reference = page_at("docs/reference.md")
    headings = [heading.replace("\\", "") for heading in reference.headings]
    assert set(torpor.__all__) <= set(headings)
    for heading, name in zip(reference.headings, headings, strict=True):
        if name in torpor.__all__:
            assert "." in reference.section(heading), name
            assert any(re.search(rf"\b{name}\b", block.text) for block in reference.examples), name


def test_the_reference_has_every_error() -> None:
    """Each error that Torpor raises is in the table of errors."""
    known = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TorporError) and value is not errors.TorporError
    }
    table = {_CODE.findall(row[0])[0] for row in rows(page_at("docs/reference.md").section("Errors"))}
    assert table == known


def test_the_harness_is_told_whole() -> None:
    """The table of `TestShop` has all its public names, and no other."""
    from torpor.testing import TestShop

    shop = TestShop()
    public = {name for name in dir(shop) if not name.startswith("_")}
    cells = [row[0] for row in rows(page_at("docs/testing.md").section("TestShop"))]
    assert {span.partition("(")[0] for cell in cells for span in _CODE.findall(cell)} == public


def test_the_glossary_has_each_word_once_in_order() -> None:
    """The words stand in the order of the alphabet, each once."""
    words = [re.sub(r"\W", "", row[0].partition("**,")[0]).lower() for row in rows(page_at("docs/glossary.md").prose)]
    assert words == sorted(set(words))


def test_every_decision_is_listed() -> None:
    """The decisions' table of contents names each page, and each page has its three parts."""
    folder = ROOT / "docs" / "decisions"
    listed = set(page_at("docs/decisions/README.md").links)
    files = {path for path in folder.glob("*.md") if path.name != "README.md"}
    assert {path.name for path in files} == listed
    for path in files:
        for part in ("**Context.**", "**Decision.**", "**Consequence.**"):
            assert part in path.read_text(encoding="utf-8"), f"{path.name} lacks {part}"


def test_the_readme_begins_with_a_whole_service() -> None:
    """After one sentence comes a service of at most thirty lines, whole."""
    readme = page_at("README.md")
    first = readme.examples[0]
    assert first.line < 10
    assert first.text.count("\n") <= MOST_LINES_OF_THE_FIRST_EXAMPLE
