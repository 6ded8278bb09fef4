"""A folder of this machine, read where it lies. Knows paths and bytes; what a file means is the engine's business.

What is never read, whatever the configuration says: secrets (``is_private``), folders of version control, the
server's own data, and anything whose real place is outside the connected folder. None of it is even yielded.
"""

import errno
import fcntl
import os
import re
import stat
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field, field_validator

from airweave_server.sdk import (
    Breadcrumb,
    ConfigError,
    Context,
    Entity,
    Items,
    Partition,
    Skipped,
    Source,
    Unavailable,
    Unreadable,
    is_private,
    is_private_name,
)

PARTITIONS = 8  # up to so many top-level folders are a partition each; more are dealt into so many groups
SCOPE = "tree"  # of all partitions: only together do they prove that a file is gone
CURSOR_EVERY_ITEMS = 50
CURSOR_EVERY_NAMES = 1_000  # that were looked at, though they yielded nothing
CURSOR_EVERY_BYTES = 4_000_000  # of the files that were yielded
MAX_DEPTH = 200  # folders inside each other
GITIGNORE_LIMIT = 1_000_000  # bytes
GLOB_LIMIT = 1_000  # characters
GLOB_STARS_LIMIT = 4  # of ``**`` in a glob: the time that matching takes grows with their power
MB = 1_000_000

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OUR_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # these say nothing about the folder
PSEUDO_FILE_SYSTEMS = ("/proc", "/sys")
READABLE_BY_ALL = 0o444
ACCESS_AS_EFFECTIVE_USER = os.access in os.supports_effective_ids


class FolderConfig(BaseModel):
    """Globs are those of ``.gitignore``: ``*.md`` at any depth, ``/docs/`` only at the top, ``!`` takes back."""

    path: str = Field(description="The folder to read; absolute, or beginning with ~.")
    include: list[str] = Field(default=[], max_length=200, description="Read only files that match; empty: all.")
    exclude: list[str] = Field(default=[], max_length=200, description="Files and folders that are not read.")
    gitignore: bool = Field(default=True, description="Leave out what .gitignore files in the folder say.")
    max_file_mb: float = Field(
        default=20, gt=0, le=10_000, allow_inf_nan=False, description="Larger files are skipped."
    )

    @field_validator("path")
    @classmethod
    def _must_be_absolute(cls, path: str) -> str:
        if "\0" in path:
            raise ValueError("must not contain NUL")
        if not os.path.isabs(os.path.expanduser(path)):
            raise ValueError("must be an absolute path, or begin with ~")
        return path

    @field_validator("include", "exclude")
    @classmethod
    def _must_be_globs(cls, globs: list[str]) -> list[str]:
        for glob in globs:
            if _rule(glob) is None:
                raise ValueError(f"{glob!r} is not a glob")
        return globs


class FolderCursor(BaseModel):
    """``after``: the id of the last file that was handled, or, ending in a slash, of the last folder done with."""

    after: str


