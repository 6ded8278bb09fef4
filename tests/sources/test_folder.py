"""The folder source on real files: what it reads, what it never reads, and what happens while the disk moves."""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airweave_server.sdk import (
    ConfigError,
    Context,
    Deleted,
    Entity,
    Partition,
    Skipped,
    Stopped,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.globs import Globs
from airweave_server.sdk.testing import SourceSuite
from airweave_server.sources.folder import (
    CLOCK_TICK_NS,
    MAX_DEPTH,
    Folder,
    FolderConfig,
    FolderCursor,
    _group_of,
    _id_of,
    _path_of,
)


def folder_at(
    root: Path, *, roots: tuple[Path, ...] | None = None, hidden: tuple[Path, ...] = (), **config: Any
) -> Folder:
    context = Context(folder_roots=(root,) if roots is None else roots, hidden_paths=hidden)
    return Folder(FolderConfig(path=str(root), **config), context=context)


def write(root: Path, *paths: str, text: str = "text") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def everything(folder: Folder) -> list[Any]:
    return [item for partition in folder.partitions() for item in folder.read(partition, None)]


def read(folder: Folder, partition: Partition, cursor: FolderCursor | None = None) -> Iterator[Any]:
    """Read without the cursors."""
    return (item for item in folder.read(partition, cursor) if not isinstance(item, FolderCursor))


def ids(folder: Folder) -> list[str]:
    return [item.id for item in everything(folder) if isinstance(item, Entity)]


def skipped(folder: Folder) -> dict[str, Skipped]:
    return {item.id: item for item in everything(folder) if isinstance(item, Skipped)}


class TestFolderSuite(SourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path
        write(tmp_path, *(f"top{number}.md" for number in range(5)))
        write(tmp_path, *(f"{folder}/{sub}/f{number}.txt" for folder in "abc" for sub in "xy" for number in range(30)))
        write(tmp_path, "b/new\nline 😀.txt", "b/100%.md", "b/%FF.md")
        Path(os.fsdecode(os.fsencode(tmp_path / "b") + b"/latin-\xe9.txt")).write_text("x")
        (tmp_path / "c" / "empty").mkdir()
        (tmp_path / "c" / "out").symlink_to("/etc/passwd")

    def source(self) -> Folder:
        return folder_at(self.root)


class TestManyTopLevelFolders(SourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path
        write(tmp_path, "top.md", *(f"folder{number}/file.txt" for number in range(100)))

    def source(self) -> Folder:
        return folder_at(self.root)

    def test_they_are_dealt_into_groups(self) -> None:
        partitions = list(self.source().partitions())
        assert len(partitions) == 9
        assert {partition.scope for partition in partitions} == {"tree"}
        assert len(ids(self.source())) == 101


def test_an_entity_tells_what_the_file_system_knows(tmp_path: Path) -> None:
    write(tmp_path, "docs/sub/a b.MD", text="hello")
    os.utime(tmp_path / "docs/sub/a b.MD", (1_700_000_000, 1_700_000_000))
    time.sleep(2 * CLOCK_TICK_NS / 1e9)
    [entity] = [item for item in everything(folder_at(tmp_path)) if isinstance(item, Entity)]
    found = (tmp_path / "docs/sub/a b.MD").stat()
    assert (entity.id, entity.name, entity.type) == ("docs/sub/a b.MD", "a b.MD", "FileEntity")
    assert entity.version == f"5-1700000000000000000-{found.st_ctime_ns}-{found.st_ino}"
    assert entity.size_bytes == 5
    assert [(crumb.entity_id, crumb.name, crumb.type) for crumb in entity.breadcrumbs] == [
        ("docs", "docs", "folder"),
        ("docs/sub", "sub", "folder"),
    ]
    assert entity.updated_at is not None
    assert entity.updated_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert entity.url == f"file://{tmp_path}/docs/sub/a%20b.MD"
    assert entity.fields == {"path": "docs/sub/a b.MD", "size": 5, "extension": ".md"}
    assert entity.open is not None
    with entity.open() as content:
        assert content.read() == b"hello"


def test_the_version_is_that_of_the_content_and_a_fresh_write_has_none_yet(tmp_path: Path) -> None:
    write(tmp_path, "real.txt", text="one")
    (tmp_path / "link.txt").symlink_to("real.txt")

    def versions() -> dict[str, str | None]:
        return {item.id: item.version for item in everything(folder_at(tmp_path)) if isinstance(item, Entity)}

    def wait() -> dict[str, str | None]:
        time.sleep(2 * CLOCK_TICK_NS / 1e9)
        return versions()

    first = wait()
    assert first["link.txt"] == first["real.txt"] is not None
    assert versions() == first
    before = (tmp_path / "real.txt").stat()

    def rewritten() -> str | None:
        (tmp_path / "real.txt").write_text("two")
        os.utime(tmp_path / "real.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
        return versions()["real.txt"]

    # a write in the same tick of the clock would not show; a busy machine may take longer than a tick
    assert None in (rewritten() for _ in range(50))
    second = wait()
    assert first["link.txt"] != second["link.txt"] == second["real.txt"] is not None
    (tmp_path / "real.txt").chmod(0o600)
    assert wait()["real.txt"] not in (first["real.txt"], second["real.txt"], None)


def test_times_out_of_any_calendar_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, "old", "future")
    os.utime(tmp_path / "old", (-(2**33), -(2**33)))
    with contextlib.suppress(OSError, OverflowError):
        os.utime(tmp_path / "future", (2**33, 2**33))
    assert ids(folder_at(tmp_path)) == ["future", "old"]


def test_an_empty_folder_has_one_partition_and_nothing_in_it(tmp_path: Path) -> None:
    assert [partition.key for partition in folder_at(tmp_path).partitions()] == [""]
    assert list(read(folder_at(tmp_path), Partition(key=""))) == []


# what is left out


def test_gitignore_files_count_where_they_lie_and_below(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", text="# build\n*.log\n/dist/\nbuild/\n!keep.log\n")
    with (tmp_path / ".gitignore").open("a") as rules:
        rules.write("**/cache/*.bin\nfoo/**/bar\nend\\ \n[x-z][!0-8]\n")
    write(tmp_path, "sub/.gitignore", text="!special.log\n/local.txt\n")
    write(tmp_path, "a.log", "keep.log", "dist/x", "sub/dist/x", "build/x", "sub/build/x", "sub/special.log")
    write(tmp_path, "sub/local.txt", "sub/deep/local.txt", "sub/other.log", "x/y/cache/a.bin", "x/y/cache/a.txt")
    write(tmp_path, "foo/bar", "foo/a/b/bar", "foo/a/b/baz", "end ", "y9", "y8")
    expected = {".gitignore", "sub/.gitignore", "keep.log", "sub/dist/x", "sub/special.log", "sub/deep/local.txt"}
    assert set(ids(folder_at(tmp_path))) == expected | {"x/y/cache/a.txt", "foo/a/b/baz", "y8"}
    assert "a.log" in ids(folder_at(tmp_path, gitignore=False))


def test_the_idiom_all_but_some_suffixes_works(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", text="*\n!*/\n!*.md\n")
    write(tmp_path, "a.md", "a.txt", "deep/er/b.md", "deep/er/b.txt", "new\nline/c.md")
    assert ids(folder_at(tmp_path)) == ["a.md", "deep/er/b.md", "new\nline/c.md"]


def test_what_lies_in_an_ignored_folder_cannot_be_taken_back(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", text="build\n!build/keep.md\n")
    write(tmp_path, "build/keep.md")
    assert ids(folder_at(tmp_path)) == [".gitignore"]


def test_a_gitignore_that_is_no_file_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, "a/x", "b/x", "rules", text="x")
    os.mkfifo(tmp_path / "a/.gitignore")
    (tmp_path / "b/.gitignore").symlink_to("../rules")
    assert ids(folder_at(tmp_path, exclude=[".gitignore"])) == ["rules", "a/x", "b/x"]


GLOB_PARTS = (
    *("a", "b", "ab", "*", "**", "?", "/", "/", "/**/", "**/", "/**", "[ab]", "[!a]", "[^b]", "[a-c]", "[[:alpha:]]"),
    *(
        "[[:digit:]-]",
        "\\",
        "!",
        " ",
        "#",
        "[]a]",
        "[a",
        "-",
        "]",
        "[\\]]",
        "é",
        "\\/",
        "a*b",
        "[[:x:]]",
        "[[:]",
        "[a-",
    ),
    *("[-a]", "\\*", "***", ".", "[!]]", "\\ ", "\r"),
)
NAMES = (
    *("a", "b", "ab", "aab", "abb", "c", "-", "]", "[a", "é", "a b", "a ", "*", "!a", "#", "1", "ba", "\\", ".a", "["),
    *(":", "\\a"),
)


def grow(chance: random.Random, top: Path, depth: int = 0) -> None:
    """Fill a folder with files, folders and .gitignore files at random."""
    top.mkdir(exist_ok=True)
    for name in chance.sample(NAMES, chance.randint(2, 6)):
        if depth < 3 and chance.random() < 0.5:
            grow(chance, top / name, depth + 1)
        else:
            (top / name).touch()
    if depth == 0 or chance.random() < 0.3:
        globs = ["".join(chance.choices(GLOB_PARTS, k=chance.randint(1, 6))) for _ in range(chance.randint(1, 4))]
        lines = [f"!{glob}" if chance.random() < 0.25 else glob for glob in globs]
        (top / ".gitignore").write_text("\n".join(lines) + chance.choice(["", "\n", "\r\n"]), newline="")


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here to compare with")
def test_gitignore_files_mean_what_git_means(tmp_path: Path, say: Callable[[str], None]) -> None:
    seed = random.randrange(1_000_000)
    say(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(30):
        grow(chance, tmp_path / f"tree{number}")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    git = ("git", "-C", tmp_path)
    subprocess.run([*git, "init", "-q"], env=environment, check=True)
    listing = [*git, "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"]
    told = subprocess.run(listing, env=environment, check=True, capture_output=True).stdout
    assert set(ids(folder_at(tmp_path))) == set(os.fsdecode(told).split("\0")[:-1])
    everywhere = {path for path in tmp_path.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert 0.2 < len(ids(folder_at(tmp_path))) / len(everywhere) < 0.9


@given(glob=st.text(alphabet="ab*?", min_size=1, max_size=8), name=st.text(alphabet="ab\n", min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_stars_match_what_they_should(glob: str, name: str) -> None:
    def matches(glob: str, name: str) -> bool:
        if not glob:
            return not name
        if glob[0] == "*":
            return matches(glob[1:], name) or (bool(name) and matches(glob, name[1:]))
        return bool(name) and glob[0] in ("?", name[0]) and matches(glob[1:], name[1:])

    globs = Globs([glob.encode()])
    assert bool(globs.verdict(globs.start, name, is_folder=False)) == matches(glob, name)


HOSTILE_GLOBS = {
    "stars in a path": "**/a/**/a/**/a/**/a/b",
    "sixty stars": "**/" * 60 + "x",
    "stars in a name": "*a" * 100 + "b",
    "questions": "*" + "?a" * 100 + "*b",
    "brackets": "[!a]*" * 30,
    "open brackets": "[" * 500,
    "names": "file{number}.o",
    "paths": "/out/file{number}",
}


@pytest.mark.parametrize("kind", HOSTILE_GLOBS)
def test_hostile_globs_take_no_time(kind: str) -> None:
    line = HOSTILE_GLOBS[kind]
    lines = [line.format(number=number).encode() for number in range(1_000_000 // (len(line) + 1))]
    began_at = time.thread_time()
    globs = Globs(lines)
    assert time.thread_time() - began_at < 5
    state = globs.start
    began_at = time.thread_time()
    for _ in range(200):
        state = globs.enter(state, "a")
    for number in range(100):
        globs.verdict(state, f"{'a' * 20}{number}", is_folder=False)
    assert time.thread_time() - began_at < 1


def test_the_gitignore_files_above_a_file_have_one_limit(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c/file", "a/file")
    for folder in ("a", "a/b", "a/b/c"):
        write(tmp_path / folder, ".gitignore", text=("x" * 999 + "\n") * 400)
    assert ids(folder_at(tmp_path)) == ["a/.gitignore", "a/file", "a/b/.gitignore"]
    assert {id: item.reason for id, item in skipped(folder_at(tmp_path)).items()} == {
        "a/b/c": "its .gitignore cannot be read: with those above it, it is too large"
    }
    assert "a/b/c/file" in ids(folder_at(tmp_path, gitignore=False))


def test_include_and_exclude_choose_files(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.txt", "docs/c.rst", "docs/d.md", "docs/draft/e.md", "src/f.md")
    assert ids(folder_at(tmp_path, include=["*.md"])) == ["a.md", "docs/d.md", "docs/draft/e.md", "src/f.md"]
    assert ids(folder_at(tmp_path, include=["/docs/"])) == ["docs/c.rst", "docs/d.md", "docs/draft/e.md"]
    assert ids(folder_at(tmp_path, include=["/docs/", "!draft/"])) == ["docs/c.rst", "docs/d.md"]
    assert ids(folder_at(tmp_path, include=["*.md"], exclude=["draft", "/src"])) == ["a.md", "docs/d.md"]


SECRETS = {
    *(".env", ".env.local", ".envrc", ".ENV", "sub/.env.production", "key.pem", "id_rsa", "id_ed25519"),
    *("id_work", "id_rsa.bak", "id_dsa.pub", "server.key", ".netrc", ".pgpass", "vault.kdbx"),
    *(".git-credentials", ".npmrc", ".pypirc", "credentials", ".htpasswd", "store.p12", ".bash_history"),
    *(".ssh/config", ".ssh/known_hosts", ".gnupg/x", ".aws/credentials", ".aws/config", ".azure/x"),
    *(".kube/config", ".docker/config.json", ".config/gcloud/application_default_credentials.json"),
    *(".config/gh/hosts.yml", ".password-store/a.gpg", ".git/config", ".git/HEAD", ".hg/x", ".svn/x"),
    *("pkg/__pycache__/x.pyc", "sub/.git"),
}


def test_secrets_are_never_read_whatever_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, *SECRETS, "id_map.py", "environment.md", "monkey.txt", ".config/app/x", "node_modules/x.js")
    for config in ({}, {"include": ["*", ".env", "**/.ssh/**", "!x"]}, {"gitignore": False}):
        found = everything(folder_at(tmp_path, **config))
        named = {item.id for item in found if isinstance(item, Entity | Skipped)}
        assert not named & SECRETS
    assert set(ids(folder_at(tmp_path))) == {
        *("id_map.py", "environment.md", "monkey.txt", ".config/app/x", "node_modules/x.js")
    }


@pytest.mark.parametrize("inside", [".ssh", ".aws/sso", ".config/gcloud", "project/.git/hooks"])
def test_a_folder_of_secrets_cannot_be_connected(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(parents=True)
    with pytest.raises(ConfigError, match="never read"):
        folder_at(tmp_path / inside).check()


def test_the_servers_own_data_is_never_read(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "data/pg/base", "data/log.txt")
    assert ids(folder_at(tmp_path, hidden=(tmp_path / "data",))) == ["a.md"]
    for inside in (tmp_path / "data", tmp_path / "data" / "pg"):
        with pytest.raises(ConfigError, match="never read"):
            folder_at(inside, hidden=(tmp_path / "data",)).check()


def test_the_servers_own_files_are_not_read_under_another_name(tmp_path: Path) -> None:
    write(tmp_path, "data/vault.key", "data/temporal.db", "data/pg/base/1", "root/a.md", "root/b.md", text="hush")
    for number, own in enumerate(("vault.key", "temporal.db", "pg/base/1")):
        os.link(tmp_path / "data" / own, tmp_path / "root" / f"note{number}.md")
    os.link(tmp_path / "root" / "b.md", tmp_path / "root" / "c.md")
    (tmp_path / "root" / "link.md").symlink_to("note0.md")
    folder = folder_at(tmp_path / "root", hidden=(tmp_path / "data",))
    assert ids(folder) == ["a.md", "b.md", "c.md"]
    assert not skipped(folder)
    own = {"note0.md", "note1.md", "note2.md", "link.md"}
    assert {item.id for item in everything(folder) if isinstance(item, Deleted)} == own  # an earlier version read them


# where it may go


def test_only_folders_within_the_roots_are_read(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    write(tmp_path, "allowed/sub/a", "allowed-not/b")
    (allowed / "link").symlink_to(other)
    (tmp_path / "way-in").symlink_to(allowed)
    for path in (allowed, allowed / "sub", tmp_path / "way-in" / "sub"):
        folder_at(path, roots=(allowed,)).check()
    for path in (tmp_path, other, allowed / "link", allowed / ".." / "allowed-not", Path("/"), Path("/etc")):
        with pytest.raises(ConfigError, match="outside the folders"):
            folder_at(path, roots=(allowed,)).check()
        with pytest.raises(ConfigError, match="outside the folders"):
            everything(folder_at(path, roots=(allowed,)))


def test_what_lies_outside_is_not_told_to_exist(tmp_path: Path) -> None:
    said = []
    for name in ("there", "not-there"):
        write(tmp_path, "there/x", "root/x")
        with pytest.raises(ConfigError) as caught:
            folder_at(tmp_path / name, roots=(tmp_path / "root",)).check()
        said.append(str(caught.value).replace(name, "NAME"))
    assert said[0] == said[1]


@pytest.mark.parametrize("system", ["/proc", "/proc/self", "/sys", "/dev", "/dev/shm", "/dev/fd"])
def test_pseudo_file_systems_are_never_read(system: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(system)
    for path in (Path(system), tmp_path / "link"):
        for act in (Folder.check, everything):
            with pytest.raises(ConfigError, match="never read"):
                act(folder_at(path, roots=(Path("/"), Path(system))))


def test_a_pseudo_file_system_is_known_wherever_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "bound" / "here").mkdir(parents=True)
    write(tmp_path, "bound/a.md")
    mounted = subprocess.run(
        ["mount", "--bind", "/dev", tmp_path / "bound" / "here"], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr}")
    try:
        assert ids(folder_at(tmp_path / "bound")) == ["a.md"]
        with pytest.raises(ConfigError, match="never read"):
            folder_at(tmp_path / "bound" / "here", roots=(tmp_path,)).check()
    finally:
        subprocess.run(["umount", tmp_path / "bound" / "here"], check=True)


def test_without_roots_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the folders in AIRWEAVE_FOLDER_ROOTS"):
        folder_at(tmp_path, roots=()).check()


def test_a_folder_that_cannot_be_read_is_a_clear_config_error(tmp_path: Path) -> None:
    write(tmp_path, "file")
    with pytest.raises(ConfigError, match="there is no folder"):
        folder_at(tmp_path / "missing", roots=(tmp_path,)).check()
    with pytest.raises(ConfigError, match="is not a folder"):
        folder_at(tmp_path / "file", roots=(tmp_path,)).check()
    folder_at(tmp_path).check()


@pytest.mark.parametrize(
    "config",
    [
        *({"path": "relative"}, {"path": ""}, {"path": "/a\0b"}, {}),
        *({"path": "/a", "include": ["!"]}, {"path": "/a", "exclude": ["[a"]}, {"path": "/a", "max_file_mb": 0}),
        *({"path": "/a", "include": ["a" * 1_001]}, {"path": "/a", "exclude": ["[[:word:]]"]}),
        {"path": "/a", "max_file_mb": float("nan")},
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FolderConfig(**config)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "notes/a.md")
    folder = Folder(FolderConfig(path="~/notes"), context=Context(folder_roots=(tmp_path,)))
    folder.check()
    assert ids(folder) == ["a.md"]


def test_symlinks_never_lead_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(tmp_path, "root/docs/a.md", "root/.env", "outside/secret.txt", "root/big")
    (root / "inside.md").symlink_to("docs/a.md")
    (root / "absolute.md").symlink_to(root / "docs" / "a.md")
    (root / "to-secret.md").symlink_to(".env")
    (root / "out.txt").symlink_to(outside / "secret.txt")
    (root / "up.txt").symlink_to("../outside/secret.txt")
    (root / "out-folder").symlink_to(outside)
    (root / "in-folder").symlink_to("docs")
    (root / "docs" / "loop").symlink_to("..")
    (root / "self").symlink_to("self")
    (root / "gone").symlink_to("nowhere")
    (root / "hop").symlink_to("out.txt")
    (root / "environ").symlink_to("/proc/self/environ")
    folder = folder_at(root, roots=(tmp_path,))
    assert set(ids(folder)) == {"docs/a.md", "inside.md", "absolute.md", "big"}
    reasons = skipped(folder)
    assert set(reasons) == {"out.txt", "up.txt", "out-folder", "self", "gone", "hop", "environ"}
    assert all(item.reason.startswith("symlink: ") and not item.subtree for item in reasons.values())
    [linked] = [item for item in everything(folder) if isinstance(item, Entity) and item.id == "inside.md"]
    with linked.open() as content:
        assert content.read() == b"text"


def test_hardlinks_are_files_like_others(tmp_path: Path) -> None:
    write(tmp_path, "a")
    os.link(tmp_path / "a", tmp_path / "b")
    assert ids(folder_at(tmp_path)) == ["a", "b"]


def test_what_is_swapped_for_a_symlink_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path, "root/a/file", "root/b/file", "root/c", "secret/file")
    found = {item.id: item for item in everything(folder_at(root)) if isinstance(item, Entity)}
    shutil.rmtree(root / "a")
    (root / "a").symlink_to(tmp_path / "secret")
    (root / "c").unlink()
    (root / "c").symlink_to(tmp_path / "secret" / "file")
    (root / "b" / "file").unlink()
    os.mkfifo(root / "b" / "file")
    for id in ("a/file", "b/file", "c"):
        with pytest.raises(Unreadable):
            found[id].open()


def test_a_file_that_went_or_grew_is_unreadable_with_a_reason(tmp_path: Path) -> None:
    write(tmp_path, "gone", "grown", "replaced")
    found = {item.id: item for item in everything(folder_at(tmp_path, max_file_mb=1)) if isinstance(item, Entity)}
    (tmp_path / "gone").unlink()
    os.truncate(tmp_path / "grown", 5_000_000)
    (tmp_path / "other").write_text("new")
    (tmp_path / "other").rename(tmp_path / "replaced")
    for id, reason in (("gone", "it is gone"), ("grown", "too_large: 5.0 MB"), ("replaced", "it was replaced")):
        with pytest.raises(Unreadable, match=reason):
            found[id].open()


# what cannot be read


def test_special_files_are_skipped_and_never_block(tmp_path: Path) -> None:
    write(tmp_path, "a")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        folder = folder_at(tmp_path)
        assert ids(folder) == ["a"]
        assert {id: item.reason for id, item in skipped(folder).items()} == {
            "fifo": "it is a FIFO, not a file",
            "socket": "it is a socket, not a file",
        }


def test_a_large_file_is_skipped_by_its_size_alone(tmp_path: Path) -> None:
    write(tmp_path, "fits")
    os.truncate(tmp_path / "fits", 20_000_000)
    for name, size in (("sparse", 2_000_000_000), ("film", 31_200_000)):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    began = time.monotonic()
    assert ids(folder_at(tmp_path)) == ["fits"]
    assert {id: item.reason for id, item in skipped(folder_at(tmp_path)).items()} == {
        "sparse": "too_large: 2000.0 MB, the limit is 20 MB",
        "film": "too_large: 31.2 MB, the limit is 20 MB",
    }
    assert time.monotonic() - began < 1
    assert "film" in ids(folder_at(tmp_path, max_file_mb=32))


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that other users may reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path).resolve()
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)


AS_NOBODY = """
import io, json, os, pwd, sys
from pathlib import Path
from airweave_server.sdk import *
from airweave_server.sources.folder import Folder, FolderConfig
if os.geteuid() == 0:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
root = Path(sys.argv[1])
folder = Folder(FolderConfig(path=str(root)), context=Context(folder_roots=(root,)))
said = {}
try:
    folder.check()
    for partition in folder.partitions():
        for item in folder.read(partition, None):
            if isinstance(item, Skipped):
                said[item.id] = [item.reason, item.subtree]
            elif isinstance(item, Entity):
                with item.open() as content:
                    said[item.id] = content.read().decode()
except SourceError as error:
    said["error"] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""


def as_nobody(root: Path) -> dict[str, Any]:
    """What a user without rights reads."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_may_not_be_read_is_skipped_and_the_rest_goes_on(open_place: Path) -> None:
    write(open_place, "a.md", "private.md", "shut/x", "sub/blind/y", "sub/z", "ruled/.gitignore", "ruled/w")
    for path, mode in (("private.md", 0), ("shut", 0), ("sub/blind", 0o644), ("ruled/.gitignore", 0)):
        os.chmod(open_place / path, mode)
    reason = "may not be read by the user that the server runs as"
    assert as_nobody(open_place) == {
        "a.md": "text",
        "private.md": [reason, False],
        "shut": [reason, True],
        "sub/z": "text",
        "sub/blind": ["its .gitignore cannot be read: Permission denied", True],
        "ruled": ["its .gitignore cannot be read: Permission denied", True],
    }


def test_a_folder_that_may_not_be_read_at_all_is_a_config_error(open_place: Path) -> None:
    write(open_place, "root/a.md")
    os.chmod(open_place / "root", 0o300)
    assert as_nobody(open_place / "root")["error"][0] == "ConfigError"


# what moves while it is read


def last_cursors(folder: Folder, partitions: list[Partition]) -> dict[str, FolderCursor]:
    """Read everything slice by slice, each in a source of its own, and return the last cursor of each partition."""
    found: dict[str, FolderCursor] = {}
    for partition in partitions:
        cursor = None
        for _ in range(3):
            slice_ = folder_at(Path(folder.config.path)).read(partition, cursor)
            cursor = next((item for item in slice_ if isinstance(item, FolderCursor)), cursor)
        for item in folder.read(partition, cursor):
            cursor = item if isinstance(item, FolderCursor) else cursor
        assert cursor is not None
        found[partition.key] = FolderCursor.model_validate_json(cursor.model_dump_json())
    return found


MOVES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a file from one to another": (lambda root: (root / "b/x/f1").rename(root / "a/new"), {"a/", "b/"}),
    "within one": (lambda root: (root / "a/y/f1").rename(root / "a/x/zz"), {"a/"}),
    "over another": (lambda root: (root / "b/x/f1").rename(root / "b/x/f2"), {"b/"}),
    "a folder": (lambda root: (root / "b/x").rename(root / "a/x/deep"), {"a/", "b/"}),
    "a top-level folder": (lambda root: (root / "b").rename(root / "a/x/deep"), {"", "a/", "b/"}),
    "to the top": (lambda root: (root / "b/x").rename(root / "new"), {"", "b/"}),
    "there and back": (
        lambda root: (root / "b/x/f1").rename(root / "a/f1") and (root / "a/f1").rename(root / "b/x/f1"),
        {"a/", "b/"},
    ),
    "a new link": (lambda root: (root / "a/link").symlink_to("x/f1"), {"a/"}),
    "content": (lambda root: (root / "a/x/f1").write_text("other"), set()),
    "nothing": (lambda root: None, set()),
    "in a folder that is not read": (lambda root: (root / "b/.git/new").write_text("x"), set()),
}


@pytest.mark.parametrize("what", MOVES)
def test_partitions_that_changed_since_they_were_read_are_known(tmp_path: Path, what: str) -> None:
    move, expected = MOVES[what]
    write(tmp_path, "top", *(f"{place}/f{number}" for place in ("a/x", "a/y", "b/x", "b/y") for number in range(60)))
    write(tmp_path, "b/.git/config")
    time.sleep(2 * CLOCK_TICK_NS / 1e9)
    folder = folder_at(tmp_path)
    partitions = list(folder.partitions())
    cursors = last_cursors(folder, partitions)
    move(tmp_path)
    changed = {part.key for part in partitions if folder_at(tmp_path).changed_since(part, cursors[part.key])}
    assert changed == expected


def test_what_the_server_writes_into_its_own_folder_is_no_change(tmp_path: Path) -> None:
    write(tmp_path, "a/notes", "a/data/postgres")
    folder = folder_at(tmp_path, hidden=(tmp_path / "a/data",))
    [*_, cursor] = folder.read(Partition(key="a/"), None)
    write(tmp_path, "a/data/another")
    assert not folder.changed_since(Partition(key="a/"), cursor)
    write(tmp_path, "a/another")
    assert folder.changed_since(Partition(key="a/"), cursor)


def test_groups_of_top_level_folders_that_changed_are_known(tmp_path: Path) -> None:
    write(tmp_path, "top", *(f"folder{number}/file.txt" for number in range(30)))
    time.sleep(2 * CLOCK_TICK_NS / 1e9)
    folder = folder_at(tmp_path)
    partitions = list(folder.partitions())
    cursors = last_cursors(folder, partitions)

    def changed() -> set[str]:
        return {part.key for part in partitions if folder.changed_since(part, cursors[part.key])}

    assert changed() == set()
    (tmp_path / "another").write_text("in the folder itself")
    assert changed() == {""}
    (tmp_path / "folder3").rename(tmp_path / "new")
    both = {f"group {_group_of(name)}" for name in ("folder3", "new")}
    assert changed() == {"", *both}


def test_a_folder_that_changes_while_it_is_listed_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "a/f1")
    folder = folder_at(tmp_path)

    def is_known() -> bool:
        (tmp_path / "a/new").write_text("just before")
        [*_, cursor] = folder.read(Partition(key="a/"), None)
        (tmp_path / "a/new").rename(tmp_path / "a/f1")
        (tmp_path / "a/new").write_text("the same names as before, perhaps in the same tick of the clock")
        return folder.changed_since(Partition(key="a/"), cursor)

    assert all(is_known() for _ in range(50))


def test_without_a_digest_nothing_is_known_and_without_the_folder_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path / "root", "a")
    folder = folder_at(tmp_path / "root", roots=(tmp_path,))
    assert not folder.changed_since(Partition(key=""), None)
    assert not folder.changed_since(Partition(key=""), FolderCursor(after="a"))  # as an older version wrote it
    partition = next(folder.partitions())
    [*_, cursor] = folder.read(partition, None)
    (tmp_path / "root").rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        folder.changed_since(partition, cursor)
    (tmp_path / "root").mkdir()
    with pytest.raises(Unavailable):
        folder.changed_since(partition, cursor)


def test_a_folder_that_vanishes_while_it_is_listed_is_a_skipped_subtree(tmp_path: Path) -> None:
    write(tmp_path, "p/a/1", "p/b/1", "p/c/1", "q/1")
    folder = folder_at(tmp_path)
    partitions = {partition.key: partition for partition in folder.partitions()}
    items = read(folder, partitions["p/"])
    assert next(items).id == "p/a/1"
    shutil.rmtree(tmp_path / "p" / "b")
    (tmp_path / "p" / "c").rename(tmp_path / "p" / "d")
    (tmp_path / "p" / "c").symlink_to("/etc")
    assert list(items) == [
        Skipped("p/b", "vanished while it was listed", "b", subtree=True),
        Skipped("p/c", "was replaced while it was listed", "c", subtree=True),
    ]
    shutil.rmtree(tmp_path / "q")
    assert list(read(folder, partitions["q/"])) == [Skipped("q", "vanished while it was listed", "q", subtree=True)]


def test_a_top_level_folder_that_appears_after_the_listing_is_read_with_the_rest(tmp_path: Path) -> None:
    write(tmp_path, "old/1", "top")
    folder = folder_at(tmp_path)
    partitions = list(folder.partitions())
    write(tmp_path, "new/1")
    found = [item.id for partition in partitions for item in read(folder, partition)]
    assert sorted(found) == ["new/1", "old/1", "top"]


def test_a_file_that_went_meanwhile_is_just_not_there(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    items = read(folder_at(tmp_path), Partition(key=""))
    assert next(items).id == "a"
    (tmp_path / "b").unlink()
    assert [item.id for item in items] == ["c"]


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced", "a file now", "a symlink now"])
def test_when_the_folder_itself_goes_the_read_fails(tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    write(root, "a/1", "a/2", "b/1", "top1", "top2")
    folder = folder_at(root, roots=(tmp_path,))
    partitions = list(folder.partitions())
    running = [folder.read(partition, None) for partition in partitions]
    for items in running:
        next(items)
    match how:
        case "removed":
            shutil.rmtree(root)
        case "renamed":
            root.rename(tmp_path / "other")
        case "replaced":
            root.rename(tmp_path / "other")
            shutil.copytree(tmp_path / "other", root)
        case "a file now":
            shutil.rmtree(root)
            root.touch()
        case "a symlink now":
            write(tmp_path, "elsewhere/top1")
            shutil.rmtree(root)
            root.symlink_to(tmp_path / "elsewhere")
    for items in (*running, *(read(folder, partition) for partition in partitions)):
        with pytest.raises(Unavailable):
            list(items)
    if how in ("removed", "renamed", "a file now"):
        with pytest.raises(Unavailable):
            list(folder.partitions())


def test_a_folder_that_is_unmounted_between_two_partitions_fails(tmp_path: Path) -> None:
    root = tmp_path / "mount"
    write(root, "a/1", "top1")
    folder = folder_at(root, roots=(tmp_path,))
    partitions = list(folder.partitions())
    assert list(read(folder, partitions[1]))
    root.rename(tmp_path / "unmounted")
    root.mkdir()  # the empty mount point
    for partition in partitions:
        with pytest.raises(Unavailable, match="replaced or unmounted"):
            list(folder.read(partition, None))


def test_content_of_a_replaced_folder_is_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a")
    [entity] = read(folder_at(root, roots=(tmp_path,)), Partition(key=""))
    root.rename(tmp_path / "other")
    with pytest.raises(Unavailable):
        entity.open()
    write(root, "a")
    with pytest.raises(Unavailable, match="was replaced"):
        entity.open()


# order, cursors, names


def test_reading_goes_on_after_any_file_even_one_that_is_gone(tmp_path: Path) -> None:
    write(tmp_path, *(f"{folder}f{number}" for folder in ("", "a/", "a/b/", "a/b.c/", "d/") for number in range(3)))
    folder = folder_at(tmp_path)
    whole = Partition(key="")
    order = [item.id for item in read(folder, whole)]
    assert len(order) == 15
    for place, id in enumerate(order):
        assert [item.id for item in read(folder, whole, FolderCursor(after=id))] == order[place + 1 :]
    for done, first_left in (("a/b/", "a/b.c/f0"), ("a/", "d/f0"), ("a/b.c/", "d/f0"), ("a/b/gone", "a/b.c/f0")):
        left = [item.id for item in read(folder, whole, FolderCursor(after=done))]
        assert left[0] == first_left
    shutil.rmtree(tmp_path / "a" / "b.c")
    (tmp_path / "f1").unlink()
    for gone, following in (("f1", "f2"), ("a/b.c/f0", "d/f0")):
        assert next(item.id for item in read(folder, whole, FolderCursor(after=gone))) == following


def test_what_lies_before_the_cursor_is_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, *(f"f{number:03}" for number in range(10)), "g/a", "h/a")
    os.truncate(tmp_path / "f003", 10**9)
    left = list(read(folder_at(tmp_path), Partition(key=""), FolderCursor(after="g/a")))
    assert [item.id for item in left] == ["h/a"]


def test_cursors_come_often(tmp_path: Path) -> None:
    write(tmp_path, *(f"x/f{number:04}" for number in range(400)), *(f"y/e{number}/keep" for number in range(60)))
    longest = since = 0
    for item in everything(folder_at(tmp_path)):
        since = 0 if isinstance(item, FolderCursor) else since + 1
        longest = max(longest, since)
    assert longest <= 50
    big = tmp_path / "big"
    write(big, *(f"f{number}" for number in range(8)))
    for file in big.iterdir():
        os.truncate(file, 3_000_000)
    assert sum(isinstance(item, FolderCursor) for item in everything(folder_at(big))) >= 3


def test_names_of_all_kinds_have_ids_that_lead_back(tmp_path: Path) -> None:
    names = [b"plain", "umlaut-ä".encode(), b"latin-\xe9", b"%E9", b"latin-%E9", b"%", b"100%.md", b"%25", b"%2525"]
    names += [b"a\nb", "😀".encode(), b"tab\t", b" lead", b"back\\slash", b"\xff\xfe", b"%\xff", b"\x80%80", b"'\"$(x)"]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    found = [item for item in everything(folder_at(tmp_path)) if isinstance(item, Entity)]
    assert len({entity.id for entity in found}) == len(names)
    for entity in found:
        for text in (entity.id, entity.name, entity.filename, entity.url):
            text.encode()
        with entity.open() as content:
            assert os.fsencode(_path_of(entity.id)) == content.read()
    by_id = {entity.id for entity in found}
    assert {"latin-%E9", "latin-%25E9", "100%.md", "a\nb", "😀", "%", "%FF%FE"} <= by_id
    raw = [os.fsencode(_path_of(entity.id)) for entity in found]
    assert raw == sorted(names)


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_every_name_leads_to_an_id_and_back(raw: bytes) -> None:
    name = os.fsdecode(raw)
    assert _path_of(_id_of(name)) == name
    _id_of(name).encode()


@given(st.lists(st.text(alphabet="%25F\udcff\udc80A", max_size=8), min_size=2, max_size=2, unique=True))
def test_two_names_never_share_an_id(names: list[str]) -> None:
    assert _id_of(names[0]) != _id_of(names[1])


def test_folders_nested_too_deep_are_skipped_and_the_walk_ends(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 50):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    folder = folder_at(tmp_path)
    [item] = skipped(folder).values()
    assert item.subtree
    assert item.reason == f"nested deeper than {MAX_DEPTH} folders"
    assert item.id.count("/") == MAX_DEPTH


# size and stop


def test_a_read_stops_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    write(tmp_path, *(f"f{number}" for number in range(20)))
    folder = folder_at(tmp_path)
    items = folder.read(Partition(key=""), None)
    next(items)
    folder.context.stop.set()
    with pytest.raises(Stopped):
        next(items)


def test_no_file_stays_open(tmp_path: Path, count_open: Callable[[], int]) -> None:
    write(tmp_path, *(f"{folder}/f{number}" for folder in "abc" for number in range(20)))
    folder = folder_at(tmp_path)
    before = count_open()
    everything(folder)
    items = folder.read(Partition(key=""), None)
    entity = next(items)
    assert count_open() <= before + 3
    items.close()
    with entity.open():
        assert count_open() == before + 1
    assert count_open() == before


@pytest.fixture
def count_open() -> Callable[[], int]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return lambda: len(os.listdir(folder))


def test_many_tiny_files_are_listed_quickly(tmp_path: Path) -> None:
    count = 10_000
    for folder in range(20):
        (tmp_path / f"d{folder}").mkdir()
        fd = os.open(tmp_path / f"d{folder}", os.O_RDONLY)
        for number in range(count // 20):
            os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    began = time.process_time()  # of the processor, which others may keep busy
    assert len(ids(folder_at(tmp_path))) == count
    assert count / (time.process_time() - began) > 10_000, "files a second; about 90,000 on a quiet machine"


def test_a_tree_that_changes_all_the_time_never_breaks_a_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, *(f"{a}/{b}/f{number}" for a in "abcd" for b in "xyz" for number in range(5)), "always")
    write(tmp_path, "outside/secret")
    chance = random.Random(7)
    read, ends = 0, time.monotonic() + 1
    while time.monotonic() < ends:
        folder = folder_at(root, roots=(tmp_path,))
        for partition in list(folder.partitions()):
            for item in folder.read(partition, None):
                place = root / chance.choice("abcd") / chance.choice("xyz")
                with contextlib.suppress(OSError):
                    match chance.randrange(5):
                        case 0:
                            shutil.rmtree(place)
                        case 1:
                            place.rename(place.with_name(chance.choice("xyz")))
                        case 2:
                            place.symlink_to(tmp_path / "outside")
                        case 3:
                            place.unlink()
                        case 4:
                            write(place, "f1", "f2")
                if isinstance(item, Entity):
                    assert "secret" not in item.id
                    read += 1
                    with contextlib.suppress(Unreadable), item.open() as content:
                        content.read()
    assert read > 50
