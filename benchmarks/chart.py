"""The bars as a picture: how far each figure is from what is wanted, in plain SVG that reads on light and on dark."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.report import Bar

_WIDTH = 900
_LEFT = 330  # where the drawing begins
_DRAWN = 330  # how wide it is
_ROW = 24
_HEAD = 34
_FURTHEST = 4.0  # times better or worse than wanted, at the ends
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.dim { fill: #57606a; }
.met { fill: #1a7f37; }
.missed { fill: #bc4c00; }
line { stroke: #8c959f; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .dim { fill: #9198a1; }
  .met { fill: #3fb950; }
  .missed { fill: #f0883e; }
}
"""


def chart(sections: Mapping[str, Sequence[Bar]]) -> str:
    """An SVG of all bars by their benchmark. The dashed line is what is wanted; to its right is better."""
    drawn = [(name, bars) for name, bars in sections.items() if bars]
    height = sum(_HEAD + _ROW * len(bars) for _, bars in drawn) + 50
    middle = _LEFT + _DRAWN // 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>What the benchmarks measured beside what is wanted</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="{middle}" y="20" text-anchor="middle" class="dim">worse ← wanted → better</text>',
        f'<line x1="{middle}" y1="28" x2="{middle}" y2="{height - 14}"/>',
    ]
    y = 30
    for name, bars in drawn:
        lines.append(f'<text x="12" y="{y + 20}" class="title">{escape(name)}</text>')
        y += _HEAD
        for bar in bars:
            lines += _row(bar, y, middle)
            y += _ROW
    return "\n".join([*lines, "</svg>", ""])


def _row(bar: Bar, y: int, middle: int) -> list[str]:
    """One bar: from the line of what is wanted to the figure, on a scale of ratios."""
    length = round(reach(bar) * _DRAWN / 2)
    start = middle if length >= 0 else middle + length
    kind = "met" if bar.is_met else "missed"
    told = f"{bar.told} (wanted {bar.asked}) {'✓' if bar.is_met else '✗'}"
    return [
        f'<text x="{_LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect x="{start}" y="{y + 2}" width="{max(2, abs(length))}" height="15" rx="2" class="{kind}"/>',
        f'<text x="{_LEFT + _DRAWN + 12}" y="{y + 13}" class="{kind}">{escape(told)}</text>',
    ]


def reach(bar: Bar) -> float:
    """How far a figure is from what is wanted: 0 at it, 1 when much better, -1 when much worse."""
    if not bar.wanted or not bar.figure:
        return 1.0 if bar.is_met else -1.0
    times = bar.figure / bar.wanted if bar.is_least else bar.wanted / bar.figure
    return max(-1.0, min(1.0, math.log(times) / math.log(_FURTHEST)))
