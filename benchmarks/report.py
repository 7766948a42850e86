"""What a benchmark tells: a text for people, and the bars that it is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = "\N{MULTIPLICATION SIGN}"


class Bar:
    """A figure that must be reached (`>=`) or kept to (`<=`)."""

    __slots__ = ("figure", "is_least", "name", "unit", "wanted")

    def __init__(self, name: str, figure: float, *, least: float | None = None, most: float | None = None,
                 unit: str = TIMES) -> None:  # fmt: skip
        wanted = least if least is not None else most
        if wanted is None:
            raise ValueError(f"Bar {name!r} has neither least= nor most=.")
        self.name = name
        self.figure = figure
        self.wanted = wanted
        self.is_least = least is not None
        self.unit = unit

    @property
    def is_met(self) -> bool:
        """Whether the figure is good enough."""
        return self.figure >= self.wanted if self.is_least else self.figure <= self.wanted

    @property
    def told(self) -> str:
        """The figure and its unit."""
        return amount(self.figure, self.unit)

    @property
    def asked(self) -> str:
        """What is wanted."""
        return f"{'≥' if self.is_least else '≤'} {amount(self.wanted, self.unit)}"

    def record(self) -> dict[str, Any]:
        """Itself as JSON."""
        return {
            "name": self.name,
            "figure": round(self.figure, 4),
            "least" if self.is_least else "most": self.wanted,
            "unit": self.unit,
        }

    @classmethod
    def read(cls, record: dict[str, Any]) -> Bar:
        """A bar from its record."""
        return cls(
            record["name"],
            record["figure"],
            least=record.get("least"),
            most=record.get("most"),
            unit=record["unit"],
        )


class Report:
    """What one benchmark has found."""

    __slots__ = ("bars", "text")

    def __init__(self, text: str, bars: Sequence[Bar] = ()) -> None:
        self.text = text
        self.bars = list(bars)


def amount(figure: float, unit: str) -> str:
    """A figure as people write it."""
    number = f"{figure:.2f}" if figure < 10 else f"{figure:,.0f}"
    return f"{number}{unit}" if unit in {TIMES, "%"} else f"{number} {unit}".rstrip()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(columns)} |", "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def bars_table(bars: Sequence[Bar]) -> str:
    """The bars and whether they are met."""
    rows = [(bar.name, bar.asked, bar.told, "yes" if bar.is_met else "**no**") for bar in bars]
    return table(("bar", "wanted", "measured", "met"), rows)
