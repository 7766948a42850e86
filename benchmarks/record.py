"""What was measured last: results.json for machines, and from it RESULTS.md and results.svg for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.chart import chart
from benchmarks.report import Bar, Report, bars_table

FOLDER = Path(__file__).parent
_HEAD = """# What the benchmarks said last

Written by `scripts/bench`. The machine is small and shared: read the ratios, and run it on yours.
Each section tells the machine and the day of its own run. Every way and every peer runs on uvloop, in turn, in one run.

![Each bar: what was measured beside what is wanted](results.svg)
"""


class Record:
    """The last result of each benchmark."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        file = folder / "results.json"
        self._sections: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}

    def keep(self, name: str, *, about: str, machine: str, report: Report) -> None:
        """Keeps one benchmark's result in place of the one before, and writes all the files anew."""
        self._sections[name] = {
            "about": about,
            "machine": machine,
            "text": report.text,
            "bars": [bar.record() for bar in report.bars],
        }
        self._sections = dict(sorted(self._sections.items()))
        (self._folder / "results.json").write_text(json.dumps(self._sections, indent=1, ensure_ascii=False) + "\n")
        (self._folder / "RESULTS.md").write_text(self.markdown())
        (self._folder / "results.svg").write_text(chart(self.bars()))

    def bars(self) -> dict[str, list[Bar]]:
        """All bars, by benchmark."""
        return {name: [Bar.read(bar) for bar in section["bars"]] for name, section in self._sections.items()}

    def markdown(self) -> str:
        """All results."""
        bars = self.bars()
        parts = [_HEAD]
        for name, section in self._sections.items():
            told = f"\n\n{bars_table(bars[name])}" if bars[name] else ""
            parts.append(f"## {name}\n\n{section['about']}\n\n{section['text']}{told}\n\n{section['machine']}\n")
        return "\n".join(parts)
