"""The files that everything is measured on, and how they are changed. ``python -m benchmarks.corpus FOLDER`` makes the
real corpus from Debian's documentation packages, where there is apt."""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

USUAL = 2_000  # documents of the usual subset: the first by name
LEAST_BYTES, MOST_BYTES = 1_000, 400_000
FIRST_MTIME, MTIME_STEP_S = 1_700_000_000, 3_600
SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".html", ".json", ".c", ".h", ".js"}
TINY_FOLDERS = 100

PACKAGES = ("git-doc", "linux-doc-6.1", "postgresql-doc-15", "python-django-doc", "python3.11-doc", "rust-doc")
PAGES = 10_000
LEAST_HTML_BYTES = 1_500
LEAST_TEXT_CHARS = 200
NOT_PAGES = re.compile(r"/(genindex|search|py-modindex)\b|/rust.*/(core_arch|core_simd|arch|src)/")
MAIN = ("main", "div[role=main]", "#main-content", "div.document", "article", "div.body", "#content", "body")
LEFT_OUT = "script, style, nav, footer, a.headerlink"
BLOCKS = {"p", "div", "section", "ul", "ol", "dl", "dt", "dd", "table", "tr", "blockquote", "article", "main", "br"}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files in the order of their names; ``label`` says for readers what they are."""

    label: str
    files: Sequence[tuple[str, Path]]

    def copy(self, into: Path, count: int | None = None) -> list[Path]:
        """Copy the first files into a new folder, their times set so that they rise from file to file."""
        into.mkdir(mode=0o755)
        copies = []
        for n, (name, path) in enumerate(self.files[:count]):
            copies.append(into / name)
            shutil.copyfile(path, copies[-1])
            os.utime(copies[-1], (mtime(n), mtime(n)))
        return copies

    def described(self, count: int) -> str:
        size = sum(path.stat().st_size for _, path in self.files[:count])
        return f"{min(count, len(self.files)):,} documents, {size / 1e6:.1f} MB"


def mtime(n: int) -> int:
    return FIRST_MTIME + n * MTIME_STEP_S


def load() -> Corpus:
    """``BENCH_CORPUS``, or else what every machine has. Raises ``OSError`` where that folder cannot be read."""
    folder = os.environ.get("BENCH_CORPUS")
    if not folder:
        return _fallback()
    files = [(path.name, path) for path in sorted(Path(folder).iterdir()) if path.suffix == ".md"]
    if not files:
        raise FileNotFoundError("BENCH_CORPUS holds no .md files")
    digest = hashlib.sha256()
    for _, path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Corpus(f"Markdown documents of BENCH_CORPUS, sha256 {digest.hexdigest()[:16]}", files)


def edit(files: Sequence[Path], count: int, *, seed: int) -> list[tuple[Path, str]]:
    """Add a line to so many random files; each with the word that is now in it alone."""
    edited = []
    for path in random.Random(seed).sample(list(files), count):
        word = f"EDIT_{seed}_{hashlib.sha1(path.name.encode()).hexdigest()[:10].upper()}"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\nA line that the benchmark added: {word}\n")
        edited.append((path, word))
    return edited


def tiny(into: Path, count: int) -> None:
    """Make so many files of some hundred bytes, in ``TINY_FOLDERS`` folders."""
    words = ("harbor", "engine", "violet", "ledger", "summit", "copper", "lantern", "orchard", "signal", "meadow")
    chance = random.Random(5)
    for n in range(count):
        folder = into / f"{n % TINY_FOLDERS:03}"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, k=chance.randrange(20, 80)))
        (folder / f"{n:06}.txt").write_text(f"Note {n}. {text}.\n")


def _fallback() -> Corpus:
    """The standard library and the installed packages: sources and docs, by the hash of their names."""
    found: dict[str, Path] = {}
    for label, root in (("stdlib", sysconfig.get_path("stdlib")), ("packages", sysconfig.get_path("purelib"))):
        for path in _walk(root):
            inside = path.relative_to(root)
            if inside.suffix in SUFFIXES and not {"site-packages", "__pycache__", "__editable__"} & set(inside.parts):
                found[f"{label}/{inside}"] = path
    order = sorted(found, key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    files: list[tuple[str, Path]] = []
    for name in order:
        path = found[name]
        if LEAST_BYTES <= path.stat().st_size <= MOST_BYTES and _is_text(path):
            files.append((f"{len(files):05}-{_slug(name)}{path.suffix}", path))
            if len(files) == USUAL:
                break
    return Corpus("FALLBACK: sources and docs of Python and of the installed packages (no BENCH_CORPUS was set)", files)


def _is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False


def _walk(root: str | Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if not os.path.islink(os.path.join(folder, name)))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.rpartition(".")[0].lower())[-60:].strip("-")


def make_corpus(into: Path) -> int:
    """Download the packages and write their pages as Markdown, named by hash order, so that each prefix is a fair
    sample. Returns how many. Raises ``FileNotFoundError`` where there is no apt."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FileNotFoundError("the real corpus is made from Debian packages: apt-get and dpkg-deb are needed")
    into.mkdir(parents=True)
    pages: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="airweave-corpus-") as place:
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=place, check=True)
        for archive in Path(place).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, Path(place, "x")], check=True)
        root = Path(place, "x")
        paths = [path for path in _walk(root) if path.suffix == ".html" and not NOT_PAGES.search(str(path))]
        # rustdoc has far more pages than all others: it fills up what they leave
        paths.sort(key=lambda path: ("rust" in str(path.relative_to(root)), _hash(path.relative_to(root))))
        for path in paths:
            if len(pages) == PAGES:
                break
            if LEAST_HTML_BYTES <= path.stat().st_size <= MOST_BYTES:
                text = markdown(path.read_text(encoding="utf-8", errors="replace"))
                if len(text) >= LEAST_TEXT_CHARS:
                    inside = path.relative_to(root)
                    pages.setdefault(hashlib.sha1(text.encode()).hexdigest(), (_hash(inside), f"{inside}\0{text}"))
    for n, (_, page) in enumerate(sorted(pages.values())):
        name, _, text = page.partition("\0")
        (into / f"{n:05}-{_slug(name)}.md").write_text(text, encoding="utf-8")
    return len(pages)


def markdown(html: str) -> str:
    """The main part of a page: headings, lists, code and tables marked, all else as plain paragraphs."""
    tree = LexborHTMLParser(html)
    for node in tree.css(LEFT_OUT):
        node.decompose()
    main = next(filter(None, (tree.css_first(selector) for selector in MAIN)), None)
    text = _written(main) if main is not None else ""
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"\n\s*\n+", "\n\n", text)).strip() + "\n"


def _written(node: LexborNode) -> str:
    tag = node.tag or ""
    if tag == "-text":
        return re.sub(r"\s+", " ", node.text(deep=False))
    if tag == "pre":
        return f"\n\n```\n{node.text().strip(chr(10))}\n```\n\n"
    inside = "".join(_written(child) for child in node.iter(include_text=True))
    if re.fullmatch(r"h[1-6]", tag):
        return f"\n\n{'#' * int(tag[1])} {' '.join(inside.split())}\n\n"
    if tag == "li":
        return f"\n* {inside.strip()}\n"
    if tag in ("td", "th"):
        return f"{' '.join(inside.split())} | "
    if tag == "code":
        return f"`{inside}`"
    return f"\n\n{inside}\n\n" if tag in BLOCKS else inside


def _hash(path: Path) -> str:
    return hashlib.sha1(str(path).encode()).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.corpus FOLDER   (a new one; then set BENCH_CORPUS to it)")
    print(make_corpus(Path(sys.argv[1])), "documents")
