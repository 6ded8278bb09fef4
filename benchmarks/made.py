"""Labelled collections that are made here, from what every installation has: Python's standard library.

summaries    the first line of a docstring is the question, and the rest of it the document
headings     the heading of a section of documentation is the question, and the section without it the document
constraints  the same text in several files of other months and kinds, and a question that names one of them
"""

import ast
import inspect
import os
import random
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import TypeVar

from .labelled import Labelled

QUESTIONS = 250  # of one collection, at most
LEAST_CHARS = 200  # of a document
SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
COPIES = 3  # of each text among the constraints
KINDS = {"md": "markdown file", "csv": "csv file", "txt": ""}
SEED = 17

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dated(Labelled):
    """A collection whose files have names and times of their own. The names are without their endings in ``texts``."""

    endings: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, datetime] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        for name, text in self.texts.items():
            path = folder / f"{name}.{self.endings[name]}"
            path.write_text(text, encoding="utf-8")
            at = self.times[name].timestamp()
            os.utime(path, (at, at))


def load(*, quick: bool) -> list[Labelled]:
    """The collections that are made here."""
    made = [summaries(), headings(), constraints()]
    return [one.shortened() if not isinstance(one, Dated) else one for one in made] if quick else made


def summaries() -> Labelled:
    pairs = [(first, rest) for first, rest in _docstrings() if len(rest) >= LEAST_CHARS and len(first.split()) >= 4]
    return _known_items("summaries", pairs)


def headings() -> Labelled:
    return _known_items("headings", [pair for pair in _sections() if len(pair[1]) >= LEAST_CHARS])


def constraints() -> Labelled:
    chance = random.Random(SEED)
    pairs = [(first, rest) for first, rest in _docstrings() if len(rest) >= LEAST_CHARS and len(first.split()) >= 4]
    texts: dict[str, str] = {}
    endings: dict[str, str] = {}
    times: dict[str, datetime] = {}
    queries: list[str] = []
    grades: list[Mapping[str, float]] = []
    for n, (first, rest) in enumerate(_spread(pairs, QUESTIONS)):
        months = chance.sample(range(12), COPIES)
        kinds = chance.sample(list(KINDS), COPIES)
        names = [f"note-{n:04}-{k}" for k in range(COPIES)]
        for name, month, kind in zip(names, months, kinds, strict=True):
            texts[name], endings[name] = rest, kind
            times[name] = datetime(2023, month + 1, 1 + chance.randrange(27), 12, tzinfo=UTC)
        wanted = chance.randrange(COPIES)
        query = first.rstrip(".")
        if n % 2 and KINDS[kinds[wanted]]:
            queries.append(f"the {KINDS[kinds[wanted]]} that says: {query}")
        else:
            queries.append(f"{query}, in {MONTHS[months[wanted]]} 2023")
        grades.append({names[wanted]: 1.0})
    return Dated("constraints", texts, queries, grades, endings, times)


def _known_items(name: str, pairs: Sequence[tuple[str, str]]) -> Labelled:
    """All documents, and the questions of some of them."""
    texts = {f"{n:05}": f"{rest}\n" for n, (_, rest) in enumerate(pairs)}
    asked = _spread(list(enumerate(pairs)), QUESTIONS)
    grades = [{f"{n:05}": 1.0} for n, _ in asked]
    return Labelled(name, texts, [first for _, (first, _) in asked], grades)


def _spread(found: Sequence[T], most: int) -> list[T]:
    step = max(1, len(found) // most)
    return list(found[::step][:most])


def _docstrings() -> list[tuple[str, str]]:
    """The first lines and the rest of the docstrings of the standard library, each rest once."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        if any(part in SKIPPED for part in path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                said = ast.get_docstring(node)
                if said and "\n\n" in said:
                    first, _, rest = said.partition("\n\n")
                    first = " ".join(first.split())
                    if first.lower() not in rest.lower():  # else anything finds it
                        found.setdefault(inspect.cleandoc(rest), first)
    return [(first, rest) for rest, first in found.items()]


def _sections() -> Iterator[tuple[str, str]]:
    """The headings and sections of the descriptions of the installed packages."""
    for package in sorted(distributions(), key=lambda one: str(one.metadata["Name"]).lower()):
        body = package.metadata.get_payload() or package.metadata.get("Description") or ""
        name = str(package.metadata["Name"])
        parts = re.split(r"^#{1,4} +(.+)$", textwrap.dedent(str(body)), flags=re.MULTILINE)
        for heading, section in zip(parts[1::2], parts[2::2], strict=True):
            plain = re.sub(r"[`*_#\[\]()]|https?://\S+", " ", heading)
            if len(plain.split()) >= 2:
                yield f"{name}: {' '.join(plain.split())}", section.strip()


if __name__ == "__main__":
    for made in load(quick=False):
        sys.stdout.write(f"{made.name}: {len(made.texts)} documents, {len(made.queries)} questions\n")