class Folder(Source[FolderConfig, FolderCursor]):
    """Reads a folder recursively, always in the same order: the files of a folder by name, then its folders by name.

    An entity's id is its path below the folder, with slashes. Bytes of a name that are not UTF-8 stand in it as
    ``%80`` to ``%FF``; a percent sign of the name itself as ``%25``, but only where it would otherwise be taken
    for one of these. So ``100%.md`` stays as it is, two files never share an id, and each id leads back to its file.

    A symlink to a file is read if the file lies in the connected folder too; symlinks to folders are not followed.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "Folder"
    description: ClassVar[str] = "Files and folders on the machine that the server runs on."
    labels: ClassVar[tuple[str, ...]] = ("Files",)
    entity_types: ClassVar[tuple[str, ...]] = ("FileEntity",)
    local: ClassVar[bool] = True
    lists_cheaply: ClassVar[bool] = True

    def __init__(
        self, config: FolderConfig, credentials: BaseModel | None = None, context: Context | None = None
    ) -> None:
        super().__init__(config, credentials, context)
        self._path = os.path.expanduser(config.path)
        self._limit = int(config.max_file_mb * MB)
        self._included = _Rules(config.include)
        self._excluded = _Rules(config.exclude)

    def check(self) -> None:
        """Raise ``ConfigError`` for a folder that is missing, not readable, or outside the roots."""
        path = self._confined()
        if not os.path.lexists(path):
            raise ConfigError(f"there is no folder {self.config.path}")
        if not os.path.isdir(path):
            raise ConfigError(f"{self.config.path} is not a folder")
        if not os.access(path, os.R_OK | os.X_OK, effective_ids=ACCESS_AS_EFFECTIVE_USER):
            raise ConfigError(f"{self.config.path} may not be read by the user that the server runs as")

    def partitions(self) -> Iterator[Partition]:
        """List a part for each top-level folder, or for groups of them, and one for all else, with the key ``""``.

        Each notes which folder it was listed from, so that one that is unmounted before the read is noticed.
        """
        with self._opened() as root:
            top = root.top()
            folders = list(self._below(top, self._list(root, root.fd, top)))
            noted = {"inode": root.inode, "device": root.device}
        if len(folders) > PARTITIONS:
            yield Partition(key="", scope=SCOPE, data=noted | {"grouped": True})
            for group in range(PARTITIONS):
                yield Partition(key=f"group {group}", scope=SCOPE, data=noted | {"group": group})
        else:
            yield Partition(key="", scope=SCOPE, data=noted | {"others": [folder.id for folder in folders]})
            for folder in folders:
                yield Partition(key=folder.id + "/", scope=SCOPE, data=noted)

    def read(self, partition: Partition, cursor: FolderCursor | None) -> Items[FolderCursor]:
        """Yield what the partition holds.

        Raises ``Unavailable`` when the folder itself is missing, unlistable or no longer the one that it was, also
        at the end: what was not met must then not count as gone. A folder inside it that cannot be listed is yielded
        as a skipped subtree.
        """
        with self._opened() as root:
            root.must_be_the_one_of(partition.data)
            top = root.top(after=_path_of(cursor.after).split("/") if cursor else ())
            yield from self._walk(root, top, partition)
            root.must_still_be_there()

    def _walk(self, root: "_Root", top: "_Folder", partition: Partition) -> Items[FolderCursor]:
        """Go down folder by folder, without recursion and with one open folder at a time."""
        due = 0.0  # at 1 it is time for a cursor
        ways = [_Way(top, iter([top]))]
        if partition.key.endswith("/"):
            # one top-level folder: its neighbours are of no interest, the rules at the top are
            listing = self._list(root, root.fd, top, names=False)
            listing.folders.append(_path_of(partition.key[:-1]))
            ways = [_Way(top, self._below(top, listing))]
        while ways:
            self.context.check()
            folder = next(ways[-1].folders, None)
            if folder is None:
                done = ways.pop().folder
                due += 1 / CURSOR_EVERY_NAMES
                if due >= 1 and done is not top:
                    yield FolderCursor(after=done.id + "/")
                    due = 0
                continue
            try:
                fd = root.open(folder.path, FOLDER_FLAGS)
            except OSError as error:
                due += 1 / CURSOR_EVERY_ITEMS
                yield _unlistable(folder, error, top)
                continue
            try:
                listing = self._list(root, fd, folder)
                if folder is top and "group" in partition.data:
                    listing.files = []  # they belong to the partition ""
                for name in listing.files_after(folder.after):
                    self.context.check()
                    item = self._item(root, fd, folder, name)
                    if item is None:
                        due += 1 / CURSOR_EVERY_NAMES
                    else:
                        due += 1 / CURSOR_EVERY_ITEMS
                        if isinstance(item, Entity):
                            due += (item.size_bytes or 0) / CURSOR_EVERY_BYTES
                        yield item
                    if due >= 1:
                        yield FolderCursor(after=folder.id_prefix + _id_of(name))
                        due = 0
            except (OSError, Unreadable) as error:
                due += 1 / CURSOR_EVERY_ITEMS
                yield _unlistable(folder, error, top)
                continue
            finally:
                os.close(fd)
            folders = self._below(folder, listing)
            if folder is top:
                folders = _of_partition(partition, folders)
            if len(folder.ancestors) > MAX_DEPTH:
                for deeper in folders:
                    yield Skipped(deeper.id, f"nested deeper than {MAX_DEPTH} folders", deeper.name, subtree=True)
                continue
            ways.append(_Way(folder, folders))

    def _list(self, root: "_Root", fd: int, folder: "_Folder", *, names: bool = True) -> "_Listing":
        """List an open folder in the order of the walk, and note in ``folder`` its identity and its rules.

        Raises ``Unreadable`` when its ``.gitignore`` cannot be read: it may be what keeps something private.
        """
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        listing = _Listing()
        if identity in root.hidden or identity in folder.ancestors:
            return listing
        folder.ancestors = (*folder.ancestors, identity)
        if self.config.gitignore:
            rules = _gitignore(fd)
            if rules is not None:
                folder.rules = (*folder.rules, (len(folder.prefix), rules))
        if names:
            with os.scandir(fd) as entries:
                for entry in entries:
                    (listing.folders if entry.is_dir(follow_symlinks=False) else listing.files).append(entry.name)
            listing.files.sort(key=os.fsencode)
            listing.folders.sort(key=os.fsencode)
        return listing

    def _below(self, folder: "_Folder", listing: "_Listing") -> Iterator["_Folder"]:
        """The folders in ``folder`` that are to be read, from the cursor on."""
        for name in listing.folders_after(folder.after):
            if is_private((folder.name, name)) or self._is_left_out(folder, name, is_folder=True):
                continue
            after = folder.after[1:] if name in folder.after[:1] else ()
            included = self._is_included(folder, name, is_folder=True)
            yield folder.below(name, after=after, included=included)

    def _is_left_out(self, folder: "_Folder", name: str, *, is_folder: bool) -> bool:
        """Whether the configuration or a ``.gitignore`` leaves out what lies in ``folder``."""
        path = folder.prefix + name
        if self._excluded.verdict(path, name, is_folder=is_folder):
            return True
        for prefix_length, rules in reversed(folder.rules):
            verdict = rules.verdict(path[prefix_length:], name, is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False

    def _is_included(self, folder: "_Folder", name: str, *, is_folder: bool) -> bool:
        """Whether the configuration names it, or a folder that it lies in."""
        if not self.config.include:
            return True
        verdict = self._included.verdict(folder.prefix + name, name, is_folder=is_folder)
        return folder.included if verdict is None else verdict

    def _item(self, root: "_Root", fd: int, folder: "_Folder", name: str) -> Entity | Skipped | None:
        """What one name in an open folder stands for; None for what is left out, or gone by now."""
        if is_private_name(name):
            return None
        if self._is_left_out(folder, name, is_folder=False) or not self._is_included(folder, name, is_folder=False):
            return None
        path = folder.prefix + name
        id = folder.id_prefix + _id_of(name)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                target = root.path_of_link(path)
                if target is None:
                    return None
                with root.parent_of(target) as (target_fd, target_name):
                    found = os.stat(target_name, dir_fd=target_fd, follow_symlinks=False)
                    return self._entity(root, target_fd, folder, id, name, target, found)
            return self._entity(root, fd, folder, id, name, path, found)
        except FileNotFoundError:
            return None
        except Unreadable as error:
            return Skipped(id, str(error), _shown(name))
        except OSError as error:
            _raise_our_trouble(error)
            return Skipped(id, _reason(error), _shown(name))

    def _entity(
        self, root: "_Root", fd: int, folder: "_Folder", id: str, name: str, path: str, found: os.stat_result
    ) -> Entity | Skipped:
        """``path`` is where the content lies, ``fd`` the open folder that it lies in."""
        shown = _shown(name)
        if not stat.S_ISREG(found.st_mode):
            is_folder = stat.S_ISDIR(found.st_mode)
            return Skipped(id, f"it is {_kind(found.st_mode)}, not a file", shown, subtree=is_folder)
        size = found.st_size
        if size > self._limit:
            return Skipped(id, self._too_large(size), shown)
        if found.st_mode & READABLE_BY_ALL != READABLE_BY_ALL and not os.access(
            os.path.basename(path), os.R_OK, dir_fd=fd, effective_ids=ACCESS_AS_EFFECTIVE_USER
        ):
            return Skipped(id, _reason(PermissionError(errno.EACCES, "")), shown)
        return Entity(
            id=id,
            name=shown,
            type="FileEntity",
            version=f"{size}-{found.st_mtime_ns}-{found.st_ino}",
            open=partial(self._open, root.place, path, (found.st_dev, found.st_ino)),
            filename=shown,
            size_bytes=size,
            breadcrumbs=folder.breadcrumbs,
            created_at=_time(getattr(found, BIRTHTIME)) if hasattr(os.stat_result, BIRTHTIME) else None,
            updated_at=_time(found.st_mtime),
            url=folder.url_prefix + (name if UNQUOTED.fullmatch(name) else quote(os.fsencode(name))),
            fields={"path": id, "size": size, "extension": _extension(shown)},
        )

    def _open(self, place: "_Place", path: str, identity: tuple[int, int]) -> BinaryIO:
        """Open a file for reading; raises ``Unreadable`` when it is no longer the regular file that was listed."""
        try:
            with place.opened() as root:
                try:
                    fd = root.open(path, FILE_FLAGS)
                except OSError as error:
                    _raise_our_trouble(error)
                    raise Unreadable(_reason(error)) from None
        except OSError as error:
            raise Unavailable(f"the folder {self.config.path} cannot be read: {_reason(error)}") from None
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != identity:
            os.close(fd)
            raise Unreadable("it was replaced while it was read; the next sync reads it")
        if found.st_size > self._limit:
            os.close(fd)
            raise Unreadable(self._too_large(found.st_size))
        return os.fdopen(fd, "rb")

    def _too_large(self, size: int) -> str:
        return f"too_large: {size / MB:.1f} MB, the limit is {self.config.max_file_mb:g} MB"

    def _confined(self, path: str | None = None) -> str:
        """Return the folder's real path; raises ``ConfigError`` when the server may not go there."""
        path = path or os.path.realpath(self._path)
        # whether it exists is not told for what lies outside
        if not any(_is_within(path, os.path.realpath(root)) for root in self.context.folder_roots):
            raise ConfigError(
                f"{self.config.path} is outside the folders that this server may read (AIRWEAVE_FOLDER_ROOTS)"
            )
        ours = [os.path.realpath(hidden) for hidden in self.context.hidden_paths]
        if any(_is_within(path, hidden) for hidden in (*ours, *PSEUDO_FILE_SYSTEMS)):
            raise ConfigError(f"{self.config.path} is never read: it belongs to this server or to the system")
        if is_private(Path(path).parts):
            raise ConfigError(f"{self.config.path} is never read: folders of this name hold secrets or internals")
        return path

    @contextmanager
    def _opened(self) -> Iterator["_Root"]:
        """Open the connected folder; raises ``Unavailable`` for whatever trouble there is with it as a whole."""
        try:
            place = _Place.at(self._confined())
            with place.opened(self._path, (*self.context.hidden_paths, *PSEUDO_FILE_SYSTEMS)) as root:
                # a parent that was swapped for a symlink after the check would have led elsewhere
                self._confined(_real_path_of(root.fd))
                if (root.device, root.inode) in root.hidden:
                    raise ConfigError(f"{self.config.path} is never read: it belongs to this server or to the system")
                yield root
        except OSError as error:
            _raise_our_trouble(error)
            raise Unavailable(f"the folder {self.config.path} cannot be read: {_reason(error)}") from None
        except Unreadable as error:
            raise Unavailable(f"the folder {self.config.path} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that was once opened, and how to know it again."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> "_Place":
        found = os.stat(path)
        return cls(path, found.st_dev, found.st_ino)

    @contextmanager
    def opened(self, configured: str = "", hidden: Iterable[str | Path] = ()) -> Iterator["_Root"]:
        """Open it; raises ``Unavailable`` when it is not the same any more, ``OSError`` when it is not there."""
        fd = os.open(self.path, FOLDER_FLAGS)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != (self.device, self.inode):
                raise Unavailable(f"the folder {_shown(self.path)} was replaced while it was read")
            yield _Root(self, fd, configured or self.path, frozenset(_identities(hidden)))
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Root:
    """The connected folder while it is open. Paths are relative to it, as Python gives undecodable names."""

    place: _Place
    fd: int
    configured: str
    hidden: frozenset[tuple[int, int]]

    def top(self, after: Sequence[str] = ()) -> "_Folder":
        """The folder itself, as the beginning of a walk."""
        url = f"file://{quote(os.fsencode(self.place.path)).rstrip('/')}/"
        return _Folder(name=os.path.basename(self.place.path), after=after, url_prefix=url)

    @property
    def device(self) -> int:
        return self.place.device

    @property
    def inode(self) -> int:
        return self.place.inode

    def must_be_the_one_of(self, noted: Mapping[str, Any]) -> None:
        """Raise ``Unavailable`` when this is not the folder that the partitions were listed from.

        An empty mount point has another inode than what was mounted there. The device number alone proves nothing,
        since it may change at a restart of the machine, unless the folder is empty now.
        """
        if noted.get("inode", self.inode) != self.inode or (
            noted.get("device", self.device) != self.device and not os.listdir(self.fd)
        ):
            raise Unavailable(f"the folder {_shown(self.configured)} was replaced or unmounted since the job began")

    def must_still_be_there(self) -> None:
        """Raise ``Unavailable`` when the configured path leads elsewhere by now, or nowhere."""
        try:
            found = os.stat(self.configured)
        except OSError as error:
            raise Unavailable(
                f"the folder {_shown(self.configured)} went away while it was read: {error.strerror}"
            ) from None
        if (found.st_dev, found.st_ino) != (self.device, self.inode):
            raise Unavailable(f"the folder {_shown(self.configured)} was replaced while it was read")

    def open(self, path: str, flags: int) -> int:
        """Open something below, step by step, so that no symlink put in the way meanwhile can lead out."""
        if not path:
            return os.open(".", flags, dir_fd=self.fd)
        with self.parent_of(path) as (fd, name):
            return os.open(name, flags, dir_fd=fd)

    @contextmanager
    def parent_of(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the folder that ``path`` lies in; gives it and the last part of the path."""
        *parents, name = path.split("/")
        fd = self.fd
        try:
            for parent in parents:
                deeper = os.open(parent, FOLDER_FLAGS, dir_fd=fd)
                if fd != self.fd:
                    os.close(fd)
                fd = deeper
            yield fd, name
        finally:
            if fd != self.fd:
                os.close(fd)

    def path_of_link(self, path: str) -> str | None:
        """Where in this folder a symlink ends; None when that is a folder of it, or something that is never read.

        Raises ``Unreadable`` when it ends outside, or nowhere.
        """
        full = os.path.join(self.place.path, path)
        target = os.path.realpath(full)
        if not _is_within(target, self.place.path):
            raise Unreadable("symlink: it leads out of the folder")
        try:
            found = os.stat(target)
        except OSError as error:
            raise Unreadable(f"symlink: {_reason(error)}") from None
        parts = target[len(self.place.path) :].strip("/").split("/")
        if is_private(parts):
            return None
        above = (os.path.join(self.place.path, *parts[:end]) for end in range(len(parts)))
        if stat.S_ISDIR(found.st_mode) or not self.hidden.isdisjoint(_identities(above)):
            return None
        return "/".join(parts)


@dataclass(slots=True)
class _Folder:
    """A folder on the walk. ``after``: where in it to go on, the parts of a cursor."""

    name: str = ""
    path: str = ""
    id: str = ""
    after: Sequence[str] = ()
    breadcrumbs: tuple[Breadcrumb, ...] = ()
    included: bool = False
    rules: tuple[tuple[int, "_Rules"], ...] = ()  # how much of a path is above its .gitignore, and what it says
    ancestors: tuple[tuple[int, int], ...] = ()  # device and inode, its own last
    url_prefix: str = ""
    prefix: str = field(init=False)
    id_prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = f"{self.path}/" if self.path else ""
        self.id_prefix = f"{self.id}/" if self.id else ""

    def below(self, name: str, *, after: Sequence[str], included: bool) -> "_Folder":
        id = self.id_prefix + _id_of(name)
        return _Folder(
            name=name,
            path=self.prefix + name,
            id=id,
            after=after,
            breadcrumbs=(*self.breadcrumbs, Breadcrumb(id, _shown(name), "folder")),
            included=included,
            rules=self.rules,
            ancestors=self.ancestors,
            url_prefix=f"{self.url_prefix}{quote(os.fsencode(name))}/",
        )


@dataclass(slots=True)
class _Listing:
    """Names in a folder, in the order of their bytes."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def files_after(self, after: Sequence[str]) -> Sequence[str]:
        if not after:
            return self.files
        if len(after) > 1:  # the cursor was further down, so the files were done
            return ()
        return self.files[bisect_right(self.files, os.fsencode(after[0]), key=os.fsencode) :]

    def folders_after(self, after: Sequence[str]) -> Sequence[str]:
        if len(after) < 2:
            return self.folders
        is_done = list(after[1:]) == [""]
        bisect = bisect_right if is_done else bisect_left
        return self.folders[bisect(self.folders, os.fsencode(after[0]), key=os.fsencode) :]


@dataclass(frozen=True, slots=True)
class _Way:
    """A folder, and those in it that are still to be read."""

    folder: _Folder
    folders: Iterator[_Folder]


def _of_partition(partition: Partition, folders: Iterable[_Folder]) -> Iterator[_Folder]:
    """Of the top-level folders those that a partition reads; ``""`` reads those that came after the listing."""
    if partition.data.get("grouped"):
        return
    group, others = partition.data.get("group"), set(partition.data.get("others", ()))
    for folder in folders:
        if group is None:
            if folder.id not in others:
                yield folder
        elif zlib.crc32(os.fsencode(folder.name)) % PARTITIONS == group:
            yield folder


def _unlistable(folder: _Folder, error: Exception, top: _Folder) -> Skipped:
    """A skipped subtree; raises ``Unavailable`` instead when the trouble is with all of it."""
    if isinstance(error, OSError):
        _raise_our_trouble(error)
    reason = _reason(error) if isinstance(error, OSError) else str(error)
    if folder is top:
        raise Unavailable(f"the folder cannot be listed: {reason}") from None
    if isinstance(error, FileNotFoundError):
        reason = "vanished while it was listed"
    elif isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
        reason = "was replaced while it was listed"
    return Skipped(folder.id, reason, _shown(folder.name), subtree=True)


def _gitignore(fd: int) -> "_Rules | None":
    """Read the rules of an open folder; as in git a symlink does not count.

    Raises ``Unreadable`` when they are there but cannot be known.
    """
    try:
        file = os.open(".gitignore", FILE_FLAGS, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EMLINK):
            return None
        _raise_our_trouble(error)
        raise Unreadable(f"its .gitignore cannot be read: {error.strerror}") from None
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        text = opened.read(GITIGNORE_LIMIT + 1)
    if len(text) > GITIGNORE_LIMIT:
        raise Unreadable("its .gitignore cannot be read: it is too large")
    return _Rules(line.rstrip("\r") for line in text.decode("utf-8-sig", "surrogateescape").split("\n"))


class _Rules:
    """The globs of one ``.gitignore`` or of the configuration, for a walk that asks on its way down.

    A glob is matched against a path itself, never against what lies below it, as git does. (The pathspec package
    matches what lies below too, so that it takes ``*``, ``!*/``, ``!*.md`` for "nothing".)
    """

    def __init__(self, lines: Iterable[str]) -> None:
        rules = [rule for line in lines if (rule := _rule(line)) is not None]
        self._rules = tuple(reversed(rules))

    def verdict(self, path: str, name: str, *, is_folder: bool) -> bool | None:
        """Whether it matches; the last glob that fits decides. None when there is none."""
        for rule in self._rules:
            if (is_folder or not rule.only_folders) and rule.fits(path if rule.is_path else name):
                return not rule.is_negated
        return None


@dataclass(frozen=True, slots=True)
class _Rule:
    fits: Callable[[str], object]
    is_path: bool  # it is matched with the path, not with the name
    is_negated: bool
    only_folders: bool


def _rule(line: str) -> _Rule | None:
    """One line of a ``.gitignore``; None for a comment, and for what is no glob, which git passes over too."""
    glob = re.sub(r"(?<!\\) +$", "", line)
    is_negated = glob.startswith("!")
    glob = glob.removeprefix("!")
    only_folders = glob.endswith("/")
    glob = glob.removesuffix("/")
    if not glob.strip("/") or line.startswith("#") or len(glob) > GLOB_LIMIT:
        return None
    is_path = "/" in glob
    *parents, last = glob.removeprefix("/").split("/")
    if parents.count("**") > GLOB_STARS_LIMIT:
        return None
    try:
        above = "".join("(?:.*/)?" if part == "**" else _part(part) + "/" for part in parents)
        pattern = re.compile(above + (".+" if is_path and last == "**" else _part(last)), re.DOTALL)
    except (ValueError, IndexError, re.error):
        return None
    return _Rule(pattern.fullmatch, is_path, is_negated, only_folders)


def _part(glob: str) -> str:
    """The regular expression for one part of a glob; raises ``ValueError`` or ``IndexError`` when it is none.

    Each star but the last takes as little as fits, for good: that finds the same, and hostile globs take no time.
    """
    fixed = [""]  # what stands between the stars
    place = 0
    while place < len(glob):
        char = glob[place]
        if char == "*":
            if fixed[-1] or len(fixed) == 1:
                fixed.append("")
        elif char == "?":
            fixed[-1] += "[^/]"
        elif char == "[":
            end = glob.find("]", place + (3 if glob[place + 1 : place + 2] in ("!", "^") else 2))
            if end < 0:
                raise ValueError("a bracket is not closed")
            fixed[-1] += _one_of(glob[place + 1 : end])
            place = end
        else:
            if char == "\\":
                place += 1
            fixed[-1] += re.escape(glob[place])
        place += 1
    first, *others = fixed
    if not others:
        return first
    return first + "".join(f"(?>[^/]*?{between})" for between in others[:-1]) + "[^/]*" + others[-1]


def _one_of(chars: str) -> str:
    """The regular expression for what stands in brackets: characters and ranges of them, never a slash."""
    negation = "^" if chars[0] in "!^" else ""
    chars = re.sub(r"\\(.)", r"\1", chars[len(negation) :])
    ranges, place = "", 0
    while place < len(chars):
        if chars[place + 1 : place + 2] == "-" and place + 2 < len(chars):
            ranges += f"{re.escape(chars[place])}-{re.escape(chars[place + 2])}"
            place += 3
        else:
            ranges += re.escape(chars[place])
            place += 1
    return f"(?!/)[{negation}{ranges}]"


BIRTHTIME = "st_birthtime"  # not on every system
UNQUOTED = re.compile("[A-Za-z0-9_.~-]*+")
AMBIGUOUS = re.compile("%(?=25|[89A-F][0-9A-F])|[\udc80-\udcff]")
ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")


def _id_of(name: str) -> str:
    """How a name, as Python decodes it, is written in an id; see ``Folder``."""
    if (name.isascii() and "%" not in name) or AMBIGUOUS.search(name) is None:
        return name
    return AMBIGUOUS.sub(lambda found: "%25" if found[0] == "%" else f"%{ord(found[0]) - 0xDC00:02X}", name)


def _path_of(id: str) -> str:
    """The path that an id stands for."""
    return ESCAPED.sub(lambda found: "%" if found[1] == "25" else chr(0xDC00 + int(found[1], 16)), id)


def _shown(name: str) -> str:
    """A name that may be shown and stored: bytes that are no text become the replacement character."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _extension(name: str) -> str:
    """As ``os.path.splitext`` has it, in lower case: nothing for .profile."""
    stem, dot, end = name.rpartition(".")
    return (dot + end).lower() if stem.strip(".") else ""


def _time(seconds: float) -> datetime | None:
    """None for a time that a calendar has no place for."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _raise_our_trouble(error: OSError) -> None:
    """Raise ``Unavailable`` for what says nothing about the file, such as too many open ones."""
    if error.errno in OUR_TROUBLE:
        raise Unavailable(f"the server cannot open more files: {error.strerror}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "may not be read by the user that the server runs as"
    if isinstance(error, FileNotFoundError):
        return "it is gone"
    if error.errno == errno.ELOOP:
        return "it is a symlink by now, or leads round in a circle"
    return f"cannot be read: {error.strerror}"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder by now"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _identities(paths: Iterable[str | Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


def _real_path_of(fd: int) -> str | None:
    """The path of an open folder, as the system knows it now; None where the system does not tell."""
    if hasattr(fcntl, "F_GETPATH"):
        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
