"""The benchmark corpus and changes to it. ``python -m benchmarks.corpus FOLDER`` creates the real corpus from Debian's
documentation packages, on machines with apt."""

import hashlib
import os
import random
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import environments
from .server import Unfit

USUAL = 2_000  # documents of the usual subset: the first by name
LEAST_BYTES, MOST_BYTES = 1_000, 400_000
FIRST_MTIME, MTIME_STEP_S = 1_700_000_000, 3_600
SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".html", ".json", ".c", ".h", ".js"}
MARKUP = {".html", ".json"}
TINY_FOLDERS = 100
SHAPES = ("ZQMARK{}", "zq-mark-{}", "zq_mark_{}.py", "zqMark{}Entry", "ZQ-{}-RAG", "zq.mark{}.core")
HEADS = ("brondel", "wexfar", "tulimp", "gostrav", "plenzik", "ravoth", "snubrel")
TAILS = ("ackin", "oveld", "imber", "uskan", "yttal")

# those that the figures are of: Debian 12 serves a package until the next security update of it
PACKAGES = {
    "git-doc": "1:2.39.5-0+deb12u3",
    "linux-doc-6.1": "6.1.176-1",
    "postgresql-doc-15": "15.18-0+deb12u1",
    "python-django-doc": "3:3.2.25-0+deb12u3",
    "python3.11-doc": "3.11.2-6+deb12u8",
    "rust-doc": "1.63.0+dfsg1-2",
}
CONVERTERS = {"html-to-markdown": "3.21.2", "selectolax": "1.0.2"}
MEASURED = "6edf8eb15d2aff48"  # the corpus of the published figures
STEP_S = 600.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files in order of their names; ``label`` describes them for readers."""

    label: str
    files: Sequence[tuple[str, Path]]
    digest: str = ""

    def copy(self, into: Path, count: int | None = None) -> list[Path]:
        """Copy the first files into a new folder, with times that increase from file to file."""
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
    """Load ``BENCH_CORPUS``, or files that every machine has. Raises ``OSError`` if the folder cannot be read."""
    folder = os.environ.get("BENCH_CORPUS")
    if not folder:
        return _fallback()
    return _read(Path(folder))


def _read(folder: Path) -> Corpus:
    files = [(path.name, path) for path in sorted(folder.iterdir()) if path.suffix == ".md"]
    if not files:
        raise FileNotFoundError("BENCH_CORPUS holds no .md files")
    whole = hashlib.sha256()
    for _, path in files:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    digest = whole.hexdigest()[:16]
    return Corpus(f"Markdown documents of BENCH_CORPUS, sha256 {digest}", files, digest)


def edit(files: Sequence[Path], count: int, *, seed: int) -> list[tuple[Path, str]]:
    """Add a line to this many random files. Returns each with a word that only it holds."""
    edited = []
    for path in random.Random(seed).sample(list(files), count):
        word = f"EDIT_{seed}_{hashlib.sha1(path.name.encode()).hexdigest()[:10].upper()}"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\nA line that the benchmark added: {word}\n")
        edited.append((path, word))
    return edited


def queries_of(files: Sequence[Path], count: int, *, seed: int = 7) -> list[str]:
    """Make queries from the documents: in turn 4 random words of one, and 8 words of one in their order."""
    chance = random.Random(seed)
    queries: list[str] = []
    while len(queries) < count:
        words = re.findall(r"[A-Za-z]{3,}", chance.choice(files).read_text(encoding="utf-8"))
        if len(words) < 20:
            continue
        if len(queries) % 2:
            start = chance.randrange(len(words) - 8)
            queries.append(" ".join(words[start : start + 8]))
        else:
            queries.append(" ".join(chance.sample(words, 4)))
    return queries


def identifiers(count: int, *, first: int = 11) -> list[str]:
    """Identifiers of all ``SHAPES`` in turn that no document has, each with a number of its own."""
    return [SHAPES[n % len(SHAPES)].format(first + n) for n in range(count)]


def plain_words(count: int, *, seed: int = 17) -> list[str]:
    """Words in lower case that no document has, unlike each other."""
    chance = random.Random(seed)
    heads, tails = list(HEADS), list(TAILS)
    chance.shuffle(heads)
    chance.shuffle(tails)
    return [heads[n % len(heads)] + tails[n % len(tails)] for n in range(count)]


def readable(files: Sequence[Path]) -> list[Path]:
    """The files whose whole text is read, wherever it stands in them; of a page of HTML it is not."""
    return [path for path in files if path.suffix not in MARKUP]


def plant(files: Sequence[Path], marks: Sequence[str], *, seed: int = 19) -> dict[str, Path]:
    """Write each mark into a document of its own, in a paragraph anywhere in it. Returns where each is. Raises
    ``Unfit`` if a document had one already."""
    for path in files:
        text = path.read_text(encoding="utf-8").lower()
        if known := [mark for mark in marks if mark.lower() in text]:
            raise Unfit(f"the corpus has {known[0]} already")
    chance = random.Random(seed)
    where = dict(zip(marks, chance.sample(readable(files), len(marks)), strict=True))
    for mark, path in where.items():
        paragraphs = path.read_text(encoding="utf-8").split("\n\n")
        paragraphs.insert(chance.randint(1, len(paragraphs)), f"This part also concerns {mark} since last week.")
        path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return where


def tiny(into: Path, count: int, *, folders: int = TINY_FOLDERS) -> None:
    """Create this many files of some hundred bytes, dealt into folders."""
    words = ("harbor", "engine", "violet", "ledger", "summit", "copper", "lantern", "orchard", "signal", "meadow")
    chance = random.Random(5)
    for n in range(count):
        folder = into / f"{n % folders:03}"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = " ".join(chance.choices(words, k=chance.randrange(20, 80)))
        (folder / f"{n:06}.txt").write_text(f"Note {n}. {text}.\n")


def _fallback() -> Corpus:
    """The standard library and the installed packages: sources and docs, ordered by the hash of their names."""
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


def make_corpus(into: Path) -> Corpus:
    """Download the packages and write their pages as Markdown into a new folder. Raises ``Unfit`` if there is no apt or
    a step failed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unfit("the real corpus is made from Debian packages: apt-get and dpkg-deb are needed")
    environments.install("corpus", CONVERTERS, print)
    into.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="airweave-corpus-") as place:
        for package, version in PACKAGES.items():
            unpacked = Path(place, "x", package)
            unpacked.mkdir(parents=True)
            environments.run(["dpkg-deb", "-x", _download(package, version, Path(place)), unpacked], STEP_S, package)
        script = Path(__file__).with_name("pages.py")
        environments.run([environments.python("corpus"), script, Path(place, "x"), into], STEP_S, "making the pages")
    return _read(into)


def _download(package: str, version: str, place: Path) -> Path:
    """The package in this version or, if it is no longer served, in the current one."""
    folder = place / package
    folder.mkdir()
    for wanted in (f"{package}={version}", package):
        with suppress(Unfit):
            environments.run(["sh", "-c", 'cd "$0" && apt-get download -qq "$1"', folder, wanted], STEP_S, wanted)
            break
    else:
        raise Unfit(f"apt-get download {package} failed: is this Debian 12, and was there an apt-get update?")
    if wanted == package:
        print(f"{package} {version} is served no more: the present version is taken")
    return next(folder.glob("*.deb"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.corpus FOLDER   (a new one; then set BENCH_CORPUS to it)")
    try:
        made = make_corpus(Path(sys.argv[1]))
    except (Unfit, OSError) as error:
        sys.exit(f"benchmarks.corpus: {error}")
    print(f"{made.described(USUAL)}; {made.described(len(made.files))} in all; sha256 {made.digest}")
    if made.digest != MEASURED:
        sys.exit(
            f"This is not the corpus of the figures, whose sha256 is {MEASURED}: compare with nothing measured on it."
        )
