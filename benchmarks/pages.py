"""Pages of unpacked documentation packages as Markdown: ``python pages.py UNPACKED FOLDER``.

Runs in a virtual environment of its own: imports nothing of this project.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import html_to_markdown
from selectolax.lexbor import LexborHTMLParser

PAGES = 10_000
LEAST_HTML_BYTES, MOST_HTML_BYTES = 1_500, 400_000
LEAST_TEXT_CHARS = 200
FILLS_UP = "rust-doc"  # it has far more pages than all others
NOT_PAGES = re.compile(r"/(genindex|search|py-modindex)\b")
NOT_PAGES_OF_RUST = re.compile(r"/(core_arch|core_simd|arch|src)/")
MAIN = (
    "main",
    "div[role=main]",
    "div.document",
    "section#main-content",
    "article",
    "div.body",
    "#content",
    "body",
)
LEFT_OUT = "script, style, nav, header.nav, footer, a.headerlink"
SLUG_CHARS = 60


def main(unpacked: Path, into: Path) -> None:
    """Write the pages, named in order of the hashes of their paths, so that each prefix is a fair sample. Of pages with
    the same text, only the first is written."""
    pages: dict[str, tuple[str, str, str]] = {}
    for path in _candidates(unpacked):
        if len(pages) == PAGES:
            break
        text = markdown(path.read_text(encoding="utf-8", errors="replace"))
        if len(text) >= LEAST_TEXT_CHARS:
            inside = str(path.relative_to(unpacked))
            pages.setdefault(hashlib.sha1(text.encode()).hexdigest(), (_order(inside), inside, text))
    for n, (_, inside, text) in enumerate(sorted(pages.values())):
        slug = re.sub(r"[^a-z0-9]+", "-", inside.lower())[-SLUG_CHARS:].strip("-")
        (into / f"{n:05}-{slug}.md").write_bytes(text.encode())


def markdown(html: str) -> str:
    """The main part of a page."""
    tree = LexborHTMLParser(html)
    for node in tree.css(LEFT_OUT):
        node.decompose()
    main = next(filter(None, (tree.css_first(selector) for selector in MAIN)), None)
    converted = html_to_markdown.convert(html if main is None else main.html)
    return (converted.content or "").strip() + "\n"


def _candidates(unpacked: Path) -> Iterator[Path]:
    """The pages of all packages, ordered by the hashes of their paths; those of ``FILLS_UP`` come last."""
    for package in sorted(unpacked.iterdir()):
        if package.name != FILLS_UP:
            yield from _pages(package)
    yield from sorted(_pages(unpacked / FILLS_UP), key=lambda path: _order(str(path.relative_to(unpacked))))


def _pages(package: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(package):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names) if name.endswith(".html")):
            inside = f"/{path.relative_to(package)}"
            if path.is_symlink() or NOT_PAGES.search(inside):
                continue
            if package.name == FILLS_UP and NOT_PAGES_OF_RUST.search(inside):
                continue
            if LEAST_HTML_BYTES <= path.stat().st_size <= MOST_HTML_BYTES:
                yield path


def _order(inside: str) -> str:
    return hashlib.sha1(f"/x/{inside}".encode()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
