"""The results of a benchmark: figures with their spread, in tables, as Markdown. Measures nothing."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """One table. ``bounded by`` is an ordinary column, so that no figure stands without its reason."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        assert len(cells) == len(self.columns), (self.title, cells)
        self.rows.append(cells)

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * len(self.columns)), *map(_line, self.rows), ""]
        if self.notes:
            lines += [*(f"* {note}" for note in self.notes), ""]
        return "\n".join(lines)


def spread(values: Iterable[float], *, digits: int = 1) -> str:
    """The median with minimum and maximum, as in ``5.2 (5.0-6.1)``; a single value is marked as one run."""
    found = sorted(values)
    if not found:
        return "-"
    if len(found) == 1:
        return f"{number(found[0], digits)} (1 run)"
    median = number(statistics.median(found), digits)
    return f"{median} ({number(found[0], digits)}-{number(found[-1], digits)})"


def number(value: float, digits: int = 1) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of unsorted values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
