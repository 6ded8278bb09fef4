"""The real documents of the benchmark: files of packages that ``documents.toml`` names, fetched by pip, npm and apt."""

import hashlib
import re
import shlex
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import environments, reference
from .server import Unfit

HERE = Path(__file__).parent
MANIFEST = HERE / "documents.toml"
CACHE = environments.ENVIRONMENTS / "documents"
FETCH_S = 900.0
ALIASES = {"docm": "docx", "pptm": "pptx", "xlsm": "xlsx"}


@dataclass(frozen=True, slots=True)
class Archive:
    """A file of a package on PyPI, npm or Debian. ``files``: paths in it, with " as FORM" where the name does not tell
    the format. ``derived``: paths of documents that LibreOffice converts to another format, with " to FORM"."""

    registry: str
    package: str
    version: str
    file: str
    sha256: str
    files: Sequence[str] = ()
    derived: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """``name``: package, version and path, by which anyone finds it. ``form``: its format."""

    name: str
    path: Path
    form: str
    is_derived: bool = False

    @property
    def is_judged(self) -> bool:
        """Whether it is of the half whose faults nobody looks at before they are judged."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 1

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:20]


def load(path: Path = MANIFEST) -> list[Archive]:
    return [Archive(**one) for one in tomllib.loads(path.read_text(encoding="utf-8"))["archive"]]


def fetch(archives: Sequence[Archive], say: Callable[[str], None]) -> list[Document]:
    """All documents. Raises ``Unfit`` if an archive cannot be fetched, or is another than the manifest names."""
    found: list[Document] = []
    for archive in archives:
        path = _download(archive, say)
        found.extend(_unpack(archive, path, archive.files, CACHE / "files"))
    for to in sorted({line.rpartition(" to ")[2] for one in archives for line in one.derived}):
        sources: list[Document] = []
        for archive in archives:
            names = [line.removesuffix(f" to {to}") for line in archive.derived if line.endswith(f" to {to}")]
            sources.extend(_unpack(archive, CACHE / "archives" / archive.file, names, CACHE / "files"))
        found.extend(_derive(sources, to, say))
    return found


def _download(archive: Archive, say: Callable[[str], None]) -> Path:
    folder = CACHE / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.file
    if not path.is_file():
        say(f"fetching {archive.package} {archive.version}")
        with suppress(Unfit):  # pip fetches a package before it fails to build what it needs not
            if archive.registry == "Debian":
                _fetch_source(archive, folder)
            elif archive.registry == "npm":
                command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
                environments.run([*command, f"{archive.package}@{archive.version}"], FETCH_S, "npm pack")
            else:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
                command += ["--disable-pip-version-check", "--dest", str(folder)]
                environments.run([*command, f"{archive.package}=={archive.version}"], FETCH_S, "pip download")
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != archive.sha256:
        raise Unfit(f"{archive.file}: another than the manifest names")
    return path


def _fetch_source(archive: Archive, folder: Path) -> None:
    """The upstream source of a Debian package, by the archives that apt has, with lists of their own."""
    place = CACHE / "apt"
    for name in ("parts", "lists/partial", "cache"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for source in Path("/etc/apt/sources.list.d").glob("*.sources"):
        text = re.sub(r"^Types:.*$", "Types: deb-src", source.read_text(), flags=re.M)
        (place / "parts" / source.name).write_text(text)
    options = ["-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={place / 'parts'}"]
    options += ["-o", f"Dir::State::lists={place / 'lists'}", "-o", f"Dir::Cache={place / 'cache'}"]
    environments.run(["apt-get", *options, "-qq", "update"], FETCH_S, "apt-get update")
    command = (
        f"cd {shlex.quote(str(folder))} && exec apt-get {shlex.join(options)} -qq source --download-only --tar-only"
    )
    environments.run(["sh", "-c", f"{command} {shlex.quote(archive.package)}"], FETCH_S, "apt-get source")


def _unpack(archive: Archive, path: Path, lines: Sequence[str], folder: Path) -> Iterator[Document]:
    wanted: dict[str, tuple[str, Path]] = {}
    for line in lines:
        name, has_form, form = line.partition(" as ")
        ending = form if has_form else name.rpartition(".")[2].lower()
        form = ALIASES.get(ending, ending)
        digest = hashlib.sha256(f"{archive.file}/{name}".encode()).hexdigest()[:16]
        wanted[name] = form, folder / f"{digest}.{ending}"
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [name for name, (_, place) in wanted.items() if not place.is_file()]:
        for name, content in _members(path, set(missing)):
            wanted[name][1].write_bytes(content.read())
    for name, (form, place) in wanted.items():
        if not place.is_file():
            raise Unfit(f"{archive.file} has no {name}")
        yield Document(f"{archive.package} {archive.version}: {name}", place, form)


def _members(path: Path, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
    if path.suffix in (".zip", ".whl"):
        with zipfile.ZipFile(path) as packed:
            for name in names & set(packed.namelist()):
                yield name, packed.open(name)
    else:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in names and (content := tar.extractfile(member)) is not None:
                    yield member.name, content


def _derive(sources: Sequence[Document], to: str, say: Callable[[str], None]) -> Iterator[Document]:
    folder = CACHE / "derived"
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {one.name: folder / f"{one.path.stem}.{to}" for one in sources}
    missing = [one for one in sources if not made[one.name].is_file()]
    if missing:
        say(f"converting {len(missing)} documents to {to}")
        paths = [one.path for one in missing]
        converted = reference.convert(paths, to, CACHE / f"converting-{to}", CACHE / "libreoffice")
        for one in missing:
            if one.path in converted:
                converted[one.path].replace(made[one.name])
    for one in sources:
        if made[one.name].is_file():
            yield Document(f"{one.name} to {to}", made[one.name], to, is_derived=True)


def by_form(documents: Sequence[Document]) -> Mapping[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for one in documents:
        found.setdefault(one.form, []).append(one)
    return found
